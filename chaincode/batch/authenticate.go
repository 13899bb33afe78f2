package batch

import (
	"bytes"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// authenticated is a command of which it is known who signed it, by signatures alone.
type authenticated struct {
	*decoded
	// The signer's role and member, as the audit entry names them.
	role pb.Role
	msp  string
	// Why the enrolment certificate of a registration does not certify its role; nil when it does.
	badRole *refusal
	// The entry of the same command, when it was committed before.
	first *pb.AuditEntry
}

// authenticate finds out whose command it is. What is refused here leaves no trace: nobody is known to have meant it,
// or its time is over and it never has an effect. A command that was committed before keeps its first entry, whatever
// has expired since.
func (r *run) authenticate(c *decoded) (authenticated, *refusal) {
	late := checkEnd(c.header, r.call.TimeMs, c.period())
	first := state.Load[pb.AuditEntry](r.state, c.auditKey)
	if late != nil && first == nil {
		return authenticated{}, late
	}
	signer := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(c.signed.GetSigner()))
	if c.body.GetRegisterIdentity() == nil {
		if signer == nil {
			return authenticated{}, firstOf(late,
				refuse(pb.Code_CODE_UNKNOWN_SIGNER, "signer", "not registered on this channel: register first"))
		}
		if why := checkSignature(c, r.keys.of(signer)); why != nil {
			return authenticated{}, firstOf(late, why)
		}
	}
	if first != nil {
		if !bytes.Equal(first.GetCommandSha256(), c.sha256[:]) {
			return authenticated{}, firstOf(late, conflict("command_id", "this id was used for another command: sign with a fresh id"))
		}
		return authenticated{decoded: c, first: first}, nil
	}
	return r.authenticateNew(c, signer)
}

// authenticateNew checks the rest of what makes a command its signer's: the enrolment certificate of a newcomer, the
// signature of whoever lets a device act. A carrier can damage both without touching what the signer signed, so that
// until here a refusal must not be remembered against the command.
func (r *run) authenticateNew(c *decoded, signer *pb.IdentityDocument) (authenticated, *refusal) {
	a := authenticated{decoded: c, role: signer.GetRole(), msp: signer.GetHomeMsp()}
	if registration := c.body.GetRegisterIdentity(); registration != nil {
		// Not on the channel yet (or rejected): the enrolment certificate says who the signer is.
		if c.badBody != nil {
			return authenticated{}, c.badBody
		}
		var why *refusal
		if a.badRole, why = r.certify(registration); why != nil {
			return authenticated{}, why
		}
		a.role, a.msp = registration.GetRole(), registration.GetHomeMsp()
	} else if c.body.GetEmergencyAccess() != nil && signer.GetHomeMsp() != r.call.CreatorMSP {
		// The member that opened the record carries the command. Nobody else can put on record what was never opened.
		return authenticated{}, forbidden("", "an emergency is put on record by the clinician's own member, which opened it")
	}
	if c.delegation != nil {
		if why := r.checkDelegator(c); why != nil {
			return authenticated{}, why
		}
	}
	return a, nil
}
