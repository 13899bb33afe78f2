// Package vectors reads the test vectors of tests/vectors as a client in another language would: by the standard
// library and the generated messages, with none of this project's code. So they are not our code agreeing with itself.
package vectors

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// Hex is a field of bytes.
type Hex []byte

// UnmarshalText reads hexadecimal.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func read(t *testing.T, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "tests", "vectors", name))
	if err != nil {
		t.Fatalf("the test vectors are missing: %v", err)
	}
	if err := json.Unmarshal(raw, into); err != nil {
		t.Fatal(err)
	}
}

func equal(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if len(want) == 0 || !bytes.Equal(got, want) {
		t.Fatalf("%s: %x, want %x", what, got, want)
	}
}

// bind leads each part with its length.
func bind(parts ...string) (bound []byte) {
	for _, part := range parts {
		bound = binary.BigEndian.AppendUint32(bound, uint32(len(part)))
		bound = append(bound, part...)
	}
	return bound
}

func labelled(label string, parts ...[]byte) []byte {
	return slices.Concat(append([][]byte{[]byte(label), {0}}, parts...)...)
}

// address of a DER SubjectPublicKeyInfo.
func address(spki []byte) string {
	digest := sha256.Sum256(spki)
	return "cb1" + base32Lower.EncodeToString(digest[:20])
}

var (
	base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	base64Url   = base64.RawURLEncoding
)

// isSigned checks ECDSA P-256 over SHA-256: DER, low s.
func isSigned(spki, message, signature []byte) bool {
	parsed, err := x509.ParsePKIXPublicKey(spki)
	key, isEC := parsed.(*ecdsa.PublicKey)
	if err != nil || !isEC || key.Curve != elliptic.P256() {
		return false
	}
	var numbers struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(signature, &numbers); err != nil || len(rest) > 0 {
		return false
	}
	half := new(big.Int).Rsh(elliptic.P256().Params().N, 1)
	digest := sha256.Sum256(message)
	return numbers.S.Cmp(half) <= 0 && ecdsa.VerifyASN1(key, digest[:], signature)
}

// cidOf a block: CIDv1, SHA-256, base32. codec: 0x55 raw, 0x71 dag-cbor.
func cidOf(codec byte, block []byte) string {
	return "b" + base32Lower.EncodeToString(binaryCid(codec, block))
}

func binaryCid(codec byte, block []byte) []byte {
	digest := sha256.Sum256(block)
	return append([]byte{1, codec, 0x12, 0x20}, digest[:]...)
}
