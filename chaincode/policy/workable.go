package policy

import (
	"fmt"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// century in milliseconds: as far ahead as a policy is asked, so that none works today alone.
const century = 100 * 365 * 24 * 60 * 60 * 1000

// Who the canonical questions are about: no address, MSP id or record of a channel.
const (
	somePatient   = "a patient"
	someAuthor    = "an author"
	somebodyElse  = "somebody else"
	homeMember    = "a patient's home"
	custodian     = "a patient's custodian"
	anotherMember = "another member"
)

// canonical is a question whose answer no policy may change.
type canonical struct {
	// "a patient reads their own record": what happens.
	story   string
	permit  bool
	request Request
}

// CheckWorkable refuses a text under which the mesh would be of no use to anybody, or of use to
// everybody: some questions stay permitted and some refused under every policy. They are examples that
// find mistakes, no proof. The error is a sentence for the proposer.
func (s *Set) CheckWorkable(nowMs int64) error {
	session := s.Session()
	for _, at := range []int64{nowMs, nowMs + century} {
		for _, question := range canonicalQuestions() {
			question.request.NowMs = at
			switch decision := session.Decide(&question.request); {
			case decision.Permit == question.permit:
			case question.permit:
				return fmt.Errorf("under this text it would be refused that %s: that must always be possible", question.story)
			default:
				return fmt.Errorf("under this text it would be permitted that %s: that must never be possible", question.story)
			}
		}
	}
	return nil
}

func canonicalQuestions() []canonical {
	var questions []canonical
	ask := func(permit bool, role pb.Role, address, msp, action, purpose, circumstance string, change func(*Request)) {
		request := Request{
			Principal: &pb.IdentityDocument{
				Address: address, Role: role, HomeMsp: msp, Status: pb.IdentityStatus_IDENTITY_STATUS_ACTIVE,
			},
			Action: action, Purpose: purpose,
			Record: Record{
				ID: "a record", Patient: somePatient, Category: "observations", Author: someAuthor,
				WriterMSP: homeMember, PatientMSP: homeMember, Custodians: []string{homeMember, custodian},
			},
		}
		if change != nil {
			change(&request)
		}
		story := fmt.Sprintf("%s of role %s asks to %s %s", address, RoleName(role), action, circumstance)
		questions = append(questions, canonical{story, permit, request})
	}
	consented := func(r *Request) { r.Consents = saying(pb.Effect_EFFECT_PERMIT) }
	denied := func(r *Request) { r.Consents = saying(pb.Effect_EFFECT_DENY) }
	delegated := func(r *Request) { r.Delegated = true }

	for _, action := range []string{"read", "search", "history", "export"} {
		ask(true, pb.Role_ROLE_PATIENT, somePatient, homeMember, action, "PATRQT", "their own record", nil)
		ask(true, pb.Role_ROLE_PATIENT, somePatient, homeMember, action, "PATRQT", "what they denied everybody", denied)
	}
	ask(true, pb.Role_ROLE_CLINICIAN, somebodyElse, anotherMember, "read", "TREAT", "with the patient's consent", consented)
	ask(true, pb.Role_ROLE_ENGINE, somebodyElse, homeMember, "write", "TREAT", "to the record of its own member's patient", nil)
	ask(true, pb.Role_ROLE_CLINICIAN, somebodyElse, homeMember, ActionBreakGlass, "ETREAT", "in an emergency, in person", denied)

	// By number: every member finds the same question first.
	for role := pb.Role_ROLE_UNSPECIFIED + 1; int(role) < len(pb.Role_name); role++ {
		for _, action := range actions {
			if action != ActionBreakGlass {
				ask(false, role, somebodyElse, anotherMember, action, "TREAT", "without consent", nil)
				ask(false, role, somebodyElse, anotherMember, action, "TREAT", "by delegation, without consent", delegated)
			}
		}
	}
	return questions
}

func saying(effect pb.Effect) *pb.ConsentDocument {
	return &pb.ConsentDocument{Consents: []*pb.ActiveConsent{{Provisions: []*pb.Provision{{Effect: effect}}}}}
}
