package batch_test

import (
	"bytes"
	"math"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"cbmdhi/chaincode/batch"
	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

// sealed is a record that two members hold, with its seal.
func (s *story) sealed() (*pb.BatchItem, *pb.SealedBatch) {
	item, _ := s.put(s.engine, func(_ *pb.PutRecord, c *pb.StoredContent) { c.Replicas = []string{sim.Mercy, sim.Lakeside} })
	return item, s.Seal(item)[0]
}

// carried settles the item with just these seals.
func (s *story) carried(item *pb.BatchItem, seals ...*pb.SealedBatch) (*pb.Verdict, error) {
	s.t.Helper()
	raw := sim.Marshal(s.t, &pb.Batch{Items: []*pb.BatchItem{item}, Seals: seals})
	out, err := s.Rules.Process(s.Call(), raw, sim.Marshal(s.t, s.Sealed()), sim.Ledger{World: s.World})
	if err != nil {
		return nil, err
	}
	return out.Result.Groups[0].Verdicts[0], nil
}

func TestWhoHoldsARecordIsTheMembersWordAndNotTheCarriers(t *testing.T) {
	stories := map[string]struct {
		change func(s *story, item *pb.BatchItem, seal *pb.SealedBatch)
		path   string
	}{
		"nobody signed": {func(_ *story, _ *pb.BatchItem, seal *pb.SealedBatch) { seal.Receipts = nil }, "contents.replicas[0]"},
		"the writer alone signed": {func(_ *story, _ *pb.BatchItem, seal *pb.SealedBatch) { seal.Receipts = seal.Receipts[:1] },
			"contents.replicas[1]"},
		"another member's key": {func(s *story, _ *pb.BatchItem, seal *pb.SealedBatch) {
			seal.Receipts[1] = s.Receipt(seal, sim.Insurer, s.Now.UnixMilli())
			seal.Receipts[1].Msp = sim.Lakeside
		}, "contents.replicas[1]"},
		"a receipt for another batch": {func(s *story, _ *pb.BatchItem, seal *pb.SealedBatch) {
			other := proto.Clone(seal).(*pb.SealedBatch)
			other.RootSha256 = make([]byte, 32)
			seal.Receipts[1] = s.Receipt(other, sim.Lakeside, s.Now.UnixMilli())
		}, "contents.replicas[1]"},
		"a receipt for other commands": {func(s *story, _ *pb.BatchItem, seal *pb.SealedBatch) {
			seal.Contents = append(seal.Contents, make([]byte, 32)...)
		}, "contents.replicas[0]"},
		"a receipt that is too old": {func(s *story, _ *pb.BatchItem, seal *pb.SealedBatch) {
			seal.Receipts[1] = s.Receipt(seal, sim.Lakeside, s.Now.UnixMilli()-12*60*1000-1)
		}, "contents.replicas[1]"},
		"a receipt from the future": {func(s *story, _ *pb.BatchItem, seal *pb.SealedBatch) {
			seal.Receipts[1] = s.Receipt(seal, sim.Lakeside, s.Now.UnixMilli()+2*60*1000+1)
		}, "contents.replicas[1]"},
		"a receipt with another time than was signed": {func(_ *story, _ *pb.BatchItem, seal *pb.SealedBatch) {
			seal.Receipts[1].HeldAtMs++
		}, "contents.replicas[1]"},
		"a seal of another root": {func(_ *story, _ *pb.BatchItem, seal *pb.SealedBatch) { seal.RootSha256 = make([]byte, 32) },
			"contents.root_sha256"},
		"a content that was not sealed": {func(_ *story, item *pb.BatchItem, _ *pb.SealedBatch) {
			item.Contents[0].Cid = sim.CID("another")
		}, "contents.cid"},
		"no root named": {func(_ *story, item *pb.BatchItem, _ *pb.SealedBatch) { item.Contents[0].RootSha256 = nil },
			"contents.root_sha256"},
		"contents that are no hashes": {func(_ *story, _ *pb.BatchItem, seal *pb.SealedBatch) { seal.Contents = seal.Contents[1:] },
			"seals.contents"},
		"a batch of 1,001": {func(_ *story, _ *pb.BatchItem, seal *pb.SealedBatch) { seal.Contents = make([]byte, 32*1001) },
			"seals.contents"},
		"no contents": {func(_ *story, _ *pb.BatchItem, seal *pb.SealedBatch) { seal.Contents = nil }, "seals.contents"},
	}
	for name, test := range stories {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			item, seal := s.sealed()
			test.change(s, item, seal)
			verdict, err := s.carried(item, seal)
			if err != nil {
				t.Fatal(err)
			}
			if verdict.GetCode() != pb.Code_CODE_TOO_LARGE {
				s.expect(verdict, pb.Code_CODE_INVALID)
			}
			s.expectAt(verdict, verdict.GetCode(), test.path)
		})
	}
	s := begin(t)
	item, seal := s.sealed()
	if verdict, err := s.carried(item, seal); err != nil || verdict.GetCode() != pb.Code_CODE_OK {
		t.Fatalf("what nobody changed was refused: %v %v", verdict, err)
	}
}

func TestAContentThatWasSealedForOneCommandIsWorthNothingForAnother(t *testing.T) {
	s := begin(t)
	item, seal := s.sealed()
	other, _ := s.put(s.engine, func(*pb.PutRecord, *pb.StoredContent) {})
	other.Contents = item.Contents
	verdict, err := s.carried(other, seal)
	if err != nil {
		t.Fatal(err)
	}
	s.expectAt(verdict, pb.Code_CODE_INVALID, "contents.cid")
	// Nor under another signer's name with the same id.
	header := &pb.Command{}
	if err := proto.Unmarshal(item.Group.Commands[0].Command, header); err != nil {
		t.Fatal(err)
	}
	item.Group.Commands[0] = s.clinician.SignHeader(header)
	verdict, err = s.carried(item, seal)
	if err != nil {
		t.Fatal(err)
	}
	s.expectAt(verdict, pb.Code_CODE_INVALID, "contents.cid")
}

func TestWhatIsStatedOfAContentIsItsStoragesWordAndNotTheCarriers(t *testing.T) {
	stories := map[string]func(s *story, content *pb.StoredContent){
		"an epoch after which there is none": func(_ *story, content *pb.StoredContent) { content.WriterKey.Epoch = math.MaxUint32 },
		"the writer key of another patient": func(s *story, content *pb.StoredContent) {
			content.WriterKey = s.WriterKey(s.Active(pb.Role_ROLE_PATIENT, sim.Mercy), sim.Mercy)
		},
		"another key under that id": func(_ *story, content *pb.StoredContent) { content.WriterKey.SealedKeySha256 = make([]byte, 32) },
		"that key under another id": func(s *story, content *pb.StoredContent) { content.WriterKey.KeyId = s.ID() },
		"another size":              func(_ *story, content *pb.StoredContent) { content.StoredBytes = math.MaxUint64 },
	}
	for name, change := range stories {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			item, seal := s.sealed()
			sent := proto.Clone(item).(*pb.BatchItem)
			change(s, sent.Contents[0])
			verdict, err := s.carried(sent, seal)
			if err != nil {
				t.Fatal(err)
			}
			s.expectAt(verdict, pb.Code_CODE_INVALID, "contents.cid")
			// What storage made is good still.
			if verdict, err = s.carried(item, seal); err != nil || verdict.GetCode() != pb.Code_CODE_OK {
				t.Fatalf("as it was sealed it was refused: %v %v", verdict, err)
			}
		})
	}
}

func TestASealIsKeptOnceForManyRecordsAndOneThatIsWrongHarmsNoOther(t *testing.T) {
	s := begin(t)
	first, seal := s.sealed()
	second, theirs := s.sealed()
	seal.Contents = slices.Concat(seal.Contents, theirs.Contents)
	for i, msp := range []string{sim.Mercy, sim.Lakeside} {
		seal.Receipts[i] = s.Receipt(seal, msp, s.Now.UnixMilli())
	}
	second.Contents[0].RootSha256 = seal.RootSha256
	third, broken := s.sealed()
	broken.Contents = broken.Contents[1:]
	raw := sim.Marshal(t, &pb.Batch{Items: []*pb.BatchItem{first, second, third}, Seals: []*pb.SealedBatch{seal, broken}})
	out, err := s.Rules.Process(s.Call(), raw, sim.Marshal(t, s.Sealed()), sim.Ledger{World: s.World})
	if err != nil {
		t.Fatal(err)
	}
	var found []pb.Code
	for _, group := range out.Result.Groups {
		found = append(found, group.Verdicts[0].Code)
	}
	if want := []pb.Code{pb.Code_CODE_OK, pb.Code_CODE_OK, pb.Code_CODE_INVALID}; !slices.Equal(found, want) {
		t.Fatalf("verdicts %v, want %v", found, want)
	}
}

func TestABatchWithTheSameSealTwiceOrWithMoreThanItsContentsNeedIsRefusedAsAWhole(t *testing.T) {
	s := begin(t)
	item, seal := s.sealed()
	many := make([]*pb.SealedBatch, batch.MaxGroupRecords+1)
	for i := range many {
		many[i] = &pb.SealedBatch{RootSha256: bytes.Repeat([]byte{byte(i)}, 32)}
	}
	for _, seals := range [][]*pb.SealedBatch{{seal, seal}, many} {
		if _, err := s.carried(item, seals...); err == nil {
			t.Fatal("it was taken")
		}
	}
}
