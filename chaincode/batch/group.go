package batch

import (
	"bytes"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/signing"
)

// checkMembership decides whether the commands are one group: a lone command that names none, or
// 2 to 16 that name each other.
func checkMembership(commands []*command) *refusal {
	if len(commands) == 0 {
		return nil
	}
	for _, c := range commands {
		if c.undecodable != nil {
			return nil // It speaks for itself, and the group cannot be judged.
		}
	}
	if len(commands) == 1 {
		if commands[0].header.GetGroup() != nil {
			return invalid("group", "the command belongs to a group of two or more: send the whole group")
		}
		return nil
	}
	parts := make([]signing.Part, len(commands))
	for i, c := range commands {
		parts[i] = signing.Part{Body: c.header.GetBody(), Signer: c.signed.GetSigner()}
	}
	digest := signing.MembersSHA256(parts)
	type name struct{ id, signer string }
	seen := map[name]bool{}
	for i, c := range commands {
		membership := c.header.GetGroup()
		switch {
		case membership == nil:
			return invalid("group", "a command of the group does not name it")
		case membership.GetGroupId() != commands[0].header.GetGroup().GetGroupId():
			return invalid("group.group_id", "the commands name different groups")
		case int(membership.GetSize()) != len(commands):
			return invalid("group.size", "not the number of commands in the group")
		case int(membership.GetIndex()) != i:
			return invalid("group.index", "not the command's place in the group")
		case !bytes.Equal(membership.GetMembersSha256(), digest):
			return invalid("group.members_sha256", "does not match the bodies and signers of the group")
		case seen[name{c.id(), c.signed.GetSigner()}]:
			return invalid("command_id", "used twice in the group")
		}
		seen[name{c.id(), c.signed.GetSigner()}] = true
	}
	return nil
}

// settle gives a verdict for each command of a group and stages what the group changes: all of it, or nothing but
// the audit entries that say why not. Once all its signers are known, what they signed has its one verdict for ever.
func (r *run) settle(g *group) []*pb.Verdict {
	if g.malformed != nil {
		return g.all(g.malformed)
	}
	if g.misformed != nil {
		return g.refusedBy(g.culprit, g.misformed)
	}
	for i, c := range g.commands {
		if why := r.identify(c); why != nil {
			return g.refusedBy(i, why)
		}
	}
	if verdicts := r.replay(g); verdicts != nil {
		return verdicts
	}
	if g.contents != nil {
		return g.all(g.contents)
	}
	for i, c := range g.commands {
		// One by one, since who was suspended by the one before does not act any more.
		why := r.admit(c)
		if why == nil {
			why = c.family.apply(r, c)
		}
		if why != nil {
			return r.refuseGroup(g, i, why)
		}
		r.record(c, nil)
	}
	r.state.Commit()
	return g.all(nil)
}

// replay answers a group of which something was committed before, done or refused; nil when nothing was. All of it:
// each command gets its first verdict. A part: its ids were used in another group.
func (r *run) replay(g *group) []*pb.Verdict {
	committed := 0
	for _, c := range g.commands {
		if c.first != nil {
			committed++
		}
	}
	switch committed {
	case 0:
		return nil
	case len(g.commands):
		verdicts := make([]*pb.Verdict, len(g.commands))
		for i, c := range g.commands {
			verdicts[i] = c.replayed()
		}
		return verdicts
	}
	why := conflict("group", "some of the group's commands were committed before, in another group: sign the group anew with fresh ids")
	for _, c := range g.commands {
		if c.first == nil {
			r.record(c, why)
		}
	}
	r.state.Commit()
	return g.all(why)
}

// refuseGroup blames one command of a group.
func (r *run) refuseGroup(g *group, culprit int, why *refusal) []*pb.Verdict {
	r.state.Rollback()
	if why.carriers {
		return g.refusedBy(culprit, why)
	}
	for i, c := range g.commands {
		if i == culprit {
			r.record(c, why)
		} else {
			c.forget()
			r.record(c, groupRefused)
		}
	}
	r.state.Commit()
	return g.refusedBy(culprit, why)
}

// record stages the audit entry, which is the idempotency record too: whoever sends the command again gets the verdict
// that stands here, so that nothing that was refused takes effect when the state has changed.
func (r *run) record(c *command, why *refusal) {
	c.entry.Code, c.entry.AtMs, c.entry.TxId = pb.Code_CODE_OK, r.call.TimeMs, r.call.TxID
	if why != nil {
		c.entry.Code, c.entry.Reason, c.entry.Path = why.code, why.reason, why.path
		if why.code != pb.Code_CODE_FORBIDDEN {
			c.entry.Basis = nil
		}
	}
	r.state.Put(c.auditKey, c.entry)
}

func (g *group) all(why *refusal) []*pb.Verdict {
	verdicts := make([]*pb.Verdict, len(g.commands))
	for i, c := range g.commands {
		verdicts[i] = c.verdict(why)
	}
	return verdicts
}

func (g *group) refusedBy(culprit int, why *refusal) []*pb.Verdict {
	verdicts := make([]*pb.Verdict, len(g.commands))
	for i, c := range g.commands {
		if i == culprit {
			verdicts[i] = c.verdict(why)
		} else {
			verdicts[i] = c.verdict(groupRefused)
		}
	}
	return verdicts
}
