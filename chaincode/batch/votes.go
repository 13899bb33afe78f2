package batch

import (
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// speaksFor tells whether somebody speaks for a member now: active, of that member, in one of the roles. It is asked
// whenever votes are counted, so that the vote of an administrator who was suspended since does not count. Only for
// signers and for addresses that a handler's readsFurther named.
func (r *run) speaksFor(address, msp string, roles ...pb.Role) bool {
	who := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(address))
	return who.GetStatus() == pb.IdentityStatus_IDENTITY_STATUS_ACTIVE && who.GetHomeMsp() == msp &&
		slices.Contains(roles, who.GetRole())
}

// countsVote is speaksFor for an administrator's vote.
func (r *run) countsVote(vote *pb.Vote) bool {
	return r.speaksFor(vote.GetVoter(), vote.GetMsp(), pb.Role_ROLE_ADMINISTRATOR)
}

// voteOf the command's signer, for the signer's member.
func (r *run) voteOf(c *decided) *pb.Vote {
	return &pb.Vote{Msp: c.actor.GetHomeMsp(), Voter: c.actor.GetAddress(), AtMs: r.call.TimeMs}
}
