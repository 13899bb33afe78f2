package batch

import (
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// Access asks to read a record version. The verdict is the decision: permitted or refused, it is on the channel before any
// key is released.
var accessHandler = handler{
	check: checkAccess,
	describe: func(c *decoded, entry *pb.AuditEntry) {
		body := c.body.GetAccess()
		entry.Action, entry.Purpose = body.GetAction(), body.GetPurpose()
		nameRecord(entry, body)
	},
	reads: func(_ Call, c *decoded, need func(string)) {
		readsForRecord(c.body.GetAccess(), need)
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
	return r.checkLatest("body.access.version", body.GetAction(), record)
}
