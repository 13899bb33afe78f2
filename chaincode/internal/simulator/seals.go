package simulator

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/signing"
)

// Batch is the argument of `process` for these items, their contents sealed.
func (w *World) Batch(items ...*pb.BatchItem) *pb.Batch {
	w.T.Helper()
	return &pb.Batch{Items: items, Seals: w.Seal(items...)}
}

// Seal stands for the storage of the members: contents that name no seal yet are one batch for all that
// name the same replicas, which hold it and sign for it. Sent again, a content brings the seal that it has.
func (w *World) Seal(items ...*pb.BatchItem) []*pb.SealedBatch {
	w.T.Helper()
	var seals []*pb.SealedBatch
	fresh := map[string]*pb.SealedBatch{}
	for _, item := range items {
		for _, content := range item.GetContents() {
			i, replicas := int(content.GetCommandIndex()), strings.Join(content.GetReplicas(), " ")
			if i >= len(item.GetGroup().GetCommands()) {
				continue
			}
			if known := w.seals[string(content.GetRootSha256())]; known != nil {
				if !slices.Contains(seals, known) {
					seals = append(seals, known)
				}
				continue
			}
			command := item.GetGroup().GetCommands()[i]
			seal := fresh[replicas]
			if seal == nil {
				root := sha256.Sum256([]byte("root of " + content.GetCid() + string(command.GetCommand())))
				seal = &pb.SealedBatch{RootSha256: root[:]}
				fresh[replicas] = seal
				seals = append(seals, seal)
			}
			content.RootSha256 = seal.RootSha256
			seal.Contents = append(seal.Contents, sealed(content, command)...)
		}
	}
	for replicas, seal := range fresh {
		w.seals[string(seal.RootSha256)] = seal
		for _, msp := range strings.Fields(replicas) {
			if w.Members[msp] != nil {
				seal.Receipts = append(seal.Receipts, w.Receipt(seal, msp, w.Now.UnixMilli()))
			}
		}
	}
	return seals
}

// sealed is a content's place in SealedBatch.contents.
func sealed(content *pb.StoredContent, command *pb.SignedCommand) []byte {
	var header pb.Command
	_ = proto.Unmarshal(command.GetCommand(), &header) // One that does not parse is refused for that.
	key := content.GetWriterKey()
	stated := sha256.Sum256(fmt.Appendf(nil, "cbmdhi/stated/v1\x00%d\x00%s\x00%d\x00%s",
		content.GetStoredBytes(), key.GetKeyId(), key.GetEpoch(), key.GetSealedKeySha256()))
	digest := sha256.Sum256(fmt.Appendf(nil, "cbmdhi/sealed/v2\x00%s\x00%s\x00%s\x00%s",
		content.GetCid(), header.GetCommandId(), command.GetSigner(), stated[:]))
	return digest[:]
}

// Receipt is a member's word that it holds a batch.
func (w *World) Receipt(seal *pb.SealedBatch, msp string, heldAtMs int64) *pb.ReplicaReceipt {
	w.T.Helper()
	contents := sha256.Sum256(seal.GetContents())
	storage := &Person{World: w, Key: w.Members[msp].storage}
	message := signing.ReplicaMessage(w.GenesisSHA256[:], seal.GetRootSha256(), contents[:], msp, heldAtMs)
	return &pb.ReplicaReceipt{
		RootSha256: seal.GetRootSha256(), ContentsSha256: contents[:], Msp: msp, HeldAtMs: heldAtMs,
		Signature: storage.SignBytes(signing.ReplicaPrefix, message),
	}
}
