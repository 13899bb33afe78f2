// Package signing holds the cryptography that every caller of the mesh shares with the
// chaincode: addresses, domain-separated signatures and the hash that binds a group together.
// The comments of protos/cbmdhi/command/v1/command.proto are its specification.
package signing

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// Domain prefixes: a signature for one purpose is worth nothing for another.
const (
	CommandPrefix    = "cbmdhi/command/v1\x00"
	DelegationPrefix = "cbmdhi/delegation/v1\x00"
	groupPrefix      = "cbmdhi/group/v2\x00"
	ReplicaPrefix    = "cbmdhi/replica/v2\x00"
	emergencyPrefix  = "cbmdhi/emergency-id/v1\x00"
)

const (
	addressPrefix = "cb1"
	// AddressLength in characters: the prefix and 20 bytes in base32 without padding.
	AddressLength = len(addressPrefix) + 32
)

var (
	base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	halfOrder   = new(big.Int).Rsh(elliptic.P256().Params().N, 1)

	errNotP256 = errors.New("not a P-256 public key as DER SubjectPublicKeyInfo")
)

// Address of a key: "cb1" and the first 20 bytes of SHA-256 of its DER SubjectPublicKeyInfo.
func Address(spki []byte) string {
	digest := sha256.Sum256(spki)
	return addressPrefix + base32Lower.EncodeToString(digest[:20])
}

// IsAddress tells whether the text has the form of an address (20 bytes are exactly 32 characters,
// so every such text is some key's canonical address).
func IsAddress(text string) bool {
	if len(text) != AddressLength || text[:len(addressPrefix)] != addressPrefix {
		return false
	}
	for _, c := range []byte(text[len(addressPrefix):]) {
		if (c < 'a' || c > 'z') && (c < '2' || c > '7') {
			return false
		}
	}
	return true
}

// ParseKey reads a P-256 public key and insists on the one canonical encoding: an address is a
// hash of the encoding, so a second encoding of a key would be a second identity for it.
func ParseKey(spki []byte) (*ecdsa.PublicKey, error) {
	parsed, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		return nil, errNotP256
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errNotP256
	}
	canonical, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(canonical, spki) {
		return nil, errNotP256
	}
	return key, nil
}

// Verify checks an ECDSA signature over SHA-256(prefix || message): DER, and low s only. With high
// s allowed, anybody could make a second valid signature of somebody else's command.
func Verify(key *ecdsa.PublicKey, prefix string, message, signature []byte) bool {
	h := sha256.New()
	h.Write([]byte(prefix))
	h.Write(message)
	return ecdsa.VerifyASN1(key, h.Sum(nil), signature) && hasLowS(signature)
}

// hasLowS reads s from a signature that is valid, so that its encoding is known to be strict: a
// sequence of two integers, every length in one byte.
func hasLowS(signature []byte) bool {
	afterR := 4 + int(signature[3])
	return new(big.Int).SetBytes(signature[afterR+2:]).Cmp(halfOrder) <= 0
}

// Part is one command of a group: what is meant, and who means it.
type Part struct {
	Body   []byte
	Signer string
}

// MembersSHA256 binds the commands of a group to one another: SHA-256 over a prefix and, for each
// command in order, SHA-256 of its body and SHA-256 of its signer's address.
func MembersSHA256(parts []Part) []byte {
	h := sha256.New()
	h.Write([]byte(groupPrefix))
	for _, part := range parts {
		body, signer := sha256.Sum256(part.Body), sha256.Sum256([]byte(part.Signer))
		h.Write(body[:])
		h.Write(signer[:])
	}
	return h.Sum(nil)
}

// emergencyIDPrefix keeps the ids of emergencies apart from all others, which are UUIDs.
const emergencyIDPrefix = "emergency-"

// EmergencyID is the command id of an EmergencyAccess: it follows from who signs and from the serialized Command behind
// the id, so that nothing else can have it. A whole SHA-256, since who signs can look for two commands that have one.
func EmergencyID(signer string, behind []byte) string {
	digest := sha256.Sum256(slices.Concat([]byte(emergencyPrefix), []byte(signer), behind))
	return emergencyIDPrefix + hex.EncodeToString(digest[:])
}

// IsEmergencyID tells whether the text has the form of one.
func IsEmergencyID(text string) bool {
	digits, found := strings.CutPrefix(text, emergencyIDPrefix)
	raw, err := hex.DecodeString(digits)
	return found && err == nil && len(raw) == sha256.Size && hex.EncodeToString(raw) == digits
}

// NamesItself tells whether serialized Command bytes begin with the EmergencyID of all that follows.
func NamesItself(signer string, command []byte) bool {
	const tag, length = 0x0a, len(emergencyIDPrefix) + 2*sha256.Size
	behind := 2 + length
	return len(command) >= behind && command[0] == tag && command[1] == byte(length) &&
		string(command[2:behind]) == EmergencyID(signer, command[behind:])
}

// ReplicaMessage is what a member's storage signs when it holds a sealed batch.
func ReplicaMessage(genesisSHA256, rootSHA256, contentsSHA256 []byte, msp string, heldAtMs int64) []byte {
	return slices.Concat(genesisSHA256, rootSHA256, contentsSHA256, []byte(msp), []byte{0}, strconv.AppendInt(nil, heldAtMs, 10))
}
