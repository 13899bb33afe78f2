package batch

import (
	"slices"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// SetPolicy proposes the next policy document, votes for it by sending the same one, or takes a vote back. Each member has
// one vote for the next version. A vote for another document replaces it, so that a consortium that disagreed can still
// agree.
//
// Proposals and votes have keys of their own. Every batch reads the policy in force, so a write to that key invalidates all
// batches that are on their way. That happens once for each policy, not for each vote.
var setPolicyHandler = handler{
	check: func(c *decoded) *refusal {
		body := c.body.GetSetPolicy()
		if !body.GetWithdraw() && body.GetPolicy() == nil {
			return invalid("body.set_policy.policy", "missing")
		}
		if body.GetWithdraw() && body.GetPolicy() != nil {
			return invalid("body.set_policy.policy", "a vote is withdrawn without naming the document")
		}
		return nil
	},
	describe: func(_ *decoded, entry *pb.AuditEntry) { entry.Action = "set-policy" },
	reads:    func(Call, *decoded, func(string)) {},
	readsFurther: func(r *run, _ *decoded, need func(string)) {
		next := r.policyDocument().GetVersion() + 1
		for _, msp := range r.members {
			key := state.PolicyVoteKey(next, msp)
			need(key)
			if r.state.Fetched(key) {
				if voter := state.Load[pb.PolicyVote](r.state, key).GetVote().GetVoter(); voter != "" {
					need(state.IdentityKey(voter))
				}
			}
		}
	},
	apply:         applySetPolicy,
	countsMembers: true,
}

func applySetPolicy(r *run, c *decided) *refusal {
	const path = "body.set_policy.policy"
	if c.actor.GetRole() != pb.Role_ROLE_ADMINISTRATOR {
		return forbidden("signer", "only a member's administrator votes on the policy")
	}
	msp := c.actor.GetHomeMsp()
	if !slices.Contains(r.members, msp) {
		return forbidden("signer", "the signer's home is not a member of this channel")
	}
	next := r.policyDocument().GetVersion() + 1
	key := state.PolicyVoteKey(next, msp)
	if !r.state.Fetched(key) {
		return conflict(path+".version", "a policy took force in this same batch: look at it, and vote again")
	}
	cast := state.Load[pb.PolicyVote](r.state, key)
	if c.body.GetSetPolicy().GetWithdraw() {
		if cast.GetPolicy() == nil {
			return notFound("body.set_policy.withdraw", "this member has no vote for the next policy")
		}
		r.state.Put(key, &pb.PolicyVote{Vote: r.voteOf(c)})
		return nil
	}
	proposed := c.body.GetSetPolicy().GetPolicy()
	if proposed.GetVersion() != next {
		return conflict(path+".version", "not the next version: %d is in force", next-1)
	}
	if why := checkPolicy(path, proposed, len(r.members), r.call.TimeMs, &r.rules.policies); why != nil {
		return why
	}
	again := r.isVoteFor(cast, proposed)
	r.state.Put(key, &pb.PolicyVote{Vote: r.voteOf(c), Policy: proposed})
	// A vote that is sent again is counted again: another member's vote may have become valid since.
	if 2*r.votesFor(proposed) > len(r.members) {
		r.state.Put(state.PolicyKey, &pb.PolicyState{Policy: proposed})
	} else if again {
		return conflict(path, "this member has voted for this document already")
	}
	return nil
}

// votesFor counts the members that want a document to follow.
func (r *run) votesFor(proposed *pb.PolicyDocument) int {
	votes := 0
	for _, msp := range r.members {
		if r.isVoteFor(state.Load[pb.PolicyVote](r.state, state.PolicyVoteKey(proposed.GetVersion(), msp)), proposed) {
			votes++
		}
	}
	return votes
}

func (r *run) isVoteFor(vote *pb.PolicyVote, proposed *pb.PolicyDocument) bool {
	return vote.GetPolicy() != nil && r.countsVote(vote.GetVote()) && proto.Equal(vote.GetPolicy(), proposed)
}
