package batch

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strconv"
	"strings"

	"cbmdhi/chaincode/signing"
)

// State keys. They are unique to what they hold, so that two commands conflict only with cause.
//
// Record versions and audit entries, which every command adds, share the prefix that sorts last and are led by
// their time-ordered id (UUIDv7): what is new always comes after what is there, and the state database
// (LevelDB) appends where it would otherwise merge each new table with the old ones. docs/adr/0010 has the figure.
const (
	channelKey     = "chan"
	policyKey      = "pol"
	epochPrefix    = "epoch/"
	timelinePrefix = "z/"

	policyVotePrefix = "polv/"
)

// MemberPrefix begins the key of every member document.
const MemberPrefix = "org/"

func identityKey(address string) string        { return "id/" + address }
func registrationKey(address string) string    { return "reg/" + address }
func memberKey(msp string) string              { return MemberPrefix + msp }
func consentKey(patient string) string         { return "con/" + patient }
func firstAdministratorKey(msp string) string  { return "adm/" + msp }
func breakGlassQuotaKey(address string) string { return "bgq/" + address }

// policyVoteKey is a member's vote for the policy of that version.
func policyVoteKey(version uint64, msp string) string {
	return fmt.Sprintf("%s%016x/%s", policyVotePrefix, version, msp)
}

func recordKey(recordID string, version uint32) string {
	digits := strconv.FormatUint(uint64(version), 16)
	return timelinePrefix + recordID + "/rec/" + "00000000"[len(digits):] + digits
}

func auditKey(commandID, signer string) string {
	return timelinePrefix + commandID + "/aud/" + signer
}

// endedConsentKey is that of the tombstone of a revoked consent.
func endedConsentKey(consentID, patient string) string {
	return timelinePrefix + consentID + "/end/" + patient
}

// revokedDelegationKey is that of a delegation's early end.
func revokedDelegationKey(delegationID, delegator string) string {
	return timelinePrefix + delegationID + "/off/" + delegator
}

// brokenGlassKey is that of the signed BreakGlass, with the reason sealed to its reviewers.
func brokenGlassKey(commandID, clinician string) string {
	return timelinePrefix + commandID + "/glass/" + clinician
}

func breakGlassReviewsKey(breakGlassID, clinician string) string {
	return timelinePrefix + breakGlassID + "/bgr/" + clinician
}

// Private data keys, in a member's implicit collection.
func sealedRecordKeyName(patient string) string { return "rk/" + patient }

// Writer keys are told apart by who made them: whoever sees an id cannot take it.
func writerKeyKey(writer, keyID string) string        { return "wkey/" + writer + "/" + keyID }
func sealedWriterKeyName(writer, keyID string) string { return "wk/" + writer + "/" + keyID }

// What custodians have not received from a writer.
func lateKeyPrefix(writer string) string { return "late/" + writer + "/" }
func lateKeyOf(writer, custodian, keyID string) string {
	return lateKeyPrefix(writer) + custodian + "/" + keyID
}

func implicitCollection(msp string) string { return "_implicit_org_" + msp }

// isUUIDv7 accepts the canonical lower-case text only: two spellings of an id would be two ids.
func isUUIDv7(text string) bool {
	if len(text) != 36 || text[14] != '7' || !strings.ContainsRune("89ab", rune(text[19])) {
		return false
	}
	for i, c := range []byte(text) {
		if i == 8 || i == 13 || i == 18 || i == 23 {
			if c != '-' {
				return false
			}
		} else if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func isAddress(text string) bool { return signing.IsAddress(text) }

const maxMSPLength = 64

// isMSP accepts letters, digits, dots and dashes, the first a letter or digit.
func isMSP(text string) bool {
	for i, c := range []byte(text) {
		alphanumeric := (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')
		if !alphanumeric && (i == 0 || (c != '.' && c != '-')) {
			return false
		}
	}
	return text != "" && len(text) <= maxMSPLength
}

func isSHA256(digest []byte) bool { return len(digest) == sha256.Size }

// A CIDv1 here is: version, a codec of one byte, sha2-256, 32 bytes of digest.
const (
	cidBytes      = 4 + sha256.Size
	cidVersion    = 1
	multihashSHA2 = 0x12
)

var cidEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// isCID accepts a CIDv1 in lower-case base32 over sha2-256, the only ones the storage makes.
func isCID(text string) bool {
	if !strings.HasPrefix(text, "b") {
		return false
	}
	raw, err := cidEncoding.DecodeString(text[1:])
	return err == nil && len(raw) == cidBytes && raw[0] == cidVersion && raw[1] < 0x80 &&
		raw[2] == multihashSHA2 && raw[3] == sha256.Size && cidEncoding.EncodeToString(raw) == text[1:]
}
