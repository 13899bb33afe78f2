package batch

import (
	"slices"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// Limits of a patient's consents: the document is read with every decision about the patient.
const (
	MaxConsents             = 64
	MaxProvisions           = 32
	maxProvisionEntries     = 128
	maxMembersNamed         = 64 // Each is looked up.
	maxConsentDocumentBytes = 128 << 10
)

// Consent gives or replaces one consent. Only the patient, in person: no policy can widen that.
var consentHandler = handler{
	check: func(c *decoded) *refusal {
		const path = "body.consent."
		body := c.body.GetConsent()
		if why := checkConsentNames(path, body); why != nil {
			return why
		}
		if len(body.GetProvisions()) == 0 {
			return invalid(path+"provisions", "at least one")
		}
		if len(body.GetProvisions()) > MaxProvisions {
			return tooLarge(path+"provisions", "more than %d", MaxProvisions)
		}
		for i, provision := range body.GetProvisions() {
			if why := checkProvision(elementOf(path+"provisions", i), provision); why != nil {
				return why
			}
		}
		if len(namedMembers(body)) > maxMembersNamed {
			return tooLarge(path+"provisions", "more than %d members are named", maxMembersNamed)
		}
		return nil
	},
	describe: func(c *decoded, entry *pb.AuditEntry) {
		body := c.body.GetConsent()
		entry.Action, entry.Patient, entry.ConsentId = "consent", body.GetPatient(), body.GetConsentId()
	},
	reads: func(_ Call, c *decoded, need func(string)) {
		readConsents(c.body.GetConsent(), need)
		for msp := range namedMembers(c.body.GetConsent()) {
			need(state.MemberKey(msp))
		}
	},
	apply: applyConsent,
}

// RevokeConsent ends one consent.
var revokeConsentHandler = handler{
	check: func(c *decoded) *refusal { return checkConsentNames("body.revoke_consent.", c.body.GetRevokeConsent()) },
	describe: func(c *decoded, entry *pb.AuditEntry) {
		body := c.body.GetRevokeConsent()
		entry.Action, entry.Patient, entry.ConsentId = "revoke", body.GetPatient(), body.GetConsentId()
	},
	reads: func(_ Call, c *decoded, need func(string)) { readConsents(c.body.GetRevokeConsent(), need) },
	apply: applyRevokeConsent,
}

// consentChange is how Consent and RevokeConsent name what they change.
type consentChange interface {
	GetConsentId() string
	GetPatient() string
	GetFollows() string
}

func readConsents(body consentChange, need func(string)) {
	need(state.ConsentKey(body.GetPatient()))
	need(state.EndedConsentKey(body.GetConsentId(), body.GetPatient()))
}

func applyConsent(r *run, c *decided) *refusal {
	const path = "body.consent."
	body := c.body.GetConsent()
	next, why := r.nextConsents(c, path, body)
	if why != nil {
		return why
	}
	if why := r.checkMembers(path, body); why != nil {
		return why
	}
	if state.Load[pb.EndedConsent](r.state, state.EndedConsentKey(body.GetConsentId(), body.GetPatient())) != nil {
		return conflict(path+"consent_id", "this consent was revoked, and its id is not given again: give it under a fresh id")
	}
	given := &pb.ActiveConsent{
		ConsentId: body.GetConsentId(), Provisions: body.GetProvisions(), GivenAtMs: r.call.TimeMs, CommandId: c.id(),
	}
	if i := indexOfConsent(next, body.GetConsentId()); i >= 0 {
		next.Consents[i] = given
	} else if len(next.Consents) >= MaxConsents {
		return tooLarge("body.consent", "more than %d consents in force: revoke one", MaxConsents)
	} else {
		next.Consents = append(next.Consents, given)
	}
	if proto.Size(next) > maxConsentDocumentBytes {
		return tooLarge("body.consent", "all consents together are over %d bytes: revoke or shorten one", maxConsentDocumentBytes)
	}
	r.state.Put(state.ConsentKey(body.GetPatient()), next)
	return nil
}

// checkMembers refuses a grantee of an organisation that is no member. It would mean nobody, and a person's name can look
// like an MSP id.
func (r *run) checkMembers(path string, body *pb.Consent) *refusal {
	for i, provision := range body.GetProvisions() {
		for j, g := range provision.GetGrantees() {
			if msp := g.GetMsp(); msp != "" && state.Load[pb.MemberDocument](r.state, state.MemberKey(msp)) == nil {
				return invalid(elementOf(elementOf(path+"provisions", i)+".grantees", j)+".msp", "not a member of this channel")
			}
		}
	}
	return nil
}

func namedMembers(body *pb.Consent) map[string]struct{} {
	named := map[string]struct{}{}
	for _, provision := range body.GetProvisions() {
		for _, g := range provision.GetGrantees() {
			if msp := g.GetMsp(); msp != "" {
				named[msp] = struct{}{}
			}
		}
	}
	return named
}

func applyRevokeConsent(r *run, c *decided) *refusal {
	const path = "body.revoke_consent."
	body := c.body.GetRevokeConsent()
	next, why := r.nextConsents(c, path, body)
	if why != nil {
		return why
	}
	i := indexOfConsent(next, body.GetConsentId())
	if i < 0 {
		return notFound(path+"consent_id", "no such consent is in force")
	}
	next.Consents = slices.Delete(next.Consents, i, i+1)
	r.state.Put(state.ConsentKey(body.GetPatient()), next)
	r.state.Put(state.EndedConsentKey(body.GetConsentId(), body.GetPatient()), &pb.EndedConsent{EndedBy: c.id(), AtMs: r.call.TimeMs})
	return nil
}

// nextConsents is a copy of a patient's consents with the next version. Only the patient gets it, and only for a command
// that names the change before it: a carrier that holds a command back cannot choose which of two signed wishes wins. The
// document stays when the last consent is revoked, so that no two commands can follow the same change.
func (r *run) nextConsents(c *decided, path string, body consentChange) (*pb.ConsentDocument, *refusal) {
	patient := body.GetPatient()
	if c.actor.GetRole() != pb.Role_ROLE_PATIENT || c.actor.GetAddress() != patient {
		return nil, forbidden("signer", "only the patient gives and revokes consent")
	}
	current := state.Load[pb.ConsentDocument](r.state, state.ConsentKey(patient))
	if body.GetFollows() != current.GetChangedBy() {
		return nil, conflict(path+"follows", "the consents are not those that this change was signed for: look at them, and sign again")
	}
	return &pb.ConsentDocument{
		Patient: patient, Version: current.GetVersion() + 1, Consents: slices.Clone(current.GetConsents()), ChangedBy: c.id(),
	}, nil
}

func indexOfConsent(document *pb.ConsentDocument, id string) int {
	return slices.IndexFunc(document.GetConsents(), func(c *pb.ActiveConsent) bool { return c.GetConsentId() == id })
}

func checkConsentNames(path string, body consentChange) *refusal {
	switch {
	case !isUUIDv7(body.GetConsentId()):
		return invalid(path+"consent_id", notUUIDv7)
	case !isAddress(body.GetPatient()):
		return invalid(path+"patient", "not an address")
	case body.GetFollows() != "" && !isUUIDv7(body.GetFollows()):
		return invalid(path+"follows", notUUIDv7)
	}
	return nil
}

func checkProvision(path string, p *pb.Provision) *refusal {
	if p.GetEffect() != pb.Effect_EFFECT_PERMIT && p.GetEffect() != pb.Effect_EFFECT_DENY {
		return invalid(path+".effect", "neither permit nor deny")
	}
	if len(p.GetGrantees())+len(p.GetPurposes())+len(p.GetCategories())+len(p.GetActions())+len(p.GetRecordIds()) > maxProvisionEntries {
		return tooLarge(path, "more than %d entries", maxProvisionEntries)
	}
	for i, g := range p.GetGrantees() {
		if why := checkGrantee(elementOf(path+".grantees", i), g); why != nil {
			return why
		}
	}
	if i, ok := firstOffList(p.GetPurposes(), purposes); !ok {
		return invalid(elementOf(path+".purposes", i), "not a purpose of use of the closed list")
	}
	if i, ok := firstOffList(p.GetCategories(), categories); !ok {
		return invalid(elementOf(path+".categories", i), "not a category of the closed list")
	}
	if i, ok := firstOffList(p.GetActions(), provisionActions); !ok {
		return invalid(elementOf(path+".actions", i), "not an action of the closed list")
	}
	for i, id := range p.GetRecordIds() {
		if !isUUIDv7(id) {
			return invalid(elementOf(path+".record_ids", i), notUUIDv7)
		}
	}
	from, until := p.GetValidFromMs(), p.GetValidUntilMs()
	if from < 0 || until < 0 || (until != 0 && until <= from) {
		return invalid(path+".valid_until_ms", "not after valid_from_ms")
	}
	return nil
}

func checkGrantee(path string, g *pb.Grantee) *refusal {
	switch {
	case g.GetAddress() == "" && g.GetRole() == pb.Role_ROLE_UNSPECIFIED && g.GetMsp() == "":
		return invalid(path, "names nobody: leave the list empty to mean anyone")
	case g.GetAddress() != "" && !isAddress(g.GetAddress()):
		return invalid(path+".address", "not an address")
	case g.GetRole() != pb.Role_ROLE_UNSPECIFIED && !isRole(g.GetRole()):
		return invalid(path+".role", "not a role of the closed list")
	case g.GetMsp() != "" && !isMSP(g.GetMsp()):
		return invalid(path+".msp", "not an MSP id")
	}
	return nil
}
