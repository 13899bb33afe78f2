package main

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	commandv1 "cbmdhi.internal/protos/command/v1"
	ledgerv1 "cbmdhi.internal/protos/ledger/v1"
)

// failed names the check of docs/verification.md that does not hold.
type failed string

func (f failed) Error() string { return "not proven: " + string(f) + "; ask another member's gateway" }

// check gives the first that does not hold.
func check(checks ...named) error {
	for _, one := range checks {
		if !one.holds {
			return failed(one.name)
		}
	}
	return nil
}

type named struct {
	name  string
	holds bool
}

// Trust is what is pinned.
type Trust struct {
	channel, chaincode string
	genesis            []byte
	roots              map[string][]*x509.Certificate // of each member, by MSP id
}

func (e *Engine) trust() *Trust {
	roots := map[string][]*x509.Certificate{}
	for _, member := range e.consortium.Members {
		roots[member.MspID] = certificatesOf([]byte(member.CaPem))
	}
	return &Trust{e.consortium.Channel, e.consortium.Chaincode, e.genesis, roots}
}

func certificatesOf(raw []byte) (found []*x509.Certificate) {
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
			found = append(found, certificate)
		}
	}
	return found
}

func (t *Trust) issued(certificate *x509.Certificate, mspID string) bool {
	return slices.ContainsFunc(t.roots[mspID], func(root *x509.Certificate) bool {
		return certificate.CheckSignatureFrom(root) == nil
	})
}

// Proof is what a majority of the members' peers signed, and the commands that its signers signed.
type Proof struct {
	*Trust
	values                  map[string][]byte
	commands, registrations []*commandv1.SignedCommand
	keys                    map[string][]byte // of addresses, once certified
}

// [start:proof]
// open checks the endorsements: docs/verification.md, "What the peers hold".
func (t *Trust) open(evidence *ledgerv1.Evidence) (*Proof, error) {
	var payload common.Payload
	if proto.Unmarshal(evidence.GetEndorsedState(), &payload) != nil {
		return nil, failed("bytes that cannot be read")
	}
	var channel common.ChannelHeader
	var header common.SignatureHeader
	var transaction peer.Transaction
	headers := payload.GetHeader()
	if proto.Unmarshal(headers.GetChannelHeader(), &channel) != nil || proto.Unmarshal(headers.GetSignatureHeader(), &header) != nil ||
		proto.Unmarshal(payload.GetData(), &transaction) != nil {
		return nil, failed("bytes that cannot be read")
	}
	if err := check(named{"type", channel.GetType() == int32(common.HeaderType_ENDORSER_TRANSACTION)},
		named{"one-action", len(transaction.GetActions()) == 1}); err != nil {
		return nil, err
	}
	var action peer.ChaincodeActionPayload
	var response peer.ProposalResponsePayload
	var answered peer.ChaincodeAction
	var proposal peer.ChaincodeProposalPayload
	var invocation peer.ChaincodeInvocationSpec
	if proto.Unmarshal(transaction.GetActions()[0].GetPayload(), &action) != nil ||
		proto.Unmarshal(action.GetAction().GetProposalResponsePayload(), &response) != nil ||
		proto.Unmarshal(response.GetExtension(), &answered) != nil ||
		proto.Unmarshal(action.GetChaincodeProposalPayload(), &proposal) != nil ||
		proto.Unmarshal(proposal.GetInput(), &invocation) != nil {
		return nil, failed("bytes that cannot be read")
	}
	id := sha256.Sum256(slices.Concat(header.GetNonce(), header.GetCreator()))
	asked := sha256.Sum256(slices.Concat(headers.GetChannelHeader(), headers.GetSignatureHeader(), action.GetChaincodeProposalPayload()))
	arguments := invocation.GetChaincodeSpec().GetInput().GetArgs()
	if err := check(named{"channel", channel.GetChannelId() == t.channel},
		named{"chaincode", answered.GetChaincodeId().GetName() == t.chaincode},
		named{"tx-id", channel.GetTxId() == hex.EncodeToString(id[:])},
		named{"status", answered.GetResponse().GetStatus() == 200},
		named{"two-arguments", len(arguments) == 2},
		named{"query", len(arguments) == 2 && string(arguments[0]) == "query"},
		named{"proposal-hash", bytes.Equal(asked[:], response.GetProposalHash())},
		named{"majority", t.endorsers(&channel, action.GetAction()) >= len(t.roots)/2+1}); err != nil {
		return nil, err
	}
	var query commandv1.Query
	var result commandv1.QueryResult
	if proto.Unmarshal(arguments[1], &query) != nil || proto.Unmarshal(answered.GetResponse().GetPayload(), &result) != nil {
		return nil, failed("bytes that cannot be read")
	}
	keys := query.GetGetKeys().GetKeys()
	if err := check(named{"as-many-values", len(keys) == len(result.GetValues())}); err != nil {
		return nil, err
	}
	values := map[string][]byte{}
	for place, key := range keys {
		values[key] = result.GetValues()[place]
	}
	return &Proof{t, values, evidence.GetCommands(), evidence.GetRegistrations(), map[string][]byte{}}, nil
}

// endorsers counts the members of which a peer signed. What does not count is passed over.
func (t *Trust) endorsers(channel *common.ChannelHeader, action *peer.ChaincodeEndorsedAction) int {
	at := time.Unix(channel.GetTimestamp().GetSeconds(), int64(channel.GetTimestamp().GetNanos()))
	members := map[string]bool{}
	for _, endorsement := range action.GetEndorsements() {
		var endorser msp.SerializedIdentity
		if proto.Unmarshal(endorsement.GetEndorser(), &endorser) != nil {
			continue
		}
		for _, certificate := range certificatesOf(endorser.GetIdBytes()) {
			message := sha256.Sum256(slices.Concat(action.GetProposalResponsePayload(), endorsement.GetEndorser()))
			if t.issued(certificate, endorser.GetMspid()) && !at.Before(certificate.NotBefore) && !at.After(certificate.NotAfter) &&
				slices.Contains(certificate.Subject.OrganizationalUnit, "peer") &&
				isSignature(certificate.RawSubjectPublicKeyInfo, endorsement.GetSignature(), message[:]) {
				members[endorser.GetMspid()] = true
			}
		}
	}
	return len(members)
}

// [end:proof]

// decided is "A command and its verdict": the entry, the command, its author.
func (p *Proof) decided(commandID, signer string) (*commandv1.AuditEntry, *commandv1.SignedCommand, string, error) {
	value := p.values["z/"+commandID+"/aud/"+signer]
	var entry commandv1.AuditEntry
	if err := check(named{"decided", len(value) > 0 && proto.Unmarshal(value, &entry) == nil}); err != nil {
		return nil, nil, "", err
	}
	signed, author, err := p.meant(commandID, entry.GetSigner())
	if err != nil {
		return nil, nil, "", err
	}
	digest := sha256.Sum256(signed.GetCommand())
	return &entry, signed, author, check(named{"command-sha256", bytes.Equal(digest[:], entry.GetCommandSha256())})
}

// version is "A version of a record", and its author.
func (p *Proof) version(recordID string, number uint32, patient string) (*commandv1.RecordVersion, string, error) {
	value := p.values[fmt.Sprintf("z/%s/rec/%08x", recordID, number)]
	var version commandv1.RecordVersion
	if err := check(named{"present", len(value) > 0 && proto.Unmarshal(value, &version) == nil},
		named{"asked-for", version.GetRecordId() == recordID && version.GetVersion() == number},
		named{"patient", version.GetPatient() == patient}); err != nil {
		return nil, "", err
	}
	signed, author, err := p.meant(version.GetCommandId(), version.GetSignedBy())
	if err != nil {
		return nil, "", err
	}
	_, body, err := parse(signed)
	put := body.GetPutRecord()
	if err != nil {
		return nil, "", err
	}
	return &version, author, check(named{"put-record", put != nil},
		named{"author", author == version.GetAuthor()},
		named{"as-signed", put.GetRecordId() == recordID && put.GetVersion() == number && put.GetPatient() == version.GetPatient() &&
			put.GetCategory() == version.GetCategory() && bytes.Equal(put.GetContentCommitment(), version.GetContentCommitment())})
}

// meant is "Who meant it": the command of that id and signer, and its author.
func (p *Proof) meant(commandID, signer string) (*commandv1.SignedCommand, string, error) {
	for _, signed := range p.commands {
		command, _, err := parse(signed)
		if err != nil {
			return nil, "", err
		}
		if command.GetCommandId() != commandID || signed.GetSigner() != signer {
			continue
		}
		key, err := p.certified(signer)
		if err != nil {
			return nil, "", err
		}
		if err := check(named{"command-signature", isSigned(key, signed.GetSignature(), commandLabel, signed.GetCommand())},
			named{"command-channel", command.GetChannel() == p.channel},
			named{"command-genesis", bytes.Equal(command.GetGenesisSha256(), p.genesis)}); err != nil {
			return nil, "", err
		}
		within := signed.GetDelegation()
		if within == nil {
			return signed, signer, check(named{"no-delegation", len(command.GetDelegationSha256()) == 0})
		}
		author, err := p.delegator(within, command, signer)
		return signed, author, err
	}
	return nil, "", failed("nobody's command")
}

// delegator is for whom a device signed.
func (p *Proof) delegator(within *commandv1.SignedDelegation, command *commandv1.Command, signer string) (string, error) {
	var delegation commandv1.Delegation
	if proto.Unmarshal(within.GetDelegation(), &delegation) != nil {
		return "", failed("bytes that cannot be read")
	}
	digest := sha256.Sum256(within.GetDelegation())
	key, err := p.certified(delegation.GetDelegator())
	if err != nil {
		return "", err
	}
	return delegation.GetDelegator(), check(
		named{"delegation-sha256", bytes.Equal(digest[:], command.GetDelegationSha256())},
		named{"delegate", delegation.GetDelegate() == signer},
		named{"delegation-channel", delegation.GetChannel() == command.GetChannel()},
		named{"delegation-genesis", bytes.Equal(delegation.GetGenesisSha256(), command.GetGenesisSha256())},
		named{"delegation-signature", isSigned(key, within.GetSignature(), delegationLabel, within.GetDelegation())})
}

// certified is "Whose key it is".
func (p *Proof) certified(address string) ([]byte, error) {
	if key := p.keys[address]; key != nil {
		return key, nil
	}
	for _, signed := range p.registrations {
		if signed.GetSigner() != address {
			continue
		}
		_, body, err := parse(signed)
		if err != nil {
			return nil, err
		}
		asked := body.GetRegisterIdentity()
		key := asked.GetSigningPublicKey()
		certificate, err := x509.ParseCertificate(asked.GetEnrolmentCertificate())
		if err != nil {
			return nil, failed("bytes that cannot be read")
		}
		role := strings.ToLower(strings.TrimPrefix(asked.GetRole().String(), "ROLE_"))
		if err := check(named{"registered-signer", asked.GetAddress() == address},
			named{"registered-address", addressOf(key) == address},
			named{"registration-signature", isSigned(key, signed.GetSignature(), commandLabel, signed.GetCommand())},
			named{"enrolment-root", p.issued(certificate, asked.GetHomeMsp())},
			named{"enrolment-key", bytes.Equal(certificate.RawSubjectPublicKeyInfo, key)},
			named{"enrolment-role", roleOf(certificate) == role}); err != nil {
			return nil, err
		}
		p.keys[address] = key
		return key, nil
	}
	return nil, failed("nobody's key")
}

// roleOf a certificate of Fabric CA: the attribute cbmdhi.role of its extension 1.2.3.4.5.6.7.8.1.
func roleOf(certificate *x509.Certificate) string {
	for _, extension := range certificate.Extensions {
		var attributes struct{ Attrs map[string]string }
		if extension.Id.String() == "1.2.3.4.5.6.7.8.1" && json.Unmarshal(extension.Value, &attributes) == nil {
			return attributes.Attrs["cbmdhi.role"]
		}
	}
	return ""
}

// parse gives header and body of a signed command.
func parse(signed *commandv1.SignedCommand) (*commandv1.Command, *commandv1.CommandBody, error) {
	var command commandv1.Command
	var body commandv1.CommandBody
	if proto.Unmarshal(signed.GetCommand(), &command) != nil || proto.Unmarshal(command.GetBody(), &body) != nil {
		return nil, nil, failed("bytes that cannot be read")
	}
	return &command, &body, nil
}
