package batch

import (
	"slices"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
)

const actionReviewBreakGlass = "review-break-glass"

// BreakGlass: an access in an emergency. What makes it tolerable is structural and so is here and
// not in the policies: a clinician, in person, with a privacy officer's review waiting.
var breakGlassFamily = family{
	describe: describeBreakGlass,
	reads: func(c *command, need func(string)) {
		readsOfRecord(c.body.GetBreakGlass(), need)
	},
	apply: applyBreakGlass,
}

func describeBreakGlass(c *command) *refusal {
	body := c.body.GetBreakGlass()
	if why := checkRecordVersion("body.break_glass.", body); why != nil {
		return why
	}
	if !slices.Contains(breakGlassReasons, body.GetReasonCode()) {
		return invalid("body.break_glass.reason_code", "not a reason of the closed list")
	}
	e := c.entry
	e.Action, e.Purpose, e.ReasonCode = policy.ActionBreakGlass, purposeEmergency, body.GetReasonCode()
	e.Patient, e.RecordId, e.Version = body.GetPatient(), body.GetRecordId(), body.GetVersion()
	return nil
}

func applyBreakGlass(r *run, c *command) *refusal {
	record, why := r.recordOf("body.break_glass.", c.body.GetBreakGlass())
	if why != nil {
		return why
	}
	c.entry.Category = record.GetCategory()
	if c.actor.GetRole() != pb.Role_ROLE_CLINICIAN {
		return forbidden("signer", "only a clinician breaks the glass: ask one")
	}
	c.entry.Basis, why = r.decide(question{
		actor: c.actor, action: policy.ActionBreakGlass, purpose: purposeEmergency, record: describeRecord(record),
	})
	if why != nil {
		return why
	}
	if why := r.notSuperseded("body.break_glass.version", policy.ActionBreakGlass, record); why != nil {
		return why
	}
	c.entry.BreakGlassReview = &pb.BreakGlassReview{}
	return nil
}

// ReviewBreakGlass closes a break-glass, once.
var breakGlassReviewFamily = family{
	describe: func(c *command) *refusal {
		body := c.body.GetReviewBreakGlass()
		if !isUUIDv7(body.GetBreakGlassId()) {
			return invalid("body.review_break_glass.break_glass_id", notUUIDv7)
		}
		if !isAddress(body.GetClinician()) {
			return invalid("body.review_break_glass.clinician", "not an address")
		}
		c.entry.Action = actionReviewBreakGlass
		return nil
	},
	reads: func(c *command, need func(string)) {
		body := c.body.GetReviewBreakGlass()
		need(auditKey(body.GetBreakGlassId(), body.GetClinician()))
	},
	apply: applyBreakGlassReview,
}

func applyBreakGlassReview(r *run, c *command) *refusal {
	body := c.body.GetReviewBreakGlass()
	key := auditKey(body.GetBreakGlassId(), body.GetClinician())
	broken := load[pb.AuditEntry](r.state, key)
	if broken.GetBreakGlassReview() == nil {
		return notFound("body.review_break_glass.break_glass_id", "this clinician has broken no glass under this id")
	}
	e := c.entry
	e.Patient, e.RecordId, e.Version, e.Category =
		broken.GetPatient(), broken.GetRecordId(), broken.GetVersion(), broken.GetCategory()
	role := c.actor.GetRole()
	switch {
	case role != pb.Role_ROLE_PRIVACY_OFFICER && role != pb.Role_ROLE_ADMINISTRATOR:
		return forbidden("signer", "only a privacy officer or an administrator reviews a break-glass")
	case c.actor.GetHomeMsp() != broken.GetSignerMsp():
		return forbidden("signer", "only the clinician's own member reviews the break-glass")
	case c.actor.GetAddress() == broken.GetSigner():
		return forbidden("signer", "nobody reviews their own break-glass")
	case broken.GetBreakGlassReview().GetReviewed():
		return conflict("body.review_break_glass.break_glass_id", "already reviewed")
	}
	closed := proto.CloneOf(broken)
	closed.BreakGlassReview = &pb.BreakGlassReview{
		Reviewed: true, Justified: body.GetJustified(), Reviewer: c.actor.GetAddress(), AtMs: r.call.TimeMs,
	}
	r.state.put(key, closed)
	return nil
}
