// Package state is the chaincode's state: the keys of its documents, how they are read, and an overlay on which the
// changes of a batch are staged, group by group, until all of them are written at once.
package state

import (
	"cmp"
	"slices"
)

// Ledger is what the rules may read. The shim is behind it in production, a map in tests.
type Ledger interface {
	// States returns the values of public state keys, in their order; nil where there is none.
	States(keys []string) ([][]byte, error)
	// Members returns the MSP ids of all members, sorted.
	Members() ([]string, error)
	// Sealed returns values of the implicit private data collection of the call's creator.
	Sealed(keys []string) ([][]byte, error)
	// Keys returns the first of the public state keys that begin with a prefix, sorted; those behind one when it is named.
	Keys(prefix, after string, most int) ([]string, error)
}

// Write is one change of state. Collection is empty for public state; only there keys are deleted.
type Write struct {
	Collection, Key string
	Value           []byte
	Delete          bool
}

// SortWrites by collection and key, as every endorser hands them out.
func SortWrites(writes []Write) {
	slices.SortFunc(writes, func(a, b Write) int {
		return cmp.Or(cmp.Compare(a.Collection, b.Collection), cmp.Compare(a.Key, b.Key))
	})
}

// Fault is a bug of the rules or a damaged state, found where no verdict can express it. It is thrown as a panic, and
// refuses the whole call.
type Fault struct{ Reason string }
