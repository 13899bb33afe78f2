package batch_test

import (
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

func (s *story) amend(record string, version uint32) {
	s.t.Helper()
	s.expect(s.settle(s.PutRecord(s.engine, s.patient, version, record))[0], pb.Code_CODE_OK)
}

func TestAnOldVersionIsReadAsHistoryOrNotAtAll(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	access := func(action string, version uint32) *pb.Verdict {
		body := sim.Read(s.patient, record, "TREAT")
		body.GetAccess().Action, body.GetAccess().Version = action, version
		command := s.stranger.Sign(body)
		v := s.One(command)
		if s.Audit(command).GetCode() != v.GetCode() {
			t.Fatalf("%s of version %d: the entry says %v", action, version, s.Audit(command))
		}
		return v
	}
	s.patient.Permit(&pb.Provision{Actions: []string{"read", "export"}})
	s.expect(access("read", 1), pb.Code_CODE_OK)
	s.expect(access("history", 1), pb.Code_CODE_FORBIDDEN)
	s.amend(record, 2)
	for _, action := range []string{"read", "export"} {
		s.expectAt(access(action, 1), pb.Code_CODE_FORBIDDEN, "body.access.version")
		s.expect(access(action, 2), pb.Code_CODE_OK)
	}
	s.expect(access("history", 1), pb.Code_CODE_FORBIDDEN)
	s.patient.Permit(&pb.Provision{Actions: []string{"history"}})
	s.expect(access("history", 1), pb.Code_CODE_OK)
	s.expect(access("history", 2), pb.Code_CODE_OK)
	s.expect(access("read", 1), pb.Code_CODE_FORBIDDEN)
	s.amend(record, 3)
	s.expect(access("read", 2), pb.Code_CODE_FORBIDDEN)
	s.expect(access("history", 2), pb.Code_CODE_OK)
	s.expect(access("read", 3), pb.Code_CODE_OK)
}

func TestAVersionAddedInTheSameBatchMakesTheOneBeforeItHistory(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.patient.Permit(&pb.Provision{Actions: []string{"read"}})
	read := func() *pb.BatchItem { return sim.Item(s.stranger.Sign(sim.Read(s.patient, record, "TREAT"))) }
	result := s.Process(read(), s.PutRecord(s.engine, s.patient, 2, record), read())
	s.expect(result.Groups[0].Verdicts[0], pb.Code_CODE_OK)
	s.expect(result.Groups[1].Verdicts[0], pb.Code_CODE_OK)
	s.expect(result.Groups[2].Verdicts[0], pb.Code_CODE_FORBIDDEN)
}

func TestTheGlassIsBrokenForTheLatestVersion(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.amend(record, 2)
	old := s.breakGlass(s.clinician, record)
	s.expectAt(s.One(old), pb.Code_CODE_FORBIDDEN, "body.break_glass.version")
	if s.Audit(old).GetCode() != pb.Code_CODE_FORBIDDEN {
		t.Fatal("the attempt is not on the channel")
	}
	body := sim.BreakGlass(s.patient, record, s.officer)
	body.GetBreakGlass().Version = 2
	latest := s.clinician.Sign(body)
	s.expect(s.One(latest), pb.Code_CODE_OK)
}

func TestExplainSaysOfOldVersionsWhatAnAccessWouldMeet(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.amend(record, 2)
	s.patient.Permit(&pb.Provision{Actions: []string{"read", "search", "export", "event"}})
	for _, test := range []struct {
		action  string
		version uint32
		code    pb.Code
	}{
		{"read", 1, pb.Code_CODE_FORBIDDEN},
		{"export", 1, pb.Code_CODE_FORBIDDEN},
		{"history", 1, pb.Code_CODE_FORBIDDEN},
		{"read", 2, pb.Code_CODE_OK},
		{"export", 2, pb.Code_CODE_OK},
		// Who may search or hear of events is told that a version is there, not what is in it.
		{"search", 1, pb.Code_CODE_OK},
		{"event", 1, pb.Code_CODE_OK},
	} {
		result, err := s.query(&pb.Query{Query: &pb.Query_Explain{Explain: &pb.Explain{Items: []*pb.ExplainItem{{
			Principal: s.stranger.Address, Action: test.action, RecordId: record, Version: test.version, Purpose: "TREAT",
		}}}}})
		if err != nil || result.GetVerdicts()[0].GetCode() != test.code {
			t.Errorf("%s of version %d: %v %v, want %v", test.action, test.version, result, err, test.code)
		}
	}
}
