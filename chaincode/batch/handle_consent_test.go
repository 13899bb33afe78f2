package batch_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

func (s *story) consents() *pb.ConsentDocument {
	document := &pb.ConsentDocument{}
	s.Document(state.ConsentKey(s.patient.Address), document)
	return document
}

func (s *story) revoke(id string) *pb.SignedCommand {
	return s.patient.Sign(sim.Body(&pb.RevokeConsent{ConsentId: id, Patient: s.patient.Address}))
}

func TestConsentsAreGivenReplacedAndRevoked(t *testing.T) {
	s := begin(t)
	first := s.patient.Permit(&pb.Provision{Purposes: []string{"TREAT"}})
	s.patient.Permit(&pb.Provision{Purposes: []string{"HRESCH"}})
	s.expect(s.One(s.patient.Sign(sim.Body(&pb.Consent{
		ConsentId: first, Patient: s.patient.Address,
		Provisions: []*pb.Provision{{Effect: pb.Effect_EFFECT_DENY, Purposes: []string{"TREAT"}}},
	}))), pb.Code_CODE_OK)
	d := s.consents()
	if d.GetVersion() != 3 || len(d.GetConsents()) != 2 || d.GetConsents()[0].GetProvisions()[0].GetEffect() != pb.Effect_EFFECT_DENY {
		t.Fatalf("consents %v", d)
	}
	revoke := s.revoke(first)
	s.expect(s.One(revoke), pb.Code_CODE_OK)
	if e := s.Audit(revoke); e.GetAction() != "revoke" || e.GetConsentId() != first || e.GetPatient() != s.patient.Address {
		t.Fatalf("audit entry %v", e)
	}
	s.untouched(func() { s.expect(s.One(s.revoke(first)), pb.Code_CODE_NOT_FOUND) })
	if d := s.consents(); d.GetVersion() != 4 || len(d.GetConsents()) != 1 {
		t.Fatalf("consents %v", d)
	}
}

func TestNobodyConsentsForThePatient(t *testing.T) {
	s := begin(t)
	s.expect(s.One(s.clinician.Sign(s.consentBody())), pb.Code_CODE_FORBIDDEN)
	s.expect(s.One(s.administrator.Sign(s.consentBody())), pb.Code_CODE_FORBIDDEN)
	other := s.Active(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.expect(s.One(other.Sign(s.consentBody())), pb.Code_CODE_FORBIDDEN)
	s.expect(s.One(s.clinician.Sign(sim.Body(&pb.Consent{
		ConsentId: s.ID(), Patient: s.clinician.Address, Provisions: []*pb.Provision{{Effect: pb.Effect_EFFECT_PERMIT}},
	}))), pb.Code_CODE_FORBIDDEN)
	id := s.patient.Permit(&pb.Provision{})
	s.expect(s.One(s.clinician.Sign(sim.Body(&pb.RevokeConsent{ConsentId: id, Patient: s.patient.Address}))), pb.Code_CODE_FORBIDDEN)
	if len(s.consents().GetConsents()) != 1 {
		t.Fatal("somebody else changed the consents")
	}
}

func TestTheLimitsOfConsents(t *testing.T) {
	s := begin(t)
	provisions := make([]*pb.Provision, 33)
	for i := range provisions {
		provisions[i] = &pb.Provision{Effect: pb.Effect_EFFECT_PERMIT}
	}
	give := func(list []*pb.Provision) *pb.Verdict {
		return s.One(s.patient.Sign(sim.Body(&pb.Consent{ConsentId: s.ID(), Patient: s.patient.Address, Provisions: list})))
	}
	s.expect(give(provisions), pb.Code_CODE_TOO_LARGE)
	s.expect(give(nil), pb.Code_CODE_INVALID)
	s.expect(give(provisions[:32]), pb.Code_CODE_OK)
	var last string
	for len(s.consents().GetConsents()) < 64 {
		last = s.patient.Permit(&pb.Provision{})
	}
	s.expect(give(provisions[:1]), pb.Code_CODE_TOO_LARGE)
	s.expect(s.One(s.revoke(last)), pb.Code_CODE_OK)
	s.expect(give(provisions[:1]), pb.Code_CODE_OK)
}

func TestAProvisionIsCheckedToTheLastField(t *testing.T) {
	stories := map[string]*pb.Provision{
		"effect":              {Effect: 3},
		"grantees[0]":         {Grantees: []*pb.Grantee{{}}},
		"grantees[0].address": {Grantees: []*pb.Grantee{{Address: "Dr. Somebody"}}},
		"grantees[0].role":    {Grantees: []*pb.Grantee{{Role: 99}}},
		"grantees[0].msp":     {Grantees: []*pb.Grantee{{Msp: "a b"}}},
		"purposes[1]":         {Purposes: []string{"TREAT", "MARKETING"}},
		"categories[0]":       {Categories: []string{"gossip"}},
		"actions[0]":          {Actions: []string{"delete"}},
		"record_ids[0]":       {RecordIds: []string{"mine"}},
		"valid_until_ms":      {ValidFromMs: 5, ValidUntilMs: 5},
	}
	for path, provision := range stories {
		t.Run(path, func(t *testing.T) {
			s := begin(t)
			if provision.Effect == 0 {
				provision.Effect = pb.Effect_EFFECT_PERMIT
			}
			command := s.patient.Sign(sim.Body(&pb.Consent{ConsentId: s.ID(), Patient: s.patient.Address, Provisions: []*pb.Provision{provision}}))
			s.untouched(func() { s.expectAt(s.One(command), pb.Code_CODE_INVALID, "body.consent.provisions[0]."+path) })
		})
	}
}

func TestAGranteeIsOfAMemberAndOfNothingElseThatIsSpeltLikeOne(t *testing.T) {
	s := begin(t)
	give := func(msps ...string) *pb.Verdict {
		provision := &pb.Provision{Effect: pb.Effect_EFFECT_PERMIT}
		for _, msp := range msps {
			provision.Grantees = append(provision.Grantees, &pb.Grantee{Msp: msp})
		}
		return s.One(s.patient.Sign(sim.Body(&pb.Consent{
			ConsentId: s.ID(), Patient: s.patient.Address, Provisions: []*pb.Provision{{Effect: pb.Effect_EFFECT_PERMIT}, provision},
		})))
	}
	s.untouched(func() {
		s.expectAt(give(sim.Lakeside, "DrHouse"), pb.Code_CODE_INVALID, "body.consent.provisions[1].grantees[1].msp")
		many := make([]string, 65)
		for i := range many {
			many[i] = "M" + strconv.Itoa(i)
		}
		s.expectAt(give(many...), pb.Code_CODE_TOO_LARGE, "body.consent.provisions")
	})
	s.expect(give(sim.Lakeside, sim.Mercy), pb.Code_CODE_OK)
}

func TestConsentDecidesWhoReadsWhatForWhatAndWhen(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient) // An observation.
	other := s.ID()
	now := s.Now.UnixMilli()
	reader := &pb.Grantee{Address: s.stranger.Address}
	stories := []struct {
		name      string
		provision *pb.Provision
		code      pb.Code
	}{
		{"anyone", &pb.Provision{}, pb.Code_CODE_OK},
		{"this person", &pb.Provision{Grantees: []*pb.Grantee{{Address: other}, reader}}, pb.Code_CODE_OK},
		{"another person", &pb.Provision{Grantees: []*pb.Grantee{{Address: s.clinician.Address}}}, pb.Code_CODE_FORBIDDEN},
		{"this role", &pb.Provision{Grantees: []*pb.Grantee{{Role: pb.Role_ROLE_CLINICIAN}}}, pb.Code_CODE_OK},
		{"another role", &pb.Provision{Grantees: []*pb.Grantee{{Role: pb.Role_ROLE_RESEARCHER}}}, pb.Code_CODE_FORBIDDEN},
		{"this organisation", &pb.Provision{Grantees: []*pb.Grantee{{Msp: sim.Lakeside}}}, pb.Code_CODE_OK},
		{"this role in this organisation", &pb.Provision{Grantees: []*pb.Grantee{{Role: pb.Role_ROLE_CLINICIAN, Msp: sim.Lakeside}}}, pb.Code_CODE_OK},
		{"this role in another organisation", &pb.Provision{Grantees: []*pb.Grantee{{Role: pb.Role_ROLE_CLINICIAN, Msp: sim.Mercy}}}, pb.Code_CODE_FORBIDDEN},
		{"this purpose", &pb.Provision{Purposes: []string{"HPAYMT", "TREAT"}}, pb.Code_CODE_OK},
		{"another purpose", &pb.Provision{Purposes: []string{"HPAYMT"}}, pb.Code_CODE_FORBIDDEN},
		{"this category", &pb.Provision{Categories: []string{"observations"}}, pb.Code_CODE_OK},
		{"another category", &pb.Provision{Categories: []string{"imaging"}}, pb.Code_CODE_FORBIDDEN},
		{"this action", &pb.Provision{Actions: []string{"read"}}, pb.Code_CODE_OK},
		{"another action", &pb.Provision{Actions: []string{"write", "export"}}, pb.Code_CODE_FORBIDDEN},
		{"this record", &pb.Provision{RecordIds: []string{record}}, pb.Code_CODE_OK},
		{"another record", &pb.Provision{RecordIds: []string{other}}, pb.Code_CODE_FORBIDDEN},
		{"from now", &pb.Provision{ValidFromMs: now}, pb.Code_CODE_OK},
		{"from later", &pb.Provision{ValidFromMs: now + 1}, pb.Code_CODE_FORBIDDEN},
		{"until later", &pb.Provision{ValidUntilMs: now + 1}, pb.Code_CODE_OK},
		{"until now", &pb.Provision{ValidUntilMs: now}, pb.Code_CODE_FORBIDDEN},
	}
	for i, test := range stories {
		t.Run(test.name, func(t *testing.T) {
			if len(test.provision.Grantees) == 2 {
				test.provision.Grantees[0].Address = s.clinician.Address
			}
			id := s.patient.Permit(test.provision)
			verdict := s.One(s.stranger.Sign(sim.Read(s.patient, record, "TREAT")))
			s.t = t
			s.expect(verdict, test.code)
			s.expect(s.One(s.revoke(id)), pb.Code_CODE_OK)
			if want := uint64(2*i + 1); verdict.GetBasis().GetConsentVersion() != want {
				t.Fatalf("rested on consent version %d, want %d", verdict.GetBasis().GetConsentVersion(), want)
			}
		})
	}
}

func TestDenyWinsOverPermitInWhicheverOrder(t *testing.T) {
	for _, denyFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("deny first %v", denyFirst), func(t *testing.T) {
			s := begin(t)
			record := s.Write(s.engine, s.patient)
			var denied string
			deny := func() {
				denied = s.patient.Permit(&pb.Provision{Effect: pb.Effect_EFFECT_DENY, Grantees: []*pb.Grantee{{Address: s.stranger.Address}}})
			}
			if denyFirst {
				deny()
			}
			s.patient.Permit(&pb.Provision{})
			if !denyFirst {
				deny()
			}
			v := s.expect(s.One(s.stranger.Sign(sim.Read(s.patient, record, "TREAT"))), pb.Code_CODE_FORBIDDEN)
			if v.GetBasis().GetConsentId() != denied || !strings.Contains(v.GetReason(), "denies read for TREAT") {
				t.Fatalf("verdict %v", v)
			}
			s.expect(s.One(s.clinician.Sign(sim.Read(s.patient, record, "TREAT"))), pb.Code_CODE_OK)
			s.patient.Permit(&pb.Provision{Effect: pb.Effect_EFFECT_DENY})
			s.expect(s.One(s.patient.Sign(sim.Read(s.patient, record, "PATRQT"))), pb.Code_CODE_OK)
		})
	}
}

func TestAConsentOfARefusedGroupIsForgottenWithinTheBatch(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	id := s.patient.Permit(&pb.Provision{})
	deny := sim.Body(&pb.Consent{
		ConsentId: id, Patient: s.patient.Address, Provisions: []*pb.Provision{{Effect: pb.Effect_EFFECT_DENY}},
	})
	withdraw := sim.Body(&pb.RevokeConsent{ConsentId: id, Patient: s.patient.Address})
	missing := sim.Body(&pb.RevokeConsent{ConsentId: s.ID(), Patient: s.patient.Address})
	for _, change := range []*pb.CommandBody{deny, withdraw} {
		result := s.Process(
			sim.Item(s.Group(sim.Part{By: s.patient, Body: change}, sim.Part{By: s.patient, Body: missing})...),
			sim.Item(s.clinician.Sign(sim.Read(s.patient, record, "TREAT"))))
		s.expectAll(result.Groups[0].Verdicts, pb.Code_CODE_GROUP_REFUSED, pb.Code_CODE_NOT_FOUND)
		s.expect(result.Groups[1].Verdicts[0], pb.Code_CODE_OK)
	}
}

func TestTheFirstOfSeveralDenialsIsNamed(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	first := s.patient.Permit(&pb.Provision{Effect: pb.Effect_EFFECT_DENY})
	s.patient.Permit(&pb.Provision{Effect: pb.Effect_EFFECT_DENY})
	v := s.expect(s.One(s.clinician.Sign(sim.Read(s.patient, record, "TREAT"))), pb.Code_CODE_FORBIDDEN)
	if v.GetBasis().GetConsentId() != first {
		t.Fatalf("basis %v", v.GetBasis())
	}
}
