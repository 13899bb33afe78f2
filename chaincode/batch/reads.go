package batch

import (
	"maps"
	"slices"
)

// follow reads what the families name once they see what the first multi-get brought. Records and
// accesses name nothing, so that their batches stay with one.
func (r *run) follow(groups []*group, ledger Ledger) *Failure {
	for {
		wanted := map[string]struct{}{}
		need := func(key string) {
			if _, there := r.state.fetched[key]; !there {
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
		maps.Copy(r.state.fetched, more.fetched)
	}
}
