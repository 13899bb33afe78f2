// Package simulator is a small consortium for tests: members with certificate authorities, people
// and systems with keys, and a channel that keeps what the rules write. Tests tell their stories
// with it.
package simulator

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"cbmdhi/chaincode/batch"
	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// The stage of most stories.
const (
	Channel  = "cbmdhi"
	Mercy    = "MercyMSP"
	Lakeside = "LakesideMSP"
	Insurer  = "InsurerMSP"
)

// T is what the simulator needs of a test.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
}

// World is a channel and its consortium.
type World struct {
	T       T
	Rules   *batch.Rules
	Members map[string]*Member
	// What every operator agreed to.
	GenesisSHA256 [sha256.Size]byte
	// Public and private state, the latter by collection.
	State   map[string][]byte
	Private map[string]map[string][]byte
	// Set: no ledger service keeps the channel's time.
	Unattended bool
	// Time of the next transaction, and who submits it.
	Now     time.Time
	Creator string
	// How many multi-gets the last call made, and the keys of all.
	Reads    int
	ReadKeys []string

	people       map[string]*Person
	sealed       map[[2]string][]byte
	seals        map[string]*pb.SealedBatch
	transactions int
	ids          int
}

// New is a channel after its genesis: three members, the default policy, devices need no review, patients
// need two members.
func New(t T) *World {
	t.Helper()
	w := Empty(t)
	w.Init(w.Genesis())
	w.keepTime()
	return w
}

// Of is a channel after its genesis with other members than the usual ones; the first carries.
func Of(t T, members ...string) *World {
	t.Helper()
	w := before(t, members...)
	w.Init(w.Genesis())
	return w
}

// Empty is a channel before its genesis.
func Empty(t T) *World { return before(t, Mercy, Lakeside, Insurer) }

func before(t T, members ...string) *World {
	w := &World{
		T: t, Rules: &batch.Rules{}, Members: map[string]*Member{}, State: map[string][]byte{},
		Private: map[string]map[string][]byte{}, Creator: members[0], seals: map[string]*pb.SealedBatch{},
		Now: time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC),
	}
	for _, msp := range members {
		w.Members[msp] = newMember(w, msp)
	}
	w.GenesisSHA256 = sha256.Sum256(Marshal(t, w.Genesis()))
	return w
}

// Genesis is the beginning that the members agreed to.
func (w *World) Genesis() *pb.Genesis {
	genesis := &pb.Genesis{Channel: Channel, Policy: DefaultPolicy(w.T)}
	for _, msp := range slices.Sorted(maps.Keys(w.Members)) {
		genesis.Members = append(genesis.Members, w.Members[msp].Document)
	}
	return genesis
}

// DefaultPolicy is the text that is deployed, under rules that suit the stories.
func DefaultPolicy(t T) *pb.PolicyDocument {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	text, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../../deploy/chaincode/policies/default.cedar"))
	if err != nil {
		t.Fatalf("the default policy: %v", err)
	}
	return &pb.PolicyDocument{
		Version: 1, Cedar: string(text), MinReplicas: 1,
		ReviewRules: []*pb.ReviewRule{
			{Role: pb.Role_ROLE_PATIENT, Quorum: 2},
			{Role: pb.Role_ROLE_CLINICIAN, Quorum: 2},
			{Role: pb.Role_ROLE_ADMINISTRATOR, Quorum: 1},
			{Role: pb.Role_ROLE_ENGINE, Quorum: 1, HomeOnly: true},
			{Role: pb.Role_ROLE_DEVICE},
			{Role: pb.Role_ROLE_PRIVACY_OFFICER, Quorum: 2},
		},
		BreakGlass: &pb.BreakGlassLimits{WindowHours: 12, Patients: 4, Records: 40, Unreviewed: 60},
	}
}

// Init begins the channel with a genesis that every operator agreed to.
func (w *World) Init(genesis *pb.Genesis) {
	w.T.Helper()
	raw := Marshal(w.T, genesis)
	w.GenesisSHA256 = sha256.Sum256(raw)
	writes, err := w.Rules.Init(w.Call(), raw, Ledger{w})
	if err != nil {
		w.T.Fatalf("init: %v", err)
	}
	w.Commit(writes)
}

// Call is the next transaction's.
func (w *World) Call() batch.Call {
	w.transactions++
	w.Reads, w.ReadKeys = 0, nil
	w.keepTime()
	return batch.Call{
		Channel: Channel, GenesisSHA256: w.GenesisSHA256, TxID: fmt.Sprintf("tx-%d", w.transactions),
		TimeMs: w.Now.UnixMilli(), CreatorMSP: w.Creator,
	}
}

// keepTime has the epochs begin, as the members' ledger services do.
func (w *World) keepTime() {
	if w.State[state.ChannelKey] == nil || w.Unattended {
		return
	}
	now := w.Now.UnixMilli() / batch.EpochMs
	for _, number := range []int64{now - 1, now} {
		w.State[state.EpochKey(number)] = Marshal(w.T, &pb.Epoch{Number: number})
	}
}

// Process settles the items in one transaction and commits it.
func (w *World) Process(items ...*pb.BatchItem) *pb.BatchResult {
	w.T.Helper()
	out, err := w.Endorse(items...)
	if err != nil {
		w.T.Fatalf("process: %v", err)
	}
	w.Commit(out.Writes)
	return out.Result
}

// Endorse settles the items without committing.
func (w *World) Endorse(items ...*pb.BatchItem) (batch.Output, error) {
	w.T.Helper()
	return w.EndorseWith(Marshal(w.T, w.Sealed()), items...)
}

// EndorseWith takes the transient field as well.
func (w *World) EndorseWith(sealed []byte, items ...*pb.BatchItem) (batch.Output, error) {
	w.T.Helper()
	return w.Rules.Process(w.Call(), Marshal(w.T, w.Batch(items...)), sealed, Ledger{w})
}

// Do settles one group and gives its verdicts.
func (w *World) Do(commands ...*pb.SignedCommand) []*pb.Verdict {
	w.T.Helper()
	return w.Process(Item(commands...)).GetGroups()[0].GetVerdicts()
}

// One settles one command and gives its verdict.
func (w *World) One(command *pb.SignedCommand) *pb.Verdict {
	w.T.Helper()
	return w.Do(command)[0]
}

// Item is a group without contents.
func Item(commands ...*pb.SignedCommand) *pb.BatchItem {
	return &pb.BatchItem{Group: &pb.CommandGroup{Commands: commands}}
}

// isWrittenOnce: audit entries and record versions are appended and never changed, whatever the story is.
func isWrittenOnce(key string) bool {
	return strings.Contains(key, "/aud/") || strings.Contains(key, "/rec/")
}

// Commit what was endorsed.
func (w *World) Commit(writes []state.Write) {
	for _, write := range writes {
		if write.Delete {
			if isWrittenOnce(write.Key) {
				w.T.Fatalf("%s was deleted", write.Key)
			}
			delete(w.State, write.Key)
			continue
		}
		if write.Collection == "" {
			if _, there := w.State[write.Key]; there && isWrittenOnce(write.Key) {
				w.T.Fatalf("%s was written again", write.Key)
			}
			w.State[write.Key] = write.Value
			continue
		}
		if w.Private[write.Collection] == nil {
			w.Private[write.Collection] = map[string][]byte{}
		}
		w.Private[write.Collection][write.Key] = write.Value
	}
}

// Ledger is the world as the rules read it.
type Ledger struct{ World *World }

// States reads public state.
func (l Ledger) States(keys []string) ([][]byte, error) {
	w := l.World
	w.Reads++
	w.ReadKeys = append(w.ReadKeys, keys...)
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i] = bytes.Clone(w.State[key])
	}
	return values, nil
}

// Members lists the member documents.
func (l Ledger) Members() ([]string, error) {
	var members []string
	for _, key := range slices.Sorted(maps.Keys(l.World.State)) {
		if msp, ok := strings.CutPrefix(key, state.MemberPrefix); ok {
			members = append(members, msp)
		}
	}
	return members, nil
}

// Sealed reads the creator's implicit collection.
func (l Ledger) Sealed(keys []string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i] = l.World.Private[state.ImplicitCollection(l.World.Creator)][key]
	}
	return values, nil
}

// Keys lists public state keys under a prefix.
func (l Ledger) Keys(prefix, after string, most int) ([]string, error) {
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(l.World.State)) {
		if strings.HasPrefix(key, prefix) && key > after && len(keys) < most {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// Document reads a document of the state into `into`; false when there is none.
func (w *World) Document(key string, into proto.Message) bool {
	w.T.Helper()
	raw, ok := w.State[key]
	if ok {
		if err := proto.Unmarshal(raw, into); err != nil {
			w.T.Fatalf("%s: %v", key, err)
		}
	}
	return ok
}

// Audit reads the entry of a command.
func (w *World) Audit(command *pb.SignedCommand) *pb.AuditEntry {
	w.T.Helper()
	var header pb.Command
	if err := proto.Unmarshal(command.GetCommand(), &header); err != nil {
		w.T.Fatalf("command: %v", err)
	}
	entry := &pb.AuditEntry{}
	if !w.Document(state.AuditKey(header.GetCommandId(), command.GetSigner()), entry) {
		return nil
	}
	return entry
}

// Identity reads an identity document.
func (w *World) Identity(address string) *pb.IdentityDocument {
	w.T.Helper()
	document := &pb.IdentityDocument{}
	w.Document(state.IdentityKey(address), document)
	return document
}

// ID is a fresh UUIDv7, the same in each run.
func (w *World) ID() string {
	w.ids++
	ms := uint64(w.Now.UnixMilli())
	return fmt.Sprintf("%08x-%04x-7%03x-8%03x-%012x", ms>>16, ms&0xffff, w.ids>>12&0xfff, w.ids&0xfff, w.ids)
}

// Marshal serializes deterministically.
func Marshal(t T, message proto.Message) []byte {
	t.Helper()
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	return raw
}

// Unmarshal decodes what Marshal made.
func Unmarshal(t T, raw []byte, into proto.Message) {
	t.Helper()
	if err := proto.Unmarshal(raw, into); err != nil {
		t.Fatalf("unmarshal: %v", err)
	}
}
