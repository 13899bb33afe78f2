package signing_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"cbmdhi/chaincode/signing"
)

func TestAnAddressIsTheHashOfItsKey(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, _ := x509.MarshalPKIXPublicKey(key.Public())
	address := signing.Address(spki)
	if len(address) != 35 || !signing.IsAddress(address) {
		t.Fatalf("address %q", address)
	}
	if got := signing.Address(nil); got != "cb14oymiquy7qobjgx36tejs35zeqt24qpe" {
		t.Fatalf("the address of nothing is %q", got) // SHA-256 of the empty text begins e3b0c442….
	}
	for _, bad := range []string{"", address[1:], address + "a", "CB1" + address[3:], address[:34] + "1", address[:34] + "/"} {
		if signing.IsAddress(bad) {
			t.Errorf("%q passes for an address", bad)
		}
	}
}

func TestOnlyCanonicalP256KeysAreKeys(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	spki, _ := x509.MarshalPKIXPublicKey(key.Public())
	if _, err := signing.ParseKey(spki); err != nil {
		t.Fatal(err)
	}
	larger, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p384, _ := x509.MarshalPKIXPublicKey(larger.Public())
	// Go's parser lets an element more pass at the end of a SEQUENCE: the same key, another hash.
	longer := append(slices.Clone(spki), 5, 0)
	longer[1] += 2
	if _, err := x509.ParsePKIXPublicKey(longer); err != nil {
		t.Fatalf("not the encoding that this test is about: %v", err)
	}
	for name, bad := range map[string][]byte{"a second encoding": longer, "P-384": p384, "trailing": append(spki[:len(spki):len(spki)], 0), "short": spki[:len(spki)-1], "none": nil} {
		if _, err := signing.ParseKey(bad); err == nil {
			t.Errorf("%s passes for a key", name)
		}
	}
}

func TestASignatureIsForOnePurpose(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	message := []byte("message")
	digest := sha256.Sum256(append([]byte(signing.CommandPrefix), message...))
	for low, high := 0, 0; low < 3 || high < 3; {
		signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		if signing.Verify(&key.PublicKey, signing.CommandPrefix, message, signature) {
			low++ // Half of all signatures have low s.
		} else {
			high++
		}
		if signing.Verify(&key.PublicKey, signing.DelegationPrefix, message, signature) {
			t.Fatal("a command's signature passes for a delegation's")
		}
		if signing.Verify(&key.PublicKey, signing.CommandPrefix, message, append(signature, 0)) {
			t.Fatal("trailing bytes pass")
		}
		if low+high > 1000 {
			t.Fatalf("%d low, %d high", low, high)
		}
	}
}

func TestAnEmergencyIsNamedByWhoSignsItAndAllThatFollows(t *testing.T) {
	behind := []byte("the rest of the command")
	id := signing.EmergencyID("cb1a", behind)
	command := slices.Concat([]byte{0x0a, byte(len(id))}, []byte(id), behind)
	if !signing.IsEmergencyID(id) || !signing.NamesItself("cb1a", command) {
		t.Fatalf("%s is not the id of %q", id, command)
	}
	if signing.NamesItself("cb1b", command) {
		t.Error("another signer's command has the id")
	}
	for at := range command {
		changed := slices.Clone(command)
		changed[at] ^= 1
		if signing.NamesItself("cb1a", changed) {
			t.Errorf("changed at %d it has the id still", at)
		}
		if signing.NamesItself("cb1a", command[:at]) {
			t.Errorf("cut off at %d it has the id still", at)
		}
	}
	digits := strings.TrimPrefix(id, "emergency-")
	for _, bad := range []string{
		"", "emergency-", digits, "emergency-" + strings.Repeat("A", 64), id + "00", id[:len(id)-2],
		"emergency-" + digits[:62] + "zz",
	} {
		if signing.IsEmergencyID(bad) {
			t.Errorf("%q passes for an emergency's id", bad)
		}
	}
}
