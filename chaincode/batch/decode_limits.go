package batch

import (
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// Limits of what is decoded. Two bytes on the wire can be a whole message in memory, a hundred times larger, in every
// endorser: so messages and entries of lists are counted before anything is decoded.
const (
	// MaxCommands of all groups of one call.
	MaxCommands = 4_000
	// MaxElements of one call: of its items, their commands, bodies, delegations and contents.
	MaxElements = 128 << 10
	// MaxBodyElements of one command: the largest consent has some 4,200.
	MaxBodyElements = 8 << 10
)

// shape of a message, as far as it matters for counting: by field number, what an occurrence of the field adds.
type shape struct{ fields []fieldShape }

type fieldShape struct {
	// Each occurrence is an entry of a list.
	list bool
	// Numbers of a list may be packed: then each byte can be one.
	packed bool
	// The message that the field holds; nil for a scalar.
	message *shape
}

var (
	batchShape      = shapeOf((&pb.Batch{}).ProtoReflect().Descriptor())
	commandShape    = shapeOf((&pb.Command{}).ProtoReflect().Descriptor())
	bodyShape       = shapeOf((&pb.CommandBody{}).ProtoReflect().Descriptor())
	delegationShape = shapeOf((&pb.Delegation{}).ProtoReflect().Descriptor())
	sealedShape     = shapeOf((&pb.SealedKeys{}).ProtoReflect().Descriptor())
	queryShape      = shapeOf((&pb.Query{}).ProtoReflect().Descriptor())
)

// shapeOf a message of this contract; none of them holds itself.
func shapeOf(message protoreflect.MessageDescriptor) *shape {
	s := &shape{}
	for i := range message.Fields().Len() {
		field := message.Fields().Get(i)
		for len(s.fields) <= int(field.Number()) {
			s.fields = append(s.fields, fieldShape{})
		}
		of := &s.fields[field.Number()]
		of.list = field.IsList()
		if field.Message() != nil {
			of.message = shapeOf(field.Message())
		} else {
			of.packed = field.IsList() && field.Kind() != protoreflect.StringKind && field.Kind() != protoreflect.BytesKind
		}
	}
	return s
}

// count messages and entries of lists in the serialized message, as far as `most`: what is over it has more, and how
// many more nobody needs to know. Bytes that are no message count as what was read of them; decoding finds the fault.
func (s *shape) count(raw []byte, most int) int {
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
				found += of.message.count(content, most-found)
			}
		case of.packed && kind == protowire.BytesType:
			found += len(value)
		case of.list:
			found++
		}
	}
	return found
}

// budget is how many elements may still be decoded for one call.
type budget struct{ left int }

// take counts what a message holds and takes it out of the budget; false when that is more than there is.
func (b *budget) take(s *shape, raw []byte) bool {
	b.left -= s.count(raw, b.left)
	return b.left >= 0
}
