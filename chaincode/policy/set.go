package policy

import (
	"crypto/sha256"
	_ "embed" // the Cedar schema
	"errors"
	"fmt"
	"iter"
	"sync"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"
)

//go:embed schema.cedarschema
var schemaText []byte

// Set is a parsed policy text. Its order is the text's, so that evaluation is the same everywhere.
type Set struct {
	ids      []cedar.PolicyID
	policies []*cedar.Policy
}

// All lets Cedar walk the policies in their order.
func (s *Set) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for i, id := range s.ids {
			if !yield(id, s.policies[i]) {
				return
			}
		}
	}
}

// Parse reads a policy text strictly: every policy has an @id of its own (decisions on the channel
// name it) and speaks only of what the schema knows. The error is a sentence for the proposer.
func Parse(text string) (*Set, error) {
	if err := checkShape(text); err != nil {
		return nil, err
	}
	policies, err := cedar.NewPolicyListFromBytes("policy", []byte(text))
	if err != nil {
		return nil, fmt.Errorf("the Cedar text does not parse: %w", err)
	}
	if len(policies) == 0 {
		return nil, errors.New("the Cedar text holds no policy: everything would be refused")
	}
	validator, err := newValidator()
	if err != nil {
		return nil, err
	}
	set := &Set{}
	seen := map[string]bool{}
	for i, p := range policies {
		id := string(p.Annotations()["id"])
		if id == "" {
			return nil, fmt.Errorf("policy %d has no @id: decisions must be able to name it", i+1)
		}
		if seen[id] {
			return nil, fmt.Errorf("@id %q is used twice: decisions must be able to tell policies apart", id)
		}
		seen[id] = true
		if err := validator.Policy(id, (*ast.Policy)(p.AST())); err != nil {
			return nil, fmt.Errorf("policy %q does not fit the schema (policy/schema.cedarschema)", id)
		}
		set.ids = append(set.ids, cedar.PolicyID(id))
		set.policies = append(set.policies, p)
	}
	return set, nil
}

var newValidator = sync.OnceValues(func() (*validate.Validator, error) {
	var s schema.Schema
	if err := s.UnmarshalCedar(schemaText); err != nil {
		return nil, fmt.Errorf("the built-in Cedar schema does not parse: %w", err)
	}
	resolved, err := s.Resolve()
	if err != nil {
		return nil, fmt.Errorf("the built-in Cedar schema does not resolve: %w", err)
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
