package batch

import (
	"fmt"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// refusal is why one command was not done. Its text has to be the same at every member, so nothing of a library's error
// goes into it: some of those differ from build to build.
type refusal struct {
	code   pb.Code
	path   string
	reason string
	// The fault is in what the carrier sent beside the command, which the command's signer has not signed.
	carriers bool
}

// byCarrier marks a refusal for what a carrier sent beside the command. It is not remembered against the command.
// Otherwise whoever sees a command could spoil it by carrying it wrongly first.
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

// refusedWithBasis is refused, with the policies and consents that forbid it, where they do.
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

// groupRefused is why the other commands of a group are refused when one of them is.
var groupRefused = refuse(pb.Code_CODE_GROUP_REFUSED, "",
	"another command of the group was refused, so none of it was done: see that command's verdict")
