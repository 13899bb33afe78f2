package batch_test

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
	"pgregory.net/rapid"

	"cbmdhi/chaincode/batch"
	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

// Bytes of what a carrier sends, and what it may make an endorser hold.
const (
	sent    = 400_000
	allowed = 40 << 20
)

// field is a length-delimited field of a message.
func field(number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
}

// many empty messages in one field: two bytes each.
func many(number protowire.Number) []byte { return some(number, sent/2) }

func some(number protowire.Number, n int) []byte { return bytes.Repeat(field(number, nil), n) }

func TestAFewBytesDoNotFillAnEndorsersMemory(t *testing.T) {
	s := begin(t)
	signed := func(body []byte) []byte {
		body = body[:min(len(body), batch.MaxCommandBytes-1_000)]
		h := s.patient.Header(&pb.CommandBody{}, func(c *pb.Command) { c.Body = body })
		return sim.Marshal(t, &pb.Batch{Items: []*pb.BatchItem{sim.Item(s.patient.SignHeader(h))}})
	}
	delegated := &pb.SignedCommand{Command: s.device.Sign(s.consentBody()).Command, Delegation: &pb.SignedDelegation{Delegation: many(5)[:8<<10]}}
	var commands []byte
	for range sent / 100 {
		commands = append(commands, field(1, sim.Marshal(t, sim.Item(delegated)))...)
	}
	batches := map[string][]byte{
		"items":                     many(1),
		"commands of a group":       field(1, field(1, many(1))),
		"contents":                  field(1, many(2)),
		"replicas":                  field(1, field(2, many(5))),
		"provisions":                signed(field(5, some(3, 120_000))),
		"grantees":                  signed(field(5, field(3, some(2, 120_000)))),
		"purposes":                  signed(field(5, field(3, some(3, 120_000)))),
		"custodians":                signed(field(1, some(7, 120_000))),
		"review rules":              signed(field(10, field(1, some(3, 120_000)))),
		"bodies, the last of which": signed(some(5, 120_000)),
		"headers' groups":           field(1, field(1, field(1, field(1, many(5))))),
		"a delegation, many times":  commands,
		"as much as is allowed":     field(1, some(2, batch.MaxElements-10)),
		"as much as a body may":     bytes.Repeat(signed(field(5, some(3, batch.MaxBodyElements-10))), 15),
		"fields that nobody knows":  bytes.Repeat(field(99, nil), sent/3),
	}
	for name, raw := range batches {
		t.Run(name, func(t *testing.T) {
			if held := allocated(func() { _, _ = s.Rules.Process(s.Call(), raw, nil, sim.Ledger{World: s.World}) }); held > allowed {
				t.Fatalf("%d bytes made %d MiB", len(raw), held>>20)
			}
		})
	}
	good := sim.Marshal(t, &pb.Batch{Items: []*pb.BatchItem{sim.Item(s.patient.Sign(s.consentBody()))}})
	if held := allocated(func() { _, _ = s.Rules.Process(s.Call(), good, many(1), sim.Ledger{World: s.World}) }); held > allowed {
		t.Fatalf("sealed keys made %d MiB", held>>20)
	}
	for name, raw := range map[string][]byte{"keys": field(1, many(1)), "items": field(2, many(1))} {
		if held := allocated(func() { _, _ = s.Rules.Query(s.Call(), raw, sim.Ledger{World: s.World}) }); held > allowed {
			t.Fatalf("%s of a query made %d MiB", name, held>>20)
		}
	}
}

// allocated by a function, in all.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestNothingIsReadForWhatIsRefusedByItsForm(t *testing.T) {
	base := func(s *story) int {
		s.settle(sim.Item(&pb.SignedCommand{Command: []byte{0xff}}))
		return len(s.ReadKeys)
	}
	crowd := func(s *story, n int) *pb.BatchItem {
		item := sim.Item()
		for range n {
			item.Group.Commands = append(item.Group.Commands, &pb.SignedCommand{Command: s.patient.Sign(s.consentBody()).Command})
		}
		return item
	}
	stories := map[string]func(s *story) *pb.BatchItem{
		"a group too large":          func(s *story) *pb.BatchItem { return crowd(s, 2_000) },
		"a group that does not hold": func(s *story) *pb.BatchItem { return crowd(s, 16) },
		"bytes that are no command":  func(*story) *pb.BatchItem { return sim.Item(&pb.SignedCommand{Command: []byte("\xff")}) },
		"another channel": func(s *story) *pb.BatchItem {
			return sim.Item(s.patient.Sign(s.consentBody(), func(c *pb.Command) { c.Channel = "x" }))
		},
		"another beginning": func(s *story) *pb.BatchItem {
			return sim.Item(s.patient.Sign(s.consentBody(), func(c *pb.Command) { c.GenesisSha256 = nil }))
		},
		"an id that is none": func(s *story) *pb.BatchItem {
			return sim.Item(s.patient.Sign(s.consentBody(), func(c *pb.Command) { c.CommandId = "x" }))
		},
		"a registration badly signed": func(s *story) *pb.BatchItem {
			c := s.register(s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy))
			c.Signature = nil
			return sim.Item(c)
		},
		"a registration of another key": func(s *story) *pb.BatchItem {
			c := s.register(s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy))
			c.Signer = s.patient.Address
			return sim.Item(c)
		},
		"one bad command of a group": func(s *story) *pb.BatchItem {
			g := s.Group(sim.Part{By: s.patient, Body: s.consentBody()}, sim.Part{By: s.patient, Body: s.consentBody()})
			g[1].Command = g[1].Command[:20]
			return sim.Item(g...)
		},
	}
	for name, make := range stories {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			few := base(s)
			item := make(s)
			s.traceless(func() {
				for _, v := range s.settle(item) {
					if v.GetCode() == pb.Code_CODE_OK {
						t.Fatal("done")
					}
				}
			})
			if len(s.ReadKeys) != few {
				t.Fatalf("%d keys were read, %d of them for this: %q", len(s.ReadKeys), len(s.ReadKeys)-few, s.ReadKeys)
			}
		})
	}
	s := begin(t)
	if _, err := s.Endorse(crowd(s, 20_000)); err == nil || !strings.HasPrefix(err.Error(), "CODE_TOO_LARGE: batch: ") || s.Reads != 0 {
		t.Fatalf("a group of 20,000: %v after %d reads", err, s.Reads)
	}
}

func TestTheLargestConsentIsWithinTheBounds(t *testing.T) {
	s := begin(t)
	consent := &pb.Consent{ConsentId: s.ID(), Patient: s.patient.Address}
	for range batch.MaxProvisions {
		provision := &pb.Provision{Effect: pb.Effect_EFFECT_PERMIT}
		for range 128 {
			provision.Grantees = append(provision.Grantees, &pb.Grantee{Role: pb.Role_ROLE_CLINICIAN})
		}
		consent.Provisions = append(consent.Provisions, provision)
	}
	s.expect(s.One(s.patient.Sign(sim.Body(consent))), pb.Code_CODE_OK)
}

func TestAFullBatchIsWithinTheBounds(t *testing.T) {
	s := begin(t)
	var items []*pb.BatchItem
	d := s.clinician.Delegation(s.device)
	for range batch.MaxItems {
		item := s.PutRecord(s.device, s.patient, 1, s.ID())
		item.Group.Commands[0] = s.clinician.Within(d, item.Group.Commands[0])
		items = append(items, item)
	}
	out, err := s.Endorse(items...)
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range out.Result.GetGroups() {
		s.expect(g.GetVerdicts()[0], pb.Code_CODE_OK)
	}
}

func TestEveryElementIsCounted(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := newDraws(t, rt)
		b := &pb.Batch{}
		for range 1 + d.of("items", 6) {
			b.Items = append(b.Items, d.good())
		}
		raw := sim.Marshal(t, b)
		if counted, held := countBatch(raw), elementsOf(b.ProtoReflect()); counted != held {
			rt.Fatalf("counted %d, there are %d", counted, held)
		}
	})
}

func elementsOf(message protoreflect.Message) int {
	found := 0
	message.Range(func(f protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case f.IsList():
			for i := range value.List().Len() {
				found++
				if f.Message() != nil {
					found += elementsOf(value.List().Get(i).Message())
				}
			}
		case f.Message() != nil:
			found += 1 + elementsOf(value.Message())
		}
		return true
	})
	return found
}
