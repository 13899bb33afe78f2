package batch_test

import (
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

// openToAll puts a policy in force that permits everything: what is refused under it, the contract refuses.
func (s *story) openToAll() {
	s.t.Helper()
	inForce := s.policy()
	inForce.Policy.Cedar = `@id("open") permit (principal, action, resource);`
	s.State[state.PolicyKey] = sim.Marshal(s.t, inForce)
}

func TestADenyWithoutActionsStopsEveryUseWhateverTheMembersVoted(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.openToAll()
	access := func(by *sim.Person, action string) *pb.Verdict {
		body := sim.Read(s.patient, record, "TREAT")
		body.GetAccess().Action = action
		return s.One(by.Sign(body))
	}
	write := func() *pb.Verdict { return s.settle(s.PutRecord(s.engine, s.patient, 1, s.ID()))[0] }
	s.expect(access(s.stranger, "export"), pb.Code_CODE_OK)
	s.expect(write(), pb.Code_CODE_OK)
	denial := s.patient.Permit(&pb.Provision{Effect: pb.Effect_EFFECT_DENY})
	for _, action := range []string{"read", "history", "export"} {
		v := s.expect(access(s.stranger, action), pb.Code_CODE_FORBIDDEN)
		if v.GetBasis().GetConsentId() != denial || len(v.GetBasis().GetPolicies()) != 0 {
			t.Errorf("%s was refused on the basis of %v", action, v.GetBasis())
		}
		s.expect(access(s.patient, action), pb.Code_CODE_OK)
	}
	s.expect(write(), pb.Code_CODE_FORBIDDEN)
	s.expect(s.One(s.breakGlass(s.clinician, record)), pb.Code_CODE_OK)
}
