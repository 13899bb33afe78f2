package simulator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
	"cbmdhi/chaincode/signing"
	"cbmdhi/chaincode/state"
)

// Member is an organisation with its certificate authority.
type Member struct {
	Document    *pb.MemberDocument
	storage     *ecdsa.PrivateKey
	authority   *ecdsa.PrivateKey
	certificate *x509.Certificate
	serial      int64
}

// Person is whoever holds a key: a patient, a clinician, an engine, a device.
type Person struct {
	World       *World
	Key         *ecdsa.PrivateKey
	SPKI        []byte
	Address     string
	Role        pb.Role
	MSP         string
	Certificate []byte
	// Sealed record private keys by custodian, for a patient.
	Custodians []string
}

func newMember(w *World, msp string) *Member {
	key, storage := newKey(w.T), newKey(w.T)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca." + msp},
		NotBefore: w.Now.Add(-time.Hour), NotAfter: w.Now.Add(10 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		w.T.Fatalf("certificate: %v", err)
	}
	certificate, _ := x509.ParseCertificate(der)
	return &Member{
		storage: storage, authority: key, certificate: certificate, serial: 1,
		Document: &pb.MemberDocument{
			Msp: msp, Name: msp, VaultPublicKey: make([]byte, 1216), StorageSigningKey: spki(w.T, storage),
			CaCertificatesPem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		},
	}
}

// Enrol makes a key and a certificate of the member's Fabric CA for it; nothing is on the channel yet.
func (w *World) Enrol(role pb.Role, msp string) *Person {
	w.T.Helper()
	p := &Person{World: w, Key: newKey(w.T), Role: role, MSP: msp}
	p.SPKI = spki(w.T, p.Key)
	p.Address = signing.Address(p.SPKI)
	p.Certificate = w.Members[msp].Certify(w, p, policy.RoleName(role), p.Address, w.Now.Add(time.Hour))
	if role == pb.Role_ROLE_PATIENT {
		p.Custodians = []string{msp}
	}
	if w.people == nil {
		w.people = map[string]*Person{}
	}
	w.people[p.Address] = p
	return p
}

// Certify issues an enrolment certificate as Fabric CA does, the role in its attribute extension.
func (m *Member) Certify(w *World, p *Person, role, name string, until time.Time, changes ...func(*x509.Certificate)) []byte {
	w.T.Helper()
	m.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(m.serial), Subject: pkix.Name{CommonName: name},
		NotBefore: w.Now.Add(-time.Minute), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{
			Id:    asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 1},
			Value: fmt.Appendf(nil, `{"attrs":{"cbmdhi.role":%q,"hf.Affiliation":""}}`, role),
		}},
	}
	for _, change := range changes {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, m.certificate, p.Key.Public(), m.authority)
	if err != nil {
		w.T.Fatalf("certificate: %v", err)
	}
	return der
}

// Active is somebody whose registration is behind them.
func (w *World) Active(role pb.Role, msp string) *Person {
	w.T.Helper()
	p := w.Enrol(role, msp)
	document := &pb.IdentityDocument{
		Address: p.Address, Role: role, HomeMsp: msp, Status: pb.IdentityStatus_IDENTITY_STATUS_ACTIVE,
		SigningPublicKey: p.SPKI, HpkePublicKey: make([]byte, 1216), RegistrationId: w.ID(), Version: 1,
	}
	for _, custodian := range p.Custodians {
		digest := sha256.Sum256(p.SealedRecordKey(custodian))
		document.Custodians = append(document.Custodians, &pb.Custodian{Msp: custodian, SealedKeySha256: digest[:]})
	}
	w.State[state.IdentityKey(p.Address)] = Marshal(w.T, document)
	if role == pb.Role_ROLE_ADMINISTRATOR && w.State[state.FirstAdministratorKey(msp)] == nil {
		w.State[state.FirstAdministratorKey(msp)] = Marshal(w.T, &pb.FirstAdministrator{Address: p.Address})
	}
	return p
}

// SetStatus changes an identity behind the rules' back.
func (w *World) SetStatus(p *Person, status pb.IdentityStatus) {
	document := w.Identity(p.Address)
	document.Status = status
	w.State[state.IdentityKey(p.Address)] = Marshal(w.T, document)
}

// SealedRecordKey stands for the record private key, sealed to a custodian.
func (p *Person) SealedRecordKey(custodian string) []byte {
	return []byte("record key of " + p.Address + " sealed to " + custodian)
}

func newKey(t T) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatalf("key: %v", err)
	}
	return key
}

func spki(t T, key *ecdsa.PrivateKey) []byte {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatalf("key: %v", err)
	}
	return der
}
