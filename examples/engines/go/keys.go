package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base32"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"time"

	"fmt"
)

// Keys are an identity: the signing key, and the key to which data keys are sealed.
type Keys struct {
	private    *ecdsa.PrivateKey
	publicKey  []byte // DER SubjectPublicKeyInfo
	address    string
	hpkePublic []byte // 1,216 bytes
}

// makeKeys writes a new engine's state: its keys, the consortium that it pins, its member.
func makeKeys(state, consortium, member string) error {
	pinned, err := os.ReadFile(consortium)
	if err != nil {
		return err
	}
	if _, err := parseConsortium(pinned, member); err != nil {
		return err
	}
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return err
	}
	// The KEM's own seed of 32 bytes: nobody but this engine ever reads it, so its form is the engine's affair.
	sealing, err := hpke.MLKEM768X25519().GenerateKey()
	if err != nil {
		return err
	}
	seed, err := sealing.Bytes()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(state, 0o700); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(state, "key.pem")); err == nil {
		return errors.New("there are keys already: a lost key cannot be had again")
	}
	for name, content := range map[string][]byte{
		"key.pem":         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"hpke.key":        seed,
		"consortium.json": pinned,
		"member":          []byte(member),
	} {
		if err := os.WriteFile(filepath.Join(state, name), content, 0o600); err != nil {
			return err
		}
	}
	keys, err := readKeys(state)
	if err == nil {
		fmt.Println("address", keys.address)
	}
	return err
}

func readKeys(state string) (*Keys, error) {
	raw, err := os.ReadFile(filepath.Join(state, "key.pem"))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, errors.New("key.pem is no PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, isEC := parsed.(*ecdsa.PrivateKey)
	if !isEC {
		return nil, errors.New("key.pem is no key of P-256")
	}
	publicKey, err := x509.MarshalPKIXPublicKey(&private.PublicKey)
	if err != nil {
		return nil, err
	}
	seed, err := os.ReadFile(filepath.Join(state, "hpke.key"))
	if err != nil {
		return nil, err
	}
	sealing, err := hpke.MLKEM768X25519().NewPrivateKey(seed)
	if err != nil {
		return nil, err
	}
	return &Keys{private, publicKey, addressOf(publicKey), sealing.PublicKey().Bytes()}, nil
}

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// addressOf a key: cb1 and the first 20 bytes of SHA-256 of its DER SubjectPublicKeyInfo.
func addressOf(publicKey []byte) string {
	digest := sha256.Sum256(publicKey)
	return "cb1" + base32Lower.EncodeToString(digest[:20])
}

var halfOrder = new(big.Int).Rsh(elliptic.P256().Params().N, 1)

type numbers struct{ R, S *big.Int }

// [start:sign]
// sign gives ECDSA over SHA-256(label, a zero byte, parts): DER, with s in the lower half.
func (k *Keys) sign(label string, parts ...[]byte) ([]byte, error) {
	digest := digestOf(label, parts...)
	r, s, err := ecdsa.Sign(rand.Reader, k.private, digest)
	if err != nil {
		return nil, err
	}
	if s.Cmp(halfOrder) > 0 {
		s.Sub(elliptic.P256().Params().N, s)
	}
	return asn1.Marshal(numbers{r, s})
}

// [end:sign]

// isSigned checks what sign makes; a high s is bad, though the mathematics would take it.
func isSigned(publicKey, signature []byte, label string, parts ...[]byte) bool {
	return isSignature(publicKey, signature, digestOf(label, parts...))
}

func isSignature(publicKey, signature, digest []byte) bool {
	parsed, err := x509.ParsePKIXPublicKey(publicKey)
	key, isEC := parsed.(*ecdsa.PublicKey)
	if err != nil || !isEC || key.Curve != elliptic.P256() {
		return false
	}
	var n numbers
	if rest, err := asn1.Unmarshal(signature, &n); err != nil || len(rest) > 0 || n.S.Cmp(halfOrder) > 0 {
		return false
	}
	return ecdsa.VerifyASN1(key, digest, signature)
}

func digestOf(label string, parts ...[]byte) []byte {
	digest := sha256.Sum256(slices.Concat(append([][]byte{[]byte(label), {0}}, parts...)...))
	return digest[:]
}

// certificateRequest is PKCS#10 in PEM whose common name is the address: it tells nothing about anybody.
func (k *Keys) certificateRequest() (string, error) {
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: k.address}}
	der, err := x509.CreateCertificateRequest(rand.Reader, template, k.private)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), err
}

// uuid7 is a new UUIDv7 (RFC 9562): milliseconds first, so that ids ascend.
func uuid7() string {
	var id [16]byte
	rand.Read(id[6:])
	ms := time.Now().UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (40 - 8*i))
	}
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// Consortium is what the engine pins.
type Consortium struct {
	Channel       string
	GenesisSHA256 string `json:"genesis_sha256"`
	Chaincode     string
	Members       []Member
}

// Member of the consortium.
type Member struct {
	MspID    string `json:"msp_id"`
	Name     string
	CaPem    string `json:"ca_pem"`
	TLSCaPem string `json:"tls_ca_pem"`
	Gateway  struct {
		Grpc         string
		FirstContact string `json:"first_contact"`
	}
}

// parseConsortium reads consortium.json, and finds the engine's member in it.
func parseConsortium(raw []byte, member string) (*Consortium, error) {
	var pinned Consortium
	if err := json.Unmarshal(raw, &pinned); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(pinned.Members, func(one Member) bool { return one.Name == member }) {
		return nil, fmt.Errorf("the consortium has no member %s", member)
	}
	return &pinned, nil
}
