package state

import (
	"errors"
	"maps"

	"google.golang.org/protobuf/proto"
)

// Overlay is what the channel says, with what this batch has already changed on top. Documents that it hands out are
// shared: clone before changing.
type Overlay struct {
	fetched map[string]*document
	batch   layer
	group   layer
}

// document is what the channel holds under a key, decoded when it is first asked for.
type document struct {
	raw     []byte
	decoded proto.Message
}

// layer is a set of changes that is committed or rolled back as one.
type layer struct {
	public  map[string]proto.Message
	private map[privateKey][]byte
}

type privateKey struct{ msp, key string }

func newLayer() layer {
	return layer{public: map[string]proto.Message{}, private: map[privateKey][]byte{}}
}

// Fetch reads keys with one multi-get.
func Fetch(ledger Ledger, keys []string) (*Overlay, error) {
	values, err := ledger.States(keys)
	if err != nil {
		return nil, err
	}
	if len(values) != len(keys) {
		return nil, errors.New("not one value for each key")
	}
	return Of(keys, values), nil
}

// Of keys and their values, in one order.
func Of(keys []string, values [][]byte) *Overlay {
	documents := make([]document, len(keys))
	fetched := make(map[string]*document, len(keys))
	for i, key := range keys {
		documents[i].raw = values[i]
		fetched[key] = &documents[i]
	}
	return &Overlay{fetched: fetched, batch: newLayer(), group: newLayer()}
}

// Fetched tells whether a key was read.
func (s *Overlay) Fetched(key string) bool {
	_, there := s.fetched[key]
	return there
}

// Extend with what a later multi-get has read.
func (s *Overlay) Extend(more *Overlay) { maps.Copy(s.fetched, more.fetched) }

// Load gives the document under a key, nil when there is none. The key must have been read: one that was not would be
// a read that other batches lack, so it is a fault.
func Load[T any, M interface {
	*T
	proto.Message
}](s *Overlay, key string) M {
	if staged, ok := s.group.public[key]; ok {
		return staged.(M)
	}
	if staged, ok := s.batch.public[key]; ok {
		return staged.(M)
	}
	known, read := s.fetched[key]
	if !read {
		panic(Fault{"a state key was needed that the plan did not hold"})
	}
	if len(known.raw) == 0 {
		return nil
	}
	if known.decoded == nil {
		message := M(new(T))
		if err := proto.Unmarshal(known.raw, message); err != nil {
			panic(Fault{"a document of the state does not decode"})
		}
		known.decoded = message
	}
	return known.decoded.(M)
}

// Put stages a change of the current group.
func (s *Overlay) Put(key string, document proto.Message) { s.group.public[key] = document }

// Append stages a document that is written once and never again, such as an audit entry. That something is there
// already is a fault: whoever appends has looked.
func (s *Overlay) Append(key string, document proto.Message) {
	known, read := s.fetched[key]
	_, inBatch := s.batch.public[key]
	_, inGroup := s.group.public[key]
	if !read || len(known.raw) > 0 || inBatch || inGroup {
		panic(Fault{"a document was to be written again that is written once"})
	}
	s.Put(key, document)
}

// PutPrivate stages a value for a member's implicit collection.
func (s *Overlay) PutPrivate(msp, key string, value []byte) {
	s.group.private[privateKey{msp, key}] = value
}

// Commit makes the group's changes visible to the groups after it.
func (s *Overlay) Commit() {
	maps.Copy(s.batch.public, s.group.public)
	maps.Copy(s.batch.private, s.group.private)
	s.Rollback()
}

// Rollback forgets the group's changes.
func (s *Overlay) Rollback() {
	clear(s.group.public)
	clear(s.group.private)
}

// Writes are all committed changes, serialized deterministically, sorted by collection and key.
func (s *Overlay) Writes() []Write {
	writes := make([]Write, 0, len(s.batch.public)+len(s.batch.private))
	for key, document := range s.batch.public {
		writes = append(writes, Write{Key: key, Value: marshal(document)})
	}
	for at, value := range s.batch.private {
		writes = append(writes, Write{Collection: ImplicitCollection(at.msp), Key: at.key, Value: value})
	}
	SortWrites(writes)
	return writes
}

func marshal(document proto.Message) []byte {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(document)
	if err != nil {
		panic(Fault{"a document does not serialize"})
	}
	return raw
}
