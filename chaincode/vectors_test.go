package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/signing"
)

// vector is one agreed example; engines in every language check themselves against the same file.
type vector struct {
	Name             string `json:"name"`
	PublicKeySPKIHex string `json:"public_key_spki_hex"`
	Address          string `json:"address"`
	CommandHex       string `json:"command_hex"`
	SignatureHex     string `json:"signature_hex"`
	Valid            bool   `json:"valid"`
	// Set when the command belongs to a group: the hash over the bodies and signers of all its commands.
	MembersSHA256Hex string `json:"members_sha256_hex"`
}

func TestTheTestVectorsOfTheContractHold(t *testing.T) {
	raw, err := os.ReadFile("../tests/vectors/commands.json")
	if err != nil {
		t.Fatalf("the test vectors are missing: %v", err)
	}
	var file struct {
		Channel    string `json:"channel"`
		Genesis    string `json:"genesis_sha256_hex"`
		Commitment struct {
			SaltHex       string `json:"salt_hex"`
			ContentHex    string `json:"content_hex"`
			CommitmentHex string `json:"commitment_hex"`
		} `json:"commitment"`
		Commands []vector `json:"commands"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	if len(file.Commands) == 0 {
		t.Fatal("no vectors")
	}
	decode := func(t *testing.T, text string) []byte {
		t.Helper()
		value, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
	commitment := sha256.Sum256(append(decode(t, file.Commitment.SaltHex), decode(t, file.Commitment.ContentHex)...))
	if hex.EncodeToString(commitment[:]) != file.Commitment.CommitmentHex {
		t.Fatalf("commitment %x, want %s", commitment, file.Commitment.CommitmentHex)
	}
	// The parts of each group, in the order of their places.
	groups := map[string][]signing.Part{}
	header := func(v vector) *pb.Command {
		command := &pb.Command{}
		if err := proto.Unmarshal(decode(t, v.CommandHex), command); err != nil {
			t.Fatal(err)
		}
		return command
	}
	for _, v := range file.Commands {
		if v.MembersSHA256Hex != "" {
			command := header(v)
			id := command.GetGroup().GetGroupId()
			if int(command.GetGroup().GetIndex()) != len(groups[id]) {
				t.Fatalf("%s: the commands of a group stand in their order", v.Name)
			}
			groups[id] = append(groups[id], signing.Part{Body: command.GetBody(), Signer: v.Address})
		}
	}
	for _, v := range file.Commands {
		t.Run(v.Name, func(t *testing.T) {
			spki, command := decode(t, v.PublicKeySPKIHex), decode(t, v.CommandHex)
			if got := signing.Address(spki); got != v.Address {
				t.Fatalf("address %s, want %s", got, v.Address)
			}
			key, err := signing.ParseKey(spki)
			if err != nil {
				t.Fatal(err)
			}
			if got := signing.Verify(key, signing.CommandPrefix, command, decode(t, v.SignatureHex)); got != v.Valid {
				t.Fatalf("signature valid: %v, want %v", got, v.Valid)
			}
			if v.Valid && (header(v).GetChannel() != file.Channel || hex.EncodeToString(header(v).GetGenesisSha256()) != file.Genesis) {
				t.Fatalf("signed for channel %s that began with %x", header(v).GetChannel(), header(v).GetGenesisSha256())
			}
			if v.MembersSHA256Hex == "" {
				return
			}
			group := header(v).GetGroup()
			if got := hex.EncodeToString(signing.MembersSHA256(groups[group.GetGroupId()])); got != v.MembersSHA256Hex {
				t.Fatalf("members %s, want %s", got, v.MembersSHA256Hex)
			}
			if got := hex.EncodeToString(group.GetMembersSha256()); got != v.MembersSHA256Hex {
				t.Fatalf("the command names members %s, want %s", got, v.MembersSHA256Hex)
			}
		})
	}
}
