package batch

import (
	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
)

const (
	actionReviewBreakGlass = "review-break-glass"
	maxSealedReasons       = 16
	// sealedReasonBytes is what HPKE adds (1,136) to a reason of 64.
	sealedReasonBytes = 1136 + 64
)

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
	if why := checkSealedReasons("body.break_glass.sealed_reasons", body.GetSealedReasons()); why != nil {
		return why
	}
	e := c.entry
	e.Action, e.Purpose = policy.ActionBreakGlass, purposeEmergency
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
	// The clinician's own signed words: a reviewer who opens the reason need not believe who hands it over.
	r.state.put(brokenGlassKey(c.id(), c.signed.GetSigner()), c.signed)
	return nil
}

// checkSealedReasons looks at form alone. Whom the reason was sealed to is the reviewers' to judge: an emergency
// does not wait because somebody on the clinician's list has left.
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
			return invalid(at(path, i)+".reviewer", "not an address")
		case seen[reason.GetReviewer()]:
			return invalid(at(path, i)+".reviewer", "named twice")
		case len(reason.GetSealed()) != sealedReasonBytes:
			return invalid(at(path, i)+".sealed", "not %d bytes: its length would tell the reason", sealedReasonBytes)
		}
		seen[reason.GetReviewer()] = true
	}
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
