package policy_test

import (
	"strings"
	"testing"

	"cbmdhi/chaincode/policy"
)

func TestEveryPolicyHasANameOfItsOwn(t *testing.T) {
	const first = `@id("first") permit (principal, action, resource);`
	for name, test := range map[string]struct{ text, says string }{
		"without a name": {first + `forbid (principal, action, resource);`, "policy 2 has no @id"},
		"an empty name":  {first + `@id("") forbid (principal, action, resource);`, "policy 2 has no @id"},
		"a name twice":   {first + `@id("first") forbid (principal, action, resource);`, `@id "first" is used twice`},
	} {
		if _, err := policy.Parse(test.text); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want one that says %q", name, err, test.says)
		}
	}
}
