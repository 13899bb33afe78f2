package batch_test

import (
	"fmt"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

func TestWhyAGlassWasBrokenIsKeptSealedInTheCliniciansOwnWords(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	command := s.breakGlass(s.clinician, record)
	s.expect(s.One(command), pb.Code_CODE_OK)
	entry, kept := s.Audit(command), &pb.SignedCommand{}
	if entry.GetReasonCode() != "" {
		t.Fatalf("the audit entry tells the reason: %q", entry.GetReasonCode())
	}
	if !s.Document(state.BrokenGlassKey(entry.GetCommandId(), s.clinician.Address), kept) || !proto.Equal(kept, command) {
		t.Fatalf("the reviewers find %v, not what the clinician signed", kept)
	}
	refused := s.breakGlass(s.engine, record)
	s.expect(s.One(refused), pb.Code_CODE_FORBIDDEN)
	if s.Document(state.BrokenGlassKey(s.Audit(refused).GetCommandId(), s.engine.Address), kept) {
		t.Fatal("there is nothing to review about a glass that held")
	}
}

func TestASealedReasonHasOneLengthWhateverItSays(t *testing.T) {
	const path = "body.break_glass.sealed_reasons"
	sealed := func(s *story, n int) *pb.SealedReason {
		return &pb.SealedReason{Reviewer: s.Enrol(pb.Role_ROLE_PRIVACY_OFFICER, sim.Mercy).Address, Sealed: make([]byte, n)}
	}
	many := func(s *story, n int) []*pb.SealedReason {
		list := make([]*pb.SealedReason, n)
		for i := range list {
			list[i] = sealed(s, 1200)
		}
		return list
	}
	stories := []struct {
		name    string
		reasons func(s *story) []*pb.SealedReason
		code    pb.Code
		path    string
	}{
		{"to nobody", func(*story) []*pb.SealedReason { return nil }, pb.Code_CODE_INVALID, path},
		{"to sixteen", func(s *story) []*pb.SealedReason { return many(s, 16) }, pb.Code_CODE_OK, ""},
		{"to seventeen", func(s *story) []*pb.SealedReason { return many(s, 17) }, pb.Code_CODE_TOO_LARGE, path},
		{"too short", func(s *story) []*pb.SealedReason { return []*pb.SealedReason{sealed(s, 1147)} }, pb.Code_CODE_INVALID, path + "[0].sealed"},
		{"too long", func(s *story) []*pb.SealedReason { return []*pb.SealedReason{sealed(s, 1201)} }, pb.Code_CODE_INVALID, path + "[0].sealed"},
		{"to a name", func(s *story) []*pb.SealedReason {
			return []*pb.SealedReason{{Reviewer: "Dr. Somebody", Sealed: make([]byte, 1200)}}
		}, pb.Code_CODE_INVALID, path + "[0].reviewer"},
		{"twice to one", func(s *story) []*pb.SealedReason {
			one := sealed(s, 1200)
			return []*pb.SealedReason{one, one}
		}, pb.Code_CODE_INVALID, path + "[1].reviewer"},
	}
	for i, test := range stories {
		t.Run(fmt.Sprint(i, " ", test.name), func(t *testing.T) {
			s := begin(t)
			record := s.Write(s.engine, s.patient)
			v := s.One(s.clinician.Sign(sim.Body(&pb.BreakGlass{
				Patient: s.patient.Address, RecordId: record, Version: 1, SealedReasons: test.reasons(s),
			})))
			s.expectAt(v, test.code, test.path)
		})
	}
}
