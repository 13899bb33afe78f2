package batch

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"slices"

	"cbmdhi/chaincode/fabricca"
	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
)

// What an enrolment certificate may say, since it stays on the channel with the registration: what is known to
// name nobody. Everything else is refused, such as an e-mail address, a second name, an affiliation.
// cbmdhi/protocol/enrolment.py has the same lists, before anything is carried here.
var (
	commonNameOID = asn1.ObjectIdentifier{2, 5, 4, 3}
	unitOID       = asn1.ObjectIdentifier{2, 5, 4, 11}

	// Fabric CA writes an identity's type as its unit. A person of another type, such as `client`, would be heard by peers.
	certificateUnits = []string{"signer"}

	certificateExtensions = []asn1.ObjectIdentifier{
		fabricca.AttributesOID,
		{2, 5, 29, 14}, {2, 5, 29, 35}, // key identifiers
		{2, 5, 29, 15}, {2, 5, 29, 37}, {2, 5, 29, 19}, // usage and constraints
		{2, 5, 29, 31}, {1, 3, 6, 1, 5, 5, 7, 1, 1}, // where the CA has its lists
	}
)

// namesNobody tells whether a certificate says no more than whose address it is, and as what it was enrolled.
func namesNobody(certificate *x509.Certificate, address string) bool {
	named := 0
	for _, name := range certificate.Subject.Names {
		value, _ := name.Value.(string)
		switch {
		case name.Type.Equal(commonNameOID) && value == address:
			named++
		case name.Type.Equal(unitOID) && slices.Contains(certificateUnits, value):
		default:
			return false
		}
	}
	for _, extension := range certificate.Extensions {
		known := slices.ContainsFunc(certificateExtensions, extension.Id.Equal)
		if !known || (extension.Id.Equal(fabricca.AttributesOID) && !knownAttributes(extension.Value, address)) {
			return false
		}
	}
	return named == 1
}

func knownAttributes(raw []byte, address string) bool {
	var found struct {
		Attrs map[string]string `json:"attrs"`
	}
	if json.Unmarshal(raw, &found) != nil {
		return false
	}
	// Exactly what Fabric CA writes: nothing twice, nothing beside it.
	if canonical, err := json.Marshal(found); err != nil || !bytes.Equal(canonical, raw) {
		return false
	}
	for name, value := range found.Attrs {
		switch name {
		case fabricca.Role:
			if !isRoleName(value) {
				return false
			}
		case "hf.EnrollmentID":
			if value != address {
				return false
			}
		case "hf.Type":
			if !slices.Contains(certificateUnits, value) {
				return false
			}
		case "hf.Affiliation":
			if value != "" {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func isRoleName(name string) bool {
	for number := range pb.Role_name {
		if role := pb.Role(number); isRole(role) && policy.RoleName(role) == name {
			return true
		}
	}
	return false
}
