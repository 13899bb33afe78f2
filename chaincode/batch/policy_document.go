package batch

import (
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
)

// Limits of a policy document.
const (
	MaxCedarBytes = 64 << 10

	maxBreakGlassHours      = 7 * 24
	maxBreakGlassPatients   = 50
	maxBreakGlassRecords    = 1000
	maxBreakGlassUnreviewed = 1000
)

var (
	// indispensable roles: without new patients and clinicians there is no mesh, and without new administrators nobody
	// can change the policy one day.
	indispensable = []pb.Role{pb.Role_ROLE_ADMINISTRATOR, pb.Role_ROLE_PATIENT, pb.Role_ROLE_CLINICIAN}

	// privileged roles have rights at other members too: they break the glass there, close a break-glass, or vote. One
	// member's certificate authority must not be enough to make one. An engine adds to the charts of its own member's
	// patients, and a device acts within what a person signed: what they do wrong harms their own member.
	privileged = []pb.Role{pb.Role_ROLE_ADMINISTRATOR, pb.Role_ROLE_CLINICIAN, pb.Role_ROLE_PRIVACY_OFFICER}
)

func isPrivileged(role pb.Role) bool { return slices.Contains(privileged, role) }

// checkPolicy accepts a document only if it can work among that many members and locks nobody out.
func checkPolicy(path string, p *pb.PolicyDocument, members int, nowMs int64, cache *policy.Cache) *refusal {
	if len(p.GetCedar()) > MaxCedarBytes {
		return tooLarge(path+".cedar", "over %d bytes", MaxCedarBytes)
	}
	set, err := cache.Get(p.GetCedar())
	if err != nil {
		return invalid(path+".cedar", "%s", err.Error())
	}
	if err := set.CheckWorkable(nowMs); err != nil {
		return invalid(path+".cedar", "%s", err.Error())
	}
	if why := checkReviewRules(path+".review_rules", p.GetReviewRules(), members); why != nil {
		return why
	}
	if p.GetMinReplicas() == 0 || int(p.GetMinReplicas()) > members {
		return invalid(path+".min_replicas", "not between 1 and the number of members")
	}
	return checkBreakGlassLimits(path+".break_glass.", p.GetBreakGlass())
}

func checkReviewRules(path string, rules []*pb.ReviewRule, members int) *refusal {
	seen := map[pb.Role]bool{}
	for i, rule := range rules {
		where := elementOf(path, i)
		switch {
		case !isRole(rule.GetRole()) || seen[rule.GetRole()]:
			return invalid(where+".role", "not a role of the closed list, or named twice")
		case rule.GetHomeOnly() && rule.GetQuorum() > 1:
			return invalid(where+".quorum", "with home_only it is 0 or 1")
		case int(rule.GetQuorum()) > members:
			return invalid(where+".quorum", "more than there are members")
		case isPrivileged(rule.GetRole()) && rule.GetHomeOnly():
			return invalid(where+".home_only", "another member approves the role %s, whom all members believe",
				policy.RoleName(rule.GetRole()))
		case isPrivileged(rule.GetRole()) && rule.GetQuorum() == 0:
			return invalid(where+".quorum", "the role %s, whom all members believe, is approved by at least one",
				policy.RoleName(rule.GetRole()))
		}
		seen[rule.GetRole()] = true
	}
	for _, role := range indispensable {
		if !seen[role] {
			return invalid(path, "no rule for the role %s: nobody could register for it any more", policy.RoleName(role))
		}
	}
	return nil
}

func checkBreakGlassLimits(path string, limits *pb.BreakGlassLimits) *refusal {
	for _, limit := range []struct {
		name        string
		value, most uint32
	}{
		{"window_hours", limits.GetWindowHours(), maxBreakGlassHours},
		{"patients", limits.GetPatients(), maxBreakGlassPatients},
		{"records", limits.GetRecords(), maxBreakGlassRecords},
		{"unreviewed", limits.GetUnreviewed(), maxBreakGlassUnreviewed},
	} {
		if limit.value == 0 || limit.value > limit.most {
			return invalid(path+limit.name, "not between 1 and %d", limit.most)
		}
	}
	return nil
}
