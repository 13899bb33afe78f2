package batch_test

import (
	"slices"
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

func TestAsManyEmergenciesAreOpenedAsThePolicyLetsWaitForReview(t *testing.T) {
	s := begin(t)
	policy := s.policy()
	policy.Policy.BreakGlass = &pb.BreakGlassLimits{WindowHours: 24, Patients: 10, Records: 1000, Unreviewed: 1000}
	s.State[state.PolicyKey] = sim.Marshal(t, policy)
	record := s.Write(s.engine, s.patient)
	s.standStill()
	charges := slices.Repeat([]*pb.EmergencyCharge{{Patient: s.patient.Address, OpenedAtMs: s.Now.UnixMilli()}}, 999)
	s.expect(s.decides(s.emergency(s.clinician, s.patient, record), charges...).GetVerdict(), pb.Code_CODE_OK)
	charges = append(charges, charges[0])
	s.expectAt(s.decides(s.emergency(s.clinician, s.patient, record), charges...).GetVerdict(), pb.Code_CODE_FORBIDDEN, "signer")
}
