package batch

import (
	"bytes"
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
	"cbmdhi/chaincode/wire"
)

// maxReplicas bounds the members that one content can name.
const maxReplicas = 64

// checkContent looks at the form of the carrier's statement.
func checkContent(content *pb.StoredContent) *refusal {
	key := content.GetWriterKey()
	switch {
	case content == nil:
		return invalid("contents", "the item holds no content for this PutRecord")
	case !wire.AllKnown(content.ProtoReflect()):
		return invalid("contents", "not a StoredContent of this version")
	case !isCID(content.GetCid()):
		return invalid("contents.cid", "not a CIDv1 (sha2-256) in lower-case base32")
	case !isSHA256(content.GetRootSha256()):
		return invalid("contents.root_sha256", "not 32 bytes")
	case content.GetStoredBytes() == 0:
		return invalid("contents.stored_bytes", "missing")
	case !isUUIDv7(key.GetKeyId()):
		return invalid("contents.writer_key.key_id", notUUIDv7)
	case key.GetEpoch() == 0:
		return invalid("contents.writer_key.epoch", "epochs begin at 1")
	case !isSHA256(key.GetSealedKeySha256()):
		return invalid("contents.writer_key.sealed_key_sha256", "not 32 bytes")
	case len(content.GetReplicas()) > maxReplicas:
		return tooLarge("contents.replicas", "more than %d", maxReplicas)
	}
	for i, msp := range content.GetReplicas() {
		if !isMSP(msp) || slices.Contains(content.GetReplicas()[:i], msp) {
			return invalid(elementOf("contents.replicas", i), "not an MSP id, or named twice")
		}
	}
	return nil
}

// acceptContent checks the statement against the channel, and stores a writer key that is new.
func (r *run) acceptContent(c *decided, patient *pb.IdentityDocument) *refusal {
	if c.badContent != nil {
		return c.badContent
	}
	replicas := c.content.GetReplicas()
	if len(replicas) == 0 || replicas[0] != r.call.CreatorMSP {
		return invalid("contents.replicas", "the first is not the member that submits the record")
	}
	if why := r.acceptSeal(c); why != nil {
		return why
	}
	if minimum := r.policyDocument().GetMinReplicas(); len(replicas) < int(minimum) {
		return invalid("contents.replicas", "the policy asks for %d members to hold the content", minimum)
	}
	return r.acceptWriterKey(c, patient)
}

func (r *run) acceptWriterKey(c *decided, patient *pb.IdentityDocument) *refusal {
	const path = "contents.writer_key"
	key := c.content.GetWriterKey()
	if known := state.Load[pb.WriterKeyState](r.state, state.WriterKeyStateKey(r.call.CreatorMSP, key.GetKeyId())); known != nil {
		if !isSameKey(known.GetKey(), key) || known.GetPatient() != patient.GetAddress() {
			return conflict(path, "this key id belongs to another key or patient")
		}
		return nil
	}
	if why := r.deliverWriterKey(key, patient); why != nil {
		return why
	}
	r.state.Put(state.WriterKeyStateKey(r.call.CreatorMSP, key.GetKeyId()), &pb.WriterKeyState{
		Key: key, Patient: patient.GetAddress(), WriterMsp: r.call.CreatorMSP, CommandId: c.id(),
	})
	return nil
}

func isSameKey(a, b *pb.WriterKey) bool {
	return a.GetKeyId() == b.GetKeyId() && a.GetEpoch() == b.GetEpoch() &&
		bytes.Equal(a.GetSealedKeySha256(), b.GetSealedKeySha256())
}
