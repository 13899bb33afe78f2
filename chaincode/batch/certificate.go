package batch

import (
	"bytes"
	"crypto/x509"
	"time"

	"cbmdhi/chaincode/fabricca"
	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
	"cbmdhi/chaincode/state"
)

// certify identifies the signer of a registration by its enrolment certificate. Whatever is wrong
// with the certificate itself leaves the signer a stranger, so it is CODE_INVALID and leaves no
// trace; a role that the home member did not certify is a refusal of somebody known: admit says it.
func (r *run) certify(c *command, body *pb.RegisterIdentity) *refusal {
	const path = "body.register_identity.enrolment_certificate"
	home := state.Load[pb.MemberDocument](r.state, state.MemberKey(body.GetHomeMsp()))
	if home == nil {
		return invalid("body.register_identity.home_msp", "not a member of this channel")
	}
	certificate, err := x509.ParseCertificate(body.GetEnrolmentCertificate())
	if err != nil {
		return invalid(path, "not a DER certificate")
	}
	if !bytes.Equal(certificate.RawSubjectPublicKeyInfo, body.GetSigningPublicKey()) {
		return invalid(path, "issued for another key")
	}
	if !namesNobody(certificate, body.GetAddress()) {
		return invalid(path, "it does not say the address and the role and no more, such as a name or an e-mail address: "+
			"enrol with a request that names the address alone")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(home.GetCaCertificatesPem()))
	_, err = certificate.Verify(x509.VerifyOptions{
		Roots:       roots,
		CurrentTime: time.UnixMilli(r.call.TimeMs).UTC(),
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return invalid(path, "not valid now under the home member's Fabric CA")
	}
	c.entry.SignerRole, c.entry.SignerMsp = body.GetRole(), body.GetHomeMsp()
	if fabricca.Attribute(certificate, fabricca.Role) != policy.RoleName(body.GetRole()) {
		c.miscertified = forbidden("body.register_identity.role", "the certificate does not certify this role: enrol for it")
	}
	return nil
}
