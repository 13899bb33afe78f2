package batch

import (
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
)

// Access: the verdict is the decision. Permitted or refused, it is on the channel before any key is
// released.
var accessFamily = family{
	describe: describeAccess,
	reads: func(c *command, need func(string)) {
		body := c.body.GetAccess()
		need(recordKey(body.GetRecordId(), body.GetVersion()))
		need(identityKey(body.GetPatient()))
		need(consentKey(body.GetPatient()))
	},
	apply: applyAccess,
	delegation: func(c *command) (string, string) {
		return c.body.GetAccess().GetAction(), c.body.GetAccess().GetPurpose()
	},
}

func describeAccess(c *command) *refusal {
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
	e := c.entry
	e.Action, e.Purpose = body.GetAction(), body.GetPurpose()
	e.Patient, e.RecordId, e.Version = body.GetPatient(), body.GetRecordId(), body.GetVersion()
	return nil
}

func applyAccess(r *run, c *command) *refusal {
	body := c.body.GetAccess()
	record, why := r.recordOf("body.access.", body)
	if why != nil {
		return why
	}
	c.entry.Category = record.GetCategory()
	c.entry.Basis, why = r.decide(question{
		actor: c.actor, delegated: c.delegated, action: body.GetAction(), purpose: body.GetPurpose(),
		record: describeRecord(record),
	})
	return why
}

// recordVersion is how Access and BreakGlass name what is read.
type recordVersion interface {
	GetPatient() string
	GetRecordId() string
	GetVersion() uint32
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
	record := load[pb.RecordVersion](r.state, recordKey(named.GetRecordId(), named.GetVersion()))
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
