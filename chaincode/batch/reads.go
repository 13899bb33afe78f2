package batch

import (
	"maps"
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// readPlan is what a batch reads with its first multi-get.
type readPlan struct {
	// Every state key that any command could need, sorted.
	keys []string
	// Commands that can come to be applied: what their handlers need is among the keys.
	applicable []*decoded
	// A handler counts the members.
	countsMembers bool
}

// planReads of a batch. Nothing is read for what is refused whatever the state says.
func planReads(call Call, groups []*group) readPlan {
	var plan readPlan
	wanted := map[string]struct{}{state.PolicyKey: {}, call.witnessKey(): {}}
	need := func(key string) { wanted[key] = struct{}{} }
	for _, key := range callKeys(call) {
		need(key)
	}
	for _, g := range groups {
		if g.badMembership != nil || g.badForm != nil {
			continue
		}
		for _, c := range g.commands {
			need(c.auditKey)
			need(state.IdentityKey(c.signed.GetSigner()))
			if checkEnd(c.header, call.TimeMs, c.period()) != nil {
				continue // It was committed before, or it is refused.
			}
			if d := c.delegation; isAddress(d.GetDelegator()) && isUUIDv7(d.GetDelegationId()) {
				need(state.IdentityKey(d.GetDelegator()))
				need(state.RevokedDelegationKey(d.GetDelegationId(), d.GetDelegator()))
			}
			if c.badBody == nil {
				plan.applicable = append(plan.applicable, c)
				c.handler.reads(call, c, need)
				plan.countsMembers = plan.countsMembers || c.handler.countsMembers
			}
		}
	}
	plan.keys = make([]string, 0, len(wanted))
	for key := range wanted {
		plan.keys = append(plan.keys, key)
	}
	slices.Sort(plan.keys)
	return plan
}

// read everything that any command could need: one multi-get, and the list of members only where a vote counts them.
func (r *run) read(groups []*group, ledger state.Ledger) *Failure {
	plan := planReads(r.call, groups)
	s, failure := fetchState(ledger, plan.keys)
	if failure != nil {
		return failure
	}
	r.state = s
	if failure := admitCall(r.call, r.state); failure != nil {
		return failure
	}
	if failure := checkTime(r.call, r.state); failure != nil {
		return failure
	}
	if plan.countsMembers {
		members, err := ledger.Members()
		if err != nil {
			return fail(pb.Code_CODE_UNAVAILABLE, "ledger", "the members could not be read from the peer")
		}
		r.members = members
	}
	return r.readFurther(plan.applicable, ledger)
}

// readFurther reads what handlers name once they see what the first multi-get brought. Records and accesses name
// nothing, so that their batches take one multi-get.
func (r *run) readFurther(commands []*decoded, ledger state.Ledger) *Failure {
	for {
		wanted := map[string]struct{}{}
		need := func(key string) {
			if !r.state.Fetched(key) {
				wanted[key] = struct{}{}
			}
		}
		for _, c := range commands {
			if c.handler.readsFurther != nil {
				c.handler.readsFurther(r, c, need)
			}
		}
		if len(wanted) == 0 {
			return nil
		}
		more, failure := fetchState(ledger, slices.Sorted(maps.Keys(wanted)))
		if failure != nil {
			return failure
		}
		r.state.Extend(more)
	}
}

// fetchState reads keys with one multi-get.
func fetchState(ledger state.Ledger, keys []string) (*state.Overlay, *Failure) {
	s, err := state.Fetch(ledger, keys)
	if err != nil {
		return nil, fail(pb.Code_CODE_UNAVAILABLE, "ledger", "the state could not be read from the peer")
	}
	return s, nil
}

// distinct keys, sorted.
func distinct(keys []string) []string {
	slices.Sort(keys)
	return slices.Compact(keys)
}
