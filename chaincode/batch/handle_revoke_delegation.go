package batch

import (
	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// RevokeDelegation ends a delegation before its time. The revocation has a key of its own, which every command within the
// delegation reads. So no shared document grows, and a batch that was endorsed before the revocation and ordered after it is
// invalid.
var revokeDelegationHandler = handler{
	check: func(c *decoded) *refusal {
		const path = "body.revoke_delegation."
		body := c.body.GetRevokeDelegation()
		if !isUUIDv7(body.GetDelegationId()) {
			return invalid(path+"delegation_id", notUUIDv7)
		}
		if !isAddress(body.GetDelegator()) {
			return invalid(path+"delegator", "not an address")
		}
		return nil
	},
	describe: func(c *decoded, entry *pb.AuditEntry) {
		entry.Action, entry.Subject = "revoke-delegation", c.body.GetRevokeDelegation().GetDelegator()
	},
	reads: func(_ Call, c *decoded, need func(string)) {
		body := c.body.GetRevokeDelegation()
		need(state.IdentityKey(body.GetDelegator()))
		need(state.RevokedDelegationKey(body.GetDelegationId(), body.GetDelegator()))
	},
	apply: applyRevokeDelegation,
}

func applyRevokeDelegation(r *run, c *decided) *refusal {
	const path = "body.revoke_delegation."
	body, actor := c.body.GetRevokeDelegation(), c.actor
	delegator := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(body.GetDelegator()))
	if delegator == nil {
		return notFound(path+"delegator", "not registered on this channel")
	}
	c.namePatient(delegator)
	ownAdministrator := actor.GetRole() == pb.Role_ROLE_ADMINISTRATOR && actor.GetHomeMsp() == delegator.GetHomeMsp()
	if !ownAdministrator && actor.GetAddress() != delegator.GetAddress() {
		return forbidden("signer", "only who signed the delegation ends it, or an administrator of their home member")
	}
	switch until := body.GetExpiresAtMs(); {
	case until <= r.call.TimeMs:
		return invalid(path+"expires_at_ms", "the delegation has ended by itself")
	case until > r.call.TimeMs+maxDelegationLifetimeMs+maxClockAheadMs:
		return invalid(path+"expires_at_ms", "no delegation is valid for that long")
	}
	key := state.RevokedDelegationKey(body.GetDelegationId(), body.GetDelegator())
	if state.Load[pb.RevokedDelegation](r.state, key) != nil {
		return conflict(path+"delegation_id", "the delegation was ended already")
	}
	r.state.Put(key, &pb.RevokedDelegation{
		CommandId: c.id(), RevokedBy: actor.GetAddress(), AtMs: r.call.TimeMs, UntilMs: body.GetExpiresAtMs(),
	})
	return nil
}
