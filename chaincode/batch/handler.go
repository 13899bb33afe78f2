package batch

import (
	"fmt"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// handler says how one kind of command is handled. Each kind has a file of its own, handle_….go.
type handler struct {
	// check looks at the body's fields, without the state.
	check func(c *decoded) *refusal
	// describe fills the audit entry from the body. Only called on a body that check accepts, as reads and apply are.
	describe func(c *decoded, entry *pb.AuditEntry)
	// reads names the state keys that apply could need.
	reads func(call Call, c *decoded, need func(key string))
	// readsFurther names keys that only what was read can tell, such as who voted before. It is asked again with
	// what it named until it names nothing new. nil: there are none.
	readsFurther func(r *run, c *decoded, need func(key string))
	// apply carries the command out, or says why not. Changes go to the state's current group.
	apply func(r *run, c *decided) *refusal
	// delegation names action and purpose that a delegation must cover; nil: in person only.
	delegation func(c *decoded) (action, purpose string)
	// countsMembers: apply counts the members.
	countsMembers bool
}

func handlerOf(body *pb.CommandBody) *handler {
	switch body.GetBody().(type) {
	case *pb.CommandBody_RegisterIdentity:
		return &registerIdentityHandler
	case *pb.CommandBody_ReviewRegistration:
		return &reviewRegistrationHandler
	case *pb.CommandBody_SuspendIdentity:
		return &suspendIdentityHandler
	case *pb.CommandBody_PutRecord:
		return &putRecordHandler
	case *pb.CommandBody_Consent:
		return &consentHandler
	case *pb.CommandBody_RevokeConsent:
		return &revokeConsentHandler
	case *pb.CommandBody_Access:
		return &accessHandler
	case *pb.CommandBody_BreakGlass:
		return &breakGlassHandler
	case *pb.CommandBody_EmergencyAccess:
		return &emergencyAccessHandler
	case *pb.CommandBody_ReviewBreakGlass:
		return &reviewBreakGlassHandler
	case *pb.CommandBody_RevokeDelegation:
		return &revokeDelegationHandler
	case *pb.CommandBody_SetPolicy:
		return &setPolicyHandler
	}
	return nil
}

// at is a path into a list: `body.consent.provisions[3]`.
func elementOf(path string, index int) string { return fmt.Sprintf("%s[%d]", path, index) }

const notUUIDv7 = "not a UUIDv7 in canonical lower-case text"
