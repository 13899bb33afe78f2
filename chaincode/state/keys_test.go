package state_test

import (
	"encoding/json"
	"os"
	"strconv"
	"testing"

	"cbmdhi/chaincode/state"
)

// keyVector is a key as all languages spell it.
type keyVector struct {
	Of    string            `json:"of"`
	Parts []json.RawMessage `json:"parts"`
	Key   string            `json:"key"`
}

func (v keyVector) text(t *testing.T, place int) (text string) {
	t.Helper()
	if err := json.Unmarshal(v.Parts[place], &text); err != nil {
		t.Fatalf("%s: part %d: %v", v.Of, place, err)
	}
	return text
}

func (v keyVector) number(t *testing.T, place int) uint64 {
	t.Helper()
	number, err := strconv.ParseUint(string(v.Parts[place]), 10, 64)
	if err != nil {
		t.Fatalf("%s: part %d: %v", v.Of, place, err)
	}
	return number
}

func TestKeysAreSpeltAsInTheVectors(t *testing.T) {
	raw, err := os.ReadFile("../../tests/vectors/state_keys.json")
	if err != nil {
		t.Fatalf("the test vectors are missing: %v", err)
	}
	var file struct {
		Channel    string      `json:"channel"`
		Policy     string      `json:"policy"`
		Public     []keyVector `json:"public"`
		Private    []keyVector `json:"private"`
		Collection struct {
			MSP  string `json:"msp"`
			Name string `json:"name"`
		} `json:"collection"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatalf("state_keys.json: %v", err)
	}
	one := func(spell func(string) string) func(keyVector) string {
		return func(v keyVector) string { return spell(v.text(t, 0)) }
	}
	two := func(spell func(a, b string) string) func(keyVector) string {
		return func(v keyVector) string { return spell(v.text(t, 0), v.text(t, 1)) }
	}
	spellings := map[string]func(keyVector) string{
		"IdentityDocument":   one(state.IdentityKey),
		"RegisterIdentity":   one(state.RegistrationKey),
		"MemberDocument":     one(state.MemberKey),
		"ConsentDocument":    one(state.ConsentKey),
		"FirstAdministrator": one(state.FirstAdministratorKey),
		"BreakGlassQuota":    one(state.BreakGlassQuotaKey),
		"PolicyVote":         func(v keyVector) string { return state.PolicyVoteKey(v.number(t, 0), v.text(t, 1)) },
		"Epoch":              func(v keyVector) string { return state.EpochKey(int64(v.number(t, 0))) },
		"RecordVersion":      func(v keyVector) string { return state.RecordKey(v.text(t, 0), uint32(v.number(t, 1))) },
		"AuditEntry":         two(state.AuditKey),
		"EndedConsent":       two(state.EndedConsentKey),
		"RevokedDelegation":  two(state.RevokedDelegationKey),
		"BreakGlass":         two(state.BrokenGlassKey),
		"BreakGlassReviews":  two(state.BreakGlassReviewsKey),
		"WriterKeyState":     two(state.WriterKeyStateKey),
		"LateKey":            func(v keyVector) string { return state.LateKeyKey(v.text(t, 0), v.text(t, 1), v.text(t, 2)) },
		"record private key": one(state.SealedRecordKeyName),
		"writer key":         two(state.SealedWriterKeyName),
	}
	seen := map[string]bool{}
	for _, v := range append(file.Public, file.Private...) {
		spell := spellings[v.Of]
		if spell == nil {
			t.Fatalf("no key of a %s is spelt here", v.Of)
		}
		seen[v.Of] = true
		if got := spell(v); got != v.Key {
			t.Errorf("%s: %q, in the vectors %q", v.Of, got, v.Key)
		}
	}
	for of := range spellings {
		if !seen[of] {
			t.Errorf("the vectors hold no key of a %s", of)
		}
	}
	if state.ChannelKey != file.Channel || state.PolicyKey != file.Policy {
		t.Errorf("%q and %q, in the vectors %q and %q", state.ChannelKey, state.PolicyKey, file.Channel, file.Policy)
	}
	if got := state.ImplicitCollection(file.Collection.MSP); got != file.Collection.Name {
		t.Errorf("%q, in the vectors %q", got, file.Collection.Name)
	}
}
