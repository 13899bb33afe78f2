package batch_test

import (
	"slices"
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

// rule changes a role's review rule behind the members' back.
func (s *story) rule(role pb.Role, quorum uint32, homeOnly bool) {
	inForce := s.policy()
	rules := inForce.GetPolicy().GetReviewRules()
	i := slices.IndexFunc(rules, func(r *pb.ReviewRule) bool { return r.GetRole() == role })
	rules[i].Quorum, rules[i].HomeOnly = quorum, homeOnly
	s.State[state.PolicyKey] = sim.Marshal(s.t, inForce)
}

func TestNoMemberAloneMakesSomebodyWhomAllMembersBelieve(t *testing.T) {
	for _, role := range []pb.Role{pb.Role_ROLE_CLINICIAN, pb.Role_ROLE_ADMINISTRATOR, pb.Role_ROLE_PRIVACY_OFFICER} {
		t.Run(role.String(), func(t *testing.T) {
			s := begin(t)
			newcomer := s.Enrol(role, sim.Mercy)
			s.rule(role, 1, false)
			s.expect(s.One(s.register(newcomer)), pb.Code_CODE_OK)
			s.expectStatus(newcomer, pending)
			s.expect(s.review(s.administrator, newcomer, approve), pb.Code_CODE_OK)
			s.expectStatus(newcomer, pending)
			s.expect(s.review(s.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Mercy), newcomer, approve), pb.Code_CODE_CONFLICT)
			s.expect(s.review(s.otherAdministrator, newcomer, approve), pb.Code_CODE_OK)
			s.expectStatus(newcomer, active)
			// With a quorum of one another member's word is enough beside the home member's certificate.
			second := s.Enrol(role, sim.Mercy)
			s.expect(s.One(s.register(second)), pb.Code_CODE_OK)
			s.expect(s.review(s.otherAdministrator, second, approve), pb.Code_CODE_OK)
			s.expectStatus(second, active)
			// No policy document could say otherwise, and if one did it would not be believed.
			s.rule(role, 0, false)
			third := s.Enrol(role, sim.Mercy)
			s.expect(s.One(s.register(third)), pb.Code_CODE_OK)
			s.expectStatus(third, pending)
		})
	}
}

func TestAQuorumOfTwoAsksForTwoMembers(t *testing.T) {
	s := begin(t)
	clinician := s.Enrol(pb.Role_ROLE_CLINICIAN, sim.Mercy)
	s.expect(s.One(s.register(clinician)), pb.Code_CODE_OK)
	s.expect(s.review(s.otherAdministrator, clinician, approve), pb.Code_CODE_OK)
	s.expectStatus(clinician, pending)
	s.expect(s.review(s.thirdAdmin, clinician, approve), pb.Code_CODE_OK)
	s.expectStatus(clinician, active)
}

func TestEachMembersFirstAdministratorComesInByItsOwnWordAndNoOther(t *testing.T) {
	s := &story{World: sim.New(t), t: t}
	var first []*sim.Person
	for _, msp := range []string{sim.Mercy, sim.Lakeside} {
		p := s.Enrol(pb.Role_ROLE_ADMINISTRATOR, msp)
		s.expect(s.One(s.register(p)), pb.Code_CODE_OK)
		s.expectStatus(p, active)
		first = append(first, p)
	}
	// A clinician is not let in because no administrator is there yet.
	clinician := s.Enrol(pb.Role_ROLE_CLINICIAN, sim.Insurer)
	s.expect(s.One(s.register(clinician)), pb.Code_CODE_OK)
	s.expectStatus(clinician, pending)
	second := s.Enrol(pb.Role_ROLE_ADMINISTRATOR, sim.Mercy)
	s.expect(s.One(s.register(second)), pb.Code_CODE_OK)
	s.expectStatus(second, pending)
	s.expect(s.review(first[0], second, approve), pb.Code_CODE_OK)
	s.expectStatus(second, pending)
	s.expect(s.review(first[1], second, approve), pb.Code_CODE_OK)
	s.expectStatus(second, active)
	// Two in one batch: one of them is the first.
	a, b := s.Enrol(pb.Role_ROLE_ADMINISTRATOR, sim.Insurer), s.Enrol(pb.Role_ROLE_ADMINISTRATOR, sim.Insurer)
	s.Process(sim.Item(s.register(a)), sim.Item(s.register(b)))
	s.expectStatus(a, active)
	s.expectStatus(b, pending)
	// Suspended, the first one stays the first.
	s.SetStatus(a, suspended)
	third := s.Enrol(pb.Role_ROLE_ADMINISTRATOR, sim.Insurer)
	s.expect(s.One(s.register(third)), pb.Code_CODE_OK)
	s.expectStatus(third, pending)
}

func TestAMemberTakesItsVoteOnARegistrationBack(t *testing.T) {
	s := begin(t)
	newcomer := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.expect(s.One(s.register(newcomer)), pb.Code_CODE_OK)
	withdraw := pb.Decision_DECISION_WITHDRAW
	s.expectAt(s.review(s.administrator, newcomer, withdraw), pb.Code_CODE_NOT_FOUND, "body.review_registration.decision")
	s.expect(s.review(s.administrator, newcomer, approve), pb.Code_CODE_OK)
	s.expectAt(s.review(s.otherAdministrator, newcomer, withdraw), pb.Code_CODE_NOT_FOUND, "body.review_registration.decision")
	s.expect(s.review(s.administrator, newcomer, withdraw), pb.Code_CODE_OK)
	s.expect(s.review(s.otherAdministrator, newcomer, approve), pb.Code_CODE_OK)
	s.expectStatus(newcomer, pending)
	if votes := s.Identity(newcomer.Address).GetReviews(); len(votes) != 1 || votes[0].GetMsp() != sim.Lakeside {
		t.Fatalf("votes %v", votes)
	}
	s.expect(s.review(s.administrator, newcomer, approve), pb.Code_CODE_OK)
	s.expectStatus(newcomer, active)
	s.expect(s.review(s.administrator, newcomer, withdraw), pb.Code_CODE_CONFLICT)
}

func TestAMemberThatApprovedMayStillReject(t *testing.T) {
	s := begin(t)
	newcomer := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.expect(s.One(s.register(newcomer)), pb.Code_CODE_OK)
	s.expect(s.review(s.administrator, newcomer, approve), pb.Code_CODE_OK)
	s.expect(s.review(s.administrator, newcomer, reject), pb.Code_CODE_OK)
	s.expectStatus(newcomer, rejected)
	if votes := s.Identity(newcomer.Address).GetReviews(); len(votes) != 1 || votes[0].GetDecision() != reject {
		t.Fatalf("votes %v", votes)
	}
}

func TestAnApprovalOfASuspendedAdministratorCountsNoMore(t *testing.T) {
	s := begin(t)
	newcomer := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.expect(s.One(s.register(newcomer)), pb.Code_CODE_OK)
	s.expect(s.review(s.administrator, newcomer, approve), pb.Code_CODE_OK)
	s.SetStatus(s.administrator, suspended)
	s.expect(s.review(s.otherAdministrator, newcomer, approve), pb.Code_CODE_OK)
	s.expectStatus(newcomer, pending)
	// The member speaks by somebody else.
	s.expect(s.review(s.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Mercy), newcomer, approve), pb.Code_CODE_OK)
	s.expectStatus(newcomer, active)
}

func TestARegistrationWhoseRoleLostItsRuleWaits(t *testing.T) {
	s := begin(t)
	officer := s.Enrol(pb.Role_ROLE_PRIVACY_OFFICER, sim.Mercy)
	s.expect(s.One(s.register(officer)), pb.Code_CODE_OK)
	inForce := s.policy()
	inForce.Policy.ReviewRules = slices.DeleteFunc(inForce.Policy.ReviewRules, func(r *pb.ReviewRule) bool {
		return r.GetRole() == pb.Role_ROLE_PRIVACY_OFFICER
	})
	s.State[state.PolicyKey] = sim.Marshal(t, inForce)
	for _, by := range []*sim.Person{s.administrator, s.otherAdministrator} {
		s.expectAt(s.review(by, officer, approve), pb.Code_CODE_FORBIDDEN, "body.review_registration.address")
	}
	s.expectStatus(officer, pending)
}
