package batch_test

import (
	"slices"
	"testing"
	"time"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

func suspension(by, subject *sim.Person, reason string) *pb.SignedCommand {
	return by.Sign(sim.Body(&pb.SuspendIdentity{Address: subject.Address, Suspend: true, ReasonCode: reason}))
}

func reinstatement(by, subject *sim.Person) *pb.SignedCommand {
	return by.Sign(sim.Body(&pb.SuspendIdentity{Address: subject.Address, ReasonCode: "reinstated"}))
}

func TestWhatAnAdministratorOrderedOneOfTheSameMemberEnds(t *testing.T) {
	s := begin(t)
	s.expectAt(s.One(suspension(s.otherAdministrator, s.patient, "misuse")), pb.Code_CODE_FORBIDDEN, "signer")
	s.expectAt(s.One(suspension(s.clinician, s.patient, "misuse")), pb.Code_CODE_FORBIDDEN, "signer")
	s.expectAt(s.One(reinstatement(s.administrator, s.patient)), pb.Code_CODE_CONFLICT, "body.suspend_identity.suspend")
	command := suspension(s.administrator, s.patient, "misuse")
	s.expect(s.One(command), pb.Code_CODE_OK)
	s.expectStatus(s.patient, suspended)
	if e := s.Audit(command); e.GetSubject() != s.patient.Address || e.GetPatient() != s.patient.Address || e.GetReasonCode() != "misuse" {
		t.Fatalf("audit entry %v", e)
	}
	why := s.Identity(s.patient.Address).GetSuspension()
	if why.GetBy() != s.administrator.Address || why.GetReasonCode() != "misuse" ||
		s.Identity(s.patient.Address).GetSuspendedAtMs() != s.Now.UnixMilli() {
		t.Fatalf("suspension %v", why)
	}
	s.expectAt(s.One(suspension(s.administrator, s.patient, "other")), pb.Code_CODE_CONFLICT, "body.suspend_identity.suspend")
	// Neither the owner nor another member undoes it.
	s.expect(s.One(reinstatement(s.patient, s.patient)), pb.Code_CODE_INACTIVE_SIGNER)
	s.expectAt(s.One(reinstatement(s.otherAdministrator, s.patient)), pb.Code_CODE_FORBIDDEN, "signer")
	s.expectAt(s.One(reinstatement(s.officer, s.patient)), pb.Code_CODE_FORBIDDEN, "signer")
	s.expect(s.One(reinstatement(s.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Mercy), s.patient)), pb.Code_CODE_OK)
	s.expectStatus(s.patient, active)
	if s.Identity(s.patient.Address).GetSuspension() != nil {
		t.Fatal("the suspension stands beside an active identity")
	}
	s.expectAt(s.One(suspension(s.administrator, s.Enrol(pb.Role_ROLE_ENGINE, sim.Mercy), "left")), pb.Code_CODE_NOT_FOUND, "body.suspend_identity.address")
	waiting := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.expect(s.One(s.register(waiting)), pb.Code_CODE_OK)
	s.expectAt(s.One(suspension(s.administrator, waiting, "lost-key")), pb.Code_CODE_CONFLICT, "body.suspend_identity.suspend")
}

func TestWhatTheOwnerStoppedAndALostKeyAreLetActAgainByTwoMembers(t *testing.T) {
	for name, stop := range map[string]func(s *story) *pb.SignedCommand{
		"the owner":                    func(s *story) *pb.SignedCommand { return suspension(s.clinician, s.clinician, "other") },
		"the owner, whose key is lost": func(s *story) *pb.SignedCommand { return suspension(s.clinician, s.clinician, "lost-key") },
		"an administrator who was told of a lost key": func(s *story) *pb.SignedCommand {
			return suspension(s.administrator, s.clinician, "lost-key")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			s.expect(s.One(stop(s)), pb.Code_CODE_OK)
			s.expect(s.One(reinstatement(s.clinician, s.clinician)), pb.Code_CODE_INACTIVE_SIGNER)
			s.expect(s.One(reinstatement(s.administrator, s.clinician)), pb.Code_CODE_OK)
			s.expectStatus(s.clinician, suspended)
			s.expectAt(s.One(reinstatement(s.administrator, s.clinician)), pb.Code_CODE_CONFLICT, "signer")
			s.expectAt(s.One(reinstatement(s.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Mercy), s.clinician)), pb.Code_CODE_CONFLICT, "signer")
			s.expectAt(s.One(reinstatement(s.stranger, s.clinician)), pb.Code_CODE_FORBIDDEN, "signer")
			s.expect(s.One(reinstatement(s.otherAdministrator, s.clinician)), pb.Code_CODE_OK)
			s.expectStatus(s.clinician, active)
		})
	}
}

func TestOtherMembersDoNotReinstateWithoutTheHomeMember(t *testing.T) {
	s := begin(t)
	s.expect(s.One(suspension(s.clinician, s.clinician, "other")), pb.Code_CODE_OK)
	s.expect(s.One(reinstatement(s.otherAdministrator, s.clinician)), pb.Code_CODE_OK)
	s.expect(s.One(reinstatement(s.thirdAdmin, s.clinician)), pb.Code_CODE_OK)
	s.expectStatus(s.clinician, suspended)
	// Nor does a vote count whose giver is suspended meanwhile.
	s.SetStatus(s.otherAdministrator, suspended)
	s.SetStatus(s.thirdAdmin, suspended)
	s.expect(s.One(reinstatement(s.administrator, s.clinician)), pb.Code_CODE_OK)
	s.expectStatus(s.clinician, suspended)
	s.SetStatus(s.thirdAdmin, active)
	s.expect(s.One(reinstatement(s.thirdAdmin, s.clinician)), pb.Code_CODE_OK)
	s.expectStatus(s.clinician, active)
}

func TestASuspendedPatientStillTakesConsentAwayAndGivesNone(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	consent := s.patient.Permit(&pb.Provision{})
	read := func() *pb.Verdict { return s.One(s.stranger.Sign(sim.Read(s.patient, record, "TREAT"))) }
	s.expect(s.One(suspension(s.administrator, s.patient, "misuse")), pb.Code_CODE_OK)
	// What was consented to before holds on, until the patient says otherwise.
	s.expect(read(), pb.Code_CODE_OK)
	give := func(provisions ...*pb.Provision) *pb.SignedCommand {
		return s.patient.Sign(sim.Body(&pb.Consent{ConsentId: s.ID(), Patient: s.patient.Address, Provisions: provisions}))
	}
	permit, deny := &pb.Provision{Effect: pb.Effect_EFFECT_PERMIT}, &pb.Provision{Effect: pb.Effect_EFFECT_DENY, Actions: []string{"export"}}
	s.expect(s.One(give(permit)), pb.Code_CODE_INACTIVE_SIGNER)
	s.expect(s.One(give(deny, permit)), pb.Code_CODE_INACTIVE_SIGNER)
	s.expect(s.One(s.patient.Sign(sim.Read(s.patient, record, "PATRQT"))), pb.Code_CODE_INACTIVE_SIGNER)
	s.expect(s.One(give(deny)), pb.Code_CODE_OK)
	revoke := func(id string) *pb.SignedCommand {
		return s.patient.Sign(sim.Body(&pb.RevokeConsent{ConsentId: id, Patient: s.patient.Address}))
	}
	s.expect(s.One(revoke(consent)), pb.Code_CODE_OK)
	s.expect(read(), pb.Code_CODE_FORBIDDEN)
}

func TestAThiefWithTheLostKeyTakesNothingAwayEither(t *testing.T) {
	s := begin(t)
	consent := s.patient.Permit(&pb.Provision{})
	s.expect(s.One(suspension(s.patient, s.patient, "lost-key")), pb.Code_CODE_OK)
	for _, body := range []*pb.CommandBody{
		sim.Body(&pb.RevokeConsent{ConsentId: consent, Patient: s.patient.Address}),
		sim.Body(&pb.Consent{ConsentId: s.ID(), Patient: s.patient.Address, Provisions: []*pb.Provision{{Effect: pb.Effect_EFFECT_DENY}}}),
	} {
		s.untouched(func() { s.expect(s.One(s.patient.Sign(body)), pb.Code_CODE_INACTIVE_SIGNER) })
	}
}

func TestNoOtherSuspendedRoleActsAtAll(t *testing.T) {
	s := begin(t)
	s.expect(s.One(suspension(s.administrator, s.clinician, "left")), pb.Code_CODE_OK)
	s.untouched(func() {
		s.expect(s.One(s.clinician.Sign(sim.Body(&pb.RevokeConsent{ConsentId: s.ID(), Patient: s.clinician.Address}))), pb.Code_CODE_INACTIVE_SIGNER)
	})
	waiting := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.expect(s.One(s.register(waiting)), pb.Code_CODE_OK)
	s.untouched(func() {
		s.expect(s.One(waiting.Sign(sim.Body(&pb.RevokeConsent{ConsentId: s.ID(), Patient: waiting.Address}))), pb.Code_CODE_INACTIVE_SIGNER)
	})
}

func TestALostKeyDoesNotStopTheHospitalsWriting(t *testing.T) {
	s := begin(t)
	s.expect(s.One(suspension(s.patient, s.patient, "lost-key")), pb.Code_CODE_OK)
	s.Write(s.engine, s.patient)
	for _, status := range []pb.IdentityStatus{pending, rejected} {
		s.SetStatus(s.patient, status)
		s.expectAt(s.settle(s.PutRecord(s.engine, s.patient, 1, s.ID()))[0], pb.Code_CODE_FORBIDDEN, "body.put_record.patient")
	}
}

func TestWhatAThiefConsentedToEndsFromTheMomentThatTheOwnerNames(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	before := s.patient.Permit(&pb.Provision{Grantees: []*pb.Grantee{{Address: s.stranger.Address}}})
	s.Now = s.Now.Add(time.Minute)
	stolen := s.Now.UnixMilli()
	first := s.patient.Permit(&pb.Provision{Grantees: []*pb.Grantee{{Address: s.researcher.Address}}})
	s.Now = s.Now.Add(time.Minute)
	second := s.patient.Permit(&pb.Provision{Grantees: []*pb.Grantee{{Address: s.clinician.Address}}})
	read := func(by *sim.Person) *pb.Verdict { return s.One(by.Sign(sim.Read(s.patient, record, "TREAT"))) }
	s.expect(read(s.clinician), pb.Code_CODE_OK)
	void := func(by, subject *sim.Person, reason string, since int64) *pb.SignedCommand {
		return by.Sign(sim.Body(&pb.SuspendIdentity{
			Address: subject.Address, Suspend: true, ReasonCode: reason, ConsentsVoidSinceMs: since,
		}))
	}
	path := "body.suspend_identity.consents_void_since_ms"
	s.expectAt(s.One(void(s.administrator, s.patient, "misuse", stolen)), pb.Code_CODE_INVALID, path)
	s.expectAt(s.One(void(s.administrator, s.patient, "lost-key", -1)), pb.Code_CODE_INVALID, path)
	s.expectAt(s.One(void(s.administrator, s.patient, "lost-key", s.Now.UnixMilli()+1)), pb.Code_CODE_INVALID, path)
	s.expectAt(s.One(void(s.administrator, s.clinician, "lost-key", stolen)), pb.Code_CODE_FORBIDDEN, path)
	s.expectAt(s.One(void(s.patient, s.patient, "lost-key", stolen)), pb.Code_CODE_FORBIDDEN, path)
	s.expectAt(s.One(s.administrator.Sign(sim.Body(&pb.SuspendIdentity{
		Address: s.patient.Address, ReasonCode: "lost-key", ConsentsVoidSinceMs: stolen,
	}))), pb.Code_CODE_INVALID, path)
	// The owner stops the key at once; the administrator, who has seen the owner, ends what the thief gave.
	s.expect(s.One(suspension(s.patient, s.patient, "lost-key")), pb.Code_CODE_OK)
	s.expectAt(s.One(suspension(s.administrator, s.patient, "lost-key")), pb.Code_CODE_CONFLICT, "body.suspend_identity.suspend")
	command := void(s.administrator, s.patient, "lost-key", stolen)
	s.expect(s.One(command), pb.Code_CODE_OK)
	if ended := s.Audit(command).GetEndedConsents(); !slices.Equal(ended, []string{first, second}) {
		t.Fatalf("ended %v, want %s and %s", ended, first, second)
	}
	document := &pb.ConsentDocument{}
	s.Document(state.ConsentKey(s.patient.Address), document)
	if len(document.GetConsents()) != 1 || document.GetConsents()[0].GetConsentId() != before || document.GetVersion() != 4 {
		t.Fatalf("in force %v", document)
	}
	s.expect(read(s.clinician), pb.Code_CODE_FORBIDDEN)
	s.expect(read(s.stranger), pb.Code_CODE_OK)
	// As after a revocation, what a carrier held back does not bring them back.
	s.expect(s.One(reinstatement(s.administrator, s.patient)), pb.Code_CODE_OK)
	s.expect(s.One(reinstatement(s.otherAdministrator, s.patient)), pb.Code_CODE_OK)
	s.expectAt(s.One(s.patient.Sign(sim.Body(&pb.Consent{
		ConsentId: second, Patient: s.patient.Address, Provisions: []*pb.Provision{{Effect: pb.Effect_EFFECT_PERMIT}},
	}))), pb.Code_CODE_CONFLICT, "body.consent.consent_id")
}

func TestALostKeyIsReportedAlsoOfSomebodySuspendedForSomethingElse(t *testing.T) {
	s := begin(t)
	s.expect(s.One(suspension(s.administrator, s.patient, "misuse")), pb.Code_CODE_OK)
	s.expect(s.One(suspension(s.administrator, s.patient, "lost-key")), pb.Code_CODE_OK)
	if s.Identity(s.patient.Address).GetSuspension().GetReasonCode() != "lost-key" {
		t.Fatal("the loss was not noted")
	}
	s.expect(s.One(s.patient.Sign(sim.Body(&pb.RevokeConsent{ConsentId: s.ID(), Patient: s.patient.Address}))), pb.Code_CODE_INACTIVE_SIGNER)
	s.expect(s.One(reinstatement(s.administrator, s.patient)), pb.Code_CODE_OK)
	s.expectStatus(s.patient, suspended)
}
