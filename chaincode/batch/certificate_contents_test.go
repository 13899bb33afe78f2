package batch_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"testing"
	"time"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

var attributesOID = asn1.ObjectIdentifier{1, 2, 3, 4, 5, 6, 7, 8, 1}

// certifiedAs registers a clinician with a certificate that the member's own CA issued so.
func (s *story) certifiedAs(change func(p *sim.Person, c *x509.Certificate)) *pb.Verdict {
	p := s.Enrol(pb.Role_ROLE_CLINICIAN, sim.Mercy)
	return s.One(s.register(p, func(b *pb.RegisterIdentity) {
		b.EnrolmentCertificate = s.Members[sim.Mercy].Certify(s.World, p, "clinician", p.Address, s.Now.Add(time.Hour),
			func(c *x509.Certificate) { change(p, c) })
	}))
}

func attributes(json string) []pkix.Extension {
	return []pkix.Extension{{Id: attributesOID, Value: []byte(json)}}
}

func TestACertificateThatNamesSomebodyDoesNotReachTheState(t *testing.T) {
	more := func(oid asn1.ObjectIdentifier, value string) func(*sim.Person, *x509.Certificate) {
		return func(_ *sim.Person, c *x509.Certificate) {
			c.Subject.ExtraNames = append(c.Subject.ExtraNames, pkix.AttributeTypeAndValue{Type: oid, Value: value})
		}
	}
	email := asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}
	stories := map[string]func(*sim.Person, *x509.Certificate){
		"an e-mail address in the subject": more(email, "jane.doe@mercy.example"),
		"a given name":                     more(asn1.ObjectIdentifier{2, 5, 4, 42}, "Jane"),
		"a second common name":             more(asn1.ObjectIdentifier{2, 5, 4, 3}, "Jane Doe"),
		"a title":                          more(asn1.ObjectIdentifier{2, 5, 4, 12}, "Head of oncology"),
		"a ward as unit": func(_ *sim.Person, c *x509.Certificate) {
			c.Subject.OrganizationalUnit = []string{"signer", "oncology"}
		},
		"a unit that a peer would hear": func(_ *sim.Person, c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"client"} },
		"a street":                      func(_ *sim.Person, c *x509.Certificate) { c.Subject.StreetAddress = []string{"Main Street 1"} },
		"a serial number of a person":   func(_ *sim.Person, c *x509.Certificate) { c.Subject.SerialNumber = "123-45-6789" },
		"an e-mail address beside it":   func(_ *sim.Person, c *x509.Certificate) { c.EmailAddresses = []string{"jane.doe@mercy.example"} },
		"the name of a laptop":          func(_ *sim.Person, c *x509.Certificate) { c.DNSNames = []string{"janes-laptop"} },
		"an address of a laptop":        func(_ *sim.Person, c *x509.Certificate) { c.IPAddresses = []net.IP{net.IPv4(192, 0, 2, 1)} },
		"an extension of some other kind": func(_ *sim.Person, c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: []byte("Jane Doe")})
		},
		"an attribute of a person": func(_ *sim.Person, c *x509.Certificate) {
			c.ExtraExtensions = attributes(`{"attrs":{"cbmdhi.role":"clinician","email":"jane.doe@mercy.example"}}`)
		},
		"an affiliation": func(_ *sim.Person, c *x509.Certificate) {
			c.ExtraExtensions = attributes(`{"attrs":{"cbmdhi.role":"clinician","hf.Affiliation":"mercy.oncology"}}`)
		},
		"an enrolment id that is a name": func(_ *sim.Person, c *x509.Certificate) {
			c.ExtraExtensions = attributes(`{"attrs":{"cbmdhi.role":"clinician","hf.EnrollmentID":"jane.doe"}}`)
		},
		"a type that is a name": func(_ *sim.Person, c *x509.Certificate) {
			c.ExtraExtensions = attributes(`{"attrs":{"cbmdhi.role":"clinician","hf.Type":"jane.doe"}}`)
		},
		"a role that is a name": func(_ *sim.Person, c *x509.Certificate) {
			c.ExtraExtensions = attributes(`{"attrs":{"cbmdhi.role":"Jane Doe"}}`)
		},
		"something beside the attributes": func(_ *sim.Person, c *x509.Certificate) {
			c.ExtraExtensions = attributes(`{"attrs":{"cbmdhi.role":"clinician"},"name":"Jane Doe"}`)
		},
		"an attribute that another hides": func(_ *sim.Person, c *x509.Certificate) {
			c.ExtraExtensions = attributes(`{"attrs":{"cbmdhi.role":"Jane Doe","cbmdhi.role":"clinician"}}`)
		},
	}
	for name, change := range stories {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			s.untouched(func() {
				s.expectAt(s.certifiedAs(change), pb.Code_CODE_INVALID, "body.register_identity.enrolment_certificate")
			})
		})
	}
}

func TestACertificateAsFabricCAIssuesItRegisters(t *testing.T) {
	for name, change := range map[string]func(*sim.Person, *x509.Certificate){
		"with its type as unit": func(_ *sim.Person, c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"signer"} },
		"with the attributes of each enrolment": func(p *sim.Person, c *x509.Certificate) {
			c.ExtraExtensions = attributes(`{"attrs":{"cbmdhi.role":"clinician","hf.Affiliation":"","hf.EnrollmentID":"` + p.Address + `","hf.Type":"signer"}}`)
		},
		"with key identifiers and the place of its list": func(_ *sim.Person, c *x509.Certificate) {
			c.SubjectKeyId, c.AuthorityKeyId = []byte{1}, []byte{2}
			c.CRLDistributionPoints, c.BasicConstraintsValid = []string{"http://ca.mercy.example/list"}, true
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			s.expect(s.certifiedAs(change), pb.Code_CODE_OK)
		})
	}
}
