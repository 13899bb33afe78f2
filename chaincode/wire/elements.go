// Package wire bounds and checks serialized messages before the rules read them.
package wire

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Shape of a message, as far as it matters for counting: by field number, what an occurrence of the field adds.
//
// Two bytes on the wire can be a whole message in memory, a hundred times larger, in every endorser. So messages and
// entries of lists are counted before anything is decoded.
type Shape struct{ fields []fieldShape }

type fieldShape struct {
	// Each occurrence is an entry of a list.
	list bool
	// Numbers of a list may be packed: then each byte can be one.
	packed bool
	// The message that the field holds; nil for a scalar.
	message *Shape
}

// ShapeOf a message of this contract; none of them holds itself.
func ShapeOf(message protoreflect.MessageDescriptor) *Shape {
	s := &Shape{}
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		for len(s.fields) <= int(field.Number()) {
			s.fields = append(s.fields, fieldShape{})
		}
		of := &s.fields[field.Number()]
		of.list = field.IsList()
		if field.Message() != nil {
			of.message = ShapeOf(field.Message())
		} else {
			of.packed = field.IsList() && field.Kind() != protoreflect.StringKind && field.Kind() != protoreflect.BytesKind
		}
	}
	return s
}

// Count messages and entries of lists in the serialized message. It stops above `most`. Bytes that are no message count as
// far as they can be read; decoding finds the fault.
func (s *Shape) Count(raw []byte, most int) int {
	found := 0
	for len(raw) > 0 && found <= most {
		number, kind, n := protowire.ConsumeTag(raw)
		if n < 0 {
			return found
		}
		raw = raw[n:]
		n = protowire.ConsumeFieldValue(number, kind, raw)
		if n < 0 {
			return found
		}
		value := raw[:n]
		raw = raw[n:]
		if int(number) >= len(s.fields) {
			continue
		}
		switch of := s.fields[number]; {
		case of.message != nil:
			found++
			if kind == protowire.BytesType {
				content, _ := protowire.ConsumeBytes(value)
				found += of.message.Count(content, most-found)
			}
		case of.packed && kind == protowire.BytesType:
			found += len(value)
		case of.list:
			found++
		}
	}
	return found
}

// Budget is how many elements may still be decoded for one call.
type Budget struct{ left int }

// NewBudget of a number of elements.
func NewBudget(elements int) *Budget { return &Budget{left: elements} }

// Take counts what a message holds and takes it out of the budget; false when that is more than there is.
func (b *Budget) Take(s *Shape, raw []byte) bool {
	b.left -= s.Count(raw, b.left)
	return b.left >= 0
}

// Exceeded tells that more was to be taken than there was.
func (b *Budget) Exceeded() bool { return b.left < 0 }
