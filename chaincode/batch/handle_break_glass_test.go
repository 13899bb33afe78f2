package batch_test

import (
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

func (s *story) breakGlass(by *sim.Person, record string) *pb.SignedCommand {
	return by.Sign(sim.BreakGlass(s.patient, record, s.officer))
}

func TestTheGlassIsBrokenByAClinicianAgainstEveryConsent(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.patient.Permit(&pb.Provision{Effect: pb.Effect_EFFECT_DENY})
	command := s.breakGlass(s.stranger, record)
	s.expect(s.One(command), pb.Code_CODE_OK)
	e := s.Audit(command)
	if e.GetAction() != "break-glass" || e.GetPatient() != s.patient.Address || e.GetReasonCode() != "" ||
		e.GetCategory() != "observations" || e.GetPurpose() != "ETREAT" {
		t.Fatalf("audit entry %v", e)
	}
	for _, p := range []*sim.Person{s.engine, s.researcher, s.administrator, s.patient} {
		refused := s.breakGlass(p, record)
		s.expectAt(s.One(refused), pb.Code_CODE_FORBIDDEN, "signer")
		s.expect(s.One(s.reviewGlass(s.officer, refused, true)), pb.Code_CODE_NOT_FOUND)
	}
	s.expect(s.One(s.breakGlass(s.stranger, s.ID())), pb.Code_CODE_NOT_FOUND)
}

func TestAnAdministratorWhoBrokeTheGlassAsAClinicianCannotReviewIt(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	broken := s.breakGlass(s.clinician, record)
	s.expect(s.One(broken), pb.Code_CODE_OK)
	promoted := s.Identity(s.clinician.Address)
	promoted.Role = pb.Role_ROLE_ADMINISTRATOR
	s.State[state.IdentityKey(s.clinician.Address)] = sim.Marshal(t, promoted)
	s.expect(s.One(s.clinician.Sign(sim.Body(&pb.ReviewBreakGlass{
		BreakGlassId: s.Audit(broken).GetCommandId(), Clinician: s.clinician.Address, Justified: true,
	}))), pb.Code_CODE_FORBIDDEN)
}

func TestNoPolicyLetsAnybodyButAClinicianBreakTheGlass(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	inForce := s.policy()
	inForce.Policy.Cedar = `@id("everything") permit (principal, action, resource);`
	s.State[state.PolicyKey] = sim.Marshal(t, inForce)
	s.expectAt(s.One(s.breakGlass(s.engine, record)), pb.Code_CODE_FORBIDDEN, "signer")
	s.expect(s.One(s.breakGlass(s.clinician, record)), pb.Code_CODE_OK)
}

func TestAConsortiumMayNarrowWhatAnEmergencyOpens(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.patient.Permit(&pb.Provision{Effect: pb.Effect_EFFECT_DENY})
	inForce := s.policy()
	inForce.Policy.Cedar += `@id("not-against-a-deny") forbid (principal, action == Action::"break-glass", resource)
		when { context.consent == "deny" && principal.msp != resource.patient_msp };`
	s.State[state.PolicyKey] = sim.Marshal(t, inForce)
	v := s.expect(s.One(s.breakGlass(s.stranger, record)), pb.Code_CODE_FORBIDDEN)
	if got := v.GetBasis().GetPolicies(); len(got) != 1 || got[0] != "not-against-a-deny" || s.quota(s.stranger).GetRecords() != 0 {
		t.Fatalf("refused by %v, quota %v", got, s.quota(s.stranger))
	}
	s.expect(s.One(s.breakGlass(s.clinician, record)), pb.Code_CODE_OK)
}
