package simulator

import (
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
)

// Carrier is the creator that the peer of the world's calling member names when its ledger service proposes.
func (w *World) Carrier() []byte { return w.CreatorOf("client", `{"cbmdhi.carrier":"true"}`) }

// CreatorOf is a creator of the calling member, as the peer names it: an organisational unit, and the
// attributes (JSON) that Fabric CA wrote into the certificate.
func (w *World) CreatorOf(unit, attributes string) []byte {
	w.T.Helper()
	key := newKey(w.T)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ledger", OrganizationalUnit: []string{unit}},
		NotBefore: w.Now.Add(-time.Minute), NotAfter: w.Now.Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{
			Id: asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 1}, Value: fmt.Appendf(nil, `{"attrs":%s}`, attributes),
		}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		w.T.Fatalf("certificate: %v", err)
	}
	return Marshal(w.T, &msp.SerializedIdentity{
		Mspid: w.Creator, IdBytes: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
	})
}
