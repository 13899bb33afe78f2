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

// certify identifies the signer of a registration by its enrolment certificate. Whatever is wrong with the certificate
// itself leaves the signer a stranger: that is `why`, CODE_INVALID, and leaves no trace. A role that the home member did
// not certify is the refusal of somebody known: that is `badRole`, which admit says.
func (r *run) certify(body *pb.RegisterIdentity) (badRole, why *refusal) {
	const path = "body.register_identity.enrolment_certificate"
	home := state.Load[pb.MemberDocument](r.state, state.MemberKey(body.GetHomeMsp()))
	if home == nil {
		return nil, invalid("body.register_identity.home_msp", "not a member of this channel")
	}
	certificate, err := x509.ParseCertificate(body.GetEnrolmentCertificate())
	if err != nil {
		return nil, invalid(path, "not a DER certificate")
	}
	if !bytes.Equal(certificate.RawSubjectPublicKeyInfo, body.GetSigningPublicKey()) {
		return nil, invalid(path, "issued for another key")
	}
	if !namesNobody(certificate, body.GetAddress()) {
		return nil, invalid(path, "it does not say the address and the role and no more, such as a name or an e-mail address: "+
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
		return nil, invalid(path, "not valid now under the home member's Fabric CA")
	}
	if fabricca.Attribute(certificate, fabricca.Role) != policy.RoleName(body.GetRole()) {
		return forbidden("body.register_identity.role", "the certificate does not certify this role: enrol for it"), nil
	}
	return nil, nil
}
