package batch

import (
	"bytes"
	"crypto/sha256"
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// maxDelegationPatients bounds the patients that a delegation can be limited to.
const maxDelegationPatients = 64

// checkDelegator finds out who stands behind a device's command, by signatures alone. Whether that person may let the
// device act is for delegate to decide, when a refusal can be remembered.
func (r *run) checkDelegator(c *decoded) *refusal {
	d := c.delegation
	// The device's command names its delegation, so that a carrier cannot put another one beside it.
	named := sha256.Sum256(c.signed.GetDelegation().GetDelegation())
	if !bytes.Equal(c.header.GetDelegationSha256(), named[:]) {
		return refuse(pb.Code_CODE_BAD_SIGNATURE, "delegation_sha256",
			"the device's command does not name this delegation: sign it with the SHA-256 of the delegation in it")
	}
	if why := checkDelegation(d); why != nil {
		return why
	}
	if d.GetChannel() != r.call.Channel {
		return refuse(pb.Code_CODE_WRONG_CHANNEL, "delegation.channel", "the delegation was signed for another channel")
	}
	if !r.call.isGenesis(d.GetGenesisSha256()) {
		return refuse(pb.Code_CODE_WRONG_CHANNEL, "delegation.genesis_sha256",
			"the delegation was signed for a channel of this name that began otherwise: log in again with the genesis hash of this one")
	}
	delegator := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(d.GetDelegator()))
	if delegator == nil {
		return refuse(pb.Code_CODE_UNKNOWN_SIGNER, "delegation.delegator", "not registered on this channel")
	}
	if !r.keys.verifyDelegation(delegator, c.signed.GetDelegation()) {
		return refuse(pb.Code_CODE_BAD_SIGNATURE, "delegation.signature",
			"the signature does not match the delegation and the delegator's key, or its s is not low")
	}
	return nil
}

// delegate checks that the person behind a device's signature lets it do this, and makes that person the actor. The
// policy then decides about the person, and knows that a device signed.
func (r *run) delegate(c *decided, device *pb.IdentityDocument) *refusal {
	if c.handler.delegation == nil {
		return forbidden("delegation", "this command is never delegated: the person signs it")
	}
	d := c.delegation
	if why := r.checkDelegate(d, device); why != nil {
		return why
	}
	c.entry.OnBehalfOf = d.GetDelegator()
	delegator := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(d.GetDelegator()))
	if delegator.GetStatus() != pb.IdentityStatus_IDENTITY_STATUS_ACTIVE {
		return refuse(pb.Code_CODE_INACTIVE_SIGNER, "delegation.delegator", "the delegator's identity is not active")
	}
	if why := r.checkNotEnded(d, delegator, device); why != nil {
		return why
	}
	action, purpose := c.handler.delegation(c.decoded)
	if !slices.Contains(d.GetActions(), action) {
		return forbidden("delegation.actions", "the delegation does not cover %s: log in with a wider one, or sign in person", action)
	}
	if !slices.Contains(d.GetPurposes(), purpose) {
		return forbidden("delegation.purposes", "the delegation does not cover %s: log in with a wider one, or sign in person", purpose)
	}
	if len(d.GetPatients()) > 0 && !slices.Contains(d.GetPatients(), c.entry.GetPatient()) {
		return forbidden("delegation.patients", "the delegation does not cover this patient: log in with one that does, or sign in person")
	}
	c.actor, c.delegated = delegator, true
	return nil
}

// checkDelegate checks that a delegation is to this device, and valid now.
func (r *run) checkDelegate(d *pb.Delegation, device *pb.IdentityDocument) *refusal {
	if device.GetRole() != pb.Role_ROLE_DEVICE {
		return forbidden("signer", "only a registered device acts within a delegation: sign in person")
	}
	if why := checkEnd(d, r.call.TimeMs, delegationPeriod); why != nil {
		return why
	}
	if why := checkBeginning(d, r.call.TimeMs, delegationPeriod); why != nil {
		return why
	}
	if d.GetDelegate() != device.GetAddress() {
		return forbidden("delegation.delegate", "the delegation lets another device act: log in with this one")
	}
	return nil
}

func checkDelegation(d *pb.Delegation) *refusal {
	if !isUUIDv7(d.GetDelegationId()) {
		return invalid("delegation.delegation_id", "not a UUIDv7 in canonical lower-case text")
	}
	if !isAddress(d.GetDelegator()) {
		return invalid("delegation.delegator", "not an address")
	}
	if !isAddress(d.GetDelegate()) {
		return invalid("delegation.delegate", "not an address")
	}
	if i, ok := firstOffList(d.GetActions(), delegationActions); !ok {
		return invalid(elementOf("delegation.actions", i), "not an action that can be delegated")
	}
	if len(d.GetPurposes()) == 0 {
		return invalid("delegation.purposes", "at least one purpose of use")
	}
	if i, ok := firstOffList(d.GetPurposes(), purposes); !ok {
		return invalid(elementOf("delegation.purposes", i), "not a purpose of use of the closed list")
	}
	if len(d.GetPatients()) > maxDelegationPatients {
		return tooLarge("delegation.patients", "more than %d: leave the list empty to mean all", maxDelegationPatients)
	}
	for i, patient := range d.GetPatients() {
		if !isAddress(patient) {
			return invalid(elementOf("delegation.patients", i), "not an address")
		}
	}
	return nil
}

// checkNotEnded refuses a delegation that was revoked, or whose delegator or device was suspended after it was signed. A
// reinstatement brings none back: its device needs a new login.
func (r *run) checkNotEnded(d *pb.Delegation, delegator, device *pb.IdentityDocument) *refusal {
	if state.Load[pb.RevokedDelegation](r.state, state.RevokedDelegationKey(d.GetDelegationId(), d.GetDelegator())) != nil {
		return forbidden("delegation.delegation_id", "the delegation was ended, as by a logout: log in again")
	}
	if d.GetIssuedAtMs() <= max(delegator.GetSuspendedAtMs(), device.GetSuspendedAtMs()) {
		return forbidden("delegation.issued_at_ms", "signed before a suspension of its delegator or its device: log in again")
	}
	return nil
}
