package batch_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

// custodial is a story in which the patient's custodians are mercy, lakeside and the insurer.
func custodial(t *testing.T) *story {
	s := begin(t)
	s.patient.Custodians = []string{sim.Mercy, sim.Lakeside, sim.Insurer}
	document := s.Identity(s.patient.Address)
	document.Custodians = nil
	for _, msp := range s.patient.Custodians {
		document.Custodians = append(document.Custodians, &pb.Custodian{Msp: msp, SealedKeySha256: make([]byte, 32)})
	}
	s.State[state.IdentityKey(s.patient.Address)] = sim.Marshal(t, document)
	return s
}

// without is what the transient map holds while members are away.
func (s *story) without(away ...string) []byte {
	sealed := s.Sealed()
	sealed.Keys = slices.DeleteFunc(sealed.GetKeys(), func(key *pb.SealedKey) bool { return slices.Contains(away, key.GetMsp()) })
	return sim.Marshal(s.t, sealed)
}

// writes a first record while members are away; the name of its writer key.
func (s *story) writesWithout(away ...string) string {
	s.t.Helper()
	item := s.PutRecord(s.engine, s.patient, 1, s.ID())
	out, err := s.EndorseWith(s.without(away...), item)
	if err != nil {
		s.t.Fatal(err)
	}
	s.MustOK(out.Result.GetGroups()[0].GetVerdicts()...)
	for _, write := range out.Writes {
		for _, msp := range away {
			if write.Collection == state.ImplicitCollection(msp) {
				s.t.Fatalf("%s is away and would have to endorse", msp)
			}
		}
	}
	s.Commit(out.Writes)
	return state.SealedWriterKeyName(sim.Mercy, item.Contents[0].GetWriterKey().GetKeyId())
}

func (s *story) late(custodian string) *pb.SealedKeys {
	s.t.Helper()
	result, err := s.query(&pb.Query{Query: &pb.Query_GetLateKeys{GetLateKeys: &pb.GetLateKeys{Custodian: custodian}}})
	if err != nil {
		s.t.Fatal(err)
	}
	return result.GetLateKeys()
}

func (s *story) deliver(keys *pb.SealedKeys) ([]state.Write, error) {
	writes, err := s.Rules.Deliver(s.Call(), sim.Marshal(s.t, keys), sim.Ledger{World: s.World})
	s.Commit(writes)
	return writes, err
}

func TestACustodianThatIsAwayGetsAWriterKeyLater(t *testing.T) {
	s := custodial(t)
	name := s.writesWithout(sim.Lakeside)
	held := func(msp string) []byte { return s.Private[state.ImplicitCollection(msp)][name] }
	if held(sim.Mercy) == nil || held(sim.Insurer) == nil || held(sim.Lakeside) != nil {
		t.Fatal("not with those who were there alone")
	}
	if len(s.late(sim.Insurer).GetKeys()) != 0 {
		t.Fatal("who has the key waits for it")
	}
	waiting := s.late(sim.Lakeside)
	if len(waiting.GetKeys()) != 1 || waiting.Keys[0].GetKey() != name || waiting.Keys[0].GetMsp() != sim.Lakeside {
		t.Fatalf("waiting: %v", waiting)
	}
	if any := s.late(""); !proto.Equal(any, waiting) {
		t.Fatalf("waiting for anybody: %v", any)
	}
	if _, err := s.deliver(waiting); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(held(sim.Lakeside), held(sim.Mercy)) {
		t.Fatal("another key was delivered")
	}
	if len(s.late(sim.Lakeside).GetKeys()) != 0 {
		t.Fatal("it is still said to be late")
	}
	// Twice is once: whoever was slower writes nothing.
	if writes, err := s.deliver(waiting); err != nil || len(writes) != 0 {
		t.Fatalf("delivered again: %v, %v", writes, err)
	}
}

func TestLaterRecordsUnderALateKeyAreWrittenAndNoteNothingNew(t *testing.T) {
	s := custodial(t)
	s.writesWithout(sim.Lakeside)
	notes := func() (found []string) {
		for key := range s.State {
			if strings.HasPrefix(key, "late/") {
				found = append(found, key)
			}
		}
		return found
	}
	before := notes()
	s.writesWithout(sim.Lakeside, sim.Insurer)
	if after := notes(); !slices.Equal(before, after) || len(after) != 1 {
		t.Fatalf("noted %v, then %v", before, after)
	}
	s.deliver(s.late(sim.Lakeside))
	s.writesWithout(sim.Lakeside)
	if after := notes(); len(after) != 0 {
		t.Fatalf("noted again: %v", after)
	}
}

func TestTheWriterItselfIsNeverLate(t *testing.T) {
	s := custodial(t)
	item := s.PutRecord(s.engine, s.patient, 1, s.ID())
	out, err := s.EndorseWith(s.without(sim.Mercy), item)
	if err != nil {
		t.Fatal(err)
	}
	s.expectAt(out.Result.GetGroups()[0].GetVerdicts()[0], pb.Code_CODE_INVALID, "contents.writer_key.sealed_key_sha256")
}

func TestOnlyWhatWasAnnouncedIsDeliveredAndOnlyByItsWriter(t *testing.T) {
	s := custodial(t)
	name := s.writesWithout(sim.Lakeside)
	announced := s.late(sim.Lakeside).GetKeys()[0].GetSealed()
	key := func(msp, name string, sealed []byte) *pb.SealedKeys {
		return &pb.SealedKeys{Keys: []*pb.SealedKey{{Msp: msp, Key: name, Sealed: sealed}}}
	}
	const invalid, nothing = "CODE_INVALID: sealed_keys: ", ""
	for story, test := range map[string]struct {
		creator string
		keys    *pb.SealedKeys
		want    string
	}{
		"another key":                       {sim.Mercy, key(sim.Lakeside, name, []byte("forged")), invalid},
		"by another member":                 {sim.Insurer, key(sim.Lakeside, name, announced), invalid},
		"by the custodian":                  {sim.Lakeside, key(sim.Lakeside, name, announced), invalid},
		"another member's under one's name": {sim.Insurer, key(sim.Lakeside, strings.Replace(name, sim.Mercy, sim.Insurer, 1), announced), nothing},
		"to a member that has it":           {sim.Mercy, key(sim.Insurer, name, announced), nothing},
		"a record key":                      {sim.Mercy, key(sim.Lakeside, state.SealedRecordKeyName(s.patient.Address), announced), invalid},
		"a path":                            {sim.Mercy, key(sim.Lakeside, name+"/x", announced), invalid},
		"to nobody":                         {sim.Mercy, key("", name, announced), invalid},
		"nothing":                           {sim.Mercy, &pb.SealedKeys{}, invalid},
		"by a stranger":                     {"NowhereMSP", key(sim.Lakeside, strings.Replace(name, sim.Mercy, "NowhereMSP", 1), announced), "CODE_FORBIDDEN: creator: "},
	} {
		t.Run(story, func(t *testing.T) {
			s.t, s.Creator = t, test.creator
			s.traceless(func() {
				writes, err := s.deliver(test.keys)
				if test.want == nothing {
					if err != nil || len(writes) != 0 {
						t.Fatalf("writes %v, %v", writes, err)
					}
					return
				}
				s.refuses(err, test.want)
			})
			if s.Private[state.ImplicitCollection(sim.Lakeside)][name] != nil {
				t.Fatal("it was delivered")
			}
		})
	}
}

func TestWhatAPeerHasLostHidesNoLateKeyBehindIt(t *testing.T) {
	s := custodial(t)
	s.Private[state.ImplicitCollection(sim.Mercy)] = map[string][]byte{}
	for range 250 {
		s.State[state.LateKeyKey(sim.Mercy, sim.Lakeside, s.ID())] = sim.Marshal(t, &pb.LateKey{SealedKeySha256: make([]byte, 32)})
	}
	last := s.ID()
	s.State[state.LateKeyKey(sim.Mercy, sim.Lakeside, last)] = sim.Marshal(t, &pb.LateKey{SealedKeySha256: make([]byte, 32)})
	s.Private[state.ImplicitCollection(sim.Mercy)][state.SealedWriterKeyName(sim.Mercy, last)] = []byte("key")
	for _, custodian := range []string{"", sim.Lakeside} {
		asked, found := &pb.GetLateKeys{Custodian: custodian}, []string{}
		for questions := 1; ; questions++ {
			result, err := s.query(&pb.Query{Query: &pb.Query_GetLateKeys{GetLateKeys: asked}})
			if err != nil {
				t.Fatal(err)
			}
			for _, key := range result.GetLateKeys().GetKeys() {
				found = append(found, key.GetKey())
			}
			if asked.After = result.GetLateKeysAfter(); asked.After == "" {
				if questions != 3 {
					t.Errorf("%d questions", questions)
				}
				break
			}
		}
		if !slices.Equal(found, []string{state.SealedWriterKeyName(sim.Mercy, last)}) {
			t.Errorf("found %v", found)
		}
	}
}

func TestLateKeysAreToldAndDeliveredAHundredAtATime(t *testing.T) {
	s := custodial(t)
	s.Private[state.ImplicitCollection(sim.Mercy)] = map[string][]byte{}
	for i := range 101 {
		id := s.ID()
		s.State[state.LateKeyKey(sim.Mercy, sim.Lakeside, id)] = sim.Marshal(t, &pb.LateKey{SealedKeySha256: make([]byte, 32)})
		s.Private[state.ImplicitCollection(sim.Mercy)][state.SealedWriterKeyName(sim.Mercy, id)] = fmt.Appendf(nil, "key %d", i)
	}
	waiting := s.late(sim.Lakeside)
	if len(waiting.GetKeys()) != 100 {
		t.Fatalf("%d keys at once", len(waiting.GetKeys()))
	}
	waiting.Keys = append(waiting.Keys, &pb.SealedKey{Msp: sim.Lakeside, Key: state.SealedWriterKeyName(sim.Mercy, s.ID()), Sealed: []byte("one more")})
	s.traceless(func() {
		_, err := s.deliver(waiting)
		s.refuses(err, "CODE_TOO_LARGE: sealed_keys: ")
	})
	for _, asked := range []*pb.GetLateKeys{
		{Custodian: "late/../"},
		{After: "rec/"},
		{Custodian: sim.Lakeside, After: "late/" + sim.Mercy + "/" + sim.Insurer + "/"},
	} {
		_, err := s.query(&pb.Query{Query: &pb.Query_GetLateKeys{GetLateKeys: asked}})
		s.refuses(err, "CODE_INVALID: query: ")
	}
	s.Creator = sim.Insurer
	if others := s.late(sim.Lakeside); len(others.GetKeys()) != 0 {
		t.Fatalf("another member's keys were told: %v", others)
	}
}
