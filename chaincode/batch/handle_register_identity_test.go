package batch_test

import (
	"testing"
	"time"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

func (s *story) register(p *sim.Person, changes ...func(*pb.RegisterIdentity)) *pb.SignedCommand {
	body := p.Registration()
	for _, change := range changes {
		change(body)
	}
	return p.Sign(sim.Body(body))
}

func (s *story) review(by, subject *sim.Person, decision pb.Decision) *pb.Verdict {
	s.t.Helper()
	return s.One(by.Sign(sim.Body(&pb.ReviewRegistration{
		Address: subject.Address, RegistrationId: s.Identity(subject.Address).GetRegistrationId(),
		Decision: decision, ReasonCode: "identity-verified", EvidenceCid: s.Identity(subject.Address).GetEvidenceCid(),
	})))
}

func (s *story) expectStatus(p *sim.Person, want pb.IdentityStatus) {
	s.t.Helper()
	if got := s.Identity(p.Address).GetStatus(); got != want {
		s.t.Fatalf("status %v, want %v", got, want)
	}
}

const (
	pending   = pb.IdentityStatus_IDENTITY_STATUS_PENDING
	active    = pb.IdentityStatus_IDENTITY_STATUS_ACTIVE
	rejected  = pb.IdentityStatus_IDENTITY_STATUS_REJECTED
	suspended = pb.IdentityStatus_IDENTITY_STATUS_SUSPENDED
	approve   = pb.Decision_DECISION_APPROVE
	reject    = pb.Decision_DECISION_REJECT
)

func TestAPatientIsActiveAfterTwoMembersApproved(t *testing.T) {
	s := begin(t)
	newcomer := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	newcomer.Custodians = []string{sim.Mercy, sim.Lakeside}
	command := s.register(newcomer)
	s.expect(s.One(command), pb.Code_CODE_OK)
	s.expectStatus(newcomer, pending)
	entry := s.Audit(command)
	if entry.GetAction() != "register" || entry.GetPatient() != newcomer.Address || entry.GetSubject() != newcomer.Address ||
		entry.GetSignerRole() != pb.Role_ROLE_PATIENT || entry.GetSignerMsp() != sim.Mercy {
		t.Fatalf("audit entry %v", entry)
	}
	for _, custodian := range newcomer.Custodians {
		if string(s.Private[state.ImplicitCollection(custodian)][state.SealedRecordKeyName(newcomer.Address)]) != string(newcomer.SealedRecordKey(custodian)) {
			t.Fatalf("custodian %s does not hold its sealed key", custodian)
		}
	}
	result, err := s.query(&pb.Query{Query: &pb.Query_GetKeys{GetKeys: &pb.GetKeys{Keys: []string{state.RegistrationKey(newcomer.Address)}}}})
	if err != nil || string(result.Values[0]) != string(sim.Marshal(t, command)) {
		t.Fatalf("the signed registration that certifies the keys is not kept: %v %v", result, err)
	}
	s.expect(s.review(s.administrator, newcomer, approve), pb.Code_CODE_OK)
	s.expectStatus(newcomer, pending)
	s.expect(s.review(s.administrator, newcomer, approve), pb.Code_CODE_CONFLICT)
	s.expect(s.review(s.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Mercy), newcomer, approve), pb.Code_CODE_CONFLICT)
	s.expect(s.review(s.otherAdministrator, newcomer, approve), pb.Code_CODE_OK)
	s.expectStatus(newcomer, active)
	if s.Identity(newcomer.Address).GetVersion() != 3 {
		t.Fatalf("version %d after three changes", s.Identity(newcomer.Address).GetVersion())
	}
	s.expect(s.review(s.thirdAdmin, newcomer, approve), pb.Code_CODE_CONFLICT)
}

func TestARejectedRegistrationMayBeTriedAgain(t *testing.T) {
	s := begin(t)
	newcomer := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.expect(s.One(s.register(newcomer)), pb.Code_CODE_OK)
	s.expect(s.One(s.register(newcomer)), pb.Code_CODE_CONFLICT)
	s.expect(s.review(s.otherAdministrator, newcomer, approve), pb.Code_CODE_OK)
	s.expect(s.review(s.administrator, newcomer, reject), pb.Code_CODE_OK)
	s.expectStatus(newcomer, rejected)
	s.expect(s.One(newcomer.Sign(s.consentBody())), pb.Code_CODE_INACTIVE_SIGNER)
	s.expect(s.One(s.register(newcomer)), pb.Code_CODE_OK)
	s.expectStatus(newcomer, pending)
	if d := s.Identity(newcomer.Address); len(d.GetReviews()) != 0 || d.GetVersion() != 4 {
		t.Fatalf("the new registration begins anew, with the next version: %v", d)
	}
}

func TestARoleWithQuorumZeroIsActiveAtOnce(t *testing.T) {
	s := begin(t)
	device := s.Enrol(pb.Role_ROLE_DEVICE, sim.Lakeside)
	s.expect(s.One(s.register(device)), pb.Code_CODE_OK)
	s.expectStatus(device, active)
}

func TestOnlyTheHomeMemberReviewsARoleThatSaysSo(t *testing.T) {
	s := begin(t)
	engine := s.Enrol(pb.Role_ROLE_ENGINE, sim.Mercy)
	s.expect(s.One(s.register(engine)), pb.Code_CODE_OK)
	s.expectStatus(engine, pending)
	s.expect(s.review(s.otherAdministrator, engine, approve), pb.Code_CODE_FORBIDDEN)
	s.expect(s.review(s.administrator, engine, approve), pb.Code_CODE_OK)
	s.expectStatus(engine, active)
}

func TestWhoMayNotReview(t *testing.T) {
	s := begin(t)
	newcomer := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.expect(s.One(s.register(newcomer)), pb.Code_CODE_OK)
	s.expect(s.review(s.clinician, newcomer, approve), pb.Code_CODE_FORBIDDEN)
	// An administrator who waits for review cannot wave themselves through.
	lone := s.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Mercy)
	s.expect(s.review(lone, lone, approve), pb.Code_CODE_FORBIDDEN)
	s.expect(s.One(s.administrator.Sign(sim.Body(&pb.ReviewRegistration{
		Address: newcomer.Address, RegistrationId: s.ID(), Decision: approve, ReasonCode: "other",
	}))), pb.Code_CODE_NOT_FOUND)
}

func TestARegistrationThatDoesNotProveItselfLeavesNoTrace(t *testing.T) {
	patient, clinician := pb.Role_ROLE_PATIENT, pb.Role_ROLE_CLINICIAN
	stories := []struct {
		name   string
		role   pb.Role
		change func(s *story, p *sim.Person, b *pb.RegisterIdentity)
		path   string
	}{
		{"somebody else's address", clinician, func(s *story, _ *sim.Person, b *pb.RegisterIdentity) { b.Address = s.clinician.Address }, "address"},
		{"somebody else's key", clinician, func(s *story, _ *sim.Person, b *pb.RegisterIdentity) { b.SigningPublicKey = s.clinician.SPKI }, "signing_public_key"},
		{"a damaged key", clinician, func(_ *story, _ *sim.Person, b *pb.RegisterIdentity) { b.SigningPublicKey = b.SigningPublicKey[1:] }, "signing_public_key"},
		{"no role", clinician, func(_ *story, _ *sim.Person, b *pb.RegisterIdentity) { b.Role = 0 }, "role"},
		{"an unheard-of member", clinician, func(_ *story, _ *sim.Person, b *pb.RegisterIdentity) { b.HomeMsp = "NowhereMSP" }, "home_msp"},
		{"a member's id that is none", clinician, func(_ *story, _ *sim.Person, b *pb.RegisterIdentity) { b.HomeMsp = "../pol" }, "home_msp"},
		{"a short HPKE key", clinician, func(_ *story, _ *sim.Person, b *pb.RegisterIdentity) { b.HpkePublicKey = make([]byte, 1215) }, "hpke_public_key"},
		{"a certificate of another member", clinician, func(s *story, p *sim.Person, b *pb.RegisterIdentity) {
			b.EnrolmentCertificate = s.Members[sim.Lakeside].Certify(s.World, p, "clinician", p.Address, s.Now.Add(time.Hour))
		}, "enrolment_certificate"},
		{"an expired certificate", clinician, func(s *story, p *sim.Person, b *pb.RegisterIdentity) {
			b.EnrolmentCertificate = s.Members[sim.Mercy].Certify(s.World, p, "clinician", p.Address, s.Now.Add(-time.Second))
		}, "enrolment_certificate"},
		{"a certificate in a person's name", clinician, func(s *story, p *sim.Person, b *pb.RegisterIdentity) {
			b.EnrolmentCertificate = s.Members[sim.Mercy].Certify(s.World, p, "clinician", "Dr. Somebody", s.Now.Add(time.Hour))
		}, "enrolment_certificate"},
		{"somebody else's certificate", clinician, func(s *story, _ *sim.Person, b *pb.RegisterIdentity) {
			b.EnrolmentCertificate = s.clinician.Certificate
		}, "enrolment_certificate"},
		{"a certificate in one's own name for another's key", clinician, func(s *story, p *sim.Person, b *pb.RegisterIdentity) {
			b.EnrolmentCertificate = s.Members[sim.Mercy].Certify(s.World, s.clinician, "clinician", p.Address, s.Now.Add(time.Hour))
		}, "enrolment_certificate"},
		{"no certificate", clinician, func(_ *story, _ *sim.Person, b *pb.RegisterIdentity) { b.EnrolmentCertificate = nil }, "enrolment_certificate"},
		{"a clinician with custodians", clinician, func(s *story, _ *sim.Person, b *pb.RegisterIdentity) {
			b.Custodians = s.patient.Registration().Custodians
		}, "custodians"},
		{"a patient without custodian", patient, func(_ *story, _ *sim.Person, b *pb.RegisterIdentity) { b.Custodians = nil }, "custodians"},
		{"a custodian that is no member", patient, func(_ *story, _ *sim.Person, b *pb.RegisterIdentity) { b.Custodians[0].Msp = "NowhereMSP" }, "custodians[0].msp"},
		{"a custodian twice", patient, func(_ *story, _ *sim.Person, b *pb.RegisterIdentity) {
			b.Custodians = append(b.Custodians, b.Custodians[0])
		}, "custodians[1].msp"},
		{"a sealed key that was not sent", patient, func(_ *story, _ *sim.Person, b *pb.RegisterIdentity) {
			b.Custodians[0].SealedKeySha256 = make([]byte, 32)
		}, "custodians[0].sealed_key_sha256"},
		{"a patient without evidence", patient, func(_ *story, _ *sim.Person, b *pb.RegisterIdentity) { b.EvidenceCid = "" }, "evidence_cid"},
		{"a clinician with evidence", clinician, func(s *story, _ *sim.Person, b *pb.RegisterIdentity) {
			b.EvidenceCid = s.patient.Registration().EvidenceCid
		}, "evidence_cid"},
		{"evidence that is no CID", patient, func(_ *story, _ *sim.Person, b *pb.RegisterIdentity) { b.EvidenceCid = "Jane Doe" }, "evidence_cid"},
	}
	for _, test := range stories {
		t.Run(test.name, func(t *testing.T) {
			s := begin(t)
			p := s.Enrol(test.role, sim.Mercy)
			command := s.register(p, func(b *pb.RegisterIdentity) { test.change(s, p, b) })
			s.untouched(func() { s.expectAt(s.One(command), pb.Code_CODE_INVALID, "body.register_identity."+test.path) })
			if len(s.Private) != 0 {
				t.Fatal("a sealed key was stored")
			}
		})
	}
}

func TestAnUncertifiedRoleIsRefusedOnTheRecord(t *testing.T) {
	s := begin(t)
	p := s.Enrol(pb.Role_ROLE_ENGINE, sim.Mercy)
	command := s.register(p, func(b *pb.RegisterIdentity) { b.Role = pb.Role_ROLE_ADMINISTRATOR })
	s.expectAt(s.One(command), pb.Code_CODE_FORBIDDEN, "body.register_identity.role")
	if s.Audit(command).GetCode() != pb.Code_CODE_FORBIDDEN {
		t.Fatal("the attempt is not on the channel")
	}
	if s.Identity(p.Address).GetAddress() != "" {
		t.Fatal("registered all the same")
	}
}

func TestARoleWithoutReviewRuleCannotRegister(t *testing.T) {
	s := begin(t)
	s.expect(s.One(s.register(s.Enrol(pb.Role_ROLE_RESEARCHER, sim.Mercy))), pb.Code_CODE_FORBIDDEN)
}

func TestARegistrationSentAgainWithoutItsSealedKeysIsStillFound(t *testing.T) {
	s := begin(t)
	command := s.register(s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy))
	s.expect(s.One(command), pb.Code_CODE_OK)
	out, err := s.EndorseWith(nil, sim.Item(command))
	if err != nil {
		t.Fatal(err)
	}
	s.expect(out.Result.Groups[0].Verdicts[0], pb.Code_CODE_ALREADY_COMMITTED)
}

func TestSealedKeysThatNoCommandAccountsForAreNotStored(t *testing.T) {
	s := begin(t)
	s.patient.Registration() // Its sealed key is in the transient map, and no command names it.
	s.expect(s.One(s.patient.Sign(s.consentBody())), pb.Code_CODE_OK)
	if len(s.Private) != 0 {
		t.Fatalf("stored %v", s.Private)
	}
}

func TestNobodyApprovesAPatientWithoutHavingOpenedTheEvidence(t *testing.T) {
	s := begin(t)
	newcomer := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	newcomer.Custodians = []string{sim.Mercy}
	s.expect(s.One(s.register(newcomer)), pb.Code_CODE_OK)
	registration := s.Identity(newcomer.Address)
	vote := func(decision pb.Decision, seen string) *pb.Verdict {
		return s.One(s.administrator.Sign(sim.Body(&pb.ReviewRegistration{
			Address: newcomer.Address, RegistrationId: registration.GetRegistrationId(), Decision: decision,
			ReasonCode: "identity-verified", EvidenceCid: seen,
		})))
	}
	another := s.patient.Registration().GetEvidenceCid()
	for _, seen := range []string{"", another, "Jane Doe"} {
		s.expectAt(vote(approve, seen), pb.Code_CODE_INVALID, "body.review_registration.evidence_cid")
		s.expectStatus(newcomer, pending)
	}
	s.expectAt(vote(reject, another), pb.Code_CODE_INVALID, "body.review_registration.evidence_cid")
	if got := s.Identity(newcomer.Address).GetReviews(); len(got) != 0 {
		t.Fatalf("votes %v", got)
	}
	s.expect(vote(approve, registration.GetEvidenceCid()), pb.Code_CODE_OK)
}

func TestEvidenceThatDoesNotOpenIsAReasonToReject(t *testing.T) {
	s := begin(t)
	newcomer := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	newcomer.Custodians = []string{sim.Mercy}
	s.expect(s.One(s.register(newcomer)), pb.Code_CODE_OK)
	s.expect(s.One(s.administrator.Sign(sim.Body(&pb.ReviewRegistration{
		Address: newcomer.Address, RegistrationId: s.Identity(newcomer.Address).GetRegistrationId(), Decision: reject,
		ReasonCode: "document-mismatch",
	}))), pb.Code_CODE_OK)
	s.expectStatus(newcomer, rejected)
}
