package batch

import (
	"slices"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
)

// MaxCedarBytes of a policy text.
const MaxCedarBytes = 64 << 10

// SetPolicy proposes the next policy document, or votes for it by sending the same one. Each member
// has one vote for the next version: a vote for another document moves it, so that a consortium
// that disagreed can still come to agree.
var setPolicyFamily = family{
	describe: func(c *command) *refusal {
		c.entry.Action = "set-policy"
		if c.body.GetSetPolicy().GetPolicy() == nil {
			return invalid("body.set_policy.policy", "missing")
		}
		return nil
	},
	reads:        func(*command, func(string)) {},
	apply:        applySetPolicy,
	wantsMembers: true,
}

func applySetPolicy(r *run, c *command) *refusal {
	const path = "body.set_policy.policy"
	if c.actor.GetRole() != pb.Role_ROLE_ADMINISTRATOR {
		return forbidden("signer", "only a member's administrator votes on the policy")
	}
	msp := c.actor.GetHomeMsp()
	if !slices.Contains(r.members, msp) {
		return forbidden("signer", "the signer's home is not a member of this channel")
	}
	current := load[pb.PolicyState](r.state, policyKey)
	proposed := c.body.GetSetPolicy().GetPolicy()
	if proposed.GetVersion() != current.GetPolicy().GetVersion()+1 {
		return conflict(path+".version", "not the next version: %d is in force", current.GetPolicy().GetVersion())
	}
	if why := checkPolicy(path, proposed, len(r.members), r.call.TimeMs, &r.rules.policies); why != nil {
		return why
	}
	next := &pb.PolicyState{Policy: current.GetPolicy()}
	votes := []string{msp}
	for _, proposal := range current.GetProposals() {
		same := proto.Equal(proposal.GetPolicy(), proposed)
		voted := slices.Contains(proposal.GetVotes(), msp)
		switch {
		case same && voted:
			return conflict(path, "this member has voted for this document already")
		case same:
			votes = append(votes, proposal.GetVotes()...)
		case voted:
			rest := slices.DeleteFunc(slices.Clone(proposal.GetVotes()), func(m string) bool { return m == msp })
			if len(rest) > 0 {
				next.Proposals = append(next.Proposals, &pb.PolicyProposal{Policy: proposal.GetPolicy(), Votes: rest})
			}
		default:
			next.Proposals = append(next.Proposals, proposal)
		}
	}
	if 2*len(votes) > len(r.members) {
		r.state.put(policyKey, &pb.PolicyState{Policy: proposed})
		return nil
	}
	slices.Sort(votes)
	next.Proposals = append(next.Proposals, &pb.PolicyProposal{Policy: proposed, Votes: votes})
	r.state.put(policyKey, next)
	return nil
}

// indispensable roles: without new patients and clinicians there is no mesh, and without new
// administrators nobody is left one day who could change the policy.
var indispensable = []pb.Role{pb.Role_ROLE_ADMINISTRATOR, pb.Role_ROLE_PATIENT, pb.Role_ROLE_CLINICIAN}

// checkPolicy accepts a document only if it can work among that many members.
func checkPolicy(path string, p *pb.PolicyDocument, members int, nowMs int64, cache *policy.Cache) *refusal {
	if len(p.GetCedar()) > MaxCedarBytes {
		return tooLarge(path+".cedar", "over %d bytes", MaxCedarBytes)
	}
	set, err := cache.Get(p.GetCedar())
	if err != nil {
		return invalid(path+".cedar", "%s", err.Error())
	}
	if err := set.CheckWorkable(nowMs); err != nil {
		return invalid(path+".cedar", "%s", err.Error())
	}
	seen := map[pb.Role]bool{}
	for i, rule := range p.GetReviewRules() {
		where := at(path+".review_rules", i)
		switch {
		case !isRole(rule.GetRole()) || seen[rule.GetRole()]:
			return invalid(where+".role", "not a role of the closed list, or named twice")
		case rule.GetHomeOnly() && rule.GetQuorum() > 1:
			return invalid(where+".quorum", "with home_only it is 0 or 1")
		case int(rule.GetQuorum()) > members:
			return invalid(where+".quorum", "more than there are members")
		}
		seen[rule.GetRole()] = true
	}
	for _, role := range indispensable {
		if !seen[role] {
			return invalid(path+".review_rules", "no rule for the role %s: nobody could register for it any more",
				policy.RoleName(role))
		}
	}
	if p.GetMinReplicas() == 0 || int(p.GetMinReplicas()) > members {
		return invalid(path+".min_replicas", "not between 1 and the number of members")
	}
	return nil
}
