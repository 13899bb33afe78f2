package policy_test

import (
	"strings"
	"testing"
	"time"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
)

var everyAction = []string{"read", "search", "history", "export", "event", "write"}

// TestNoPolicyOutweighsAPatientsDeny: under a text that permits everything to everybody.
func TestNoPolicyOutweighsAPatientsDeny(t *testing.T) {
	set := parse(t, `@id("open") permit (principal, action, resource);`)
	for _, action := range everyAction {
		for name, deny := range map[string]*pb.ConsentDocument{
			"without actions": consents(pb.Effect_EFFECT_DENY),
			"of this action":  consents(pb.Effect_EFFECT_DENY, action),
		} {
			denied := func(r *policy.Request) { r.Consents = deny }
			got := set.Session().Decide(request(action, denied))
			if got.Permit || !got.Denied || got.Consent.ConsentID != "c" || len(got.Policies) != 0 {
				t.Errorf("%s against a deny %s: %+v", action, name, got)
			}
			itself := func(r *policy.Request) {
				denied(r)
				r.Principal.Address, r.Principal.Role = patient, pb.Role_ROLE_PATIENT
			}
			if got := set.Session().Decide(request(action, itself)); !got.Permit || got.Denied {
				t.Errorf("%s by the patient, who denied it to others: %+v", action, got)
			}
		}
		// A deny of something else, and a permit without actions, which means looking alone.
		other := func(r *policy.Request) { r.Consents = consents(pb.Effect_EFFECT_DENY, otherThan(action)) }
		if got := set.Session().Decide(request(action, other)); !got.Permit || got.Denied {
			t.Errorf("%s where another action is denied: %+v", action, got)
		}
	}
	emergency := func(r *policy.Request) { r.Consents = consents(pb.Effect_EFFECT_DENY) }
	if got := set.Session().Decide(request(policy.ActionBreakGlass, emergency)); !got.Permit || got.Consent.Effect != policy.ConsentDeny {
		t.Errorf("an emergency: %+v", got)
	}
}

func otherThan(action string) string {
	if action == "read" {
		return "write"
	}
	return "read"
}

func TestAPermitWithoutActionsMeansLooking(t *testing.T) {
	means := map[string]string{"read": policy.ConsentPermit, "search": policy.ConsentPermit, "history": policy.ConsentPermit}
	for _, action := range everyAction {
		want := means[action]
		if want == "" {
			want = policy.ConsentNone
		}
		if got := policy.Consent(consents(pb.Effect_EFFECT_PERMIT), request(action, nil)).Effect; got != want {
			t.Errorf("%s: %s, want %s", action, got, want)
		}
	}
}

func TestATextThatLocksEverybodyOutOrInIsNotWorkable(t *testing.T) {
	now := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC).UnixMilli()
	text := defaultText(t)
	if err := parse(t, text).CheckWorkable(now); err != nil {
		t.Fatalf("the text that is deployed: %v", err)
	}
	for name, test := range map[string]struct{ text, says string }{
		"nothing goes":                 {`@id("x") forbid (principal, action, resource);`, "refused that a patient of role patient asks to read"},
		"patients see nothing":         {without(t, text, "patient-reads-own"), "their own record"},
		"patients do not export":       {text + `@id("x") forbid (principal, action == Action::"export", resource) when { context.is_patient };`, "asks to export"},
		"consent is worth nothing":     {without(t, text, "consent-permits"), "with the patient's consent"},
		"engines do not write":         {without(t, text, "write-by-treating-member"), "to the record of its own member's patient"},
		"no emergencies":               {text + `@id("x") forbid (principal, action == Action::"break-glass", resource);`, "in an emergency"},
		"anybody reads":                {text + `@id("x") permit (principal, action == Action::"read", resource);`, "permitted that somebody else of role patient asks to read without consent"},
		"officers export":              {text + `@id("x") permit (principal, action == Action::"export", resource) when { principal.role == "privacy_officer" };`, "role privacy_officer asks to export"},
		"devices read for anybody":     {text + `@id("x") permit (principal, action == Action::"history", resource) when { context.delegated };`, "by delegation"},
		"strangers write":              {text + `@id("x") permit (principal, action == Action::"write", resource);`, "asks to write without consent"},
		"works until the end of 2027":  {text + `@id("x") forbid (principal, action, resource) when { context.now_ms > 1830297600000 };`, "refused that"},
		"opens at the end of 2027":     {text + `@id("x") permit (principal, action == Action::"read", resource) when { context.now_ms > 1830297600000 };`, "permitted that"},
		"fails whenever it is applied": {text + `@id("x") forbid (principal, action, resource) when { context.now_ms + 9223372036854775807 > 0 };`, "refused that"},
	} {
		t.Run(name, func(t *testing.T) {
			set := parse(t, test.text)
			for range 5 {
				if err := set.CheckWorkable(now); err == nil || !strings.Contains(err.Error(), test.says) {
					t.Fatalf("%v, want one that says %q", err, test.says)
				}
			}
		})
	}
}

// without takes one policy out of a text.
func without(t *testing.T, text, id string) string {
	t.Helper()
	begin := strings.Index(text, `@id("`+id+`")`)
	if begin < 0 {
		t.Fatalf("the text has no policy %s", id)
	}
	end := begin + strings.Index(text[begin:], ";")
	return text[:begin] + text[end+1:]
}
