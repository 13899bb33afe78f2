package batch

import (
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/signing"
	"cbmdhi/chaincode/state"
	"cbmdhi/chaincode/wire"
)

// Limits of a seal. They are part of the contract with storage (state.proto).
const (
	maxSealedContents = 1000
	// A replica's storage keeps the content for longer than its receipt may be used. So nothing that it has unpinned can
	// be put on the channel afterwards.
	receiptLifetimeMs = 12 * 60 * 1000
	// By which a member's clock may be ahead of the transaction's.
	receiptSkewMs = 2 * 60 * 1000
)

// contentSeal is a SealedBatch, checked once for all the records that name it.
type contentSeal struct {
	seal *pb.SealedBatch
	// Why it is not well-formed.
	malformed *refusal
	contents  map[[sha256.Size]byte]struct{}
	// Whether a member's receipt verifies, for those that were asked about.
	holders map[string]bool
}

// decodeSeals indexes the seals of a batch by their roots. A malformed seal is a fault of the records that name it.
func decodeSeals(batch *pb.Batch) (map[string]*contentSeal, *Failure) {
	if len(batch.GetSeals()) > len(batch.GetItems())*MaxGroupRecords {
		return nil, fail(pb.Code_CODE_INVALID, "batch", "more seals than contents")
	}
	seals := make(map[string]*contentSeal, len(batch.GetSeals()))
	for _, seal := range batch.GetSeals() {
		root := string(seal.GetRootSha256())
		if seals[root] != nil {
			return nil, fail(pb.Code_CODE_INVALID, "batch", "the same seal twice")
		}
		s := &contentSeal{seal: seal, malformed: checkSeal(seal), holders: map[string]bool{}}
		if s.malformed == nil {
			s.contents = make(map[[sha256.Size]byte]struct{}, len(seal.GetContents())/sha256.Size)
			for at := 0; at < len(seal.GetContents()); at += sha256.Size {
				s.contents[[sha256.Size]byte(seal.GetContents()[at:])] = struct{}{}
			}
		}
		seals[root] = s
	}
	return seals, nil
}

func checkSeal(seal *pb.SealedBatch) *refusal {
	count := len(seal.GetContents()) / sha256.Size
	switch {
	case !wire.AllKnown(seal.ProtoReflect()):
		return invalid("seals", "not a SealedBatch of this version")
	case !isSHA256(seal.GetRootSha256()):
		return invalid("seals.root_sha256", "not 32 bytes")
	case count == 0 || len(seal.GetContents())%sha256.Size != 0:
		return invalid("seals.contents", "not 32 bytes for each record")
	case count > maxSealedContents:
		return tooLarge("seals.contents", "more than %d records", maxSealedContents)
	case len(seal.GetReceipts()) > maxReplicas:
		return tooLarge("seals.receipts", "more than %d", maxReplicas)
	}
	return nil
}

// acceptSeal checks that the content was sealed for this command as it is stated, and that each member that is said
// to hold it has signed for that.
func (r *run) acceptSeal(c *decided) *refusal {
	s := r.seals[string(c.content.GetRootSha256())]
	if s == nil {
		return invalid("contents.root_sha256", "the batch holds no seal of that root")
	}
	if s.malformed != nil {
		return s.malformed
	}
	if _, ok := s.contents[sealedContent(c.content, c.id(), c.signed.GetSigner())]; !ok {
		return invalid("contents.cid", "not sealed for this command, or not with this key and size: seal it anew")
	}
	for i, msp := range c.content.GetReplicas() {
		member := state.Load[pb.MemberDocument](r.state, state.MemberKey(msp))
		if member == nil {
			return invalid(elementOf("contents.replicas", i), "not a member of this channel")
		}
		if !r.isHolder(s, member) {
			return invalid(elementOf("contents.replicas", i),
				"the seal has no receipt of this member's storage that holds, of the last %d minutes: seal it anew", receiptLifetimeMs/60_000)
		}
	}
	return nil
}

// isHolder tells whether a member has signed that it holds the batch. It is checked once for all its records.
func (r *run) isHolder(s *contentSeal, member *pb.MemberDocument) bool {
	holds, known := s.holders[member.GetMsp()]
	if !known {
		holds = slices.ContainsFunc(s.seal.GetReceipts(), func(receipt *pb.ReplicaReceipt) bool {
			return receipt.GetMsp() == member.GetMsp() && r.verifyReceipt(s.seal, receipt, member.GetStorageSigningKey())
		})
		s.holders[member.GetMsp()] = holds
	}
	return holds
}

func (r *run) verifyReceipt(seal *pb.SealedBatch, receipt *pb.ReplicaReceipt, spki []byte) bool {
	contents := sha256.Sum256(seal.GetContents())
	age := r.call.TimeMs - receipt.GetHeldAtMs()
	if age > receiptLifetimeMs || age < -receiptSkewMs {
		return false
	}
	key, err := signing.ParseKey(spki)
	if err != nil {
		panic(state.Fault{Reason: "a member's storage signing key in the state does not parse"})
	}
	// Of the batch that is here, whatever else the receipt says that it is about.
	message := signing.ReplicaMessage(r.call.GenesisSHA256[:], seal.GetRootSha256(), contents[:], receipt.GetMsp(), receipt.GetHeldAtMs())
	return signing.Verify(key, signing.ReplicaPrefix, message, receipt.GetSignature())
}

// sealedContent is a record's place in SealedBatch.contents: which content was sealed for which command, and what its
// storage says of it.
func sealedContent(content *pb.StoredContent, commandID, signer string) [sha256.Size]byte {
	statement := contentStatement(content)
	sealed := strings.Join([]string{"cbmdhi/sealed/v2", content.GetCid(), commandID, signer, string(statement[:])}, "\x00")
	return sha256.Sum256([]byte(sealed))
}

// contentStatement is what the writer's storage says: how large the content is and which key opens it. A carrier that
// named another key would take its id from the patient for whom storage made it, or use up the epochs.
func contentStatement(content *pb.StoredContent) [sha256.Size]byte {
	key := content.GetWriterKey()
	return sha256.Sum256([]byte(strings.Join([]string{
		"cbmdhi/stated/v1", strconv.FormatUint(content.GetStoredBytes(), 10), key.GetKeyId(),
		strconv.FormatUint(uint64(key.GetEpoch()), 10), string(key.GetSealedKeySha256()),
	}, "\x00")))
}
