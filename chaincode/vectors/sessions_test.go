package vectors

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
)

func TestSignedCommands(t *testing.T) {
	var file struct {
		Channel  string
		Genesis  Hex `json:"genesis_sha256_hex"`
		Commands []struct {
			Name       string
			Key        Hex `json:"public_key_spki_hex"`
			Address    string
			Command    Hex `json:"command_hex"`
			Signature  Hex `json:"signature_hex"`
			Valid      bool
			Delegation *struct {
				Delegation Hex `json:"delegation_hex"`
				Signature  Hex `json:"signature_hex"`
				Delegator  Hex `json:"delegator_spki_hex"`
			}
		}
	}
	read(t, "commands.json", &file)
	delegated := 0
	for _, v := range file.Commands {
		if address(v.Key) != v.Address {
			t.Errorf("%s: address %s", v.Name, address(v.Key))
		}
		if isSigned(v.Key, labelled("cbmdhi/command/v1", v.Command), v.Signature) != v.Valid {
			t.Errorf("%s: want valid %v", v.Name, v.Valid)
		}
		if v.Delegation == nil {
			continue
		}
		delegated++
		var command pb.Command
		var delegation pb.Delegation
		if proto.Unmarshal(v.Command, &command) != nil || proto.Unmarshal(v.Delegation.Delegation, &delegation) != nil {
			t.Fatalf("%s: cannot be read", v.Name)
		}
		digest := sha256.Sum256(v.Delegation.Delegation)
		equal(t, "delegation_sha256", digest[:], command.GetDelegationSha256())
		equal(t, "genesis", delegation.GetGenesisSha256(), file.Genesis)
		message := labelled("cbmdhi/delegation/v1", v.Delegation.Delegation)
		if delegation.GetDelegate() != v.Address || address(v.Delegation.Delegator) != delegation.GetDelegator() ||
			!isSigned(v.Delegation.Delegator, message, v.Delegation.Signature) {
			t.Errorf("%s: the delegation is not the delegator's to this device", v.Name)
		}
	}
	if len(file.Commands) == 0 || delegated == 0 {
		t.Fatal("no vectors")
	}
}

func TestEmergencyID(t *testing.T) {
	var file struct {
		Emergency struct {
			Signer  string
			Command Hex    `json:"command_hex"`
			ID      string `json:"command_id"`
		}
	}
	read(t, "commands.json", &file)
	v := file.Emergency
	var command pb.Command
	if err := proto.Unmarshal(v.Command, &command); err != nil {
		t.Fatal(err)
	}
	first := slices.Concat([]byte{0x0a, byte(len(v.ID))}, []byte(v.ID))
	behind, found := bytes.CutPrefix([]byte(v.Command), first)
	digest := sha256.Sum256(labelled("cbmdhi/emergency-id/v1", []byte(v.Signer), behind))
	if !found || v.ID != "emergency-"+hex.EncodeToString(digest[:]) || command.GetCommandId() != v.ID {
		t.Errorf("the id %s is not the command's", v.ID)
	}
}

type callFile struct {
	Channel string
	Genesis Hex `json:"genesis_sha256_hex"`
	Key     Hex `json:"public_key_spki_hex"`
	Call    struct {
		signedCall
		Type  string `json:"request_type"`
		Msp   string
		Taken int64 `json:"taken_at_ms"`
		Bad   []signedCall
	}
}

type signedCall struct {
	Name, Check string
	Call        Hex `json:"call_hex"`
	Signature   Hex `json:"signature_hex"`
}

var uuidV7 = regexp.MustCompile("^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")

// taken by a service of the member; one check may be left out.
func (file *callFile) taken(v signedCall, without string) (err error) {
	defer tell(&err)
	var call pb.Call
	parse(v.Call, &call, "parse")
	holds := func(name failed, found bool) { check(found || string(name) == without, name) }
	holds("call-signature", isSigned(file.Key, labelled("cbmdhi/call/v1", v.Call), v.Signature))
	holds("call-channel", call.GetChannel() == file.Channel)
	holds("call-genesis", string(call.GetGenesisSha256()) == string(file.Genesis))
	holds("call-member", call.GetMsp() == file.Call.Msp)
	holds("call-type", call.GetRequestType() == file.Call.Type)
	holds("call-id", uuidV7.MatchString(call.GetCallId()))
	holds("call-expiry", file.Call.Taken < call.GetExpiresAtMs())
	holds("call-lifetime", call.GetExpiresAtMs()-call.GetIssuedAtMs() <= 300_000)
	holds("call-issued", call.GetIssuedAtMs() <= file.Call.Taken+60_000)
	return nil
}

func TestCall(t *testing.T) {
	var file callFile
	read(t, "sessions.json", &file)
	var call pb.Call
	if err := proto.Unmarshal(file.Call.Call, &call); err != nil {
		t.Fatal(err)
	}
	// AcknowledgeRequest: field 1 is packed, 7 and 300.
	equal(t, "the request", call.GetRequest(), []byte{0x0a, 3, 7, 0xac, 2})
	if err := file.taken(file.Call.signedCall, ""); err != nil {
		t.Errorf("the good call fails %v", err)
	}
	if len(file.Call.Bad) < 9 {
		t.Fatal("a bad call for each check")
	}
	for _, v := range file.Call.Bad {
		if err := file.taken(v, ""); !errors.Is(err, failed(v.Check)) {
			t.Errorf("%s: %v, want %s", v.Name, err, v.Check)
		}
		if err := file.taken(v, v.Check); err != nil {
			t.Errorf("%s: it does not fail by %s alone: without it %v", v.Name, v.Check, err)
		}
	}
}

type jwk struct{ Crv, Kty, X, Y string }

// thumbprint of RFC 7638: the members of an EC key in their order, without space.
func (k jwk) thumbprint() string {
	digest := sha256.Sum256(fmt.Appendf(nil, `{"crv":%q,"kty":%q,"x":%q,"y":%q}`, k.Crv, k.Kty, k.X, k.Y))
	return base64Url.EncodeToString(digest[:])
}

func TestLoginAndProof(t *testing.T) {
	var file struct {
		Key       Hex `json:"public_key_spki_hex"`
		Challenge Hex `json:"challenge_hex"`
		Grpc      struct {
			Certificate Hex    `json:"certificate_der_hex"`
			X5t         string `json:"certificate_x5t_s256"`
			Signature   Hex    `json:"signature_hex"`
			Bad         []struct {
				Name      string
				Signature Hex `json:"signature_hex"`
			}
		} `json:"grpc_login"`
		Rest struct {
			Jwk       jwk    `json:"dpop_jwk"`
			Jkt       string `json:"dpop_jkt"`
			Signature Hex    `json:"signature_hex"`
		} `json:"rest_login"`
		Delegation struct {
			Delegation Hex `json:"delegation_hex"`
			Signature  Hex `json:"signature_hex"`
		}
		Dpop struct {
			Method, URL, Token, Ath, Proof string
			IssuedAt                       int64 `json:"issued_at_s"`
		}
	}
	read(t, "sessions.json", &file)
	digest := sha256.Sum256(file.Grpc.Certificate)
	if base64Url.EncodeToString(digest[:]) != file.Grpc.X5t || file.Rest.Jwk.thumbprint() != file.Rest.Jkt {
		t.Fatal("a thumbprint is another")
	}
	certificate, err := x509.ParseCertificate(file.Grpc.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the certificate's key", certificate.RawSubjectPublicKeyInfo, file.Key)
	for binding, signature := range map[string]Hex{file.Grpc.X5t: file.Grpc.Signature, file.Rest.Jkt: file.Rest.Signature} {
		if !isSigned(file.Key, labelled("cbmdhi/login/v1", file.Challenge, []byte(binding)), signature) {
			t.Errorf("the login bound to %s is not signed", binding)
		}
	}
	if len(file.Grpc.Bad) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range file.Grpc.Bad {
		if isSigned(file.Key, labelled("cbmdhi/login/v1", file.Challenge, []byte(file.Grpc.X5t)), v.Signature) {
			t.Errorf("a login %s is taken", v.Name)
		}
	}
	if !isSigned(file.Key, labelled("cbmdhi/delegation/v1", file.Delegation.Delegation), file.Delegation.Signature) {
		t.Error("the delegation is not signed")
	}

	proof := file.Dpop
	parts := strings.Split(proof.Proof, ".")
	if len(parts) != 3 {
		t.Fatal("the proof is no compact JWS")
	}
	var header struct {
		Typ, Alg string
		Jwk      jwk
	}
	var claims struct {
		Htm, Htu, Jti, Ath string
		Iat                int64
	}
	for i, into := range []any{&header, &claims} {
		raw, err := base64Url.DecodeString(parts[i])
		if err != nil || json.Unmarshal(raw, into) != nil {
			t.Fatalf("part %d of the proof cannot be read", i)
		}
	}
	token := sha256.Sum256([]byte(proof.Token))
	if header.Typ != "dpop+jwt" || header.Alg != "ES256" || header.Jwk.thumbprint() != file.Rest.Jkt ||
		claims.Htm != proof.Method || claims.Htu != proof.URL || claims.Iat != proof.IssuedAt || claims.Jti == "" ||
		claims.Ath != proof.Ath || base64Url.EncodeToString(token[:]) != proof.Ath {
		t.Errorf("the proof says otherwise: %+v %+v", header, claims)
	}
	signature, err := base64Url.DecodeString(parts[2])
	if err != nil || len(signature) != 64 {
		t.Fatal("ES256 signs with r and s, 32 bytes each")
	}
	x, errX := base64Url.DecodeString(header.Jwk.X)
	y, errY := base64Url.DecodeString(header.Jwk.Y)
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if errX != nil || errY != nil || err != nil {
		t.Fatal("no P-256 key in the header")
	}
	signed := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	if !ecdsa.Verify(key, signed[:], r, s) {
		t.Error("the proof is not signed by the key in its header")
	}
}
