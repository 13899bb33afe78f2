package batch

import (
	"bytes"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/signing"
)

// checkMembership decides whether the commands are one group: a single command that names no group, or several commands
// that name each other.
func checkMembership(commands []*decoded) *refusal {
	if len(commands) == 0 {
		return nil
	}
	for _, c := range commands {
		if c.badEncoding != nil {
			return nil // It is refused for that, and nothing can be said of the group.
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

// checkCount bounds what one group can ask for: records add keys of their own, while all else changes or decides about
// what others read.
func checkCount(commands []*decoded) *refusal {
	if len(commands) <= MaxGroupCommands {
		return nil
	}
	for _, c := range commands {
		if c.badEncoding == nil && c.body.GetPutRecord() == nil {
			return invalid("group", "more than %d commands, and not all of them put records", MaxGroupCommands)
		}
	}
	return nil
}

// processGroup gives a verdict for each command of a group. It commits all changes of the group, or rolls all of them back
// and commits only the audit entries that say why. Once every signer is known, the verdicts stand for ever.
func (r *run) processGroup(g *group) []*pb.Verdict {
	if g.badMembership != nil {
		return g.refused(g.badMembership)
	}
	if g.badForm != nil {
		return g.refusedFor(g.culprit, g.commands[g.culprit].refused(g.badForm))
	}
	signed := make([]authenticated, len(g.commands))
	for i, c := range g.commands {
		var why *refusal
		if signed[i], why = r.authenticate(c); why != nil {
			return g.refusedFor(i, c.refused(why))
		}
	}
	if verdicts := r.replay(g, signed); verdicts != nil {
		return verdicts
	}
	if g.badContents != nil {
		return g.refused(g.badContents)
	}
	commands := make([]*decided, 0, len(signed))
	for i := range signed {
		// One by one: a signer whom the command before has suspended does not act any more.
		c, why := r.decide(&signed[i])
		commands = append(commands, c)
		if why != nil {
			return r.refuseGroup(g, signed, commands, why)
		}
		r.record(c, nil)
	}
	r.state.Commit()
	verdicts := make([]*pb.Verdict, len(commands))
	for i, c := range commands {
		verdicts[i] = c.done()
	}
	return verdicts
}

// replay answers a group of which something was committed before, done or refused; nil when nothing was. When all of it
// was, each command gets its first verdict. When a part was, its ids were used in another group, and the rest is refused.
func (r *run) replay(g *group, signed []authenticated) []*pb.Verdict {
	committed := 0
	for i := range signed {
		if signed[i].first != nil {
			committed++
		}
	}
	switch committed {
	case 0:
		return nil
	case len(signed):
		verdicts := make([]*pb.Verdict, len(signed))
		for i := range signed {
			verdicts[i] = signed[i].replayed()
		}
		return verdicts
	}
	why := conflict("group", "some of the group's commands were committed before, in another group: sign the group anew with fresh ids")
	for i := range signed {
		if signed[i].first == nil {
			r.record(undecided(&signed[i]), why)
		}
	}
	r.state.Commit()
	return g.refused(why)
}

// refuseGroup rolls a group back. The last of the commands that were decided is the one that was refused.
func (r *run) refuseGroup(g *group, signed []authenticated, commands []*decided, why *refusal) []*pb.Verdict {
	r.state.Rollback()
	culprit := len(commands) - 1
	verdict := commands[culprit].refusedWithBasis(why)
	if why.carriers {
		return g.refusedFor(culprit, verdict)
	}
	for i := range signed {
		if i == culprit {
			r.record(commands[i], why)
			continue
		}
		// A new entry, without what the handler has added: the command was not done.
		c := undecided(&signed[i])
		if i < culprit {
			c.entry.OnBehalfOf = commands[i].entry.GetOnBehalfOf()
		}
		r.record(c, groupRefused)
	}
	r.state.Commit()
	return g.refusedFor(culprit, verdict)
}

// refused gives every command of a group the same refusal.
func (g *group) refused(why *refusal) []*pb.Verdict {
	verdicts := make([]*pb.Verdict, len(g.commands))
	for i, c := range g.commands {
		verdicts[i] = c.refused(why)
	}
	return verdicts
}

// refusedFor gives one command of a group its own verdict. The others are refused because of it.
func (g *group) refusedFor(culprit int, verdict *pb.Verdict) []*pb.Verdict {
	verdicts := g.refused(groupRefused)
	verdicts[culprit] = verdict
	return verdicts
}
