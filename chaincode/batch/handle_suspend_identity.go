package batch

import (
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// SuspendIdentity stops an identity or lets it act again.
var suspendIdentityHandler = handler{
	check: checkSuspendIdentity,
	describe: func(c *decoded, entry *pb.AuditEntry) {
		body := c.body.GetSuspendIdentity()
		entry.Action, entry.Subject, entry.ReasonCode = "suspend", body.GetAddress(), body.GetReasonCode()
	},
	reads: func(_ Call, c *decoded, need func(string)) {
		address := c.body.GetSuspendIdentity().GetAddress()
		need(state.IdentityKey(address))
		need(state.ConsentKey(address))
	},
	readsFurther: func(r *run, c *decoded, need func(string)) {
		subject := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(c.body.GetSuspendIdentity().GetAddress()))
		for _, vote := range subject.GetSuspension().GetReinstatedBy() {
			need(state.IdentityKey(vote.GetVoter()))
		}
	},
	apply: func(r *run, c *decided) *refusal {
		body := c.body.GetSuspendIdentity()
		subject := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(body.GetAddress()))
		if subject == nil {
			return notFound("body.suspend_identity.address", "not registered on this channel")
		}
		c.namePatient(subject)
		if body.GetSuspend() {
			return r.suspend(c, subject)
		}
		return r.reinstate(c, subject)
	},
}

func checkSuspendIdentity(c *decoded) *refusal {
	const path = "body.suspend_identity."
	body := c.body.GetSuspendIdentity()
	if !isAddress(body.GetAddress()) {
		return invalid(path+"address", "not an address")
	}
	if !slices.Contains(suspendReasons, body.GetReasonCode()) {
		return invalid(path+"reason_code", "not a reason of the closed list")
	}
	if since := body.GetConsentsVoidSinceMs(); since != 0 {
		if since < 0 || !body.GetSuspend() || body.GetReasonCode() != reasonLostKey {
			return invalid(path+"consents_void_since_ms", "only with the loss of a key")
		}
	}
	return nil
}

// suspend an identity. The loss of a key may also be reported for an identity that is suspended already.
func (r *run) suspend(c *decided, subject *pb.IdentityDocument) *refusal {
	const path = "body.suspend_identity."
	body := c.body.GetSuspendIdentity()
	byHome := r.speaksFor(c.actor.GetAddress(), subject.GetHomeMsp(), pb.Role_ROLE_ADMINISTRATOR)
	if !byHome && c.actor.GetAddress() != subject.GetAddress() {
		return forbidden("signer", "only an administrator of the home member suspends, or the identity itself")
	}
	since := body.GetConsentsVoidSinceMs()
	switch subject.GetStatus() {
	case pb.IdentityStatus_IDENTITY_STATUS_ACTIVE:
	case pb.IdentityStatus_IDENTITY_STATUS_SUSPENDED:
		isNews := subject.GetSuspension().GetReasonCode() != reasonLostKey || since != 0
		if body.GetReasonCode() != reasonLostKey || !isNews {
			return conflict(path+"suspend", "the identity is suspended already")
		}
	default:
		return conflict(path+"suspend", "the identity was never active")
	}
	if since != 0 {
		switch {
		case !byHome || subject.GetRole() != pb.Role_ROLE_PATIENT:
			return forbidden(path+"consents_void_since_ms",
				"only an administrator of a patient's home member ends consents that a thief gave")
		case since > r.call.TimeMs:
			return invalid(path+"consents_void_since_ms", "not in the past")
		}
		c.entry.EndedConsents = r.endConsentsSince(c, subject.GetAddress(), since)
	}
	next := r.nextVersion(subject)
	next.Status, next.SuspendedAtMs = pb.IdentityStatus_IDENTITY_STATUS_SUSPENDED, r.call.TimeMs
	next.Suspension = &pb.Suspension{ReasonCode: body.GetReasonCode(), By: c.actor.GetAddress()}
	r.state.Put(state.IdentityKey(subject.GetAddress()), next)
	return nil
}

// reinstate lets an identity act again. One administrator of the home member ends a suspension that another of them
// ordered. After the owner's own order or the loss of a key it takes two members: one person alone could put a stolen key
// into force.
func (r *run) reinstate(c *decided, subject *pb.IdentityDocument) *refusal {
	home, msp := subject.GetHomeMsp(), c.actor.GetHomeMsp()
	suspension := subject.GetSuspension()
	byTwo := suspension.GetBy() == subject.GetAddress() || suspension.GetReasonCode() == reasonLostKey
	switch {
	case c.actor.GetRole() != pb.Role_ROLE_ADMINISTRATOR:
		return forbidden("signer", "only administrators reinstate")
	case !byTwo && msp != home:
		return forbidden("signer", "only an administrator of the home member reinstates")
	case subject.GetStatus() != pb.IdentityStatus_IDENTITY_STATUS_SUSPENDED:
		return conflict("body.suspend_identity.suspend", "the identity is not suspended")
	}
	next := r.nextVersion(subject)
	votes := slices.DeleteFunc(next.GetSuspension().GetReinstatedBy(), func(v *pb.Vote) bool { return !r.countsVote(v) })
	of := func(member string) func(*pb.Vote) bool {
		return func(v *pb.Vote) bool { return v.GetMsp() == member }
	}
	if slices.ContainsFunc(votes, of(msp)) {
		return conflict("signer", "this member has voted already: an administrator of another one is needed")
	}
	votes = append(votes, r.voteOf(c))
	if !byTwo || (len(votes) >= 2 && slices.ContainsFunc(votes, of(home))) {
		next.Status, next.Suspension = pb.IdentityStatus_IDENTITY_STATUS_ACTIVE, nil
	} else {
		next.Suspension.ReinstatedBy = votes
	}
	r.state.Put(state.IdentityKey(subject.GetAddress()), next)
	return nil
}

// endConsentsSince ends the consents that were given at a time or later, as a revocation does, and returns their ids. What
// a consent said stays in the command that gave it.
func (r *run) endConsentsSince(c *decided, patient string, sinceMs int64) []string {
	var ended []string
	current := state.Load[pb.ConsentDocument](r.state, state.ConsentKey(patient))
	next := &pb.ConsentDocument{Patient: patient, Version: current.GetVersion() + 1, ChangedBy: c.id()}
	for _, given := range current.GetConsents() {
		if given.GetGivenAtMs() < sinceMs {
			next.Consents = append(next.GetConsents(), given)
			continue
		}
		ended = append(ended, given.GetConsentId())
		r.state.Put(state.EndedConsentKey(given.GetConsentId(), patient), &pb.EndedConsent{EndedBy: c.id(), AtMs: r.call.TimeMs})
	}
	if len(ended) > 0 {
		r.state.Put(state.ConsentKey(patient), next)
	}
	return ended
}
