package batch

import (
	"cmp"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// state is what the channel says, with what this batch has already changed on top. Documents that
// it hands out are shared: clone before changing.
type state struct {
	fetched map[string][]byte
	decoded map[string]proto.Message
	batch   layer
	group   layer
}

// layer is a set of changes that stands or falls together.
type layer struct {
	public  map[string]proto.Message
	private map[privateKey][]byte
}

type privateKey struct{ msp, key string }

func newLayer() layer {
	return layer{public: map[string]proto.Message{}, private: map[privateKey][]byte{}}
}

func fetchState(ledger Ledger, keys []string) (*state, *Failure) {
	values, err := ledger.States(keys)
	if err != nil || len(values) != len(keys) {
		return nil, fail(pb.Code_CODE_UNAVAILABLE, "ledger", "the state could not be read from the peer")
	}
	fetched := make(map[string][]byte, len(keys))
	for i, key := range keys {
		fetched[key] = values[i]
	}
	return &state{
		fetched: fetched,
		decoded: map[string]proto.Message{},
		batch:   newLayer(),
		group:   newLayer(),
	}, nil
}

// load gives the document under a key, nil when there is none. The key must have been planned:
// one that was not would be a read that other batches lack, so it is a fault.
func load[T any, M interface {
	*T
	proto.Message
}](s *state, key string) M {
	for _, l := range []layer{s.group, s.batch} {
		if staged, ok := l.public[key]; ok {
			return staged.(M)
		}
	}
	if known, ok := s.decoded[key]; ok {
		return known.(M)
	}
	raw, planned := s.fetched[key]
	if !planned {
		panic(fault{"a state key was needed that the plan did not hold"})
	}
	var document M
	if len(raw) > 0 {
		document = new(T)
		if err := proto.Unmarshal(raw, document); err != nil {
			panic(fault{"a document of the state does not decode"})
		}
	}
	s.decoded[key] = document
	return document
}

// put stages a change of the current group.
func (s *state) put(key string, document proto.Message) { s.group.public[key] = document }

// putPrivate stages a value for a member's implicit collection.
func (s *state) putPrivate(msp, key string, value []byte) {
	s.group.private[privateKey{msp, key}] = value
}

// keep makes the group's changes visible to the groups after it.
func (s *state) keep() {
	maps.Copy(s.batch.public, s.group.public)
	maps.Copy(s.batch.private, s.group.private)
	s.group = newLayer()
}

// discard forgets the group's changes.
func (s *state) discard() { s.group = newLayer() }

// writes are all kept changes, serialized deterministically, sorted by collection and key.
func (s *state) writes() []Write {
	writes := make([]Write, 0, len(s.batch.public)+len(s.batch.private))
	for key, document := range s.batch.public {
		writes = append(writes, Write{Key: key, Value: marshal(document)})
	}
	for at, value := range s.batch.private {
		writes = append(writes, Write{Collection: implicitCollection(at.msp), Key: at.key, Value: value})
	}
	slices.SortFunc(writes, func(a, b Write) int {
		return cmp.Or(cmp.Compare(a.Collection, b.Collection), cmp.Compare(a.Key, b.Key))
	})
	return writes
}

func marshal(document proto.Message) []byte {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(document)
	if err != nil {
		panic(fault{"a document does not serialize"})
	}
	return raw
}
