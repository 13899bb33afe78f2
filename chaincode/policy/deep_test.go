package policy_test

import (
	"strings"
	"testing"

	"cbmdhi/chaincode/policy"
)

func TestAPolicyMadeToKeepEveryMemberBusyIsRefusedAtOnce(t *testing.T) {
	const n = 60_000
	wrap := func(expression string) string {
		return `@id("x") permit (principal, action, resource) when { ` + expression + ` };`
	}
	for name, text := range map[string]string{
		"brackets":             wrap(strings.Repeat("(", n/2) + "true" + strings.Repeat(")", n/2)),
		"brackets, not closed": wrap(strings.Repeat("[", 40)),
		"negations":            wrap(strings.Repeat("!", n) + "true"),
		"minus signs":          wrap(strings.Repeat("-", n) + "1 == 1"),
		"conditions":           wrap(strings.Repeat("if true then true else ", n/23) + "true"),
		"behind a string":      wrap(`"a\";//" == "" || ` + strings.Repeat("!", n) + "true"),
		"behind a comment":     wrap("// \";\n" + strings.Repeat("!", n) + "true"),
		"one long string":      wrap(`"` + strings.Repeat(";", n) + `" == ""`),
	} {
		if _, err := policy.Parse(text); err == nil || !strings.Contains(err.Error(), "policy 1 ") {
			t.Errorf("%s: %v", name, err)
		}
	}
	nested := func(n int) string { return wrap(strings.Repeat("(", n) + "true" + strings.Repeat(")", n)) }
	if _, err := policy.Parse(nested(32)); err == nil || !strings.Contains(err.Error(), "nests more than 32") {
		t.Errorf("33 brackets: %v", err)
	}
	if _, err := policy.Parse(nested(31)); err != nil {
		t.Errorf("32 brackets: %v", err)
	}
	// Dear ones would not end before the tests' own deadline. What is long for its comments alone is not refused.
	if _, err := policy.Parse(wrap(strings.Repeat("!", 4000)+"true") + "\n//" + strings.Repeat("(", n)); err != nil {
		t.Error(err)
	}
}
