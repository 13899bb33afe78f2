package contract

import (
	"crypto/x509"
	"encoding/pem"
	"slices"

	"cbmdhi/chaincode/fabricca"
	pb "cbmdhi/chaincode/gen/commandv1"
)

// adminUnit is the organisational unit of a member's Fabric administrator (deploy/devnet/fabric/msp-config.yaml).
const adminUnit = "admin"

// mayCall says whether the creator of a transaction (PEM) may have a function run. The peer has checked
// that the certificate is of its MSP, and nothing more: every client of a member's MSP may propose. Who
// carries commands and asks the state is the member's ledger service alone; its storage asks the state too, so that it
// need not believe that service; its administrator begins the channel, once.
func mayCall(function string, creator []byte) error {
	block, _ := pem.Decode(creator)
	if block == nil {
		return failure(pb.Code_CODE_INVALID, "creator", "no certificate in PEM")
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return failure(pb.Code_CODE_INVALID, "creator", "not an X.509 certificate")
	}
	if function == "init" {
		if !slices.Contains(certificate.Subject.OrganizationalUnit, adminUnit) {
			return failure(pb.Code_CODE_FORBIDDEN, "creator", "init is for a member's Fabric administrator")
		}
		return nil
	}
	if function == "query" && fabricca.Attribute(certificate, fabricca.Reader) == "true" {
		return nil
	}
	if fabricca.Attribute(certificate, fabricca.Carrier) != "true" {
		return failure(pb.Code_CODE_FORBIDDEN, "creator", "not the ledger service of a member: its certificate carries the attribute cbmdhi.carrier")
	}
	return nil
}
