package state_test

import (
	"testing"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

const key = "z/id/aud/signer"

// read gives an overlay on a state that holds one audit entry, and none under the other keys that were read.
func read(t *testing.T) *state.Overlay {
	t.Helper()
	raw, err := proto.Marshal(&pb.AuditEntry{TxId: "first"})
	if err != nil {
		t.Fatal(err)
	}
	return state.Of([]string{key, "z/new/aud/signer"}, [][]byte{raw, nil})
}

func isFault(do func()) (fault bool) {
	defer func() {
		if thrown := recover(); thrown != nil {
			_, fault = thrown.(state.Fault)
		}
	}()
	do()
	return false
}

func TestWhatIsAppendedIsWrittenOnceAndNeverAgain(t *testing.T) {
	again := &pb.AuditEntry{TxId: "again"}
	for name, do := range map[string]func(s *state.Overlay){
		"over what the channel holds": func(s *state.Overlay) { s.Append(key, again) },
		"over an earlier group of the batch": func(s *state.Overlay) {
			s.Append("z/new/aud/signer", &pb.AuditEntry{})
			s.Commit()
			s.Append("z/new/aud/signer", again)
		},
		"over the same group": func(s *state.Overlay) {
			s.Append("z/new/aud/signer", &pb.AuditEntry{})
			s.Append("z/new/aud/signer", again)
		},
		"without having looked": func(s *state.Overlay) { s.Append("z/never/aud/read", again) },
	} {
		t.Run(name, func(t *testing.T) {
			s := read(t)
			if !isFault(func() { do(s) }) {
				t.Fatal("it was written again")
			}
		})
	}
}

func TestWhatWasRolledBackMayBeAppended(t *testing.T) {
	s := read(t)
	s.Append("z/new/aud/signer", &pb.AuditEntry{TxId: "done"})
	s.Rollback()
	s.Append("z/new/aud/signer", &pb.AuditEntry{TxId: "refused"})
	s.Commit()
	writes := s.Writes()
	if len(writes) != 1 {
		t.Fatalf("%d writes", len(writes))
	}
	entry := &pb.AuditEntry{}
	if err := proto.Unmarshal(writes[0].Value, entry); err != nil || entry.GetTxId() != "refused" {
		t.Fatalf("%v, %v", entry, err)
	}
}

func TestAGroupSeesWhatEarlierGroupsCommittedAndNotWhatTheyRolledBack(t *testing.T) {
	s := read(t)
	entry := func() *pb.AuditEntry { return state.Load[pb.AuditEntry](s, key) }
	s.Put(key, &pb.AuditEntry{TxId: "staged"})
	if entry().GetTxId() != "staged" {
		t.Fatal("the group does not see its own change")
	}
	s.Rollback()
	if entry().GetTxId() != "first" {
		t.Fatal("what was rolled back is still there")
	}
	s.Put(key, &pb.AuditEntry{TxId: "committed"})
	s.Commit()
	if entry().GetTxId() != "committed" {
		t.Fatal("what was committed is not there")
	}
}

func TestAKeyThatWasNotReadIsAFault(t *testing.T) {
	s := read(t)
	if !isFault(func() { state.Load[pb.AuditEntry](s, "z/never/aud/read") }) {
		t.Fatal("it was taken as absent: other batches lack this read")
	}
}
