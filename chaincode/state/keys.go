package state

import (
	"fmt"
	"strconv"
)

// Keys of the public state. Each is unique to what it holds, so that two transactions conflict only with cause.
// cbmdhi/protocol/state_keys.py spells the same keys for Python; tests/vectors/state_keys.json holds both to one spelling.
//
// Record versions and audit entries, which every command adds, share the prefix that sorts last and begin with their
// time-ordered id (UUIDv7). What is new always comes after what is there, and the state database (LevelDB) appends
// where it would otherwise merge each new table with the old ones. docs/adr/0010 has the figure.
const (
	ChannelKey = "chan"
	PolicyKey  = "pol"

	IdentityPrefix     = "id/"
	RegistrationPrefix = "reg/"
	MemberPrefix       = "org/"
	ConsentPrefix      = "con/"
	PolicyVotePrefix   = "polv/"
	EpochPrefix        = "epoch/"
	TimelinePrefix     = "z/"
)

// EpochSlots is how many epochs the state holds. What a batch reads is written again only by the third epoch after it:
// the epochs that begin while it is on its way to its block do not get in its way.
const EpochSlots = 3

// IdentityKey is that of an IdentityDocument.
func IdentityKey(address string) string { return IdentityPrefix + address }

// RegistrationKey is that of the signed RegisterIdentity behind an identity.
func RegistrationKey(address string) string { return RegistrationPrefix + address }

// MemberKey is that of a MemberDocument.
func MemberKey(msp string) string { return MemberPrefix + msp }

// ConsentKey is that of the ConsentDocument of a patient.
func ConsentKey(patient string) string { return ConsentPrefix + patient }

// FirstAdministratorKey is that of the FirstAdministrator of a member.
func FirstAdministratorKey(msp string) string { return "adm/" + msp }

// BreakGlassQuotaKey is that of the BreakGlassQuota of a clinician.
func BreakGlassQuotaKey(clinician string) string { return "bgq/" + clinician }

// PolicyVoteKey is that of a member's PolicyVote for the policy of a version.
func PolicyVoteKey(version uint64, msp string) string {
	return fmt.Sprintf("%s%016x/%s", PolicyVotePrefix, version, msp)
}

// EpochKey is that of the Epoch with a number.
func EpochKey(number int64) string { return EpochPrefix + strconv.FormatInt(number%EpochSlots, 10) }

// RecordKey is that of a RecordVersion.
func RecordKey(recordID string, version uint32) string {
	digits := strconv.FormatUint(uint64(version), 16)
	return TimelinePrefix + recordID + "/rec/" + "00000000"[len(digits):] + digits
}

// AuditKey is that of the AuditEntry of a command.
func AuditKey(commandID, signer string) string { return TimelinePrefix + commandID + "/aud/" + signer }

// EndedConsentKey is that of the EndedConsent which a revoked consent leaves.
func EndedConsentKey(consentID, patient string) string {
	return TimelinePrefix + consentID + "/end/" + patient
}

// RevokedDelegationKey is that of a RevokedDelegation.
func RevokedDelegationKey(delegationID, delegator string) string {
	return TimelinePrefix + delegationID + "/off/" + delegator
}

// BrokenGlassKey is that of the signed BreakGlass or EmergencyAccess, with the reason sealed to its reviewers.
func BrokenGlassKey(commandID, clinician string) string {
	return TimelinePrefix + commandID + "/glass/" + clinician
}

// BreakGlassReviewsKey is that of the BreakGlassReviews of a broken glass. They have a key of their own: the audit
// entry of the broken glass stays as it was written.
func BreakGlassReviewsKey(breakGlassID, clinician string) string {
	return TimelinePrefix + breakGlassID + "/bgr/" + clinician
}

// WriterKeyStateKey is that of a WriterKeyState. Writer keys are told apart by who made them: whoever sees an id
// cannot take it.
func WriterKeyStateKey(writer, keyID string) string { return "wkey/" + writer + "/" + keyID }

// LateKeyPrefix begins the key of every LateKey of a writer: what custodians have not received from it.
func LateKeyPrefix(writer string) string { return "late/" + writer + "/" }

// LateKeyKey is that of a LateKey.
func LateKeyKey(writer, custodian, keyID string) string {
	return LateKeyPrefix(writer) + custodian + "/" + keyID
}

// Keys of private data, in a member's implicit collection.
const (
	SealedRecordKeyPrefix = "rk/"
	SealedWriterKeyPrefix = "wk/"
)

// SealedRecordKeyName is that of a patient's record private key, sealed to the member.
func SealedRecordKeyName(patient string) string { return SealedRecordKeyPrefix + patient }

// SealedWriterKeyName is that of a writer key, sealed to the patient's record public key.
func SealedWriterKeyName(writer, keyID string) string {
	return SealedWriterKeyPrefix + writer + "/" + keyID
}

// ImplicitCollection is the private data collection of a member, which Fabric names.
func ImplicitCollection(msp string) string { return "_implicit_org_" + msp }
