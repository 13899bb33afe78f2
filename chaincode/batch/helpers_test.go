package batch_test

import (
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

// story is a channel with the usual people on it.
type story struct {
	*sim.World
	t                                             *testing.T
	patient, clinician, engine, device            *sim.Person
	administrator, otherAdministrator, thirdAdmin *sim.Person
	officer, stranger, researcher                 *sim.Person
}

func begin(t *testing.T) *story {
	t.Helper()
	w := sim.New(t)
	return &story{
		World: w, t: t,
		patient:            w.Active(pb.Role_ROLE_PATIENT, sim.Mercy),
		clinician:          w.Active(pb.Role_ROLE_CLINICIAN, sim.Mercy),
		engine:             w.Active(pb.Role_ROLE_ENGINE, sim.Mercy),
		device:             w.Active(pb.Role_ROLE_DEVICE, sim.Mercy),
		administrator:      w.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Mercy),
		otherAdministrator: w.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Lakeside),
		thirdAdmin:         w.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Insurer),
		officer:            w.Active(pb.Role_ROLE_PRIVACY_OFFICER, sim.Mercy),
		stranger:           w.Active(pb.Role_ROLE_CLINICIAN, sim.Lakeside),
		researcher:         w.Active(pb.Role_ROLE_RESEARCHER, sim.Lakeside),
	}
}

// expect insists on a verdict's code, and that nobody is refused without a reason.
func (s *story) expect(v *pb.Verdict, code pb.Code) *pb.Verdict {
	s.t.Helper()
	if v.GetCode() != code {
		s.t.Fatalf("verdict %v: %q at %q, want %v", v.GetCode(), v.GetReason(), v.GetPath(), code)
	}
	if code != pb.Code_CODE_OK && code != pb.Code_CODE_ALREADY_COMMITTED && v.GetReason() == "" {
		s.t.Fatalf("refused without a reason: %v", v)
	}
	return v
}

// expectAt also insists on the path.
func (s *story) expectAt(v *pb.Verdict, code pb.Code, path string) {
	s.t.Helper()
	s.expect(v, code)
	if v.GetPath() != path {
		s.t.Fatalf("blamed %q, want %q (%s)", v.GetPath(), path, v.GetReason())
	}
}

// untouched insists that something leaves no trace in the state.
func (s *story) untouched(do func()) {
	s.t.Helper()
	before := len(s.State)
	do()
	if len(s.State) != before {
		s.t.Fatalf("the state has %d documents, before %d: a refusal left a trace", len(s.State), before)
	}
}

// consentTo is some harmless command of the patient.
func (s *story) consentBody() *pb.CommandBody {
	return sim.Body(&pb.Consent{
		ConsentId: s.ID(), Patient: s.patient.Address,
		Provisions: []*pb.Provision{{Effect: pb.Effect_EFFECT_PERMIT, Purposes: []string{"TREAT"}}},
	})
}

func codes(verdicts []*pb.Verdict) []pb.Code {
	list := make([]pb.Code, len(verdicts))
	for i, v := range verdicts {
		list[i] = v.GetCode()
	}
	return list
}
