// Package fabricca reads what Fabric CA writes into the certificates that it issues.
package fabricca

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
)

const (
	// Role is the attribute that certifies what a person or device is.
	Role = "cbmdhi.role"
	// Carrier is the attribute of a member's ledger service, which carries commands to the channel. A
	// member's registrar may not give it: hf.Registrar.Attributes names Role alone.
	Carrier = "cbmdhi.carrier"
	// Reader is the attribute of a member's storage service, which reads blocks and asks the state.
	Reader = "cbmdhi.reader"
)

// AttributesOID is the extension that holds them, as JSON.
var AttributesOID = asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 1}

// Attribute of a certificate; empty when it has none of that name.
func Attribute(certificate *x509.Certificate, name string) string {
	for _, extension := range certificate.Extensions {
		if !extension.Id.Equal(AttributesOID) {
			continue
		}
		var found struct {
			Attrs map[string]string `json:"attrs"`
		}
		if json.Unmarshal(extension.Value, &found) != nil {
			return ""
		}
		return found.Attrs[name]
	}
	return ""
}
