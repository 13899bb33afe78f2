package batch

import (
	"fmt"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// refusal is why one command was not done. Its text is the same in every member: nothing from a
// library's error goes into it, since some of those differ from build to build.
type refusal struct {
	code   pb.Code
	path   string
	reason string
	// Set when not the command is at fault but what its carrier sent beside it, unsigned.
	carriers bool
}

// byCarrier marks a refusal for what a carrier sent beside the command. It is not remembered against the command:
// else whoever sees one could spoil it, by carrying it badly before somebody else carries it well.
func (why *refusal) byCarrier() *refusal {
	if why != nil {
		why.carriers = true
	}
	return why
}

func refuse(code pb.Code, path, format string, args ...any) *refusal {
	return &refusal{code: code, path: path, reason: fmt.Sprintf(format, args...)}
}

func invalid(path, format string, args ...any) *refusal {
	return refuse(pb.Code_CODE_INVALID, path, format, args...)
}

func forbidden(path, format string, args ...any) *refusal {
	return refuse(pb.Code_CODE_FORBIDDEN, path, format, args...)
}

func conflict(path, format string, args ...any) *refusal {
	return refuse(pb.Code_CODE_CONFLICT, path, format, args...)
}

func notFound(path, format string, args ...any) *refusal {
	return refuse(pb.Code_CODE_NOT_FOUND, path, format, args...)
}

func tooLarge(path, format string, args ...any) *refusal {
	return refuse(pb.Code_CODE_TOO_LARGE, path, format, args...)
}

// firstOf the refusals that there are.
func firstOf(whys ...*refusal) *refusal {
	for _, why := range whys {
		if why != nil {
			return why
		}
	}
	return nil
}

// refused is the verdict of a command that was not done.
func (c *decoded) refused(why *refusal) *pb.Verdict {
	return &pb.Verdict{CommandId: c.id(), Code: why.code, Reason: why.reason, Path: why.path}
}

// refusedWithBasis is refused; where a policy or a consent forbids it, with what that rests on.
func (c *decided) refusedWithBasis(why *refusal) *pb.Verdict {
	verdict := c.refused(why)
	if why.code == pb.Code_CODE_FORBIDDEN {
		verdict.Basis = c.entry.GetBasis()
	}
	return verdict
}

// done is the verdict of a command that was carried out.
func (c *decided) done() *pb.Verdict {
	return &pb.Verdict{
		CommandId: c.id(), Code: pb.Code_CODE_OK, Basis: c.entry.GetBasis(),
		Objection: c.entry.GetObjection(), Reason: c.entry.GetReason(), Path: c.entry.GetPath(), Record: c.read,
	}
}

// replayed is the verdict of a command that was committed before.
func (c *authenticated) replayed() *pb.Verdict {
	return &pb.Verdict{
		CommandId: c.id(), Code: pb.Code_CODE_ALREADY_COMMITTED, Reason: c.first.GetReason(), Path: c.first.GetPath(),
		Basis: c.first.GetBasis(), FirstCode: c.first.GetCode(), FirstTxId: c.first.GetTxId(),
		Objection: c.first.GetObjection(),
	}
}

// groupRefused is the verdict of whoever stood in a group with somebody who was refused.
var groupRefused = refuse(pb.Code_CODE_GROUP_REFUSED, "",
	"another command of the group was refused, so none of it was done: see that command's verdict")
