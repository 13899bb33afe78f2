package batch

import (
	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
	"cbmdhi/chaincode/state"
)

// checkLatest refuses an old version to every action but `history`. Otherwise somebody who may read but not look back could
// read each version that was ever the latest.
func (r *run) checkLatest(path, action string, record *pb.RecordVersion) *refusal {
	if action == actionHistory || !r.isSuperseded(record) {
		return nil
	}
	return forbidden(path, "there is a newer version of this record: ask for that, or for this one as history")
}

// isSuperseded asks for the next version, whose key lies beside that of this one.
func (r *run) isSuperseded(record *pb.RecordVersion) bool {
	return state.Load[pb.RecordVersion](r.state, state.RecordKey(record.GetRecordId(), record.GetVersion()+1)) != nil
}

// readsForRecord names the keys that a decision about reading a record version needs. Access, BreakGlass and
// EmergencyAccess share what is in this file.
func readsForRecord(named recordVersion, need func(string)) {
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
