package batch_test

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
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

// untouched insists that something changes nothing, but for the audit entries of what was refused.
func (s *story) untouched(do func()) {
	s.t.Helper()
	s.compare(do, func(key string) bool { return s.refusedBy(key) })
}

// traceless insists that something leaves no trace in the state at all.
func (s *story) traceless(do func()) {
	s.t.Helper()
	s.compare(do, func(string) bool { return false })
}

// compare the state before and after, but for new keys that may be there.
func (s *story) compare(do func(), allowed func(key string) bool) {
	s.t.Helper()
	before, private := maps.Clone(s.State), len(s.Private)
	do()
	for key, value := range s.State {
		if strings.HasPrefix(key, state.EpochPrefix) {
			continue
		}
		was, there := before[key]
		if (there && !bytes.Equal(was, value)) || (!there && !allowed(key)) {
			s.t.Fatalf("%s was changed by what was refused", key)
		}
	}
	if len(s.Private) != private {
		s.t.Fatal("private state was changed by what was refused")
	}
}

func (s *story) refusedBy(key string) bool {
	entry := &pb.AuditEntry{}
	return strings.Contains(key, "/aud/") && s.Document(key, entry) && entry.GetCode() != pb.Code_CODE_OK
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
