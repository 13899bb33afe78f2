package batch

import (
	"crypto/sha256"
	"encoding/base32"
	"strings"

	"cbmdhi/chaincode/signing"
)

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
