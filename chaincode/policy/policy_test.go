package policy_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
)

const (
	patient   = "cb1patient"
	author    = "cb1author"
	somebody  = "cb1somebody"
	mercy     = "MercyMSP"
	lakeside  = "LakesideMSP"
	insurer   = "InsurerMSP"
	clinician = pb.Role_ROLE_CLINICIAN
)

func defaultText(t testing.TB) string {
	text, err := os.ReadFile("../../deploy/chaincode/policies/default.cedar")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parse(t testing.TB, text string) *policy.Set {
	set, err := policy.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func consents(effect pb.Effect, actions ...string) *pb.ConsentDocument {
	return &pb.ConsentDocument{Version: 1, Consents: []*pb.ActiveConsent{{
		ConsentId: "c", Provisions: []*pb.Provision{{Effect: effect, Actions: actions}},
	}}}
}

// request of a clinician of Lakeside about a record of a patient of Mercy, unless changed.
func request(action string, change func(*policy.Request)) *policy.Request {
	r := &policy.Request{
		Principal: &pb.IdentityDocument{Address: somebody, Role: clinician, HomeMsp: lakeside, Status: pb.IdentityStatus_IDENTITY_STATUS_ACTIVE},
		Action:    action, Purpose: "TREAT", NowMs: 1000,
		Record: policy.Record{ID: "r", Patient: patient, Category: "imaging", Author: author, WriterMSP: mercy, PatientMSP: mercy, Custodians: []string{mercy, insurer}},
	}
	if change != nil {
		change(r)
	}
	return r
}

func TestTheDefaultPolicy(t *testing.T) {
	set := parse(t, defaultText(t))
	permit, deny := consents(pb.Effect_EFFECT_PERMIT), consents(pb.Effect_EFFECT_DENY)
	who := func(role pb.Role, msp, address string) func(*policy.Request) {
		return func(r *policy.Request) {
			r.Principal.Role, r.Principal.HomeMsp, r.Principal.Address = role, msp, address
		}
	}
	with := func(changes ...func(*policy.Request)) func(*policy.Request) {
		return func(r *policy.Request) {
			for _, change := range changes {
				change(r)
			}
		}
	}
	consented := func(d *pb.ConsentDocument) func(*policy.Request) { return func(r *policy.Request) { r.Consents = d } }
	purpose := func(p string) func(*policy.Request) { return func(r *policy.Request) { r.Purpose = p } }
	delegated := func(r *policy.Request) { r.Delegated = true }
	itself := who(pb.Role_ROLE_PATIENT, mercy, patient)

	stories := []struct {
		name, action string
		change       func(*policy.Request)
		permit       bool
		policies     []string
	}{
		{"a stranger reads", "read", nil, false, nil},
		{"the patient reads", "read", itself, true, []string{"patient-reads-own"}},
		{"the patient exports", "export", itself, true, []string{"patient-reads-own"}},
		{"the patient gets events", "event", with(itself, delegated), true, []string{"patient-reads-own"}},
		{"the patient reads what they denied everybody", "read", with(itself, consented(deny)), true, []string{"patient-reads-own"}},
		{"the patient writes", "write", itself, false, nil},
		{"another patient reads", "read", who(pb.Role_ROLE_PATIENT, mercy, somebody), false, nil},
		{"consent permits", "read", consented(permit), true, []string{"consent-permits"}},
		{"consent without actions does not mean export", "export", consented(permit), false, nil},
		{"consent to export", "export", consented(consents(pb.Effect_EFFECT_PERMIT, "export")), true, []string{"consent-permits"}},
		{"consent to events", "event", consented(consents(pb.Effect_EFFECT_PERMIT, "event")), true, []string{"consent-permits"}},
		{"consent denies", "read", consented(deny), false, nil},
		{"the author reads while treating", "read", who(clinician, mercy, author), true, []string{"author-reads-own-for-treatment"}},
		{"the author reads for payment", "read", with(who(clinician, mercy, author), purpose("HPAYMT")), false, nil},
		{"the author exports", "export", who(clinician, mercy, author), false, nil},
		{"the author is denied", "read", with(who(clinician, mercy, author), consented(deny)), false, nil},
		{"a clinician of the home member writes", "write", who(clinician, mercy, somebody), true, []string{"write-by-treating-member"}},
		{"an engine of a custodian writes", "write", who(pb.Role_ROLE_ENGINE, insurer, somebody), true, []string{"write-by-treating-member"}},
		{"a clinician from elsewhere writes", "write", nil, false, nil},
		{"a clinician of the home member is denied writing", "write",
			with(who(clinician, mercy, somebody), consented(consents(pb.Effect_EFFECT_DENY, "write"))), false, nil},
		{"an administrator writes in person", "write", who(pb.Role_ROLE_ADMINISTRATOR, mercy, somebody), false, nil},
		{"a system of the administrator writes", "write", with(who(pb.Role_ROLE_ADMINISTRATOR, mercy, somebody), delegated), true, []string{"write-by-system-of-treating-member"}},
		{"a device writes in its own name", "write", who(pb.Role_ROLE_DEVICE, mercy, somebody), false, nil},
		{"a device reads what it signed for others", "read", who(pb.Role_ROLE_DEVICE, mercy, author), false, []string{"device-reads-nothing-for-itself"}},
		{"a device reads under consent for anyone", "search", with(who(pb.Role_ROLE_DEVICE, mercy, somebody), consented(permit)), false, []string{"device-reads-nothing-for-itself"}},
		{"a researcher without consent", "read", with(who(pb.Role_ROLE_RESEARCHER, lakeside, somebody), purpose("HRESCH")), false, []string{"researcher-only-for-consented-research"}},
		{"a researcher with consent", "read", with(who(pb.Role_ROLE_RESEARCHER, lakeside, somebody), purpose("HRESCH"), consented(permit)), true, []string{"consent-permits"}},
		{"a researcher who treats", "read", with(who(pb.Role_ROLE_RESEARCHER, lakeside, somebody), consented(permit)), false, []string{"researcher-only-for-consented-research"}},
		{"a clinician breaks the glass", "break-glass", with(purpose("ETREAT"), consented(deny)), true, []string{"break-glass-by-clinician"}},
		{"a delegated break-glass", "break-glass", with(purpose("ETREAT"), delegated), false, []string{"break-glass-only-in-person"}},
		{"a nurse's engine breaks the glass", "break-glass", with(who(pb.Role_ROLE_ENGINE, mercy, somebody), purpose("ETREAT"), consented(permit)), false, nil},
	}
	for _, test := range stories {
		t.Run(test.name, func(t *testing.T) {
			got := set.Session().Decide(request(test.action, test.change))
			if got.Permit != test.permit || got.Faulty || !slices.Equal(got.Policies, test.policies) {
				t.Fatalf("decided %+v, want permit %v by %v", got, test.permit, test.policies)
			}
		})
	}
}

func TestSeveralPoliciesAreNamedInOrder(t *testing.T) {
	set := parse(t, `@id("z") permit (principal, action, resource); @id("a") permit (principal, action, resource);`)
	for range 20 {
		if got := set.Session().Decide(request("read", nil)); !slices.Equal(got.Policies, []string{"a", "z"}) {
			t.Fatalf("policies %v", got.Policies)
		}
	}
}

func TestAPolicyThatFailsPermitsNothing(t *testing.T) {
	// Sums overflow: valid against the schema, and an error when it is evaluated.
	set := parse(t, `@id("open") permit (principal, action, resource);
		@id("broken") forbid (principal, action, resource) when { context.now_ms + 9223372036854775807 > 0 };`)
	got := set.Session().Decide(request("read", nil))
	if got.Permit || !got.Faulty || !slices.Equal(got.Policies, []string{"broken"}) {
		t.Fatalf("decided %+v", got)
	}
}

func TestBreakingTheGlassAsksTheConsentsAboutReading(t *testing.T) {
	d := consents(pb.Effect_EFFECT_DENY, "read")
	if got := policy.Consent(d, request(policy.ActionBreakGlass, nil)); got.Effect != policy.ConsentDeny || got.ConsentID != "c" {
		t.Fatalf("consent %+v", got)
	}
}

func TestThePolicyTextIsParsedOnce(t *testing.T) {
	var cache policy.Cache
	text := defaultText(t)
	first, err := cache.Get(text)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		second, err := cache.Get(text)
		if err != nil || first != second {
			t.Fatalf("parsed again: %v", err)
		}
	}
	for i := range 20 {
		if _, err := cache.Get(text + strings.Repeat("\n", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cache.Get("permit ("); err == nil {
		t.Fatal("half a policy was accepted")
	}
}

func BenchmarkDecide(b *testing.B) {
	set := parse(b, defaultText(b))
	r := request("write", func(r *policy.Request) { r.Principal.HomeMsp = mercy })
	for b.Loop() {
		set.Session().Decide(r)
	}
}

func TestSortingPoliciesByTheirActionScopeChangesNoDecision(t *testing.T) {
	// The same policies, once by scope and once by condition, which nobody sorts.
	scoped, conditions := "", ""
	for id, action := range map[string]string{
		"equal": `== Action::"read"`, "in": `in Action::"write"`, "of-two": `in [Action::"read", Action::"break-glass"]`,
	} {
		scoped += `@id("` + id + `") permit (principal, action ` + action + `, resource);`
		conditions += `@id("` + id + `") permit (principal, action, resource) when { action ` + action + ` };`
	}
	all := `@id("any") permit (principal, action, resource) when { context.consent != "deny" };`
	one, other := parse(t, scoped+all), parse(t, conditions+all)
	for _, action := range []string{"read", "search", "history", "export", "event", "write", "break-glass", "unheard-of"} {
		got, want := one.Session().Decide(request(action, nil)), other.Session().Decide(request(action, nil))
		if got.Permit != want.Permit || got.Faulty || want.Faulty || !slices.Equal(got.Policies, want.Policies) || len(got.Policies) == 0 {
			t.Errorf("%s: %v, without sorting %v", action, got, want)
		}
	}
}

func TestOneSessionAnswersAsManyDo(t *testing.T) {
	set := parse(t, defaultText(t))
	session := set.Session()
	for range 2 {
		for _, role := range []pb.Role{clinician, pb.Role_ROLE_RESEARCHER, pb.Role_ROLE_PATIENT} {
			for _, address := range []string{somebody, author, patient} {
				for _, purpose := range []string{"TREAT", "HRESCH"} {
					for _, document := range []*pb.ConsentDocument{nil, consents(pb.Effect_EFFECT_PERMIT), consents(pb.Effect_EFFECT_DENY)} {
						r := request("read", func(r *policy.Request) {
							r.Principal.Role, r.Principal.Address, r.Purpose, r.Consents = role, address, purpose, document
						})
						if got, want := session.Decide(r), set.Session().Decide(r); got.Permit != want.Permit || !slices.Equal(got.Policies, want.Policies) {
							t.Fatalf("%v at %s for %s: %v, alone %v", role, address, purpose, got, want)
						}
					}
				}
			}
		}
	}
}

func TestATextThatDoesNotParseIsRefusedInWordsOfOurOwn(t *testing.T) {
	const good = `@id("%s") permit (principal, action, resource); // ; "a
`
	a, b := fmt.Sprintf(good, "a"), fmt.Sprintf(good, "b")
	for text, want := range map[string]string{
		a + `@id("x") permit (principal actionn, resource);` + b: "policy 2 does not parse as Cedar",
		a + b + `@id("x") permit (`:                              "policy 3 does not parse as Cedar",
		`nonsense`:                                               "policy 1 does not parse as Cedar",
	} {
		if _, err := policy.Parse(text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
