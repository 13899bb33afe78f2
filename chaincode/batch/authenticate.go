package batch

import (
	"bytes"
	"crypto/ecdsa"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/signing"
	"cbmdhi/chaincode/state"
)

// Limits of time, in milliseconds.
const (
	maxLifetimeMs           = 10 * 60 * 1000
	maxEmergencyLifetimeMs  = 30 * 24 * 60 * 60 * 1000
	maxClockAheadMs         = 2 * 60 * 1000
	maxDelegationLifetimeMs = 12 * 60 * 60 * 1000
)

// checkForm looks at what can be told of a command without the state: nothing is read for one that is refused here, and
// it leaves no trace.
func (call Call) checkForm(c *command) *refusal {
	if c.undecodable != nil {
		return c.undecodable
	}
	if c.header.GetChannel() != call.Channel {
		return refuse(pb.Code_CODE_WRONG_CHANNEL, "channel", "signed for another channel: sign it for this one")
	}
	if !call.isGenesis(c.header.GetGenesisSha256()) {
		return refuse(pb.Code_CODE_WRONG_CHANNEL, "genesis_sha256",
			"signed for a channel of this name that began otherwise: sign it with the genesis hash of this one")
	}
	late := checkEnd(c.header, call.TimeMs, c.period())
	if c.misnamed != nil {
		return orElse(late, c.misnamed)
	}
	if registration := c.body.GetRegisterIdentity(); registration != nil {
		return orElse(late, checkNewcomer(c, registration.GetSigningPublicKey()))
	}
	return nil
}

// checkNewcomer: a registration is signed by the key that it registers.
func checkNewcomer(c *command, spki []byte) *refusal {
	const path = "body.register_identity.signing_public_key"
	key, err := signing.ParseKey(spki)
	if err != nil {
		return invalid(path, "not a P-256 key as DER SubjectPublicKeyInfo")
	}
	if signing.Address(spki) != c.signed.GetSigner() {
		return invalid(path, "the signer is not the address of this key")
	}
	return checkSignature(c, key)
}

func checkSignature(c *command, key *ecdsa.PublicKey) *refusal {
	if signing.Verify(key, signing.CommandPrefix, c.signed.GetCommand(), c.signed.GetSignature()) {
		return nil
	}
	return refuse(pb.Code_CODE_BAD_SIGNATURE, "signature", "the signature does not match the command and the signer's key, or its s is not low")
}

// identify finds out whose command it is, by signatures alone. What is refused here leaves no trace: nobody is
// known to have meant it, or its time is over and it never has an effect. When the same command was committed before,
// it says so in c.first, whatever has expired since.
func (r *run) identify(c *command) *refusal {
	late := checkEnd(c.header, r.call.TimeMs, c.period())
	first := state.Load[pb.AuditEntry](r.state, c.auditKey)
	if late != nil && first == nil {
		return late
	}
	signer := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(c.signed.GetSigner()))
	if c.body.GetRegisterIdentity() == nil {
		if signer == nil {
			return orElse(late, refuse(pb.Code_CODE_UNKNOWN_SIGNER, "signer", "not registered on this channel: register first"))
		}
		if why := checkSignature(c, r.keys.of(signer)); why != nil {
			return orElse(late, why)
		}
	}
	if first != nil {
		if !bytes.Equal(first.GetCommandSha256(), c.sha256[:]) {
			return orElse(late, conflict("command_id", "this id was used for another command: sign with a fresh id"))
		}
		c.first = first
		return nil
	}
	return r.vouch(c, signer)
}

// isGenesis compares what was signed with how this channel began.
func (call Call) isGenesis(digest []byte) bool { return bytes.Equal(digest, call.GenesisSHA256[:]) }

// vouch checks the rest of what makes a command its signer's: the enrolment certificate of a newcomer, the
// signature of whoever lets a device act. A carrier can damage both without touching what the signer signed, so that
// until here a refusal must not be remembered against the command.
func (r *run) vouch(c *command, signer *pb.IdentityDocument) *refusal {
	if registration := c.body.GetRegisterIdentity(); registration != nil {
		// Not on the channel yet (or rejected): the enrolment certificate stands for the signer.
		if c.misstated != nil {
			return c.misstated
		}
		if why := r.certify(c, registration); why != nil {
			return why
		}
	} else if c.body.GetEmergencyAccess() != nil && signer.GetHomeMsp() != r.call.CreatorMSP {
		// Who has opened it carries it. What nobody opened is not put on record by whoever has a stolen key or such a command.
		return forbidden("", "an emergency is put on record by the clinician's own member, which opened it")
	} else {
		c.entry.SignerRole, c.entry.SignerMsp = signer.GetRole(), signer.GetHomeMsp()
	}
	if c.delegation != nil {
		return r.checkDelegator(c)
	}
	return nil
}

// admit decides whether who was identified may act, and for whom, by the state as it is now: what the commands before
// it in its group have changed included.
func (r *run) admit(c *command) *refusal {
	if early := checkBeginning(c.header, r.call.TimeMs, c.period()); early != nil {
		return early
	}
	signer := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(c.signed.GetSigner()))
	if c.body.GetRegisterIdentity() == nil && !mayAct(signer, c.body) {
		return refuse(pb.Code_CODE_INACTIVE_SIGNER, "signer", "the signer's identity is not active")
	}
	if c.misstated != nil {
		return c.misstated
	}
	if c.miscertified != nil {
		return c.miscertified
	}
	c.actor = signer
	if c.delegation != nil {
		return r.delegate(c, signer)
	}
	return nil
}

// period is how long something that was signed may be valid, and how its times are named in a refusal.
type period struct {
	lifetimeMs    int64
	prefix, limit string
}

var (
	commandPeriod    = period{maxLifetimeMs, "", "10 minutes: sign a fresh command"}
	emergencyPeriod  = period{maxEmergencyLifetimeMs, "", "30 days"}
	delegationPeriod = period{maxDelegationLifetimeMs, "delegation.", "12 hours: log in again"}
)

// period of a command: what was opened without a majority waits for one.
func (c *command) period() period {
	if c.body.GetEmergencyAccess() != nil {
		return emergencyPeriod
	}
	return commandPeriod
}

type signedPeriod interface {
	GetIssuedAtMs() int64
	GetExpiresAtMs() int64
}

// checkEnd refuses what is not valid and never will be again.
func checkEnd(signed signedPeriod, now int64, p period) *refusal {
	issued, expires := signed.GetIssuedAtMs(), signed.GetExpiresAtMs()
	switch {
	case issued <= 0 || expires <= issued:
		return refuse(pb.Code_CODE_EXPIRED, p.prefix+"expires_at_ms", "does not follow issued_at_ms")
	case expires-issued > p.lifetimeMs:
		return refuse(pb.Code_CODE_EXPIRED, p.prefix+"expires_at_ms", "valid for longer than %s", p.limit)
	case expires <= now:
		return refuse(pb.Code_CODE_EXPIRED, p.prefix+"expires_at_ms", "expired: sign it anew")
	}
	return nil
}

// checkBeginning refuses what is not valid yet. It would be later, so that the refusal has to be remembered.
func checkBeginning(signed signedPeriod, now int64, p period) *refusal {
	if signed.GetIssuedAtMs() > now+maxClockAheadMs {
		return refuse(pb.Code_CODE_EXPIRED, p.prefix+"issued_at_ms", "more than 2 minutes in the future: check the signer's clock")
	}
	return nil
}

// orElse: a command that is too late is refused for that, whatever else is wrong with it.
func orElse(late, why *refusal) *refusal {
	if late != nil {
		return late
	}
	return why
}

// keyring parses each signer's key and checks each delegation once a batch: an engine or a gateway
// signs hundreds of commands in one.
type keyring struct {
	parsed      map[string]*ecdsa.PublicKey
	delegations map[delegationSignature]bool
}

type delegationSignature struct{ delegator, delegation, signature string }

func newKeyring() keyring {
	return keyring{parsed: map[string]*ecdsa.PublicKey{}, delegations: map[delegationSignature]bool{}}
}

// of is safe to keep by address: an address is the hash of its key.
func (k keyring) of(identity *pb.IdentityDocument) *ecdsa.PublicKey {
	if key, ok := k.parsed[identity.GetAddress()]; ok {
		return key
	}
	key, err := signing.ParseKey(identity.GetSigningPublicKey())
	if err != nil {
		panic(state.Fault{Reason: "a registered key of the state does not parse"})
	}
	k.parsed[identity.GetAddress()] = key
	return key
}

func (k keyring) delegationHolds(delegator *pb.IdentityDocument, signed *pb.SignedDelegation) bool {
	at := delegationSignature{delegator.GetAddress(), string(signed.GetDelegation()), string(signed.GetSignature())}
	holds, known := k.delegations[at]
	if !known {
		holds = signing.Verify(k.of(delegator), signing.DelegationPrefix, signed.GetDelegation(), signed.GetSignature())
		k.delegations[at] = holds
	}
	return holds
}
