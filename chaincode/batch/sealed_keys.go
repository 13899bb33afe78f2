package batch

import (
	"crypto/sha256"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// Limits of the transient field `sealed_keys`.
const (
	MaxSealedBytes    = 16 << 20
	MaxSealedKeys     = 10_000
	MaxSealedKeyBytes = 8 << 10
)

// sealedIndex finds a sealed key by where it belongs and by the hash that a command signed. What
// no command accounts for is never stored.
type sealedIndex map[sealedAt][]byte

type sealedAt struct {
	msp, key string
	sha256   [sha256.Size]byte
}

func indexSealedKeys(raw []byte) (sealedIndex, *Failure) {
	if len(raw) == 0 {
		return nil, nil
	}
	if len(raw) > MaxSealedBytes {
		return nil, fail(pb.Code_CODE_TOO_LARGE, "sealed_keys", "over %d bytes: send fewer items", MaxSealedBytes)
	}
	if sealedShape.Count(raw, MaxSealedKeys) > MaxSealedKeys {
		return nil, fail(pb.Code_CODE_TOO_LARGE, "sealed_keys", "more than %d keys", MaxSealedKeys)
	}
	var sealed pb.SealedKeys
	if err := proto.Unmarshal(raw, &sealed); err != nil {
		return nil, fail(pb.Code_CODE_INVALID, "sealed_keys", "not a serialized SealedKeys")
	}
	index := make(sealedIndex, len(sealed.GetKeys()))
	for _, key := range sealed.GetKeys() {
		if len(key.GetSealed()) > MaxSealedKeyBytes {
			return nil, fail(pb.Code_CODE_TOO_LARGE, "sealed_keys", "a sealed key is over %d bytes", MaxSealedKeyBytes)
		}
		index[sealedAt{key.GetMsp(), key.GetKey(), sha256.Sum256(key.GetSealed())}] = key.GetSealed()
	}
	return index, nil
}

// find returns the sealed key for a member under a name, if the transient map held one with the hash.
func (index sealedIndex) find(msp, key string, digest []byte) ([]byte, bool) {
	value, ok := index[sealedAt{msp, key, [sha256.Size]byte(digest)}]
	return value, ok
}
