package wire

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// Strict decodes signed bytes and refuses fields that this version does not know: nobody's statement is carried out
// without the part of it that we cannot read.
func Strict(raw []byte, message proto.Message) bool {
	return proto.Unmarshal(raw, message) == nil && AllKnown(message.ProtoReflect())
}

// AllKnown tells that neither the message nor what is in it has a field that this version does not know.
func AllKnown(message protoreflect.Message) bool {
	if len(message.GetUnknown()) > 0 {
		return false
	}
	known := true
	message.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Kind() != protoreflect.MessageKind {
			return true
		}
		if field.IsList() {
			list := value.List()
			for i := range list.Len() {
				known = known && AllKnown(list.Get(i).Message())
			}
		} else {
			known = AllKnown(value.Message())
		}
		return known
	})
	return known
}
