package vectors

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
)

type evidenceFile struct {
	Channel, Chaincode string
	Genesis            Hex `json:"genesis_sha256_hex"`
	Members            []struct {
		MspID      string `json:"msp_id"`
		Ca         string `json:"ca_pem"`
		StorageKey Hex    `json:"storage_signing_key"`
	}
	RecordID      string `json:"record_id"`
	Version       uint32
	CommandID     string `json:"command_id"`
	Signer        string
	Author        string
	Record        Hex   `json:"record_hex"`
	AuditEntry    Hex   `json:"audit_entry_hex"`
	Commands      []Hex `json:"commands_hex"`
	Registrations []Hex `json:"registrations_hex"`
	Cases         []struct {
		Name     string
		Endorsed Hex `json:"endorsed_state_hex"`
		Valid    bool
		Fails    string
	}
	Replicas struct {
		Stored   Hex   `json:"stored_content_hex"`
		Contents Hex   `json:"contents_hex"`
		Receipts []Hex `json:"receipts_hex"`
	}
}

// failed says which check of docs/verification.md a piece of evidence fails.
type failed string

func (f failed) Error() string { return string(f) }

func check(holds bool, otherwise failed) {
	if !holds {
		panic(otherwise)
	}
}

// tell turns a check that failed into an error.
func tell(err *error) {
	switch fault := recover().(type) {
	case nil:
	case failed:
		*err = fault
	default:
		panic(fault)
	}
}

func parse(raw []byte, into proto.Message, otherwise failed) {
	check(proto.Unmarshal(raw, into) == nil, otherwise)
}

func (file *evidenceFile) roots(mspID string) (roots []*x509.Certificate) {
	for _, member := range file.Members {
		if member.MspID == mspID {
			block, _ := pem.Decode([]byte(member.Ca))
			root, err := x509.ParseCertificate(block.Bytes)
			check(err == nil, "a pinned root cannot be read")
			roots = append(roots, root)
		}
	}
	return roots
}

func (file *evidenceFile) issued(certificate *x509.Certificate, mspID string) bool {
	return slices.ContainsFunc(file.roots(mspID), func(root *x509.Certificate) bool {
		return certificate.CheckSignatureFrom(root) == nil
	})
}

// state is what a majority of the members' peers sign of some keys: docs/verification.md, "What the peers hold".
func (file *evidenceFile) state(endorsed []byte) map[string][]byte {
	var payload common.Payload
	var channel common.ChannelHeader
	var header common.SignatureHeader
	var transaction peer.Transaction
	parse(endorsed, &payload, "state")
	parse(payload.GetHeader().GetChannelHeader(), &channel, "state")
	parse(payload.GetHeader().GetSignatureHeader(), &header, "state")
	parse(payload.GetData(), &transaction, "state")
	check(channel.GetType() == int32(common.HeaderType_ENDORSER_TRANSACTION) && len(transaction.GetActions()) == 1, "state")

	var action peer.ChaincodeActionPayload
	var response peer.ProposalResponsePayload
	var answered peer.ChaincodeAction
	var proposal peer.ChaincodeProposalPayload
	var invocation peer.ChaincodeInvocationSpec
	parse(transaction.GetActions()[0].GetPayload(), &action, "state")
	parse(action.GetAction().GetProposalResponsePayload(), &response, "state")
	parse(response.GetExtension(), &answered, "state")
	parse(action.GetChaincodeProposalPayload(), &proposal, "state")
	parse(proposal.GetInput(), &invocation, "state")

	check(channel.GetChannelId() == file.Channel && answered.GetChaincodeId().GetName() == file.Chaincode, "transaction")
	id := sha256.Sum256(slices.Concat(header.GetNonce(), header.GetCreator()))
	check(channel.GetTxId() == hex.EncodeToString(id[:]), "transaction")
	arguments := invocation.GetChaincodeSpec().GetInput().GetArgs()
	check(answered.GetResponse().GetStatus() == 200 && len(arguments) == 2 && string(arguments[0]) == "query", "transaction")
	proposed := sha256.Sum256(slices.Concat(
		payload.GetHeader().GetChannelHeader(), payload.GetHeader().GetSignatureHeader(), action.GetChaincodeProposalPayload()))
	check(string(proposed[:]) == string(response.GetProposalHash()), "transaction")

	holding := map[string]bool{}
	for _, endorsement := range action.GetAction().GetEndorsements() {
		var endorser msp.SerializedIdentity
		if proto.Unmarshal(endorsement.GetEndorser(), &endorser) != nil {
			continue
		}
		block, _ := pem.Decode(endorser.GetIdBytes())
		if block == nil {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		at := time.Unix(channel.GetTimestamp().GetSeconds(), int64(channel.GetTimestamp().GetNanos()))
		if err != nil || at.Before(certificate.NotBefore) || at.After(certificate.NotAfter) ||
			!slices.Contains(certificate.Subject.OrganizationalUnit, "peer") || !file.issued(certificate, endorser.GetMspid()) {
			continue
		}
		message := slices.Concat(action.GetAction().GetProposalResponsePayload(), endorsement.GetEndorser())
		if isSigned(certificate.RawSubjectPublicKeyInfo, message, endorsement.GetSignature()) {
			holding[endorser.GetMspid()] = true
		}
	}
	check(len(holding) >= len(file.Members)/2+1, "endorsements")

	var query pb.Query
	var result pb.QueryResult
	parse(arguments[1], &query, "state")
	parse(answered.GetResponse().GetPayload(), &result, "state")
	keys := query.GetGetKeys().GetKeys()
	check(len(keys) == len(result.GetValues()), "state")
	values := map[string][]byte{}
	for i, key := range keys {
		values[key] = result.GetValues()[i]
	}
	return values
}

// certified is the signing key of an address: docs/verification.md, "Whose key it is".
func (file *evidenceFile) certified(who string) []byte {
	for _, raw := range file.Registrations {
		var signed pb.SignedCommand
		parse(raw, &signed, "author")
		if signed.GetSigner() != who {
			continue
		}
		_, wrapped := open(&signed)
		body := wrapped.GetRegisterIdentity()
		key := body.GetSigningPublicKey()
		check(body.GetAddress() == who && address(key) == who, "author")
		check(isSigned(key, labelled("cbmdhi/command/v1", signed.GetCommand()), signed.GetSignature()), "author")
		certificate, err := x509.ParseCertificate(body.GetEnrolmentCertificate())
		check(err == nil && file.issued(certificate, body.GetHomeMsp()), "author")
		check(string(certificate.RawSubjectPublicKeyInfo) == string(key), "author")
		role := pb.Role_name[int32(body.GetRole())]
		check("ROLE_"+roleOf(certificate) == role, "author")
		return key
	}
	panic(failed("author"))
}

func roleOf(certificate *x509.Certificate) string {
	for _, extension := range certificate.Extensions {
		var attributes struct {
			Attrs map[string]string
		}
		if extension.Id.String() == "1.2.3.4.5.6.7.8.1" && json.Unmarshal(extension.Value, &attributes) == nil {
			upper := []byte(attributes.Attrs["cbmdhi.role"])
			for i, c := range upper {
				if 'a' <= c && c <= 'z' {
					upper[i] = c - 'a' + 'A'
				}
			}
			return string(upper)
		}
	}
	return ""
}

func open(signed *pb.SignedCommand) (*pb.Command, *pb.CommandBody) {
	var command pb.Command
	var body pb.CommandBody
	parse(signed.GetCommand(), &command, "author")
	parse(command.GetBody(), &body, "author")
	return &command, &body
}

// meant gives the command of that id and signer, and its author: docs/verification.md, "Who meant it".
func (file *evidenceFile) meant(commandID, signer string) (*pb.SignedCommand, string) {
	for _, raw := range file.Commands {
		var signed pb.SignedCommand
		parse(raw, &signed, "author")
		command, _ := open(&signed)
		if command.GetCommandId() != commandID || signed.GetSigner() != signer {
			continue
		}
		check(isSigned(file.certified(signer), labelled("cbmdhi/command/v1", signed.GetCommand()), signed.GetSignature()), "author")
		check(command.GetChannel() == file.Channel && string(command.GetGenesisSha256()) == string(file.Genesis), "author")
		if signed.GetDelegation() == nil {
			check(len(command.GetDelegationSha256()) == 0, "author")
			return &signed, signer
		}
		within := signed.GetDelegation()
		digest := sha256.Sum256(within.GetDelegation())
		check(string(digest[:]) == string(command.GetDelegationSha256()), "author")
		var delegation pb.Delegation
		parse(within.GetDelegation(), &delegation, "author")
		check(delegation.GetDelegate() == signer && delegation.GetChannel() == file.Channel &&
			string(delegation.GetGenesisSha256()) == string(file.Genesis), "author")
		message := labelled("cbmdhi/delegation/v1", within.GetDelegation())
		check(isSigned(file.certified(delegation.GetDelegator()), message, within.GetSignature()), "author")
		return &signed, delegation.GetDelegator()
	}
	panic(failed("author"))
}

// version and decided are docs/verification.md, "A version of a record" and "A command and its verdict".
func (file *evidenceFile) version(endorsed []byte) (err error) {
	defer tell(&err)
	values := file.state(endorsed)
	value := values[fmt.Sprintf("z/%s/rec/%08x", file.RecordID, file.Version)]
	check(len(value) > 0, "state")
	var record pb.RecordVersion
	parse(value, &record, "state")
	signed, author := file.meant(record.GetCommandId(), record.GetSignedBy())
	_, wrapped := open(signed)
	body := wrapped.GetPutRecord()
	check(body != nil && record.GetRecordId() == file.RecordID && record.GetVersion() == file.Version, "state")
	check(author == record.GetAuthor(), "author")
	check(body.GetRecordId() == record.GetRecordId() && body.GetVersion() == record.GetVersion() &&
		body.GetPatient() == record.GetPatient() && body.GetCategory() == record.GetCategory() &&
		string(body.GetContentCommitment()) == string(record.GetContentCommitment()), "author")
	return nil
}

func (file *evidenceFile) decided(endorsed []byte) (err error) {
	defer tell(&err)
	value := file.state(endorsed)["z/"+file.CommandID+"/aud/"+file.Signer]
	check(len(value) > 0, "verdict")
	var entry pb.AuditEntry
	parse(value, &entry, "state")
	signed, author := file.meant(file.CommandID, entry.GetSigner())
	digest := sha256.Sum256(signed.GetCommand())
	check(string(digest[:]) == string(entry.GetCommandSha256()), "author")
	check(author == file.Author && entry.GetCode() == pb.Code_CODE_OK, "verdict")
	return nil
}

func TestEvidence(t *testing.T) {
	var file evidenceFile
	read(t, "evidence.json", &file)
	holding := 0
	for _, v := range file.Cases {
		err := file.version(v.Endorsed)
		if v.Valid {
			holding++
			if err != nil {
				t.Errorf("%s: fails %v", v.Name, err)
			}
			if err := file.decided(v.Endorsed); err != nil {
				t.Errorf("%s: the command fails %v", v.Name, err)
			}
			equal(t, "the version", file.state(v.Endorsed)[fmt.Sprintf("z/%s/rec/%08x", file.RecordID, file.Version)], file.Record)
			continue
		}
		if !errors.Is(err, failed(v.Fails)) {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Fails)
		}
	}
	if holding != 1 || len(file.Cases) < 5 {
		t.Fatal("no vectors")
	}
}

func TestReceiptsOfWhoHoldsARecord(t *testing.T) {
	var file evidenceFile
	read(t, "evidence.json", &file)
	var stored pb.StoredContent
	if proto.Unmarshal(file.Replicas.Stored, &stored) != nil {
		t.Fatal("the stored content cannot be read")
	}
	key := stored.GetWriterKey()
	stated := sha256.Sum256(slices.Concat([]byte("cbmdhi/stated/v1\x00"+strconv.FormatUint(stored.GetStoredBytes(), 10)+"\x00"+
		key.GetKeyId()+"\x00"+strconv.FormatUint(uint64(key.GetEpoch()), 10)+"\x00"), key.GetSealedKeySha256()))
	content := sha256.Sum256(slices.Concat([]byte("cbmdhi/sealed/v2\x00"+stored.GetCid()+"\x00"+file.CommandID+"\x00"+file.Signer+"\x00"), stated[:]))
	equal(t, "contents", content[:], file.Replicas.Contents)
	contents := sha256.Sum256(file.Replicas.Contents)
	if len(file.Replicas.Receipts) != len(stored.GetReplicas()) {
		t.Fatal("a receipt of each member that holds it")
	}
	for i, raw := range file.Replicas.Receipts {
		var receipt pb.ReplicaReceipt
		if proto.Unmarshal(raw, &receipt) != nil {
			t.Fatal("a receipt cannot be read")
		}
		equal(t, "root", receipt.GetRootSha256(), stored.GetRootSha256())
		equal(t, "contents", receipt.GetContentsSha256(), contents[:])
		message := slices.Concat(labelled("cbmdhi/replica/v2", file.Genesis, receipt.GetRootSha256(), receipt.GetContentsSha256()),
			[]byte(receipt.GetMsp()+"\x00"+strconv.FormatInt(receipt.GetHeldAtMs(), 10)))
		if receipt.GetMsp() != stored.GetReplicas()[i] || file.Members[i].MspID != receipt.GetMsp() ||
			!isSigned(file.Members[i].StorageKey, message, receipt.GetSignature()) {
			t.Errorf("%s did not sign its receipt", receipt.GetMsp())
		}
	}
}
