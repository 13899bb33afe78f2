package batch

import (
	"slices"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
	"cbmdhi/chaincode/signing"
	"cbmdhi/chaincode/state"
)

const (
	actionReviewBreakGlass = "review-break-glass"
	findingJustified       = "justified"
	findingNotJustified    = "not-justified"
)

// ReviewBreakGlass is what one member found. A break-glass is closed when the clinician's own member and another one have
// reviewed it, so that no member is the only judge of its own case. Reviews have a key of their own: the audit entry of the
// break-glass stays as it was written.
var reviewBreakGlassHandler = handler{
	check: func(c *decoded) *refusal {
		body := c.body.GetReviewBreakGlass()
		if id := body.GetBreakGlassId(); !isUUIDv7(id) && !signing.IsEmergencyID(id) {
			return invalid("body.review_break_glass.break_glass_id", notUUIDv7+", nor an emergency's id")
		}
		if !isAddress(body.GetClinician()) {
			return invalid("body.review_break_glass.clinician", "not an address")
		}
		return nil
	},
	describe: func(c *decoded, entry *pb.AuditEntry) {
		body := c.body.GetReviewBreakGlass()
		entry.Action, entry.Subject, entry.BreakGlassId = actionReviewBreakGlass, body.GetClinician(), body.GetBreakGlassId()
		entry.ReasonCode = findingNotJustified
		if body.GetJustified() {
			entry.ReasonCode = findingJustified
		}
	},
	reads: func(_ Call, c *decoded, need func(string)) {
		body := c.body.GetReviewBreakGlass()
		need(state.AuditKey(body.GetBreakGlassId(), body.GetClinician()))
		need(state.BreakGlassReviewsKey(body.GetBreakGlassId(), body.GetClinician()))
		need(state.BreakGlassQuotaKey(body.GetClinician()))
	},
	readsFurther: func(r *run, c *decoded, need func(string)) {
		body := c.body.GetReviewBreakGlass()
		broken := state.Load[pb.AuditEntry](r.state, state.AuditKey(body.GetBreakGlassId(), body.GetClinician()))
		if isBrokenGlass(broken) {
			need(state.IdentityKey(broken.GetPatient()))
		}
		reviews := state.Load[pb.BreakGlassReviews](r.state, state.BreakGlassReviewsKey(body.GetBreakGlassId(), body.GetClinician()))
		for _, review := range reviews.GetReviews() {
			need(state.IdentityKey(review.GetReviewer()))
		}
	},
	apply: applyReviewBreakGlass,
}

func isBrokenGlass(entry *pb.AuditEntry) bool {
	isGlass := entry.GetAction() == policy.ActionBreakGlass || entry.GetAction() == actionEmergency
	return isGlass && entry.GetCode() == pb.Code_CODE_OK
}

func applyReviewBreakGlass(r *run, c *decided) *refusal {
	body := c.body.GetReviewBreakGlass()
	broken := state.Load[pb.AuditEntry](r.state, state.AuditKey(body.GetBreakGlassId(), body.GetClinician()))
	if !isBrokenGlass(broken) {
		return notFound("body.review_break_glass.break_glass_id", "this clinician has broken no glass under this id")
	}
	e := c.entry
	e.Patient, e.RecordId, e.Version, e.Category =
		broken.GetPatient(), broken.GetRecordId(), broken.GetVersion(), broken.GetCategory()
	if why := r.mayReview(c.actor, broken); why != nil {
		return why
	}
	key := state.BreakGlassReviewsKey(body.GetBreakGlassId(), body.GetClinician())
	reviews := &pb.BreakGlassReviews{}
	if known := state.Load[pb.BreakGlassReviews](r.state, key); known != nil {
		reviews = proto.CloneOf(known)
	}
	if reviews.GetClosed() {
		return conflict("body.review_break_glass.break_glass_id", "already reviewed by two members")
	}
	reviews.Reviews = slices.DeleteFunc(reviews.GetReviews(), func(review *pb.BreakGlassReview) bool {
		return !r.speaksFor(review.GetReviewer(), review.GetMsp(), reviewingRoles...)
	})
	isOwn := func(msp string) bool { return msp == broken.GetSignerMsp() }
	for _, review := range reviews.GetReviews() {
		if isOwn(review.GetMsp()) == isOwn(c.actor.GetHomeMsp()) {
			return conflict("body.review_break_glass.break_glass_id",
				"%s has reviewed it already: the other side is to speak", review.GetMsp())
		}
	}
	reviews.Reviews = append(reviews.GetReviews(), &pb.BreakGlassReview{
		Justified: body.GetJustified(), Reviewer: c.actor.GetAddress(), Msp: c.actor.GetHomeMsp(), AtMs: r.call.TimeMs,
	})
	if len(reviews.GetReviews()) == 2 {
		reviews.Closed, e.ReviewClosed = true, true
		r.releaseQuota(body.GetClinician())
	}
	r.state.Put(key, reviews)
	return nil
}

var reviewingRoles = []pb.Role{pb.Role_ROLE_PRIVACY_OFFICER, pb.Role_ROLE_ADMINISTRATOR}

// mayReview decides who reviews a break-glass. Of the clinician's own member: anybody in a reviewing role but the clinician.
// Of the others: the patient's home and custodians; any member where the patient has no other than the clinician's.
func (r *run) mayReview(reviewer *pb.IdentityDocument, broken *pb.AuditEntry) *refusal {
	if !slices.Contains(reviewingRoles, reviewer.GetRole()) {
		return forbidden("signer", "only a privacy officer or an administrator reviews a break-glass")
	}
	if reviewer.GetAddress() == broken.GetSigner() {
		return forbidden("signer", "nobody reviews their own break-glass")
	}
	if reviewer.GetHomeMsp() == broken.GetSignerMsp() {
		return nil
	}
	patient := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(broken.GetPatient()))
	concerned := []string{patient.GetHomeMsp()}
	for _, custodian := range patient.GetCustodians() {
		concerned = append(concerned, custodian.GetMsp())
	}
	concerned = slices.DeleteFunc(concerned, func(msp string) bool { return msp == broken.GetSignerMsp() })
	if len(concerned) > 0 && !slices.Contains(concerned, reviewer.GetHomeMsp()) {
		return forbidden("signer", "beside the clinician's member the patient's home or a custodian reviews this break-glass")
	}
	return nil
}
