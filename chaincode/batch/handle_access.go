package batch

import (
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
	"cbmdhi/chaincode/state"
)

// Access: the verdict is the decision. Permitted or refused, it is on the channel before any key is
// released.
var accessHandler = handler{
	check: checkAccess,
	describe: func(c *decoded, entry *pb.AuditEntry) {
		body := c.body.GetAccess()
		entry.Action, entry.Purpose = body.GetAction(), body.GetPurpose()
		nameRecord(entry, body)
	},
	reads: func(_ Call, c *decoded, need func(string)) {
		readsOfRecord(c.body.GetAccess(), need)
	},
	apply: applyAccess,
	delegation: func(c *decoded) (string, string) {
		return c.body.GetAccess().GetAction(), c.body.GetAccess().GetPurpose()
	},
}

func checkAccess(c *decoded) *refusal {
	body := c.body.GetAccess()
	if why := checkRecordVersion("body.access.", body); why != nil {
		return why
	}
	if !isPurpose(body.GetPurpose()) {
		return invalid("body.access.purpose", "not a purpose of use of the closed list")
	}
	if !slices.Contains(accessActions, body.GetAction()) {
		return invalid("body.access.action", "not read, history or export")
	}
	return nil
}

func applyAccess(r *run, c *decided) *refusal {
	body := c.body.GetAccess()
	record, why := r.recordOf("body.access.", body)
	if why != nil {
		return why
	}
	c.entry.Category = record.GetCategory()
	c.entry.Basis, why = r.askPolicy(question{
		actor: c.actor, delegated: c.delegated, action: body.GetAction(), purpose: body.GetPurpose(),
		record: describeRecord(record),
	})
	if why != nil {
		return why
	}
	c.read = record
	return r.notSuperseded("body.access.version", body.GetAction(), record)
}

// notSuperseded: whatever is not asked of the history is asked of the latest version. Otherwise who may
// read and not look back could read each version that was ever current.
func (r *run) notSuperseded(path, action string, record *pb.RecordVersion) *refusal {
	if action == actionHistory || !r.isSuperseded(record) {
		return nil
	}
	return forbidden(path, "there is a newer version of this record: ask for that, or for this one as history")
}

// isSuperseded asks for the next version, whose key lies beside that of this one.
func (r *run) isSuperseded(record *pb.RecordVersion) bool {
	return state.Load[pb.RecordVersion](r.state, state.RecordKey(record.GetRecordId(), record.GetVersion()+1)) != nil
}

// readsOfRecord names the keys that a decision about reading a record version needs.
func readsOfRecord(named recordVersion, need func(string)) {
	need(state.RecordKey(named.GetRecordId(), named.GetVersion()))
	need(state.RecordKey(named.GetRecordId(), named.GetVersion()+1))
	need(state.IdentityKey(named.GetPatient()))
	need(state.ConsentKey(named.GetPatient()))
}

// recordVersion is how Access and BreakGlass name what is read.
type recordVersion interface {
	GetPatient() string
	GetRecordId() string
	GetVersion() uint32
}

// nameRecord in an audit entry.
func nameRecord(entry *pb.AuditEntry, named recordVersion) {
	entry.Patient, entry.RecordId, entry.Version = named.GetPatient(), named.GetRecordId(), named.GetVersion()
}

func checkRecordVersion(path string, named recordVersion) *refusal {
	switch {
	case !isAddress(named.GetPatient()):
		return invalid(path+"patient", "not an address")
	case !isUUIDv7(named.GetRecordId()):
		return invalid(path+"record_id", notUUIDv7)
	case named.GetVersion() == 0:
		return invalid(path+"version", "versions begin at 1")
	}
	return nil
}

// recordOf finds the record version that is named, if it is that patient's.
func (r *run) recordOf(path string, named recordVersion) (*pb.RecordVersion, *refusal) {
	record := state.Load[pb.RecordVersion](r.state, state.RecordKey(named.GetRecordId(), named.GetVersion()))
	if record == nil || record.GetPatient() != named.GetPatient() {
		return nil, notFound(path+"record_id", "this patient has no such record version")
	}
	return record, nil
}

func describeRecord(record *pb.RecordVersion) policy.Record {
	return policy.Record{
		ID: record.GetRecordId(), Patient: record.GetPatient(), Category: record.GetCategory(),
		Author: record.GetAuthor(), WriterMSP: record.GetWriterMsp(),
	}
}
