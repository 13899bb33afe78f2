package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"google.golang.org/protobuf/proto"

	commandv1 "cbmdhi.internal/protos/command/v1"
	ledgerv1 "cbmdhi.internal/protos/ledger/v1"
)

// Hex is a field of bytes.
type Hex []byte

// UnmarshalText reads hexadecimal.
func (h *Hex) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

// checkVectors holds this client to tests/vectors: what is signed, how one logs in, and each way in which a proof is none.
func checkVectors(folder string) error {
	for _, one := range []func(string) (int, error){checkCommands, checkLogin, checkEvidence} {
		checked, err := one(folder)
		if err != nil {
			return err
		}
		if checked == 0 {
			return fmt.Errorf("no vectors in %s", folder)
		}
	}
	fmt.Println("all vectors hold")
	return nil
}

func readVectors(folder, name string, into any) error {
	raw, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, into)
}

func checkCommands(folder string) (int, error) {
	var file struct {
		Commands []struct {
			Name, Address string
			Key           Hex `json:"public_key_spki_hex"`
			Command       Hex `json:"command_hex"`
			Signature     Hex `json:"signature_hex"`
			Valid         bool
		}
	}
	if err := readVectors(folder, "commands.json", &file); err != nil {
		return 0, err
	}
	for _, v := range file.Commands {
		if addressOf(v.Key) != v.Address || isSigned(v.Key, v.Signature, commandLabel, v.Command) != v.Valid {
			return 0, fmt.Errorf("commands.json: %s", v.Name)
		}
	}
	return len(file.Commands), nil
}

func checkLogin(folder string) (int, error) {
	var file struct {
		Key       Hex `json:"public_key_spki_hex"`
		Challenge Hex `json:"challenge_hex"`
		Login     struct {
			Thumbprint string `json:"certificate_x5t_s256"`
			Signature  Hex    `json:"signature_hex"`
			Bad        []struct {
				Name      string
				Signature Hex `json:"signature_hex"`
			}
		} `json:"grpc_login"`
	}
	if err := readVectors(folder, "sessions.json", &file); err != nil {
		return 0, err
	}
	holds := func(signature []byte) bool {
		return isSigned(file.Key, signature, loginLabel, file.Challenge, []byte(file.Login.Thumbprint))
	}
	if !holds(file.Login.Signature) {
		return 0, errors.New("sessions.json: grpc_login")
	}
	for _, bad := range file.Login.Bad {
		if holds(bad.Signature) {
			return 0, fmt.Errorf("sessions.json: a login %s", bad.Name)
		}
	}
	return len(file.Login.Bad), nil
}

type evidenceFile struct {
	Channel, Chaincode string
	Genesis            Hex `json:"genesis_sha256_hex"`
	Members            []Member
	RecordID           string `json:"record_id"`
	Version            uint32
	Patient            string
	CommandID          string `json:"command_id"`
	Signer, Author     string
	Record             Hex   `json:"record_hex"`
	AuditEntry         Hex   `json:"audit_entry_hex"`
	Commands           []Hex `json:"commands_hex"`
	Registrations      []Hex `json:"registrations_hex"`
	Cases              []evidenceCase
}

type evidenceCase struct {
	Name, Check, Asks string
	Valid             bool
	Endorsed          Hex   `json:"endorsed_state_hex"`
	Commands          []Hex `json:"commands_hex"`
	Registrations     []Hex `json:"registrations_hex"`
}

// Without any of these too few endorsements count.
var ofEndorsements = []string{"peer-root", "peer-validity", "peer-unit", "endorsement-signature", "members"}

func checkEvidence(folder string) (int, error) {
	var file evidenceFile
	if err := readVectors(folder, "evidence.json", &file); err != nil {
		return 0, err
	}
	engine := &Engine{consortium: &Consortium{Channel: file.Channel, Chaincode: file.Chaincode, Members: file.Members}, genesis: file.Genesis}
	for _, one := range file.Cases {
		err := file.asked(engine.trust(), one)
		want := failed(one.Check)
		if slices.Contains(ofEndorsements, one.Check) {
			want = "majority"
		}
		if one.Valid != (err == nil) || (err != nil && err != want) {
			return 0, fmt.Errorf("evidence.json: %s: %v", one.Name, err)
		}
	}
	return len(file.Cases), nil
}

func (file *evidenceFile) asked(trust *Trust, one evidenceCase) error {
	if one.Commands == nil {
		one.Commands = file.Commands
	}
	if one.Registrations == nil {
		one.Registrations = file.Registrations
	}
	proof, err := trust.open(&ledgerv1.Evidence{
		EndorsedState: one.Endorsed, Commands: signedOf(one.Commands), Registrations: signedOf(one.Registrations),
	})
	if err != nil {
		return err
	}
	if one.Asks == "command" || one.Valid {
		entry, _, author, err := proof.decided(file.CommandID, file.Signer)
		if err != nil || one.Asks == "command" {
			return err
		}
		if author != file.Author || !same(entry, file.AuditEntry) {
			return failed("audit_entry_hex")
		}
	}
	version, author, err := proof.version(file.RecordID, file.Version, file.Patient)
	if err != nil {
		return err
	}
	return check(named{"record_hex", author == file.Author && same(version, file.Record)})
}

func same(message proto.Message, want []byte) bool {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
	return err == nil && bytes.Equal(raw, want)
}

func signedOf(raw []Hex) (found []*commandv1.SignedCommand) {
	for _, one := range raw {
		signed := &commandv1.SignedCommand{}
		if proto.Unmarshal(one, signed) == nil {
			found = append(found, signed)
		}
	}
	return found
}
