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

// bowsToDeny: a deny stops everybody but the patient, whose denials are meant for others, and a
// clinician in an emergency, who is seen by the patient and by reviewers instead.
func (r *Request) bowsToDeny() bool {
	return r.Action != ActionBreakGlass && r.Principal.GetAddress() != r.Record.Patient
}

// Decision is the answer and what it rested on.
type Decision struct {
	Permit bool
	// @ids of the Cedar policies that determined it, sorted. Empty: no policy permitted.
	Policies []string
	// A policy could not be evaluated, so nothing is permitted; Policies names it.
	Faulty bool
	// The patient's consents deny it, so no policy was asked.
	Denied  bool
	Consent ConsentAnswer
}

// Session asks a Set many questions. Cedar sorts and hashes attributes whenever it makes a record of
// them, and the questions of a batch are about few principals in few circumstances: each is made once.
type Session struct {
	set        *Set
	principals map[principal]types.Record
	contexts   map[circumstances]types.Record
}

// principal is what a policy may know of who acts.
type principal struct {
	address, msp string
	role         pb.Role
	status       pb.IdentityStatus
}

// circumstances are what a policy may know of a question besides who acts and on which record.
type circumstances struct {
	action, purpose      string
	consent              ConsentAnswer
	delegated, isPatient bool
	nowMs                int64
}

// Session begins to ask.
func (s *Set) Session() *Session {
	return &Session{set: s, principals: map[principal]types.Record{}, contexts: map[circumstances]types.Record{}}
}

// Decide asks the consents once and the policies with their answer. Where the patient denied it the
// policies are not asked, so that no vote of the members outweighs the patient.
func (s *Session) Decide(r *Request) Decision {
	consent := Consent(r.Consents, r)
	if consent.Effect == ConsentDeny && r.bowsToDeny() {
		return Decision{Denied: true, Consent: consent}
	}
	who := principal{
		address: r.Principal.GetAddress(), msp: r.Principal.GetHomeMsp(),
		role: r.Principal.GetRole(), status: r.Principal.GetStatus(),
	}
	entities := &parties{
		principal: types.Entity{
			UID:        cedar.NewEntityUID("Identity", types.String(who.address)),
			Attributes: once(s.principals, who, principal.attributes),
		},
		resource: types.Entity{
			UID: cedar.NewEntityUID("Record", types.String(r.Record.ID)), Attributes: recordAttributes(&r.Record),
		},
	}
	decision, diagnostic := cedar.Authorize(s.set.about(r.Action), entities, cedar.Request{
		Principal: entities.principal.UID,
		Action:    cedar.NewEntityUID("Action", types.String(r.Action)),
		Resource:  entities.resource.UID,
		Context: once(s.contexts, circumstances{
			action: r.Action, purpose: r.Purpose, consent: consent, delegated: r.Delegated,
			isPatient: who.address == r.Record.Patient, nowMs: r.NowMs,
		}, circumstances.attributes),
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

// parties are the two entities that a question is about.
type parties struct{ principal, resource types.Entity }

// Get lets Cedar find them.
func (p *parties) Get(uid types.EntityUID) (types.Entity, bool) {
	switch uid {
	case p.principal.UID:
		return p.principal, true
	case p.resource.UID:
		return p.resource, true
	}
	return types.Entity{}, false
}

// once makes the attributes of a key that is new.
func once[K comparable](made map[K]types.Record, key K, attributes func(K) types.Record) types.Record {
	record, ok := made[key]
	if !ok {
		record = attributes(key)
		made[key] = record
	}
	return record
}

func (p principal) attributes() types.Record {
	return cedar.NewRecord(cedar.RecordMap{
		"address": types.String(p.address),
		"role":    types.String(RoleName(p.role)),
		"msp":     types.String(p.msp),
		"status":  types.String(statusName(p.status)),
	})
}

func (c circumstances) attributes() types.Record {
	return cedar.NewRecord(cedar.RecordMap{
		"action":     types.String(c.action),
		"purpose":    types.String(c.purpose),
		"consent":    types.String(c.consent.Effect),
		"consent_id": types.String(c.consent.ConsentID),
		"delegated":  types.Boolean(c.delegated),
		"is_patient": types.Boolean(c.isPatient),
		"now_ms":     types.Long(c.nowMs),
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
