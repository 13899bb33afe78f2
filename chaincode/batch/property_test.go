package batch_test

import (
	"bytes"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"cbmdhi/chaincode/batch"
	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

// draws makes random items over a small world, so that they meet: few patients, few records, reused ids.
type draws struct {
	*story
	rt      *rapid.T
	records []string
	people  []*sim.Person
}

func newDraws(t *testing.T, rt *rapid.T) *draws {
	s := begin(t)
	d := &draws{story: s, rt: rt, people: []*sim.Person{s.patient, s.clinician, s.engine, s.stranger, s.device, s.administrator}}
	for range 3 {
		d.records = append(d.records, s.ID())
	}
	d.Write(s.engine, s.patient)
	return d
}

func (d *draws) of(label string, n int) int { return rapid.IntRange(0, n-1).Draw(d.rt, label) }

// good is an item that is well-formed and authentic; rules and policy may still refuse it.
func (d *draws) good() *pb.BatchItem {
	body, content, by := d.body()
	if d.of("lone", 4) > 0 {
		item := sim.Item(by.Sign(body))
		if content != nil {
			item.Contents = []*pb.StoredContent{content}
		}
		return item
	}
	second, other, also := d.body()
	item := sim.Item(d.Group(sim.Part{By: by, Body: body}, sim.Part{By: also, Body: second})...)
	if content != nil {
		item.Contents = append(item.Contents, content)
	}
	if other != nil {
		other.CommandIndex = 1
		item.Contents = append(item.Contents, other)
	}
	return item
}

func (d *draws) body() (*pb.CommandBody, *pb.StoredContent, *sim.Person) {
	person := d.people[d.of("person", len(d.people))]
	record := d.records[d.of("record", len(d.records))]
	switch d.of("kind", 6) {
	case 0, 1:
		body, content := d.Record(d.patient, uint32(1+d.of("version", 3)), record)
		return body, content, person
	case 2:
		effect := pb.Effect(1 + d.of("effect", 2))
		return sim.Body(&pb.Consent{ConsentId: record, Patient: d.patient.Address, Provisions: []*pb.Provision{{Effect: effect}}}), nil, d.patient
	case 3:
		return sim.Body(&pb.RevokeConsent{ConsentId: record, Patient: d.patient.Address}), nil, d.patient
	case 4:
		return sim.BreakGlass(d.patient, record, d.officer), nil, person
	}
	return sim.Read(d.patient, record, "TREAT"), nil, person
}

// bad is an item that can have no effect: no verdict of it may be OK, and nothing is stored.
func (d *draws) bad(neighbour *pb.BatchItem) *pb.BatchItem {
	item := proto.CloneOf(d.good())
	commands := item.Group.Commands
	last := commands[len(commands)-1]
	switch d.of("damage", 7) {
	case 0:
		last.Signature[len(last.Signature)-1] ^= 1
	case 1:
		last.Command = last.Command[:len(last.Command)/2]
	case 2:
		last.Signer = d.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy).Address
	case 3:
		item.Group.Commands = append(commands, commands[0])
	case 4:
		// A neighbour's command under a forged signature: its id must not be burnt.
		stolen := proto.CloneOf(neighbour.Group.Commands[0])
		stolen.Signature = d.clinician.SignBytes("cbmdhi/command/v1\x00", []byte("something else"))
		return &pb.BatchItem{Group: &pb.CommandGroup{Commands: []*pb.SignedCommand{stolen}}, Contents: neighbour.Contents}
	case 5:
		last.Delegation = &pb.SignedDelegation{Delegation: []byte("\xff")}
	case 6:
		return sim.Item(d.patient.Sign(d.consentBody(), func(c *pb.Command) { c.Channel = "elsewhere" }))
	}
	return item
}

func (d *draws) endorse(items []*pb.BatchItem) batch.Output {
	call := d.Call()
	call.TxID = "tx" // The same transaction, endorsed again.
	out, err := d.Rules.Process(call,
		sim.Marshal(d.t, d.World.Batch(items...)), sim.Marshal(d.t, d.Sealed()), sim.Ledger{World: d.World})
	if err != nil {
		d.rt.Fatalf("process: %v", err)
	}
	return out
}

func sameWrites(a, b []state.Write) bool {
	return slices.EqualFunc(a, b, func(x, y state.Write) bool {
		return x.Collection == y.Collection && x.Key == y.Key && bytes.Equal(x.Value, y.Value)
	})
}

func TestBadItemsNeverChangeWhatBecomesOfTheirNeighbours(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := newDraws(t, rt)
		var clean, mixed []*pb.BatchItem
		var isBad []bool
		for range 1 + d.of("items", 12) {
			item := d.good()
			if d.of("inject", 2) == 0 {
				mixed, isBad = append(mixed, d.bad(item)), append(isBad, true)
			}
			clean = append(clean, item)
			mixed, isBad = append(mixed, item), append(isBad, false)
		}
		want, got := d.endorse(clean), d.endorse(mixed)
		var verdicts []*pb.GroupVerdict
		for i, g := range got.Result.Groups {
			if !isBad[i] {
				verdicts = append(verdicts, g)
				continue
			}
			if slices.Contains(codes(g.Verdicts), pb.Code_CODE_OK) {
				rt.Fatalf("a bad item was done: %v", g)
			}
		}
		for i := range want.Result.Groups {
			if !proto.Equal(verdicts[i], want.Result.Groups[i]) {
				rt.Fatalf("alone %v, beside bad items %v", want.Result.Groups[i], verdicts[i])
			}
		}
		if !sameWrites(got.Writes, want.Writes) {
			rt.Fatalf("writes differ: %d beside bad items, %d alone", len(got.Writes), len(want.Writes))
		}
	})
}

func TestABatchSentAgainGivesItsFirstVerdictsAndWritesNothing(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := newDraws(t, rt)
		var items []*pb.BatchItem
		for range 1 + d.of("items", 8) {
			items = append(items, d.good())
		}
		first := d.Process(items...)
		out := d.endorse(items)
		for i, group := range first.Groups {
			for j, before := range group.Verdicts {
				again := out.Result.Groups[i].Verdicts[j]
				if s := pb.Code_CODE_ALREADY_COMMITTED; before.GetCode() != s {
					if again.GetCode() != pb.Code_CODE_ALREADY_COMMITTED || again.GetFirstCode() != before.GetCode() ||
						again.GetReason() != before.GetReason() || again.GetPath() != before.GetPath() || !proto.Equal(again.GetBasis(), before.GetBasis()) || again.GetFirstTxId() == "" {
						rt.Fatalf("first %v, again %v", before, again)
					}
				}
			}
		}
		if len(out.Writes) != 0 {
			rt.Fatalf("%d writes of a batch that was settled before", len(out.Writes))
		}
	})
}

func TestAGroupIsDoneWhollyOrNotAtAll(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := newDraws(t, rt)
		var items []*pb.BatchItem
		for range 1 + d.of("items", 10) {
			items = append(items, d.good())
		}
		out := d.endorse(items)
		written := map[string]bool{}
		for _, w := range out.Writes {
			written[w.Key] = true
		}
		for i, g := range out.Result.Groups {
			done := 0
			for j, v := range g.Verdicts {
				key := state.AuditKey(v.GetCommandId(), items[i].Group.Commands[j].GetSigner())
				if !written[key] {
					rt.Fatalf("no entry of %v", v)
				}
				if v.GetCode() == pb.Code_CODE_OK {
					done++
				}
			}
			if done != 0 && done != len(g.Verdicts) {
				rt.Fatalf("a group was done in part: %v", g)
			}
		}
	})
}

func TestEveryMemberComputesTheSameBytes(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d := newDraws(t, rt)
		var items []*pb.BatchItem
		for range 1 + d.of("items", 10) {
			items = append(items, d.good())
		}
		one := d.endorse(items)
		d.Rules = &batch.Rules{} // Another member's server, with a cold cache.
		two := d.endorse(items)
		if !bytes.Equal(sim.Marshal(t, one.Result), sim.Marshal(t, two.Result)) || !sameWrites(one.Writes, two.Writes) {
			rt.Fatal("two members disagree")
		}
		if !slices.IsSortedFunc(one.Writes, func(a, b state.Write) int {
			return slices.Compare([]string{a.Collection, a.Key}, []string{b.Collection, b.Key})
		}) {
			rt.Fatal("the writes are not sorted")
		}
	})
}
