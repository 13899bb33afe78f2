package batch

import (
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// SuspendIdentity stops an identity or lets it act again.
var suspendFamily = family{
	describe: func(c *command) *refusal {
		body := c.body.GetSuspendIdentity()
		if !isAddress(body.GetAddress()) {
			return invalid("body.suspend_identity.address", "not an address")
		}
		if !slices.Contains(suspendReasons, body.GetReasonCode()) {
			return invalid("body.suspend_identity.reason_code", "not a reason of the closed list")
		}
		c.entry.Action, c.entry.Subject, c.entry.ReasonCode = "suspend", body.GetAddress(), body.GetReasonCode()
		return nil
	},
	reads: func(c *command, need func(string)) {
		need(identityKey(c.body.GetSuspendIdentity().GetAddress()))
	},
	apply: applySuspend,
}

func applySuspend(r *run, c *command) *refusal {
	body, actor := c.body.GetSuspendIdentity(), c.actor
	subject := load[pb.IdentityDocument](r.state, identityKey(body.GetAddress()))
	if subject == nil {
		return notFound("body.suspend_identity.address", "not registered on this channel")
	}
	c.concerns(subject)
	ownAdministrator := actor.GetRole() == pb.Role_ROLE_ADMINISTRATOR && actor.GetHomeMsp() == subject.GetHomeMsp()
	itself := actor.GetAddress() == subject.GetAddress() && body.GetSuspend()
	if !ownAdministrator && !itself {
		return forbidden("signer", "only an administrator of the home member does this, or the identity itself to be suspended")
	}
	from, to := pb.IdentityStatus_IDENTITY_STATUS_SUSPENDED, pb.IdentityStatus_IDENTITY_STATUS_ACTIVE
	if body.GetSuspend() {
		from, to = to, from
	}
	if subject.GetStatus() != from {
		return conflict("body.suspend_identity.suspend", "the identity is not in the state that this would change")
	}
	next := r.changed(subject)
	next.Status = to
	if body.GetSuspend() {
		next.SuspendedAtMs = r.call.TimeMs
	}
	r.state.put(identityKey(subject.GetAddress()), next)
	return nil
}
