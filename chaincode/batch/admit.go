package batch

import (
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// decided is a command with the decision about it, and the audit entry that says so.
type decided struct {
	*authenticated
	// The identity on whose authority it is decided: the signer, or the delegator behind a device.
	actor     *pb.IdentityDocument
	delegated bool
	// What stands on the channel about it. Its handler adds what it finds out.
	entry *pb.AuditEntry
	// The version that a reading is about, once its handler has permitted it.
	read *pb.RecordVersion
}

// undecided is a command before anything is decided. Its entry holds what the body says, when that is well-formed.
func undecided(a *authenticated) *decided {
	entry := &pb.AuditEntry{
		CommandId: a.id(), Signer: a.signed.GetSigner(), CommandSha256: a.sha256[:], SignerRole: a.role, SignerMsp: a.msp,
	}
	if a.badBody == nil {
		a.handler.describe(a.decoded, entry)
	}
	return &decided{authenticated: a, entry: entry}
}

// decide a command: whether its signer may act, and what its handler does with it.
func (r *run) decide(a *authenticated) (*decided, *refusal) {
	c := undecided(a)
	if why := r.admit(c); why != nil {
		return c, why
	}
	return c, c.handler.apply(r, c)
}

// admit decides whether the signer may act, and for whom. It goes by the state as it is now, with what the commands before
// this one in its group have changed.
func (r *run) admit(c *decided) *refusal {
	if early := checkBeginning(c.header, r.call.TimeMs, c.period()); early != nil {
		return early
	}
	signer := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(c.signed.GetSigner()))
	if c.body.GetRegisterIdentity() == nil && !mayAct(signer, c.body) {
		return refuse(pb.Code_CODE_INACTIVE_SIGNER, "signer", "the signer's identity is not active")
	}
	if c.badBody != nil {
		return c.badBody
	}
	if c.badRole != nil {
		return c.badRole
	}
	c.actor = signer
	if c.delegation != nil {
		return r.delegate(c, signer)
	}
	return nil
}

// record stages the audit entry, which is written once and never changed. Whoever sends the command again gets the verdict
// that stands there, so that what was refused never takes effect later.
func (r *run) record(c *decided, why *refusal) {
	c.entry.Code, c.entry.AtMs, c.entry.TxId = pb.Code_CODE_OK, r.call.TimeMs, r.call.TxID
	if why != nil {
		c.entry.Code, c.entry.Reason, c.entry.Path = why.code, why.reason, why.path
		if why.code != pb.Code_CODE_FORBIDDEN {
			c.entry.Basis = nil
		}
	}
	r.state.Append(c.auditKey, c.entry)
}

// mayAct tells whether an identity may act. A suspended patient may still take consent away: a suspension must not let
// others read on against the patient's will. With a lost key not even that, since somebody else may hold it.
func mayAct(signer *pb.IdentityDocument, body *pb.CommandBody) bool {
	switch signer.GetStatus() {
	case pb.IdentityStatus_IDENTITY_STATUS_ACTIVE:
		return true
	case pb.IdentityStatus_IDENTITY_STATUS_SUSPENDED:
		return signer.GetRole() == pb.Role_ROLE_PATIENT && onlyRestricts(body) &&
			signer.GetSuspension().GetReasonCode() != reasonLostKey ||
			body.GetEmergencyAccess() != nil // It says what was done already, and goes on record with that against it.
	}
	return false
}

func onlyRestricts(body *pb.CommandBody) bool {
	if given := body.GetConsent(); given != nil {
		return !slices.ContainsFunc(given.GetProvisions(), func(p *pb.Provision) bool {
			return p.GetEffect() != pb.Effect_EFFECT_DENY
		})
	}
	return body.GetRevokeConsent() != nil
}
