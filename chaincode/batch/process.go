// Package batch holds the rules of the channel as a pure function. In go what the transaction carries and what the
// channel says; out come verdicts and writes. The package knows neither the shim nor a clock, so that every endorsing
// member computes the same bytes.
//
// A batch is processed in four steps: decode (decode.go), read every key that any item could need with one multi-get
// (reads.go), process each group on an overlay of the state (group.go), and hand out all writes at once, sorted.
//
// A command goes through three states, each a type of its own: decoded (decode.go), authenticated (authenticate.go) and
// decided (admit.go). What becomes of it is up to the handler of its kind (handle_….go).
package batch

import (
	"crypto/sha256"
	"fmt"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
	"cbmdhi/chaincode/state"
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

// Output is the answer to a batch: the result for the block, and the writes, sorted by collection
// and key.
type Output struct {
	Result *pb.BatchResult
	Writes []state.Write
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
	state   *state.Overlay
	members []string
	sealed  sealedIndex
	seals   map[string]*contentSeal
	keys    keyring
	inForce policyInForce
}

// Process a batch. `rawSealed` is the transient field `sealed_keys`, or nil.
func (rules *Rules) Process(call Call, rawBatch, rawSealed []byte, ledger state.Ledger) (out Output, err error) {
	defer recoverFault(&err)
	groups, seals, failure := decodeBatch(rawBatch)
	if failure != nil {
		return Output{}, failure
	}
	sealed, failure := indexSealedKeys(rawSealed)
	if failure != nil {
		return Output{}, failure
	}
	for _, g := range groups {
		g.checkForm(call)
	}
	r := &run{rules: rules, call: call, sealed: sealed, seals: seals, keys: newKeyring()}
	if failure := r.read(groups, ledger); failure != nil {
		return Output{}, failure
	}
	result := &pb.BatchResult{Groups: make([]*pb.GroupVerdict, len(groups))}
	for i, g := range groups {
		result.Groups[i] = &pb.GroupVerdict{Verdicts: r.processGroup(g)}
	}
	return Output{Result: result, Writes: r.state.Writes()}, nil
}

// recoverFault makes a state.Fault the failure of the whole call.
func recoverFault(err *error) {
	switch f := recover().(type) {
	case nil:
	case state.Fault:
		*err = fail(pb.Code_CODE_INTERNAL, "batch", "%s", f.Reason)
	default:
		panic(f)
	}
}
