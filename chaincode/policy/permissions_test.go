package policy_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
)

// Who stands in the first column of docs/integrate/permissions.md.
var whoMay = map[string]func(*policy.Request){
	"the patient":                    as(pb.Role_ROLE_PATIENT, mercy, patient),
	"clinician of a treating member": as(pb.Role_ROLE_CLINICIAN, mercy, somebody),
	"clinician of another member":    as(pb.Role_ROLE_CLINICIAN, lakeside, somebody),
	"engine of a treating member":    as(pb.Role_ROLE_ENGINE, insurer, somebody),
	"engine of another member":       as(pb.Role_ROLE_ENGINE, lakeside, somebody),
	"administrator":                  as(pb.Role_ROLE_ADMINISTRATOR, mercy, somebody),
	"system of a treating member, by an administrator's delegation": func(r *policy.Request) {
		as(pb.Role_ROLE_ADMINISTRATOR, mercy, somebody)(r)
		r.Delegated = true
	},
	"privacy officer":                     as(pb.Role_ROLE_PRIVACY_OFFICER, mercy, somebody),
	"researcher, for research (`HRESCH`)": forPurpose("HRESCH"),
	"researcher, for anything else":       forPurpose("TREAT"),
	"device, for nobody":                  as(pb.Role_ROLE_DEVICE, mercy, somebody),
}

func as(role pb.Role, msp, address string) func(*policy.Request) {
	return func(r *policy.Request) {
		r.Principal.Role, r.Principal.HomeMsp, r.Principal.Address = role, msp, address
	}
}

func forPurpose(purpose string) func(*policy.Request) {
	return func(r *policy.Request) {
		as(pb.Role_ROLE_RESEARCHER, mercy, somebody)(r)
		r.Purpose = purpose
	}
}

func TestThePageOfPermissionsSaysWhatIsDecided(t *testing.T) {
	set := parse(t, defaultText(t))
	rows := tableOf(t, "../../docs/integrate/permissions.md")
	actions := rows[0][1:]
	if len(rows)-1 != len(whoMay) || !slices.Contains(actions, "break-glass") || len(actions) != 7 {
		t.Fatalf("%d rows of %d, actions %v", len(rows)-1, len(whoMay), actions)
	}
	for _, row := range rows[1:] {
		who, known := whoMay[row[0]]
		if !known {
			t.Errorf("nobody is %q", row[0])
			continue
		}
		for i, action := range actions {
			if want := cell(set, who, action); row[i+1] != want {
				t.Errorf("%s, %s: the page says %q, it is %q", row[0], action, row[i+1], want)
			}
		}
	}
}

// cell is what the page has to say of an action: asked with nothing, as the author, and with a consent that names it.
func cell(set *policy.Set, who func(*policy.Request), action string) string {
	asked := func(changes ...func(*policy.Request)) bool {
		return set.Session().Decide(request(action, func(r *policy.Request) {
			who(r)
			for _, change := range changes {
				change(r)
			}
		})).Permit
	}
	own := func(r *policy.Request) { r.Record.Author = r.Principal.GetAddress() }
	consented := func(r *policy.Request) { r.Consents = consents(pb.Effect_EFFECT_PERMIT, action) }
	if asked() {
		return "yes"
	}
	var ways []string
	if action != "write" && asked(own) {
		ways = append(ways, "own")
	}
	// No consent can name it.
	if action != policy.ActionBreakGlass && asked(consented) {
		ways = append(ways, "consent")
	}
	if len(ways) == 0 {
		return "no"
	}
	return strings.Join(ways, ", ")
}

// tableOf gives the cells of a page's only table, the head first.
func tableOf(t *testing.T, page string) (rows [][]string) {
	t.Helper()
	raw, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "| ") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		rows = append(rows, cells)
	}
	return rows
}
