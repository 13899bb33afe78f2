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
	fetched map[string]*document
	batch   layer
	group   layer
}

// document is what the channel holds under a key, decoded when it is first asked for.
type document struct {
	raw     []byte
	decoded proto.Message
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
	return stateOf(keys, values), nil
}

func stateOf(keys []string, values [][]byte) *state {
	documents := make([]document, len(keys))
	fetched := make(map[string]*document, len(keys))
	for i, key := range keys {
		documents[i].raw = values[i]
		fetched[key] = &documents[i]
	}
	return &state{fetched: fetched, batch: newLayer(), group: newLayer()}
}

// load gives the document under a key, nil when there is none. The key must have been planned:
// one that was not would be a read that other batches lack, so it is a fault.
func load[T any, M interface {
	*T
	proto.Message
}](s *state, key string) M {
	if staged, ok := s.group.public[key]; ok {
		return staged.(M)
	}
	if staged, ok := s.batch.public[key]; ok {
		return staged.(M)
	}
	known, planned := s.fetched[key]
	if !planned {
		panic(fault{"a state key was needed that the plan did not hold"})
	}
	if len(known.raw) == 0 {
		return nil
	}
	if known.decoded == nil {
		message := M(new(T))
		if err := proto.Unmarshal(known.raw, message); err != nil {
			panic(fault{"a document of the state does not decode"})
		}
		known.decoded = message
	}
	return known.decoded.(M)
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
	s.discard()
}

// discard forgets the group's changes.
func (s *state) discard() {
	clear(s.group.public)
	clear(s.group.private)
}

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
