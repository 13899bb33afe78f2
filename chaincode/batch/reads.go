package batch

import (
	"maps"
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// follow reads what the families name once they see what the first multi-get brought. Records and
// accesses name nothing, so that their batches stay with one.
func (r *run) follow(groups []*group, ledger state.Ledger) *Failure {
	for {
		wanted := map[string]struct{}{}
		need := func(key string) {
			if !r.state.Fetched(key) {
				wanted[key] = struct{}{}
			}
		}
		for _, g := range groups {
			for _, c := range g.commands {
				if c.planned && c.family.follows != nil {
					c.family.follows(r, c, need)
				}
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
