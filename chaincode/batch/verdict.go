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

// verdict of a command that was refused (nil: done).
func (c *command) verdict(why *refusal) *pb.Verdict {
	v := &pb.Verdict{CommandId: c.id(), Code: pb.Code_CODE_OK, Basis: c.entry.GetBasis()}
	if why != nil {
		v.Code, v.Reason, v.Path = why.code, why.reason, why.path
	} else {
		v.Objection, v.Reason, v.Path = c.entry.GetObjection(), c.entry.GetReason(), c.entry.GetPath()
	}
	if v.Code != pb.Code_CODE_OK && v.Code != pb.Code_CODE_FORBIDDEN {
		v.Basis = nil
	}
	return v
}

// replayed is the verdict of a command that was committed before.
func (c *command) replayed() *pb.Verdict {
	return &pb.Verdict{
		CommandId: c.id(), Code: pb.Code_CODE_ALREADY_COMMITTED, Reason: c.first.GetReason(), Path: c.first.GetPath(),
		Basis: c.first.GetBasis(), FirstCode: c.first.GetCode(), FirstTxId: c.first.GetTxId(),
		Objection: c.first.GetObjection(),
	}
}

// groupRefused is the verdict of whoever stood in a group with somebody who was refused.
var groupRefused = refuse(pb.Code_CODE_GROUP_REFUSED, "",
	"another command of the group was refused, so none of it was done: see that command's verdict")
