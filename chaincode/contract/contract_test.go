package contract_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"cbmdhi/chaincode/contract"
	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

// stub is the peer's side of one transaction. It holds writes back until the batch ends, as the
// peer does; whatever the contract should not use is nil and would panic.
type stub struct {
	shim.ChaincodeStubInterface
	w         *sim.World
	args      [][]byte
	transient map[string][]byte
	creator   []byte
	batching  bool
	batches   int
	pending   []func()
	gets      int
	events    []string
}

func (s *stub) GetArgs() [][]byte                               { return s.args }
func (s *stub) GetChannelID() string                            { return sim.Channel }
func (s *stub) GetTxID() string                                 { return "tx" }
func (s *stub) GetCreator() ([]byte, error)                     { return s.creator, nil }
func (s *stub) GetTransient() (map[string][]byte, error)        { return s.transient, nil }
func (s *stub) GetTxTimestamp() (*timestamppb.Timestamp, error) { return timestamppb.New(s.w.Now), nil }
func (s *stub) StartWriteBatch()                                { s.batching = true; s.batches++ }

func (s *stub) FinishWriteBatch() error {
	for _, write := range s.pending {
		write()
	}
	s.batching, s.pending = false, nil
	return nil
}

func (s *stub) PutState(key string, value []byte) error {
	if !s.batching {
		s.w.T.Fatalf("%s was written outside the write batch", key)
	}
	s.pending = append(s.pending, func() { s.w.State[key] = value })
	return nil
}

func (s *stub) DelState(key string) error {
	if !s.batching {
		s.w.T.Fatalf("%s was deleted outside the write batch", key)
	}
	s.pending = append(s.pending, func() { delete(s.w.State, key) })
	return nil
}

func (s *stub) PutPrivateData(collection, key string, value []byte) error {
	if !s.batching {
		s.w.T.Fatalf("%s was written outside the write batch", key)
	}
	s.pending = append(s.pending, func() {
		if s.w.Private[collection] == nil {
			s.w.Private[collection] = map[string][]byte{}
		}
		s.w.Private[collection][key] = value
	})
	return nil
}

func (s *stub) GetMultipleStates(keys ...string) ([][]byte, error) {
	s.gets++
	return sim.Ledger{World: s.w}.States(keys)
}

func (s *stub) GetMultiplePrivateData(collection string, keys ...string) ([][]byte, error) {
	values := make([][]byte, len(keys))
	for i, key := range keys {
		values[i] = s.w.Private[collection][key]
	}
	return values, nil
}

func (s *stub) SetEvent(name string, payload []byte) error {
	s.events = append(s.events, name)
	return nil
}

func (s *stub) GetStateByRange(start, end string) (shim.StateQueryIteratorInterface, error) {
	rows := &iterator{}
	for _, key := range slices.Sorted(maps.Keys(s.w.State)) {
		if key >= start && key < end {
			rows.keys = append(rows.keys, key)
		}
	}
	return rows, nil
}

type iterator struct{ keys []string }

func (i *iterator) HasNext() bool { return len(i.keys) > 0 }
func (i *iterator) Close() error  { return nil }
func (i *iterator) Next() (*queryresult.KV, error) {
	key := i.keys[0]
	i.keys = i.keys[1:]
	return &queryresult.KV{Key: key}, nil
}

func newStub(w *sim.World, function string, argument []byte) *stub {
	creator := w.Carrier()
	if function == "init" {
		creator = w.CreatorOf("admin", `{}`)
	}
	return &stub{w: w, args: [][]byte{[]byte(function), argument}, creator: creator}
}

func newContract(w *sim.World, log *bytes.Buffer) *contract.Contract {
	return &contract.Contract{
		GenesisSHA256: w.GenesisSHA256, ClockBound: contract.DefaultClockBound, Now: func() time.Time { return w.Now },
		Log: slog.New(slog.NewJSONHandler(log, nil)),
	}
}

func expect(t *testing.T, r *peer.Response, message string) {
	t.Helper()
	if message == "" {
		if r.GetStatus() != shim.OK {
			t.Fatalf("refused: %v", r)
		}
	} else if r.GetStatus() < shim.ERRORTHRESHOLD || !strings.HasPrefix(r.GetMessage(), message) {
		t.Fatalf("response %v, want %q", r, message)
	}
}

func TestAChannelFromItsGenesisToAReadRecord(t *testing.T) {
	w := sim.Empty(t)
	log := &bytes.Buffer{}
	c := newContract(w, log)

	expect(t, c.Invoke(newStub(w, "process", sim.Marshal(t, w.Batch(sim.Item())))), "CODE_NOT_FOUND: genesis: ")
	begin := newStub(w, "init", sim.Marshal(t, w.Genesis()))
	expect(t, c.Invoke(begin), "")
	if begin.batches != 1 || len(w.State) != 5 || len(begin.events) != 0 {
		t.Fatalf("%d batches, %d documents, events %v", begin.batches, len(w.State), begin.events)
	}
	expect(t, c.Invoke(newStub(w, "init", sim.Marshal(t, w.Genesis()))), "CODE_CONFLICT: genesis: ")

	patient, engine := w.Active(pb.Role_ROLE_PATIENT, sim.Mercy), w.Active(pb.Role_ROLE_ENGINE, sim.Mercy)
	item := w.PutRecord(engine, patient, 1, w.ID())
	expect(t, c.Invoke(newStub(w, "process", sim.Marshal(t, w.Batch(item)))), "CODE_UNAVAILABLE: epoch: ")
	expect(t, c.Invoke(newStub(w, "tick", nil)), "")
	expect(t, c.Invoke(newStub(w, "tick", nil)), "CODE_CONFLICT: epoch: ")
	write := newStub(w, "process", sim.Marshal(t, w.Batch(item)))
	write.transient = map[string][]byte{contract.TransientSealedKeys: sim.Marshal(t, w.Sealed())}
	response := c.Invoke(write)
	expect(t, response, "")
	result := &pb.BatchResult{}
	if err := proto.Unmarshal(response.GetPayload(), result); err != nil {
		t.Fatal(err)
	}
	w.MustOK(result.Groups[0].Verdicts...)
	if write.gets != 1 || write.batches != 1 || len(write.events) != 1 || write.events[0] != contract.EventName {
		t.Fatalf("%d multi-gets, %d write batches, events %v", write.gets, write.batches, write.events)
	}

	key := state.SealedWriterKeyName(sim.Mercy, item.Contents[0].GetWriterKey().GetKeyId())
	query := sim.Marshal(t, &pb.Query{Query: &pb.Query_GetSealedKeys{GetSealedKeys: &pb.GetSealedKeys{Keys: []string{key}}}})
	read := newStub(w, "query", query)
	response = c.Invoke(read)
	expect(t, response, "")
	answer := &pb.QueryResult{}
	if err := proto.Unmarshal(response.GetPayload(), answer); err != nil || len(answer.Values[0]) == 0 {
		t.Fatalf("answer %v %v", answer, err)
	}
	if read.batches != 0 || len(read.events) != 0 {
		t.Fatal("a query writes")
	}
	for _, secret := range []string{patient.Address, engine.Address, item.Contents[0].GetWriterKey().GetKeyId(), "observations"} {
		if strings.Contains(log.String(), secret) {
			t.Fatalf("the log holds an identifier: %s", log)
		}
	}
}

func TestALateKeyIsFoundByItsWriterDeliveredAndNotedNoMore(t *testing.T) {
	w := sim.New(t)
	c := newContract(w, &bytes.Buffer{})
	patient, engine := w.Active(pb.Role_ROLE_PATIENT, sim.Mercy), w.Active(pb.Role_ROLE_ENGINE, sim.Mercy)
	patient.Custodians = []string{sim.Lakeside}
	document := w.Identity(patient.Address)
	document.Custodians = []*pb.Custodian{{Msp: sim.Lakeside, SealedKeySha256: make([]byte, 32)}}
	w.State[state.IdentityKey(patient.Address)] = sim.Marshal(t, document)
	write := newStub(w, "process", sim.Marshal(t, w.Batch(w.PutRecord(engine, patient, 1, w.ID()))))
	present := slices.DeleteFunc(w.Sealed().GetKeys(), func(key *pb.SealedKey) bool { return key.GetMsp() == sim.Lakeside })
	write.transient = map[string][]byte{contract.TransientSealedKeys: sim.Marshal(t, &pb.SealedKeys{Keys: present})}
	expect(t, c.Invoke(write), "")
	late := func() *pb.SealedKeys {
		asked := &pb.Query{Query: &pb.Query_GetLateKeys{GetLateKeys: &pb.GetLateKeys{Custodian: sim.Lakeside}}}
		response := c.Invoke(newStub(w, "query", sim.Marshal(t, asked)))
		expect(t, response, "")
		answer := &pb.QueryResult{}
		sim.Unmarshal(t, response.GetPayload(), answer)
		return answer.GetLateKeys()
	}
	waiting := late()
	if len(waiting.GetKeys()) != 1 {
		t.Fatalf("waiting: %v", waiting)
	}
	deliver := newStub(w, "deliver", nil)
	deliver.transient = map[string][]byte{contract.TransientSealedKeys: sim.Marshal(t, waiting)}
	expect(t, c.Invoke(deliver), "")
	if got := w.Private[state.ImplicitCollection(sim.Lakeside)][waiting.Keys[0].GetKey()]; len(got) == 0 || len(late().GetKeys()) != 0 {
		t.Fatalf("delivered %q, still waiting: %v", got, late())
	}
	expect(t, c.Invoke(newStub(w, "deliver", nil)), "CODE_INVALID: sealed_keys: ")
}

func TestAMajorityIsCountedOverTheMemberDocuments(t *testing.T) {
	w := sim.New(t)
	c := newContract(w, &bytes.Buffer{})
	next := sim.DefaultPolicy(t)
	next.Version = 2
	for i, member := range []string{sim.Mercy, sim.Lakeside} {
		by := w.Active(pb.Role_ROLE_ADMINISTRATOR, member)
		vote := sim.Item(by.Sign(sim.Body(&pb.SetPolicy{Policy: next})))
		expect(t, c.Invoke(newStub(w, "process", sim.Marshal(t, w.Batch(vote)))), "")
		inForce := &pb.PolicyState{}
		w.Document(state.PolicyKey, inForce)
		if got := inForce.GetPolicy().GetVersion(); got != uint64(1+i) {
			t.Fatalf("after %d votes of 3: version %d", i+1, got)
		}
	}
}

func TestARefusedCallWritesNothingAndNamesItsCode(t *testing.T) {
	w := sim.New(t)
	c := newContract(w, &bytes.Buffer{})
	for message, s := range map[string]*stub{
		"CODE_INVALID: batch: ":            newStub(w, "process", []byte{0xff}),
		"CODE_INVALID: query: ":            newStub(w, "query", []byte{0xff}),
		"CODE_FORBIDDEN: genesis: ":        newStub(w, "init", []byte("another genesis")),
		"CODE_INVALID: function: not init": newStub(w, "destroy", nil),
		"CODE_INVALID: function: takes":    {w: w, args: [][]byte{[]byte("process")}},
		"CODE_INVALID: creator: ":          {w: w, args: [][]byte{[]byte("process"), nil}},
	} {
		t.Run(message, func(t *testing.T) {
			expect(t, c.Invoke(s), message)
			if s.batches != 0 || len(s.events) != 0 {
				t.Fatal("something was written")
			}
		})
	}
	expect(t, c.Init(nil), "CODE_INVALID: function: ")
}

func TestAFaultBecomesAnErrorAndTheServerLives(t *testing.T) {
	c := newContract(sim.Empty(t), &bytes.Buffer{})
	expect(t, c.Invoke(nil), "CODE_INTERNAL: chaincode: ")
}

func TestATraceContextChangesNeitherTheAnswerNorWhatIsWritten(t *testing.T) {
	const sampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	for transient, spans := range map[string]int{
		"":                                     0,
		sampled:                                1,
		"00-nonsense":                          0,
		strings.TrimSuffix(sampled, "1") + "0": 0,
	} {
		w := sim.New(t)
		recorder := tracetest.NewSpanRecorder()
		c := newContract(w, &bytes.Buffer{})
		c.Tracer = sdk.NewTracerProvider(sdk.WithSpanProcessor(recorder)).Tracer("")
		patient, engine := w.Active(pb.Role_ROLE_PATIENT, sim.Mercy), w.Active(pb.Role_ROLE_ENGINE, sim.Mercy)
		argument := sim.Marshal(t, w.Batch(w.PutRecord(engine, patient, 1, w.ID())))
		plain := newStub(w, "process", argument)
		plain.transient = map[string][]byte{contract.TransientSealedKeys: sim.Marshal(t, w.Sealed())}
		before := maps.Clone(w.State)
		answer := c.Invoke(plain)
		expect(t, answer, "")
		written := maps.Clone(w.State)

		w.State = before
		traced := newStub(w, "process", argument)
		traced.transient = maps.Clone(plain.transient)
		traced.transient[contract.TransientTraceparent] = []byte(transient)
		if again := c.Invoke(traced); !proto.Equal(answer, again) {
			t.Fatalf("with %q another answer: %v, not %v", transient, again, answer)
		}
		if !maps.EqualFunc(written, w.State, bytes.Equal) {
			t.Fatalf("with %q something else was written", transient)
		}
		ended := recorder.Ended()
		if len(ended) != spans {
			t.Fatalf("with %q %d spans", transient, len(ended))
		}
		for _, span := range ended {
			if span.Name() != "chaincode process" || !strings.Contains(sampled, span.Parent().SpanID().String()) {
				t.Fatalf("span %q under %v", span.Name(), span.Parent())
			}
			if !span.EndTime().After(span.StartTime()) {
				t.Fatal("the span took no time")
			}
		}
	}
}

func TestNothingIsEndorsedFarFromTheEndorsersClock(t *testing.T) {
	for name, argument := range map[string][]byte{
		"process": sim.Marshal(t, &pb.Batch{Items: []*pb.BatchItem{sim.Item()}}),
		"tick":    nil,
		"deliver": nil,
		"query":   sim.Marshal(t, &pb.Query{Query: &pb.Query_GetKeys{GetKeys: &pb.GetKeys{Keys: []string{state.PolicyKey}}}}),
	} {
		t.Run(name, func(t *testing.T) {
			w := sim.New(t)
			c := newContract(w, &bytes.Buffer{})
			for _, apart := range []time.Duration{-time.Minute, 0, time.Minute} {
				c.Now = func() time.Time { return w.Now.Add(apart) }
				if r := c.Invoke(newStub(w, name, argument)); strings.Contains(r.GetMessage(), ": clock: ") {
					t.Fatalf("%v apart: %v", apart, r)
				}
			}
			for _, apart := range []time.Duration{-time.Minute - time.Millisecond, time.Minute + time.Millisecond, time.Hour} {
				c.Now = func() time.Time { return w.Now.Add(apart) }
				expect(t, c.Invoke(newStub(w, name, argument)), "CODE_UNAVAILABLE: clock: ")
			}
		})
	}
}

// frail is a stub that breaks where the transient map is read, with somebody's name on its lips.
type frail struct{ *stub }

func (frail) GetTransient() (map[string][]byte, error) { panic("Jane Doe, allergic to peanuts") }

func TestAPanicIsToldWithItsPlaceAndWithoutWhatItWasAbout(t *testing.T) {
	w := sim.New(t)
	log := &bytes.Buffer{}
	c := newContract(w, log)
	broken := newStub(w, "process", sim.Marshal(t, &pb.Batch{Items: []*pb.BatchItem{sim.Item()}}))
	expect(t, c.Invoke(frail{broken}), "CODE_INTERNAL: chaincode: ")
	if broken.batches != 0 {
		t.Fatal("something was written")
	}
	var line struct{ Msg, Function, Fault, Stack string }
	if err := json.Unmarshal(bytes.SplitN(log.Bytes(), []byte("\n"), 2)[0], &line); err != nil {
		t.Fatal(err)
	}
	if line.Msg != "panic" || line.Function != "process" || line.Fault != "string" || !strings.Contains(line.Stack, "GetTransient") {
		t.Fatalf("logged %+v", line)
	}
	if strings.Contains(log.String(), "Jane") {
		t.Fatalf("the log holds what it was about: %s", log)
	}
}
