package batch

import (
	"bytes"
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
	"cbmdhi/chaincode/state"
)

const (
	// typeTagBytes of a PutRecord's type_tag, the first of which name its key.
	typeTagBytes    = 16
	typeTagKeyBytes = 4
)

// PutRecord adds a version of a record: the author's signed commitment, and the carrier's statement of where the ciphertext
// lies.
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
	apply:      applyPutRecord,
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

// applyPutRecord asks the policy before it looks at versions and content, so that an attempt to write without the right to
// is recorded as one, whatever else is wrong with it.
func applyPutRecord(r *run, c *decided) *refusal {
	const path = "body.put_record."
	body := c.body.GetPutRecord()
	patient := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(body.GetPatient()))
	if patient.GetRole() != pb.Role_ROLE_PATIENT {
		return notFound(path+"patient", "no such patient on this channel")
	}
	// A suspended patient cannot act but is still treated: the chart of somebody who lost their key is written on.
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
	// Consents and policies speak of categories, so a record keeps its category.
	if last.GetCategory() != body.GetCategory() {
		return nil, conflict(path+"category", "the record is of another category: %s", ownID)
	}
	if isOtherType(last.GetTypeTag(), body.GetTypeTag()) {
		return nil, conflict(path+"type_tag", "the record is of another type: %s", ownID)
	}
	return last, nil
}

const ownID = "write what is of another kind under an id of its own"

// isOtherType compares two tags that were made with the same key; others cannot be compared.
func isOtherType(a, b []byte) bool {
	return len(a) == typeTagBytes && len(b) == typeTagBytes &&
		bytes.Equal(a[:typeTagKeyBytes], b[:typeTagKeyBytes]) && !bytes.Equal(a, b)
}

// knownTypeTag is the version's own tag, or that of the version before when the writer gives none.
func knownTypeTag(body *pb.PutRecord, last *pb.RecordVersion) []byte {
	if len(body.GetTypeTag()) > 0 {
		return body.GetTypeTag()
	}
	return last.GetTypeTag()
}
