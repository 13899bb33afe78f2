package batch

import (
	"slices"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// ReviewRegistration is one member's vote on a registration, or takes that vote back.
var reviewRegistrationHandler = handler{
	check: func(c *decoded) *refusal {
		const path = "body.review_registration."
		body := c.body.GetReviewRegistration()
		switch {
		case !isAddress(body.GetAddress()):
			return invalid(path+"address", "not an address")
		case !isUUIDv7(body.GetRegistrationId()):
			return invalid(path+"registration_id", notUUIDv7)
		case !slices.Contains(decisions, body.GetDecision()):
			return invalid(path+"decision", "neither approve nor reject nor withdraw")
		case !slices.Contains(reviewReasons, body.GetReasonCode()):
			return invalid(path+"reason_code", "not a reason of the closed list")
		}
		return nil
	},
	describe: func(c *decoded, entry *pb.AuditEntry) {
		body := c.body.GetReviewRegistration()
		entry.Action, entry.Subject, entry.ReasonCode = "review", body.GetAddress(), body.GetReasonCode()
	},
	reads: func(_ Call, c *decoded, need func(string)) {
		need(state.IdentityKey(c.body.GetReviewRegistration().GetAddress()))
	},
	readsFurther: func(r *run, c *decoded, need func(string)) {
		subject := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(c.body.GetReviewRegistration().GetAddress()))
		for _, review := range subject.GetReviews() {
			need(state.IdentityKey(review.GetReviewer()))
		}
	},
	apply:         applyReviewRegistration,
	countsMembers: true,
}

var decisions = []pb.Decision{
	pb.Decision_DECISION_APPROVE, pb.Decision_DECISION_REJECT, pb.Decision_DECISION_WITHDRAW,
}

func applyReviewRegistration(r *run, c *decided) *refusal {
	const path = "body.review_registration."
	body, reviewer := c.body.GetReviewRegistration(), c.actor
	subject := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(body.GetAddress()))
	if subject == nil || subject.GetRegistrationId() != body.GetRegistrationId() {
		return notFound(path+"registration_id", "there is no such registration of this address")
	}
	c.namePatient(subject)
	if reviewer.GetRole() != pb.Role_ROLE_ADMINISTRATOR {
		return forbidden("signer", "only a member's administrator reviews registrations")
	}
	if reviewer.GetAddress() == subject.GetAddress() {
		return forbidden("signer", "nobody reviews their own registration")
	}
	if subject.GetStatus() != pb.IdentityStatus_IDENTITY_STATUS_PENDING {
		return conflict(path+"registration_id", "this registration is decided already")
	}
	// Whoever approves names the evidence that they saw, so that no patient is approved unseen or by other evidence.
	approves := body.GetDecision() == pb.Decision_DECISION_APPROVE
	if seen := body.GetEvidenceCid(); (approves || seen != "") && seen != subject.GetEvidenceCid() {
		return invalid(path+"evidence_cid", "not the evidence of this registration: open it, and vote on what you saw")
	}
	rule := r.reviewRule(subject.GetRole())
	if rule == nil {
		return forbidden(path+"address", "the consortium's policy no longer has a review rule for this role")
	}
	if rule.GetHomeOnly() && reviewer.GetHomeMsp() != subject.GetHomeMsp() {
		return forbidden("signer", "only the home member's administrators review this role")
	}
	reviewed := r.nextVersion(subject)
	reviewed.Reviews = slices.DeleteFunc(reviewed.GetReviews(), func(review *pb.Review) bool {
		return !r.speaksFor(review.GetReviewer(), review.GetMsp(), pb.Role_ROLE_ADMINISTRATOR)
	})
	own := slices.IndexFunc(reviewed.GetReviews(), func(review *pb.Review) bool {
		return review.GetMsp() == reviewer.GetHomeMsp()
	})
	vote := &pb.Review{
		Msp: reviewer.GetHomeMsp(), Reviewer: reviewer.GetAddress(), Decision: body.GetDecision(),
		ReasonCode: body.GetReasonCode(), AtMs: r.call.TimeMs,
	}
	switch body.GetDecision() {
	case pb.Decision_DECISION_WITHDRAW:
		if own < 0 {
			return notFound("body.review_registration.decision", "this member has no vote to take back")
		}
		reviewed.Reviews = slices.Delete(reviewed.GetReviews(), own, own+1)
	case pb.Decision_DECISION_REJECT:
		if own >= 0 {
			reviewed.Reviews = slices.Delete(reviewed.GetReviews(), own, own+1)
		}
		reviewed.Reviews = append(reviewed.GetReviews(), vote)
		if reviewer.GetHomeMsp() == subject.GetHomeMsp() || r.cannotBeApproved(reviewed, rule) {
			reviewed.Status = pb.IdentityStatus_IDENTITY_STATUS_REJECTED
		}
	default:
		if own >= 0 {
			return conflict("signer", "this member has voted already")
		}
		reviewed.Reviews = append(reviewed.GetReviews(), vote)
		if isApproved(reviewed, rule) {
			reviewed.Status = pb.IdentityStatus_IDENTITY_STATUS_ACTIVE
		}
	}
	r.state.Put(state.IdentityKey(subject.GetAddress()), reviewed)
	return nil
}

// isApproved tells whether as many members have approved as the rule asks for. A privileged role needs another one than the
// home member, which has certified the role already.
func isApproved(subject *pb.IdentityDocument, rule *pb.ReviewRule) bool {
	var approving []string
	for _, review := range subject.GetReviews() {
		if review.GetDecision() == pb.Decision_DECISION_APPROVE {
			approving = append(approving, review.GetMsp())
		}
	}
	return isQuorum(approving, subject, rule)
}

// cannotBeApproved tells that too many members have rejected a registration, even if all others approve. Before that only the
// home member ends it: no single member keeps a patient out of the others.
func (r *run) cannotBeApproved(subject *pb.IdentityDocument, rule *pb.ReviewRule) bool {
	left := slices.DeleteFunc(slices.Clone(r.members), func(msp string) bool {
		return slices.ContainsFunc(subject.GetReviews(), func(review *pb.Review) bool {
			return review.GetMsp() == msp && review.GetDecision() == pb.Decision_DECISION_REJECT
		})
	})
	return !isQuorum(left, subject, rule)
}

func isQuorum(approving []string, subject *pb.IdentityDocument, rule *pb.ReviewRule) bool {
	if len(approving) < int(rule.GetQuorum()) {
		return false
	}
	return !isPrivileged(subject.GetRole()) || slices.ContainsFunc(approving, func(msp string) bool {
		return msp != subject.GetHomeMsp()
	})
}

// namePatient names the subject in the entry as the patient, when it is one. Patients see what is done to their identity.
func (c *decided) namePatient(subject *pb.IdentityDocument) {
	if subject.GetRole() == pb.Role_ROLE_PATIENT {
		c.entry.Patient = subject.GetAddress()
	}
}

// nextVersion is a copy of an identity's document, to be changed.
func (r *run) nextVersion(subject *pb.IdentityDocument) *pb.IdentityDocument {
	next := proto.CloneOf(subject)
	next.Version++
	next.ChangedAtMs = r.call.TimeMs
	return next
}
