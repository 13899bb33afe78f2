package batch_test

import (
	"testing"
	"time"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

func (s *story) breakGlass(by *sim.Person, record string) *pb.SignedCommand {
	return by.Sign(sim.BreakGlass(s.patient, record, s.officer))
}

func TestTheGlassIsBrokenByAClinicianAgainstEveryConsent(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.patient.Permit(&pb.Provision{Effect: pb.Effect_EFFECT_DENY})
	command := s.breakGlass(s.stranger, record)
	s.expect(s.One(command), pb.Code_CODE_OK)
	e := s.Audit(command)
	if e.GetAction() != "break-glass" || e.GetPatient() != s.patient.Address || e.GetReasonCode() != "" ||
		e.GetBreakGlassReview() == nil || e.GetBreakGlassReview().GetReviewed() {
		t.Fatalf("audit entry %v", e)
	}
	for _, p := range []*sim.Person{s.engine, s.researcher, s.administrator, s.patient} {
		refused := s.breakGlass(p, record)
		s.expect(s.One(refused), pb.Code_CODE_FORBIDDEN)
		if s.Audit(refused).GetBreakGlassReview() != nil {
			t.Fatal("there is nothing to review about a glass that held")
		}
	}
	s.expect(s.One(s.breakGlass(s.stranger, s.ID())), pb.Code_CODE_NOT_FOUND)
}

func TestABreakGlassIsReviewedOnceByTheCliniciansOwnMember(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	broken := s.breakGlass(s.clinician, record)
	s.expect(s.One(broken), pb.Code_CODE_OK)
	id := s.Audit(broken).GetCommandId()
	review := func(by *sim.Person) *pb.SignedCommand {
		return by.Sign(sim.Body(&pb.ReviewBreakGlass{BreakGlassId: id, Clinician: s.clinician.Address, Justified: true}))
	}
	s.expect(s.One(review(s.otherAdministrator)), pb.Code_CODE_FORBIDDEN)
	s.expect(s.One(review(s.clinician)), pb.Code_CODE_FORBIDDEN)
	s.expectAt(s.One(review(s.engine)), pb.Code_CODE_FORBIDDEN, "signer")
	s.Now = s.Now.Add(time.Minute)
	command := review(s.officer)
	s.expect(s.One(command), pb.Code_CODE_OK)
	outcome := s.Audit(broken).GetBreakGlassReview()
	if !outcome.GetReviewed() || !outcome.GetJustified() || outcome.GetReviewer() != s.officer.Address || outcome.GetAtMs() != s.Now.UnixMilli() {
		t.Fatalf("outcome %v", outcome)
	}
	if e := s.Audit(command); e.GetAction() != "review-break-glass" || e.GetPatient() != s.patient.Address || e.GetRecordId() != record {
		t.Fatalf("audit entry %v", e)
	}
	s.expect(s.One(review(s.administrator)), pb.Code_CODE_CONFLICT)
	// An ordinary access is no break-glass.
	read := s.clinician.Sign(sim.Read(s.patient, record, "TREAT"))
	s.One(read)
	id = s.Audit(read).GetCommandId()
	s.expect(s.One(review(s.officer)), pb.Code_CODE_NOT_FOUND)
}

func TestAnAdministratorWhoBrokeTheGlassAsAClinicianCannotReviewIt(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	broken := s.breakGlass(s.clinician, record)
	s.expect(s.One(broken), pb.Code_CODE_OK)
	promoted := s.Identity(s.clinician.Address)
	promoted.Role = pb.Role_ROLE_ADMINISTRATOR
	s.State["id/"+s.clinician.Address] = sim.Marshal(t, promoted)
	s.expect(s.One(s.clinician.Sign(sim.Body(&pb.ReviewBreakGlass{
		BreakGlassId: s.Audit(broken).GetCommandId(), Clinician: s.clinician.Address, Justified: true,
	}))), pb.Code_CODE_FORBIDDEN)
}

func TestNoPolicyLetsAnybodyButAClinicianBreakTheGlass(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	state := s.policy()
	state.Policy.Cedar = `@id("everything") permit (principal, action, resource);`
	s.State["pol"] = sim.Marshal(t, state)
	s.expectAt(s.One(s.breakGlass(s.engine, record)), pb.Code_CODE_FORBIDDEN, "signer")
	s.expect(s.One(s.breakGlass(s.clinician, record)), pb.Code_CODE_OK)
}
