package batch_test

import (
	"fmt"
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

// hospitals is a channel of so many members, of each an administrator; the first is home to everybody.
func hospitals(t *testing.T, members int) (*story, []*sim.Person) {
	t.Helper()
	var msps []string
	for i := range members {
		msps = append(msps, fmt.Sprintf("Member%dMSP", i))
	}
	s := &story{World: sim.Of(t, msps...), t: t}
	var administrators []*sim.Person
	for _, msp := range msps {
		administrators = append(administrators, s.Active(pb.Role_ROLE_ADMINISTRATOR, msp))
	}
	return s, administrators
}

func (s *story) newcomer(role pb.Role, home string) *sim.Person {
	s.t.Helper()
	newcomer := s.Enrol(role, home)
	s.expect(s.One(s.register(newcomer)), pb.Code_CODE_OK)
	return newcomer
}

// Two members approve a patient: the rejections of others end the registration when fewer than two are left.
func TestARegistrationEndsWhenItCannotBeApprovedAnyMore(t *testing.T) {
	for members, needed := range map[int]int{2: 1, 3: 2, 4: 3, 5: 4} {
		t.Run(fmt.Sprint(members), func(t *testing.T) {
			s, administrators := hospitals(t, members)
			newcomer := s.newcomer(pb.Role_ROLE_PATIENT, administrators[0].MSP)
			for i := 1; i <= needed; i++ {
				s.expectStatus(newcomer, pending)
				s.expect(s.review(administrators[i], newcomer, reject), pb.Code_CODE_OK)
			}
			s.expectStatus(newcomer, rejected)
			s.expect(s.review(administrators[0], newcomer, approve), pb.Code_CODE_CONFLICT)
		})
	}
}

func TestOneMemberAloneDeniesNobodyWhomTheOthersApprove(t *testing.T) {
	for _, role := range []pb.Role{pb.Role_ROLE_PATIENT, pb.Role_ROLE_CLINICIAN} {
		for _, members := range []int{3, 4} {
			for _, first := range []pb.Decision{reject, approve} {
				s, administrators := hospitals(t, members)
				newcomer := s.newcomer(role, administrators[0].MSP)
				if first == reject {
					s.expect(s.review(administrators[1], newcomer, reject), pb.Code_CODE_OK)
				}
				s.expect(s.review(administrators[0], newcomer, approve), pb.Code_CODE_OK)
				if first == approve {
					s.expect(s.review(administrators[1], newcomer, reject), pb.Code_CODE_OK)
				}
				// A rejection is no approval.
				s.expectStatus(newcomer, pending)
				s.expect(s.review(administrators[2], newcomer, approve), pb.Code_CODE_OK)
				s.expectStatus(newcomer, active)
			}
		}
	}
}

func TestTheHomeMemberEndsARegistrationAlone(t *testing.T) {
	s, administrators := hospitals(t, 4)
	newcomer := s.newcomer(pb.Role_ROLE_PATIENT, administrators[0].MSP)
	s.expect(s.review(administrators[1], newcomer, approve), pb.Code_CODE_OK)
	s.expect(s.review(administrators[0], newcomer, reject), pb.Code_CODE_OK)
	s.expectStatus(newcomer, rejected)
}

func TestAMemberRejectsOnceHoweverManyAdministratorsItHas(t *testing.T) {
	s, administrators := hospitals(t, 4)
	newcomer := s.newcomer(pb.Role_ROLE_PATIENT, administrators[0].MSP)
	for range 3 {
		another := s.Active(pb.Role_ROLE_ADMINISTRATOR, administrators[1].MSP)
		s.expect(s.review(another, newcomer, reject), pb.Code_CODE_OK)
		s.expectStatus(newcomer, pending)
	}
	if votes := s.Identity(newcomer.Address).GetReviews(); len(votes) != 1 {
		t.Fatalf("votes %v", votes)
	}
}

func TestARejectionIsTakenBackAndThenTheMemberMayApprove(t *testing.T) {
	s, administrators := hospitals(t, 3)
	newcomer := s.newcomer(pb.Role_ROLE_PATIENT, administrators[0].MSP)
	s.expect(s.review(administrators[1], newcomer, reject), pb.Code_CODE_OK)
	s.expect(s.review(administrators[1], newcomer, approve), pb.Code_CODE_CONFLICT)
	s.expect(s.review(administrators[1], newcomer, pb.Decision_DECISION_WITHDRAW), pb.Code_CODE_OK)
	s.expect(s.review(administrators[1], newcomer, approve), pb.Code_CODE_OK)
	s.expect(s.review(administrators[2], newcomer, approve), pb.Code_CODE_OK)
	s.expectStatus(newcomer, active)
}

func TestTheRejectionOfASuspendedAdministratorCountsNoMore(t *testing.T) {
	s, administrators := hospitals(t, 3)
	newcomer := s.newcomer(pb.Role_ROLE_PATIENT, administrators[0].MSP)
	s.expect(s.review(administrators[1], newcomer, reject), pb.Code_CODE_OK)
	s.SetStatus(administrators[1], suspended)
	s.expect(s.review(administrators[2], newcomer, reject), pb.Code_CODE_OK)
	s.expectStatus(newcomer, pending)
}

// One approval is enough for an administrator, but it has to be another member's.
func TestWhomNoOtherMemberBelievesIsRejected(t *testing.T) {
	s, administrators := hospitals(t, 4)
	newcomer := s.newcomer(pb.Role_ROLE_ADMINISTRATOR, administrators[0].MSP)
	for _, other := range administrators[1:] {
		s.expectStatus(newcomer, pending)
		s.expect(s.review(other, newcomer, reject), pb.Code_CODE_OK)
	}
	s.expectStatus(newcomer, rejected)
}
