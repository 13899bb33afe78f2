package batch

import (
	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
	"cbmdhi/chaincode/state"
)

const (
	maxSealedReasons = 16
	// sealedReasonBytes is what HPKE adds (1,136) to a reason of 64.
	sealedReasonBytes = 1136 + 64
)

// BreakGlass is an access in an emergency. Its limits are no matter of policy and so are here: a clinician, in person,
// within a quota, with the review of two members to follow.
var breakGlassHandler = handler{
	check: checkBreakGlass,
	describe: func(c *decoded, entry *pb.AuditEntry) {
		entry.Action, entry.Purpose = policy.ActionBreakGlass, purposeEmergency
		nameRecord(entry, c.body.GetBreakGlass())
	},
	reads: func(_ Call, c *decoded, need func(string)) {
		readsForRecord(c.body.GetBreakGlass(), need)
		need(state.BreakGlassQuotaKey(c.signed.GetSigner()))
	},
	apply: applyBreakGlass,
}

func checkBreakGlass(c *decoded) *refusal {
	body := c.body.GetBreakGlass()
	if why := checkRecordVersion("body.break_glass.", body); why != nil {
		return why
	}
	return checkSealedReasons("body.break_glass.sealed_reasons", body.GetSealedReasons())
}

func applyBreakGlass(r *run, c *decided) *refusal {
	record, why := r.recordOf("body.break_glass.", c.body.GetBreakGlass())
	if why != nil {
		return why
	}
	c.entry.Category = record.GetCategory()
	if c.actor.GetRole() != pb.Role_ROLE_CLINICIAN {
		return forbidden("signer", "only a clinician breaks the glass: ask one")
	}
	c.entry.Basis, why = r.askPolicy(question{
		actor: c.actor, action: policy.ActionBreakGlass, purpose: purposeEmergency, record: describeRecord(record),
	})
	if why != nil {
		return why
	}
	if why := r.checkLatest("body.break_glass.version", policy.ActionBreakGlass, record); why != nil {
		return why
	}
	quota, why := r.chargeQuota(c.actor.GetAddress(), record.GetPatient(), r.call.TimeMs)
	if why != nil {
		return why
	}
	r.state.Put(state.BreakGlassQuotaKey(c.actor.GetAddress()), quota)
	// The clinician's own signed command: a reviewer who opens the reason need not believe the service that hands it out.
	r.state.Put(state.BrokenGlassKey(c.id(), c.signed.GetSigner()), c.signed)
	c.read = record
	return nil
}

// checkSealedReasons looks at the form alone. The reviewers judge to whom the reason was sealed: an emergency does not wait
// because somebody on the clinician's list has left.
func checkSealedReasons(path string, reasons []*pb.SealedReason) *refusal {
	if len(reasons) == 0 {
		return invalid(path, "the reason is sealed to at least one reviewer")
	}
	if len(reasons) > maxSealedReasons {
		return tooLarge(path, "more than %d", maxSealedReasons)
	}
	seen := map[string]bool{}
	for i, reason := range reasons {
		switch {
		case !isAddress(reason.GetReviewer()):
			return invalid(elementOf(path, i)+".reviewer", "not an address")
		case seen[reason.GetReviewer()]:
			return invalid(elementOf(path, i)+".reviewer", "named twice")
		case len(reason.GetSealed()) != sealedReasonBytes:
			return invalid(elementOf(path, i)+".sealed", "not %d bytes: its length would tell the reason", sealedReasonBytes)
		}
		seen[reason.GetReviewer()] = true
	}
	return nil
}
