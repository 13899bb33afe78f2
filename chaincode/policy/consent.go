package policy

import (
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// What a patient's consents say about one request.
const (
	ConsentPermit = "permit"
	ConsentDeny   = "deny"
	ConsentNone   = "none"
)

// defaultActions are meant by a permit that names no action (command.proto, Provision.actions).
var defaultActions = []string{"read", "search", "history"}

// ConsentAnswer is what the consents say, and which of them said it.
type ConsentAnswer struct {
	// ConsentPermit, ConsentDeny or ConsentNone.
	Effect string
	// The first consent, in the document's order, whose provision matched with that effect.
	ConsentID string
}

// Consent evaluates a patient's consent document, once, for every kind of use. A provision matches
// when none of its restrictions excludes the request; one matching deny outweighs every permit.
func Consent(document *pb.ConsentDocument, request *Request) ConsentAnswer {
	answer := ConsentAnswer{Effect: ConsentNone}
	for _, consent := range document.GetConsents() {
		for _, provision := range consent.GetProvisions() {
			if !matches(provision, request) {
				continue
			}
			switch provision.GetEffect() {
			case pb.Effect_EFFECT_DENY:
				return ConsentAnswer{Effect: ConsentDeny, ConsentID: consent.GetConsentId()}
			case pb.Effect_EFFECT_PERMIT:
				if answer.Effect == ConsentNone {
					answer = ConsentAnswer{Effect: ConsentPermit, ConsentID: consent.GetConsentId()}
				}
			}
		}
	}
	return answer
}

func matches(p *pb.Provision, r *Request) bool {
	return covers(p, r.consentAction()) &&
		(p.GetValidFromMs() == 0 || r.NowMs >= p.GetValidFromMs()) &&
		(p.GetValidUntilMs() == 0 || r.NowMs < p.GetValidUntilMs()) &&
		anyOr(p.GetPurposes(), r.Purpose) &&
		anyOr(p.GetCategories(), r.Record.Category) &&
		anyOr(p.GetRecordIds(), r.Record.ID) &&
		grantedTo(p.GetGrantees(), r.Principal)
}

// covers: a deny that names no action means all of them, whatever anybody may come to do; a permit
// that names none means looking, and no more.
func covers(p *pb.Provision, action string) bool {
	switch {
	case len(p.GetActions()) > 0:
		return slices.Contains(p.GetActions(), action)
	case p.GetEffect() == pb.Effect_EFFECT_DENY:
		return true
	}
	return slices.Contains(defaultActions, action)
}

// anyOr: an empty list does not restrict.
func anyOr(list []string, value string) bool {
	return len(list) == 0 || slices.Contains(list, value)
}

func grantedTo(grantees []*pb.Grantee, who *pb.IdentityDocument) bool {
	if len(grantees) == 0 {
		return true
	}
	for _, g := range grantees {
		if (g.GetAddress() == "" || g.GetAddress() == who.GetAddress()) &&
			(g.GetRole() == pb.Role_ROLE_UNSPECIFIED || g.GetRole() == who.GetRole()) &&
			(g.GetMsp() == "" || g.GetMsp() == who.GetHomeMsp()) {
			return true
		}
	}
	return false
}
