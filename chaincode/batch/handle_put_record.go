package batch

import (
	"bytes"
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
	"cbmdhi/chaincode/state"
	"cbmdhi/chaincode/wire"
)

const (
	// maxReplicas bounds the members that one content can name.
	maxReplicas = 64
	// typeTagBytes of a PutRecord's type_tag, the first of which name its key.
	typeTagBytes    = 16
	typeTagKeyBytes = 4
)

// PutRecord adds a version of a record: the author's signed commitment, and beside it the carrier's
// statement of where the ciphertext lies.
var putRecordHandler = handler{
	check: checkPutRecord,
	describe: func(c *decoded, entry *pb.AuditEntry) {
		body := c.body.GetPutRecord()
		entry.Action, entry.Purpose, entry.Category = actionWrite, purposeTreatment, body.GetCategory()
		nameRecord(entry, body)
	},
	reads: func(call Call, c *decoded, need func(string)) {
		body := c.body.GetPutRecord()
		need(state.IdentityKey(body.GetPatient()))
		need(state.ConsentKey(body.GetPatient()))
		need(state.RecordKey(body.GetRecordId(), body.GetVersion()))
		if body.GetVersion() > 1 {
			need(state.RecordKey(body.GetRecordId(), body.GetVersion()-1))
		}
		if c.badContent == nil {
			need(state.WriterKeyStateKey(call.CreatorMSP, c.content.GetWriterKey().GetKeyId()))
			for _, msp := range c.content.GetReplicas() {
				need(state.MemberKey(msp))
			}
		}
	},
	apply:      applyRecord,
	delegation: func(*decoded) (string, string) { return actionWrite, purposeTreatment },
}

func checkPutRecord(c *decoded) *refusal {
	const path = "body.put_record."
	body := c.body.GetPutRecord()
	switch {
	case !isUUIDv7(body.GetRecordId()):
		return invalid(path+"record_id", notUUIDv7)
	case body.GetVersion() == 0:
		return invalid(path+"version", "versions begin at 1")
	case !isAddress(body.GetPatient()):
		return invalid(path+"patient", "not an address")
	case !slices.Contains(categories, body.GetCategory()):
		return invalid(path+"category", "not a category of the closed list")
	case !isSHA256(body.GetContentCommitment()):
		return invalid(path+"content_commitment", "not 32 bytes")
	case len(body.GetTypeTag()) != 0 && len(body.GetTypeTag()) != typeTagBytes:
		return invalid(path+"type_tag", "neither empty nor %d bytes", typeTagBytes)
	}
	return nil
}

// applyRecord asks the policy before it looks at versions and content: who tried to write without
// right is recorded, whatever else was wrong with it.
func applyRecord(r *run, c *decided) *refusal {
	const path = "body.put_record."
	body := c.body.GetPutRecord()
	patient := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(body.GetPatient()))
	if patient.GetRole() != pb.Role_ROLE_PATIENT {
		return notFound(path+"patient", "no such patient on this channel")
	}
	// Who may not act is still treated: the chart of a patient whose key was lost is written on.
	if patient.GetStatus() != pb.IdentityStatus_IDENTITY_STATUS_ACTIVE &&
		patient.GetStatus() != pb.IdentityStatus_IDENTITY_STATUS_SUSPENDED {
		return forbidden(path+"patient", "the patient's registration is not active: wait until it is")
	}
	var why *refusal
	c.entry.Basis, why = r.askPolicy(question{
		actor: c.actor, delegated: c.delegated, action: actionWrite, purpose: purposeTreatment,
		record: policy.Record{
			ID: body.GetRecordId(), Patient: body.GetPatient(), Category: body.GetCategory(),
			Author: c.actor.GetAddress(), WriterMSP: r.call.CreatorMSP,
		},
	})
	if why != nil {
		return why
	}
	last, why := r.lastVersion(body)
	if why != nil {
		return why
	}
	if why := r.acceptContent(c, patient); why != nil {
		return why.byCarrier()
	}
	r.state.Append(state.RecordKey(body.GetRecordId(), body.GetVersion()), &pb.RecordVersion{
		RecordId: body.GetRecordId(), Version: body.GetVersion(), Patient: body.GetPatient(),
		Category: body.GetCategory(), ContentCommitment: body.GetContentCommitment(),
		ContentBytes: body.GetContentBytes(), Author: c.actor.GetAddress(), WriterMsp: r.call.CreatorMSP,
		Content: c.content, CommandId: c.id(), WrittenAtMs: r.call.TimeMs, TxId: r.call.TxID,
		SignedBy: c.signed.GetSigner(), TypeTag: knownTypeTag(body, last),
	})
	return nil
}

// lastVersion is the one that this version follows, nil for the first, if it may follow it.
func (r *run) lastVersion(body *pb.PutRecord) (*pb.RecordVersion, *refusal) {
	const path = "body.put_record."
	if state.Load[pb.RecordVersion](r.state, state.RecordKey(body.GetRecordId(), body.GetVersion())) != nil {
		return nil, conflict(path+"version", "this version is there already: write the next one")
	}
	if body.GetVersion() == 1 {
		return nil, nil
	}
	last := state.Load[pb.RecordVersion](r.state, state.RecordKey(body.GetRecordId(), body.GetVersion()-1))
	if last == nil {
		return nil, conflict(path+"version", "the version before it is not there")
	}
	if last.GetPatient() != body.GetPatient() {
		return nil, conflict(path+"patient", "the record belongs to another patient")
	}
	// Consents and policies are about categories: what was written as one stays one.
	if last.GetCategory() != body.GetCategory() {
		return nil, conflict(path+"category", "the record is of another category: %s", ownID)
	}
	if isOtherType(last.GetTypeTag(), body.GetTypeTag()) {
		return nil, conflict(path+"type_tag", "the record is of another type: %s", ownID)
	}
	return last, nil
}

const ownID = "write what is of another kind under an id of its own"

// isOtherType compares what can be compared: two tags under one key.
func isOtherType(a, b []byte) bool {
	return len(a) == typeTagBytes && len(b) == typeTagBytes &&
		bytes.Equal(a[:typeTagKeyBytes], b[:typeTagKeyBytes]) && !bytes.Equal(a, b)
}

// knownTypeTag is not forgotten by a writer who cannot tell.
func knownTypeTag(body *pb.PutRecord, last *pb.RecordVersion) []byte {
	if len(body.GetTypeTag()) > 0 {
		return body.GetTypeTag()
	}
	return last.GetTypeTag()
}

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
			return invalid(at("contents.replicas", i), "not an MSP id, or named twice")
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
