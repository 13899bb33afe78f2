package policy

import (
	"crypto/sha256"
	_ "embed" // the Cedar schema
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

//go:embed schema.cedarschema
var schemaText []byte

// actions of the schema.
var actions = []string{"read", "search", "history", "export", "event", "write", ActionBreakGlass}

// Set is a parsed policy text.
type Set struct {
	whole *policyList
	// For each action the policies whose scope holds it: half of a text is about other actions.
	byAction map[string]*policyList
}

// about gives the policies that can say something about an action.
func (s *Set) about(action string) *policyList {
	if list, ok := s.byAction[action]; ok {
		return list
	}
	return s.whole
}

// policyList is in the order of the text, so that evaluation is the same everywhere.
type policyList struct {
	ids      []cedar.PolicyID
	policies []*cedar.Policy
}

func (l *policyList) add(id cedar.PolicyID, p *cedar.Policy) {
	l.ids, l.policies = append(l.ids, id), append(l.policies, p)
}

// All lets Cedar walk the policies in their order.
func (l *policyList) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for i, id := range l.ids {
			if !yield(id, l.policies[i]) {
				return
			}
		}
	}
}

// Parse reads a policy text strictly: every policy has an @id of its own (decisions on the channel
// name it) and speaks only of what the schema knows. The error is a sentence for the proposer.
func Parse(text string) (*Set, error) {
	ends, err := checkShape(text)
	if err != nil {
		return nil, err
	}
	policies, err := cedar.NewPolicyListFromBytes("policy", []byte(text))
	if err != nil {
		// In words of our own: the parser's are not the same in every build, and a refusal is endorsed.
		return nil, fmt.Errorf("policy %d does not parse as Cedar", firstBroken(text, ends))
	}
	if len(policies) == 0 {
		return nil, errors.New("the Cedar text holds no policy: everything would be refused")
	}
	validator, err := newValidator()
	if err != nil {
		return nil, err
	}
	set := &Set{whole: &policyList{}, byAction: map[string]*policyList{}}
	for _, action := range actions {
		set.byAction[action] = &policyList{}
	}
	seen := map[string]bool{}
	for i, p := range policies {
		id := string(p.Annotations()["id"])
		if id == "" {
			return nil, fmt.Errorf("policy %d has no @id: decisions must be able to name it", i+1)
		}
		if seen[id] {
			return nil, fmt.Errorf("@id %+q is used twice: decisions must be able to tell policies apart", id)
		}
		seen[id] = true
		if err := validator.Policy(id, (*ast.Policy)(p.AST())); err != nil {
			return nil, fmt.Errorf("policy %+q does not fit the schema (policy/schema.cedarschema)", id)
		}
		set.add(cedar.PolicyID(id), p)
	}
	return set, nil
}

// firstBroken is the number of the first policy that does not parse.
func firstBroken(text string, ends []int) int {
	begin := 0
	for i, end := range ends {
		if _, err := cedar.NewPolicyListFromBytes("policy", []byte(text[begin:end])); err != nil {
			return i + 1
		}
		begin = end
	}
	return len(ends) + 1
}

// add sorts a policy by its action scope, which need not be evaluated then.
func (s *Set) add(id cedar.PolicyID, p *cedar.Policy) {
	s.whole.add(id, p)
	unscoped := *p.AST()
	scope := unscoped.Action
	unscoped.Action = ast.ScopeTypeAll{}
	compiled := cedar.NewPolicyFromAST(&unscoped)
	for _, action := range actions {
		if scopeHolds(scope, cedar.NewEntityUID("Action", types.String(action))) {
			s.byAction[action].add(id, compiled)
		}
	}
}

// scopeHolds is Cedar's rule for our actions: none is a member of another, so `in` means equal.
func scopeHolds(scope ast.IsActionScopeNode, action types.EntityUID) bool {
	switch s := scope.(type) {
	case ast.ScopeTypeEq:
		return s.Entity == action
	case ast.ScopeTypeIn:
		return s.Entity == action
	case ast.ScopeTypeInSet:
		return slices.Contains(s.Entities, action)
	}
	return true
}

var newValidator = sync.OnceValues(func() (*validate.Validator, error) {
	var s schema.Schema
	if err := s.UnmarshalCedar(schemaText); err != nil {
		return nil, errors.New("the built-in Cedar schema does not parse")
	}
	resolved, err := s.Resolve()
	if err != nil {
		return nil, errors.New("the built-in Cedar schema does not resolve")
	}
	return validate.New(resolved), nil
})

// Cache keeps parsed sets by the hash of their text: parsing costs some thirty decisions. It holds
// the few versions that transactions in flight can still see.
type Cache struct {
	mu   sync.Mutex
	sets map[[sha256.Size]byte]*Set
}

// cacheLimit: the version in force and its neighbours; beyond it, start anew.
const cacheLimit = 8

// Get parses a text, or finds it parsed.
func (c *Cache) Get(text string) (*Set, error) {
	key := sha256.Sum256([]byte(text))
	c.mu.Lock()
	defer c.mu.Unlock()
	if set, ok := c.sets[key]; ok {
		return set, nil
	}
	set, err := Parse(text)
	if err != nil {
		return nil, err
	}
	if c.sets == nil || len(c.sets) >= cacheLimit {
		c.sets = map[[sha256.Size]byte]*Set{}
	}
	c.sets[key] = set
	return set, nil
}
