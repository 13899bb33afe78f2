package vectors

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
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
	Patient       string
	CommandID     string `json:"command_id"`
	Signer        string
	Author        string
	Record        Hex   `json:"record_hex"`
	AuditEntry    Hex   `json:"audit_entry_hex"`
	Commands      []Hex `json:"commands_hex"`
	Registrations []Hex `json:"registrations_hex"`
	Cases         []evidenceCase
	Replicas      struct {
		Stored   Hex   `json:"stored_content_hex"`
		Contents Hex   `json:"contents_hex"`
		Receipts []Hex `json:"receipts_hex"`
		Bad      []struct {
			Name, Check string
			Stored      Hex `json:"stored_content_hex"`
			Receipt     Hex `json:"receipt_hex"`
		}
	}
}

type evidenceCase struct {
	Name          string
	Valid         bool
	Check         string
	Fails         string
	Asks          string
	Endorsed      Hex   `json:"endorsed_state_hex"`
	Commands      []Hex `json:"commands_hex"`
	Registrations []Hex `json:"registrations_hex"`
}

// reader checks one case. One of its checks, by its name in docs/verification.md, may be left out: what fails by
// that check alone is taken then.
type reader struct {
	*evidenceFile
	one     evidenceCase
	without string
	met     map[string]bool
}

func (file *evidenceFile) reader(one evidenceCase, without string) *reader {
	if one.Commands == nil {
		one.Commands = file.Commands
	}
	if one.Registrations == nil {
		one.Registrations = file.Registrations
	}
	return &reader{file, one, without, map[string]bool{}}
}

// holds is the check of that name.
func (r *reader) holds(name string, found bool) bool {
	r.met[name] = true
	return found || name == r.without
}

func (r *reader) check(name string, found bool, otherwise failed) {
	check(r.holds(name, found), otherwise)
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
func (r *reader) state() map[string][]byte {
	var payload common.Payload
	var channel common.ChannelHeader
	var header common.SignatureHeader
	var transaction peer.Transaction
	parse(r.one.Endorsed, &payload, "state")
	parse(payload.GetHeader().GetChannelHeader(), &channel, "state")
	parse(payload.GetHeader().GetSignatureHeader(), &header, "state")
	parse(payload.GetData(), &transaction, "state")
	r.check("type", channel.GetType() == int32(common.HeaderType_ENDORSER_TRANSACTION), "state")
	check(len(transaction.GetActions()) > 0, "state")
	r.check("one-action", len(transaction.GetActions()) == 1, "state")

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

	r.check("channel", channel.GetChannelId() == r.Channel, "transaction")
	r.check("chaincode", answered.GetChaincodeId().GetName() == r.Chaincode, "transaction")
	id := sha256.Sum256(slices.Concat(header.GetNonce(), header.GetCreator()))
	r.check("tx-id", channel.GetTxId() == hex.EncodeToString(id[:]), "transaction")
	arguments := invocation.GetChaincodeSpec().GetInput().GetArgs()
	r.check("status", answered.GetResponse().GetStatus() == 200, "transaction")
	check(len(arguments) >= 2, "transaction")
	r.check("two-arguments", len(arguments) == 2, "transaction")
	r.check("query", string(arguments[0]) == "query", "transaction")
	proposed := sha256.Sum256(slices.Concat(
		payload.GetHeader().GetChannelHeader(), payload.GetHeader().GetSignatureHeader(), action.GetChaincodeProposalPayload()))
	r.check("proposal-hash", string(proposed[:]) == string(response.GetProposalHash()), "transaction")

	holding, all := map[string]bool{}, 0
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
		if err != nil || !r.holds("peer-validity", !at.Before(certificate.NotBefore) && !at.After(certificate.NotAfter)) ||
			!r.holds("peer-unit", slices.Contains(certificate.Subject.OrganizationalUnit, "peer")) ||
			!r.holds("peer-root", r.issued(certificate, endorser.GetMspid())) {
			continue
		}
		message := slices.Concat(action.GetAction().GetProposalResponsePayload(), endorsement.GetEndorser())
		if r.holds("endorsement-signature", isSigned(certificate.RawSubjectPublicKeyInfo, message, endorsement.GetSignature())) {
			holding[endorser.GetMspid()] = true
			all++
		}
	}
	majority := len(r.Members)/2 + 1
	r.check("majority", all >= majority, "endorsements")
	r.check("members", all < majority || len(holding) >= majority, "endorsements")

	var query pb.Query
	var result pb.QueryResult
	parse(arguments[1], &query, "state")
	parse(answered.GetResponse().GetPayload(), &result, "state")
	keys := query.GetGetKeys().GetKeys()
	r.check("as-many-values", len(keys) == len(result.GetValues()), "state")
	check(len(keys) <= len(result.GetValues()), "state")
	values := map[string][]byte{}
	for i, key := range keys {
		values[key] = result.GetValues()[i]
	}
	return values
}

// certified is the signing key of an address: docs/verification.md, "Whose key it is".
func (r *reader) certified(who string) []byte {
	for _, raw := range r.one.Registrations {
		var signed pb.SignedCommand
		parse(raw, &signed, "author")
		if signed.GetSigner() != who {
			continue
		}
		_, wrapped := open(&signed)
		body := wrapped.GetRegisterIdentity()
		key := body.GetSigningPublicKey()
		r.check("registered-signer", body.GetAddress() == who, "author")
		r.check("registered-address", address(key) == who, "author")
		r.check("registration-signature", isSigned(key, labelled("cbmdhi/command/v1", signed.GetCommand()), signed.GetSignature()), "author")
		certificate, err := x509.ParseCertificate(body.GetEnrolmentCertificate())
		check(err == nil, "author")
		r.check("enrolment-root", r.issued(certificate, body.GetHomeMsp()), "author")
		r.check("enrolment-key", string(certificate.RawSubjectPublicKeyInfo) == string(key), "author")
		role := pb.Role_name[int32(body.GetRole())]
		r.check("enrolment-role", "ROLE_"+roleOf(certificate) == role, "author")
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
func (r *reader) meant(commandID, signer string) (*pb.SignedCommand, string) {
	for _, raw := range r.one.Commands {
		var signed pb.SignedCommand
		parse(raw, &signed, "author")
		command, _ := open(&signed)
		if command.GetCommandId() != commandID || signed.GetSigner() != signer {
			continue
		}
		r.check("command-signature", isSigned(r.certified(signer), labelled("cbmdhi/command/v1", signed.GetCommand()), signed.GetSignature()), "author")
		r.check("command-channel", command.GetChannel() == r.Channel, "author")
		r.check("command-genesis", string(command.GetGenesisSha256()) == string(r.Genesis), "author")
		if signed.GetDelegation() == nil {
			r.check("no-delegation", len(command.GetDelegationSha256()) == 0, "author")
			return &signed, signer
		}
		within := signed.GetDelegation()
		digest := sha256.Sum256(within.GetDelegation())
		r.check("delegation-sha256", string(digest[:]) == string(command.GetDelegationSha256()), "author")
		var delegation pb.Delegation
		parse(within.GetDelegation(), &delegation, "author")
		r.check("delegate", delegation.GetDelegate() == signer, "author")
		r.check("delegation-channel", delegation.GetChannel() == command.GetChannel(), "author")
		r.check("delegation-genesis", string(delegation.GetGenesisSha256()) == string(command.GetGenesisSha256()), "author")
		message := labelled("cbmdhi/delegation/v1", within.GetDelegation())
		r.check("delegation-signature", isSigned(r.certified(delegation.GetDelegator()), message, within.GetSignature()), "author")
		return &signed, delegation.GetDelegator()
	}
	panic(failed("author"))
}

// version and decided are docs/verification.md, "A version of a record" and "A command and its verdict".
func (r *reader) version() (err error) {
	defer tell(&err)
	values := r.state()
	value := values[fmt.Sprintf("z/%s/rec/%08x", r.RecordID, r.Version)]
	r.check("present", len(value) > 0, "state")
	var record pb.RecordVersion
	parse(value, &record, "state")
	r.check("asked-for", record.GetRecordId() == r.RecordID && record.GetVersion() == r.Version, "state")
	signed, author := r.meant(record.GetCommandId(), record.GetSignedBy())
	_, wrapped := open(signed)
	body := wrapped.GetPutRecord()
	r.check("put-record", body != nil, "state")
	r.check("author", author == record.GetAuthor(), "author")
	r.check("as-signed", body.GetRecordId() == record.GetRecordId() && body.GetVersion() == record.GetVersion() &&
		body.GetPatient() == record.GetPatient() && body.GetCategory() == record.GetCategory() &&
		string(body.GetContentCommitment()) == string(record.GetContentCommitment()), "author")
	r.check("patient", record.GetPatient() == r.Patient, "patient")
	return nil
}

func (r *reader) decided() (err error) {
	defer tell(&err)
	value := r.state()["z/"+r.CommandID+"/aud/"+r.Signer]
	r.check("decided", len(value) > 0, "verdict")
	var entry pb.AuditEntry
	parse(value, &entry, "state")
	signed, author := r.meant(r.CommandID, entry.GetSigner())
	digest := sha256.Sum256(signed.GetCommand())
	r.check("command-sha256", string(digest[:]) == string(entry.GetCommandSha256()), "author")
	check(author == r.Author && entry.GetCode() == pb.Code_CODE_OK, "verdict")
	return nil
}

func (r *reader) asked() error {
	if r.one.Asks == "command" {
		return r.decided()
	}
	return r.version()
}

// backed are checks without which another still fails: what they look for is empty then.
var backed = map[string]bool{"present": true, "put-record": true, "decided": true}

func TestEvidence(t *testing.T) {
	var file evidenceFile
	read(t, "evidence.json", &file)
	met, tried := map[string]bool{}, map[string]bool{}
	holding := 0
	for _, v := range file.Cases {
		r := file.reader(v, "")
		err := r.asked()
		maps.Copy(met, r.met)
		if v.Valid {
			holding++
			if err != nil {
				t.Errorf("%s: fails %v", v.Name, err)
			}
			if err := r.decided(); err != nil {
				t.Errorf("%s: the command fails %v", v.Name, err)
			}
			maps.Copy(met, r.met)
			equal(t, "the version", r.state()[fmt.Sprintf("z/%s/rec/%08x", file.RecordID, file.Version)], file.Record)
			continue
		}
		tried[v.Check] = true
		if !errors.Is(err, failed(v.Fails)) {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Fails)
		}
		if err := file.reader(v, v.Check).asked(); (err != nil) != backed[v.Check] {
			t.Errorf("%s: it does not fail by %s alone: without it %v", v.Name, v.Check, err)
		}
	}
	if holding != 1 || !maps.Equal(met, tried) {
		t.Fatalf("of the checks %v those with a case are %v", slices.Sorted(maps.Keys(met)), slices.Sorted(maps.Keys(tried)))
	}
}

func (file *evidenceFile) heldBy(raw, storedRaw []byte, without string) (err error) {
	defer tell(&err)
	var receipt pb.ReplicaReceipt
	var stored pb.StoredContent
	parse(raw, &receipt, "parse")
	parse(storedRaw, &stored, "parse")
	holds := func(name failed, found bool) { check(found || string(name) == without, name) }
	message := slices.Concat(labelled("cbmdhi/replica/v2", file.Genesis, receipt.GetRootSha256(), receipt.GetContentsSha256()),
		[]byte(receipt.GetMsp()+"\x00"+strconv.FormatInt(receipt.GetHeldAtMs(), 10)))
	contents := sha256.Sum256(file.Replicas.Contents)
	holds("replica-root", string(receipt.GetRootSha256()) == string(stored.GetRootSha256()))
	holds("replica-contents", string(receipt.GetContentsSha256()) == string(contents[:]))
	holds("replica-member", slices.Contains(stored.GetReplicas(), receipt.GetMsp()))
	for _, member := range file.Members {
		if member.MspID == receipt.GetMsp() {
			holds("replica-signature", isSigned(member.StorageKey, message, receipt.GetSignature()))
			return nil
		}
	}
	panic(failed("replica-member"))
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
	if len(file.Replicas.Receipts) != len(stored.GetReplicas()) {
		t.Fatal("a receipt of each member that holds it")
	}
	for i, raw := range file.Replicas.Receipts {
		if err := file.heldBy(raw, file.Replicas.Stored, ""); err != nil {
			t.Errorf("receipt %d: %v", i, err)
		}
	}
	if len(file.Replicas.Bad) < 5 {
		t.Fatal("no vectors")
	}
	for _, v := range file.Replicas.Bad {
		if err := file.heldBy(v.Receipt, v.Stored, ""); !errors.Is(err, failed(v.Check)) {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Check)
		}
		if err := file.heldBy(v.Receipt, v.Stored, v.Check); err != nil {
			t.Errorf("%s: it does not fail by %s alone: without it %v", v.Name, v.Check, err)
		}
	}
}
