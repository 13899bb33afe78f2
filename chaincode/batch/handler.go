package batch

import (
	"fmt"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// family is how one kind of command is handled. Each has a file of its own.
type family struct {
	// describe checks the body's fields, without the state, and fills the audit entry from them.
	describe func(c *command) *refusal
	// reads names the state keys that apply could need. Only called on a body that describe accepts.
	reads func(c *command, need func(key string))
	// follows names keys that only what was read can tell, such as who voted before. It is asked again with
	// what it named until it names nothing new, and only where reads is. nil: there are none.
	follows func(r *run, c *command, need func(key string))
	// apply carries the command out, or says why not. Changes go to the state's current group.
	apply func(r *run, c *command) *refusal
	// delegation names action and purpose that a delegation must cover; nil: in person only.
	delegation func(c *command) (action, purpose string)
	// wantsMembers: apply counts the members.
	wantsMembers bool
}

func familyOf(body *pb.CommandBody) *family {
	switch body.GetBody().(type) {
	case *pb.CommandBody_RegisterIdentity:
		return &registerFamily
	case *pb.CommandBody_ReviewRegistration:
		return &reviewFamily
	case *pb.CommandBody_SuspendIdentity:
		return &suspendFamily
	case *pb.CommandBody_PutRecord:
		return &recordFamily
	case *pb.CommandBody_Consent:
		return &consentFamily
	case *pb.CommandBody_RevokeConsent:
		return &revokeFamily
	case *pb.CommandBody_Access:
		return &accessFamily
	case *pb.CommandBody_BreakGlass:
		return &breakGlassFamily
	case *pb.CommandBody_EmergencyAccess:
		return &emergencyFamily
	case *pb.CommandBody_ReviewBreakGlass:
		return &breakGlassReviewFamily
	case *pb.CommandBody_RevokeDelegation:
		return &revokeDelegationFamily
	case *pb.CommandBody_SetPolicy:
		return &setPolicyFamily
	}
	return nil
}

// at is a path into a list: `body.consent.provisions[3]`.
func at(path string, index int) string { return fmt.Sprintf("%s[%d]", path, index) }

const notUUIDv7 = "not a UUIDv7 in canonical lower-case text"
