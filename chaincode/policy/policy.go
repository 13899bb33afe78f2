// Package policy decides: Cedar policies and patients' consents, and nothing else. It is pure, so
// that any member can replay a decision from what the channel recorded about it.
package policy

import (
	"slices"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// ActionBreakGlass is the one action that a consent cannot name.
const ActionBreakGlass = "break-glass"

// Request is one question to the policies.
type Request struct {
	// Who wants to act; behind a delegation, the delegator.
	Principal *pb.IdentityDocument
	// `read`, `search`, `history`, `export`, `event`, `write` or `break-glass`.
	Action string
	// HL7 v3 PurposeOfUse.
	Purpose   string
	Record    Record
	Consents  *pb.ConsentDocument
	Delegated bool
	// Time of the transaction, Unix ms.
	NowMs int64
}

// Record is what a policy may know of the record; of its content it knows nothing.
type Record struct {
	ID, Patient, Category, Author, WriterMSP string
	// Of the patient's identity document.
	PatientMSP string
	Custodians []string
}

// consentAction is what the consents are asked: to break the glass is to read, and a policy may
// want to know that the patient denied exactly that.
func (r *Request) consentAction() string {
	if r.Action == ActionBreakGlass {
		return "read"
	}
	return r.Action
}

// Decision is the answer and what it rested on.
type Decision struct {
	Permit bool
	// @ids of the Cedar policies that determined it, sorted. Empty: no policy permitted.
	Policies []string
	// A policy could not be evaluated, so nothing is permitted; Policies names it.
	Faulty  bool
	Consent ConsentAnswer
}

// Decide asks the consents once and the policies with their answer.
func (s *Set) Decide(r *Request) Decision {
	consent := Consent(r.Consents, r)
	principal := cedar.NewEntityUID("Identity", types.String(r.Principal.GetAddress()))
	resource := cedar.NewEntityUID("Record", types.String(r.Record.ID))
	entities := cedar.EntityMap{
		principal: {UID: principal, Attributes: principalAttributes(r.Principal)},
		resource:  {UID: resource, Attributes: recordAttributes(&r.Record)},
	}
	decision, diagnostic := cedar.Authorize(s, entities, cedar.Request{
		Principal: principal,
		Action:    cedar.NewEntityUID("Action", types.String(r.Action)),
		Resource:  resource,
		Context: cedar.NewRecord(cedar.RecordMap{
			"action":     types.String(r.Action),
			"purpose":    types.String(r.Purpose),
			"consent":    types.String(consent.Effect),
			"consent_id": types.String(consent.ConsentID),
			"delegated":  types.Boolean(r.Delegated),
			"is_patient": types.Boolean(r.Principal.GetAddress() == r.Record.Patient),
			"now_ms":     types.Long(r.NowMs),
		}),
	})
	// Cedar skips a policy that fails, which would lose a forbid: here nothing passes instead.
	if len(diagnostic.Errors) > 0 {
		faulty := make([]string, 0, len(diagnostic.Errors))
		for _, e := range diagnostic.Errors {
			faulty = append(faulty, string(e.PolicyID))
		}
		slices.Sort(faulty)
		return Decision{Policies: faulty, Faulty: true, Consent: consent}
	}
	reasons := make([]string, 0, len(diagnostic.Reasons))
	for _, reason := range diagnostic.Reasons {
		reasons = append(reasons, string(reason.PolicyID))
	}
	slices.Sort(reasons)
	return Decision{Permit: decision == cedar.Allow, Policies: reasons, Consent: consent}
}

func principalAttributes(who *pb.IdentityDocument) types.Record {
	return cedar.NewRecord(cedar.RecordMap{
		"address": types.String(who.GetAddress()),
		"role":    types.String(RoleName(who.GetRole())),
		"msp":     types.String(who.GetHomeMsp()),
		"status":  types.String(statusName(who.GetStatus())),
	})
}

func recordAttributes(r *Record) types.Record {
	custodians := make([]types.Value, len(r.Custodians))
	for i, msp := range r.Custodians {
		custodians[i] = types.String(msp)
	}
	return cedar.NewRecord(cedar.RecordMap{
		"patient":     types.String(r.Patient),
		"category":    types.String(r.Category),
		"author":      types.String(r.Author),
		"writer_msp":  types.String(r.WriterMSP),
		"patient_msp": types.String(r.PatientMSP),
		"custodians":  cedar.NewSet(custodians...),
	})
}

// RoleName is the lower-case name without the prefix: in policies and in enrolment certificates.
func RoleName(role pb.Role) string {
	return strings.ToLower(strings.TrimPrefix(role.String(), "ROLE_"))
}

func statusName(status pb.IdentityStatus) string {
	return strings.ToLower(strings.TrimPrefix(status.String(), "IDENTITY_STATUS_"))
}
