// Package contract is the chaincode as the peer sees it: it fetches what the rules ask for, hands
// them the call, and writes what they say. It decides nothing.
package contract

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"cbmdhi/chaincode/batch"
	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

const (
	// TransientSealedKeys is the transient field that holds a serialized SealedKeys.
	TransientSealedKeys = "sealed_keys"
	// EventName marks a transaction that processed a batch. Its payload is empty: whoever follows
	// the channel reads the block, which holds the verdicts.
	EventName = "cbmdhi.batch.v1"
)

// DefaultClockBound is how far a transaction's time may be from an endorser's clock.
const DefaultClockBound = time.Minute

// Contract answers the functions init, process, tick, deliver and query.
type Contract struct {
	// SHA-256 of the Genesis that this member's operator agreed to.
	GenesisSHA256 [sha256.Size]byte
	// How far a transaction's time may be from this member's clock. Whoever proposes chooses the time by which consents
	// and commands end: one that is further away is endorsed by nobody whose clock is right.
	ClockBound time.Duration
	// Now is this member's clock.
	Now func() time.Time
	// Log gets counts and durations; never an id, an address or a key.
	Log *slog.Logger
	// Tracer gets the same; nil: nobody does.
	Tracer trace.Tracer
	rules  batch.Rules
}

// Init belongs to Fabric's old lifecycle. The channel begins with the function `init`.
func (c *Contract) Init(shim.ChaincodeStubInterface) *peer.Response {
	return shim.Error(failure(pb.Code_CODE_INVALID, "function", "commit the definition without init-required and call the function init").Error())
}

// Invoke runs one function. A panic becomes an error, since a batch that could stop the server could
// stop it again.
func (c *Contract) Invoke(stub shim.ChaincodeStubInterface) (response *peer.Response) {
	began := time.Now()
	function := "unknown"
	var counts []any
	defer func() {
		if fault := recover(); fault != nil {
			c.reportPanic(function, fault)
			response = shim.Error(failure(pb.Code_CODE_INTERNAL, "chaincode", "a fault in the chaincode: nothing was done").Error())
		}
		parent := proposer(stub)
		c.report(parent, function, began, response, counts)
		c.trace(parent, function, began, response, counts)
	}()
	args := stub.GetArgs()
	if len(args) != 2 {
		return refusal(failure(pb.Code_CODE_INVALID, "function", "takes a function name and one serialized argument"))
	}
	call, err := c.callOf(stub, string(args[0]))
	if err != nil {
		return refusal(err)
	}
	var payload []byte
	switch string(args[0]) {
	case "init":
		function = "init"
		err = c.init(stub, call, args[1])
	case "process":
		function = "process"
		payload, counts, err = c.process(stub, call, args[1])
	case "tick":
		function = "tick"
		err = c.tick(stub, call)
	case "deliver":
		function = "deliver"
		err = c.deliver(stub, call)
	case "query":
		function = "query"
		payload, err = c.query(stub, call, args[1])
	default:
		err = failure(pb.Code_CODE_INVALID, "function", "not init, process, tick, deliver or query")
	}
	if err != nil {
		return refusal(err)
	}
	return shim.Success(payload)
}

func (c *Contract) init(stub shim.ChaincodeStubInterface, call batch.Call, arg []byte) error {
	writes, err := c.rules.Init(call, arg, &ledger{stub, call.CreatorMSP})
	if err != nil {
		return err
	}
	return commit(stub, writes)
}

func (c *Contract) process(stub shim.ChaincodeStubInterface, call batch.Call, arg []byte) ([]byte, []any, error) {
	transient, err := stub.GetTransient()
	if err != nil {
		return nil, nil, failure(pb.Code_CODE_INVALID, "sealed_keys", "the transient map could not be read")
	}
	out, err := c.rules.Process(call, arg, transient[TransientSealedKeys], &ledger{stub, call.CreatorMSP})
	if err != nil {
		return nil, nil, err
	}
	payload, err := serialize(out.Result)
	if err != nil {
		return nil, nil, err
	}
	if err := commit(stub, out.Writes); err != nil {
		return nil, nil, err
	}
	if err := stub.SetEvent(EventName, nil); err != nil {
		return nil, nil, failure(pb.Code_CODE_INTERNAL, "chaincode", "the event could not be set")
	}
	return payload, countsOf(out), nil
}

func (c *Contract) tick(stub shim.ChaincodeStubInterface, call batch.Call) error {
	writes, err := c.rules.Tick(call, &ledger{stub, call.CreatorMSP})
	if err != nil {
		return err
	}
	return commit(stub, writes)
}

func (c *Contract) deliver(stub shim.ChaincodeStubInterface, call batch.Call) error {
	transient, err := stub.GetTransient()
	if err != nil {
		return failure(pb.Code_CODE_INVALID, "sealed_keys", "the transient map could not be read")
	}
	writes, err := c.rules.Deliver(call, transient[TransientSealedKeys], &ledger{stub, call.CreatorMSP})
	if err != nil {
		return err
	}
	return commit(stub, writes)
}

// countsOf a batch, for the log.
func countsOf(out batch.Output) []any {
	commands, done := 0, 0
	for _, group := range out.Result.GetGroups() {
		for _, verdict := range group.GetVerdicts() {
			commands++
			if verdict.GetCode() == pb.Code_CODE_OK {
				done++
			}
		}
	}
	return []any{"commands", commands, "ok", done, "writes", len(out.Writes)}
}

func (c *Contract) query(stub shim.ChaincodeStubInterface, call batch.Call, arg []byte) ([]byte, error) {
	result, err := c.rules.Query(call, arg, &ledger{stub, call.CreatorMSP})
	if err != nil {
		return nil, err
	}
	return serialize(result)
}

// commit sends all writes in one write batch.
func commit(stub shim.ChaincodeStubInterface, writes []state.Write) error {
	stub.StartWriteBatch()
	for _, w := range writes {
		var err error
		switch {
		case w.Collection != "":
			err = stub.PutPrivateData(w.Collection, w.Key, w.Value)
		case w.Delete:
			err = stub.DelState(w.Key)
		default:
			err = stub.PutState(w.Key, w.Value)
		}
		if err != nil {
			return failure(pb.Code_CODE_UNAVAILABLE, "ledger", "a write was refused by the peer")
		}
	}
	if err := stub.FinishWriteBatch(); err != nil {
		return failure(pb.Code_CODE_UNAVAILABLE, "ledger", "the write batch was refused by the peer")
	}
	return nil
}

func (c *Contract) callOf(stub shim.ChaincodeStubInterface, function string) (batch.Call, error) {
	creator, err := stub.GetCreator()
	var identity msp.SerializedIdentity
	if err != nil || proto.Unmarshal(creator, &identity) != nil || identity.GetMspid() == "" {
		return batch.Call{}, failure(pb.Code_CODE_INVALID, "creator", "the transaction names no creator")
	}
	if err := mayCall(function, identity.GetIdBytes()); err != nil {
		return batch.Call{}, err
	}
	timestamp, err := stub.GetTxTimestamp()
	if err != nil || timestamp.CheckValid() != nil {
		return batch.Call{}, failure(pb.Code_CODE_INVALID, "timestamp", "the transaction has no valid time")
	}
	if apart := timestamp.AsTime().Sub(c.Now()).Abs(); apart > c.ClockBound {
		return batch.Call{}, failure(pb.Code_CODE_UNAVAILABLE, "clock",
			"the transaction's time is too far from this member's clock: set the clocks right, then propose it anew")
	}
	return batch.Call{
		Channel: stub.GetChannelID(), GenesisSHA256: c.GenesisSHA256, TxID: stub.GetTxID(),
		TimeMs: timestamp.AsTime().UnixMilli(), CreatorMSP: identity.GetMspid(),
	}, nil
}

func serialize(message proto.Message) ([]byte, error) {
	payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	if err != nil {
		return nil, failure(pb.Code_CODE_INTERNAL, "chaincode", "the answer does not serialize")
	}
	return payload, nil
}

func failure(code pb.Code, where, reason string) *batch.Failure {
	return &batch.Failure{Code: code, Where: where, Reason: reason}
}

// refusal is an error response whose message begins with the code: all that the gateway passes on.
func refusal(err error) *peer.Response {
	var known *batch.Failure
	if !errors.As(err, &known) {
		known = failure(pb.Code_CODE_INTERNAL, "chaincode", "an unexpected error: nothing was done")
	}
	return shim.Error(known.Error())
}

// reportPanic says where a panic came from. What it was about may be somebody's data: of a value that is no error of
// the runtime the type alone is told, and a stack holds none.
func (c *Contract) reportPanic(function string, fault any) {
	if c.Log == nil {
		return
	}
	what := fmt.Sprintf("%T", fault)
	if known, ok := fault.(runtime.Error); ok {
		what = known.Error()
	}
	c.Log.Error("panic", "function", function, "fault", what, "stack", string(debug.Stack()))
}

func (c *Contract) report(parent context.Context, function string, began time.Time, response *peer.Response, counts []any) {
	if c.Log == nil {
		return
	}
	attributes := append([]any{"function", function, "ms", float64(time.Since(began).Microseconds()) / 1000}, counts...)
	if span := trace.SpanContextFromContext(parent); span.IsValid() {
		attributes = append(attributes, "trace_id", span.TraceID().String())
	}
	if response.GetStatus() >= shim.ERRORTHRESHOLD {
		c.Log.Warn("refused", append(attributes, "error", response.GetMessage())...)
		return
	}
	c.Log.Info("done", attributes...)
}
