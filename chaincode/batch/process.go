// Package batch holds the rules of the channel as a pure function: what the transaction carries
// and what the channel says go in, verdicts and writes come out. It knows neither the shim nor a
// clock, so that every endorsing member computes the same bytes.
//
// A batch is processed in four steps: decode (decode.go), fetch every key that any item could need
// with one multi-get (Reads), settle each group on an overlay of the state (group.go), and hand
// out all writes at once, sorted.
package batch

import (
	"crypto/sha256"
	"fmt"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
)

// Limits of one call. They are part of the contract with the services (state.proto).
const (
	MaxItems      = 1000
	MaxBatchBytes = 9 << 20
)

// Call is what the transaction carries besides its argument.
type Call struct {
	Channel string
	// SHA-256 of the Genesis that this member's operator agreed to. What init wrote must be the same.
	GenesisSHA256 [sha256.Size]byte
	TxID          string
	// Time of the transaction as its creator stated it, Unix ms. It is bounded by the endorsers' clocks (package
	// contract) and by the channel's epochs (epoch.go).
	TimeMs int64
	// MSP id of the transaction's creator: the member whose services carry the batch.
	CreatorMSP string
}

// Ledger is what the rules may read. The shim is behind it in production, a map in tests.
type Ledger interface {
	// States returns the values of public state keys, in their order; nil where there is none.
	States(keys []string) ([][]byte, error)
	// Members returns the MSP ids of all members, sorted.
	Members() ([]string, error)
	// Sealed returns values of the implicit private data collection of the call's creator.
	Sealed(keys []string) ([][]byte, error)
	// Keys returns the first of the public state keys that begin with a prefix, sorted; those behind one when it is named.
	Keys(prefix, after string, most int) ([]string, error)
}

// Write is one change of state. Collection is empty for public state; only there keys are deleted.
type Write struct {
	Collection, Key string
	Value           []byte
	Delete          bool
}

// Output is the answer to a batch: the result for the block, and the writes, sorted by collection
// and key.
type Output struct {
	Result *pb.BatchResult
	Writes []Write
}

// Failure refuses a whole call, as opposed to one command. The peer's gateway passes on nothing but
// the message, so the message begins with the code's name.
type Failure struct {
	Code pb.Code
	// What failed: `batch`, `sealed_keys`, `genesis`, `query`, `creator`, `ledger`, `epoch`, `clock`.
	Where  string
	Reason string
}

// Error is the message that reaches the caller: `CODE_INVALID: batch: …`.
func (f *Failure) Error() string {
	return fmt.Sprintf("%s: %s: %s", f.Code, f.Where, f.Reason)
}

func fail(code pb.Code, where, format string, args ...any) *Failure {
	return &Failure{Code: code, Where: where, Reason: fmt.Sprintf(format, args...)}
}

// Rules is the chaincode's logic. The zero value is ready; it is safe for concurrent calls.
type Rules struct {
	policies policy.Cache
}

// run is the processing of one batch.
type run struct {
	rules   *Rules
	call    Call
	state   *state
	members []string
	sealed  sealedIndex
	seals   map[string]*sealing
	keys    keyring
	inForce policyInForce
}

// Process settles a batch. `rawSealed` is the transient field `sealed_keys`, or nil.
func (rules *Rules) Process(call Call, rawBatch, rawSealed []byte, ledger Ledger) (out Output, err error) {
	defer recoverFault(&err)
	groups, seals, failure := decodeBatch(rawBatch)
	if failure != nil {
		return Output{}, failure
	}
	sealed, failure := indexSealedKeys(rawSealed)
	if failure != nil {
		return Output{}, failure
	}
	r := &run{rules: rules, call: call, sealed: sealed, seals: seals, keys: newKeyring()}
	if failure := r.fetch(groups, ledger); failure != nil {
		return Output{}, failure
	}
	result := &pb.BatchResult{Groups: make([]*pb.GroupVerdict, len(groups))}
	for i, g := range groups {
		result.Groups[i] = &pb.GroupVerdict{Verdicts: r.settle(g)}
	}
	return Output{Result: result, Writes: r.state.writes()}, nil
}

// fetch reads everything that any command could need: one multi-get, and the list of members only
// where a vote counts them.
func (r *run) fetch(groups []*group, ledger Ledger) *Failure {
	keys, wantsMembers := plan(r.call, groups)
	state, failure := fetchState(ledger, keys)
	if failure != nil {
		return failure
	}
	r.state = state
	if failure := admitCall(r.call, r.state); failure != nil {
		return failure
	}
	if failure := checkTime(r.call, r.state); failure != nil {
		return failure
	}
	if wantsMembers {
		members, err := ledger.Members()
		if err != nil {
			return fail(pb.Code_CODE_UNAVAILABLE, "ledger", "the members could not be read from the peer")
		}
		r.members = members
	}
	return r.follow(groups, ledger)
}

// fault is a bug or a damaged state, found where no verdict can express it.
type fault struct{ reason string }

func recoverFault(err *error) {
	switch f := recover().(type) {
	case nil:
	case fault:
		*err = fail(pb.Code_CODE_INTERNAL, "batch", "%s", f.reason)
	default:
		panic(f)
	}
}
