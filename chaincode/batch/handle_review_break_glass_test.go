package batch_test

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

func (s *story) reviewGlass(by *sim.Person, broken *pb.SignedCommand, justified bool) *pb.SignedCommand {
	var header pb.Command
	if err := proto.Unmarshal(broken.GetCommand(), &header); err != nil {
		s.t.Fatal(err)
	}
	return by.Sign(sim.Body(&pb.ReviewBreakGlass{
		BreakGlassId: header.GetCommandId(), Clinician: broken.GetSigner(), Justified: justified,
	}))
}

func (s *story) glassReviews(broken *pb.SignedCommand) *pb.BreakGlassReviews {
	reviews := &pb.BreakGlassReviews{}
	s.Document(state.BreakGlassReviewsKey(s.Audit(broken).GetCommandId(), broken.GetSigner()), reviews)
	return reviews
}

func (s *story) quota(clinician *sim.Person) *pb.BreakGlassQuota {
	quota := &pb.BreakGlassQuota{}
	s.Document(state.BreakGlassQuotaKey(clinician.Address), quota)
	return quota
}

func (s *story) broken(by *sim.Person) *pb.SignedCommand {
	s.t.Helper()
	command := s.breakGlass(by, s.Write(s.engine, s.patient))
	s.expect(s.One(command), pb.Code_CODE_OK)
	return command
}

func TestABreakGlassIsClosedByTheCliniciansMemberAndAnother(t *testing.T) {
	for name, order := range map[string]func(own, other *sim.Person) []*sim.Person{
		"the clinician's first": func(own, other *sim.Person) []*sim.Person { return []*sim.Person{own, other} },
		"the other first":       func(own, other *sim.Person) []*sim.Person { return []*sim.Person{other, own} },
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			broken := s.broken(s.clinician)
			entry := s.Audit(broken)
			reviewers := order(s.officer, s.otherAdministrator)
			for i, by := range reviewers {
				s.Now = s.Now.Add(time.Minute)
				command := s.reviewGlass(by, broken, i == 0)
				s.expect(s.One(command), pb.Code_CODE_OK)
				e, last := s.Audit(command), i == 1
				if e.GetAction() != "review-break-glass" || e.GetPatient() != s.patient.Address || e.GetRecordId() != entry.GetRecordId() ||
					e.GetVersion() != 1 || e.GetCategory() != "observations" || e.GetSubject() != s.clinician.Address ||
					e.GetBreakGlassId() != entry.GetCommandId() || e.GetReviewClosed() != last {
					t.Fatalf("audit entry %v", e)
				}
				if want := map[bool]string{true: "not-justified", false: "justified"}[last]; e.GetReasonCode() != want {
					t.Fatalf("found %s, want %s", e.GetReasonCode(), want)
				}
				found := s.glassReviews(broken)
				review := found.GetReviews()[i]
				if found.GetClosed() != last || review.GetReviewer() != by.Address || review.GetMsp() != by.MSP ||
					review.GetJustified() == last || review.GetAtMs() != s.Now.UnixMilli() {
					t.Fatalf("reviews %v", found)
				}
			}
			if !proto.Equal(s.Audit(broken), entry) {
				t.Fatal("a review changed the entry of the break-glass")
			}
			for _, by := range append(reviewers, s.administrator, s.Active(pb.Role_ROLE_PRIVACY_OFFICER, sim.Lakeside)) {
				s.expect(s.One(s.reviewGlass(by, broken, true)), pb.Code_CODE_CONFLICT)
			}
		})
	}
}

func TestNoMemberSpeaksTwiceAboutABreakGlass(t *testing.T) {
	s := begin(t)
	broken := s.broken(s.clinician)
	s.expect(s.One(s.reviewGlass(s.officer, broken, true)), pb.Code_CODE_OK)
	s.expect(s.One(s.reviewGlass(s.administrator, broken, true)), pb.Code_CODE_CONFLICT)
	s.expect(s.One(s.reviewGlass(s.officer, broken, false)), pb.Code_CODE_CONFLICT)
	other := s.broken(s.clinician)
	s.expect(s.One(s.reviewGlass(s.otherAdministrator, other, true)), pb.Code_CODE_OK)
	s.expect(s.One(s.reviewGlass(s.thirdAdmin, other, true)), pb.Code_CODE_CONFLICT)
	if s.glassReviews(broken).GetClosed() || s.glassReviews(other).GetClosed() {
		t.Fatal("closed by one side")
	}
}

func TestWhoMayReviewABreakGlass(t *testing.T) {
	s := begin(t)
	broken := s.broken(s.clinician)
	for _, by := range []*sim.Person{s.clinician, s.engine, s.patient, s.stranger, s.researcher, s.device} {
		s.expectAt(s.One(s.reviewGlass(by, broken, true)), pb.Code_CODE_FORBIDDEN, "signer")
	}
	// An ordinary access is no break-glass, nor is one of another clinician.
	read := s.engine.Sign(sim.Read(s.patient, s.Audit(broken).GetRecordId(), "TREAT"))
	s.expect(s.One(read), pb.Code_CODE_OK)
	s.expect(s.One(s.reviewGlass(s.officer, read, true)), pb.Code_CODE_NOT_FOUND)
	s.expect(s.One(s.officer.Sign(sim.Body(&pb.ReviewBreakGlass{
		BreakGlassId: s.Audit(broken).GetCommandId(), Clinician: s.stranger.Address,
	}))), pb.Code_CODE_NOT_FOUND)
}

func TestThePatientsMembersReviewWhereTheClinicianIsOfAnother(t *testing.T) {
	s := begin(t)
	s.patient.Custodians = []string{sim.Lakeside}
	document := s.Identity(s.patient.Address)
	document.Custodians[0].Msp = sim.Lakeside
	s.State[state.IdentityKey(s.patient.Address)] = sim.Marshal(t, document)
	// Home Mercy, custodian Lakeside: beside Lakeside's clinician only Mercy's word counts.
	broken := s.broken(s.stranger)
	s.expectAt(s.One(s.reviewGlass(s.thirdAdmin, broken, true)), pb.Code_CODE_FORBIDDEN, "signer")
	s.expect(s.One(s.reviewGlass(s.otherAdministrator, broken, true)), pb.Code_CODE_OK)
	s.expect(s.One(s.reviewGlass(s.officer, broken, true)), pb.Code_CODE_OK)
	// Beside Mercy's clinician it is the custodian's.
	broken = s.broken(s.clinician)
	s.expectAt(s.One(s.reviewGlass(s.thirdAdmin, broken, true)), pb.Code_CODE_FORBIDDEN, "signer")
	s.expect(s.One(s.reviewGlass(s.otherAdministrator, broken, true)), pb.Code_CODE_OK)
}

func TestAReviewOfSomebodySuspendedSinceDoesNotCloseABreakGlass(t *testing.T) {
	s := begin(t)
	broken := s.broken(s.clinician)
	s.expect(s.One(s.reviewGlass(s.officer, broken, true)), pb.Code_CODE_OK)
	s.SetStatus(s.officer, suspended)
	s.expect(s.One(s.reviewGlass(s.otherAdministrator, broken, true)), pb.Code_CODE_OK)
	if s.glassReviews(broken).GetClosed() {
		t.Fatal("closed with the word of a suspended officer")
	}
	s.expect(s.One(s.reviewGlass(s.administrator, broken, false)), pb.Code_CODE_OK)
	if found := s.glassReviews(broken); !found.GetClosed() || len(found.GetReviews()) != 2 || s.quota(s.clinician).GetUnreviewed() != 0 {
		t.Fatalf("%v, %v", found, s.quota(s.clinician))
	}
	// What is closed stays closed, whoever is suspended later.
	s.SetStatus(s.otherAdministrator, suspended)
	s.expect(s.One(s.reviewGlass(s.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Lakeside), broken, true)), pb.Code_CODE_CONFLICT)
}

func TestAMemberAloneOpensNoMoreThanAQuotaOfCharts(t *testing.T) {
	s := begin(t)
	limits := s.policy().GetPolicy().GetBreakGlass()
	// Of one transaction, from which each chart would be opened.
	var items []*pb.BatchItem
	for range int(limits.GetPatients()) + 3 {
		s.patient = s.Active(pb.Role_ROLE_PATIENT, sim.Mercy)
		items = append(items, sim.Item(s.breakGlass(s.clinician, s.Write(s.engine, s.patient))))
	}
	codes := map[pb.Code]int{}
	for i, g := range s.Process(items...).GetGroups() {
		codes[g.Verdicts[0].GetCode()]++
		if want := i < int(limits.GetPatients()); want != (g.Verdicts[0].GetCode() == pb.Code_CODE_OK) {
			t.Fatalf("patient %d: %v", i, g.Verdicts[0])
		}
	}
	if codes[pb.Code_CODE_OK] != int(limits.GetPatients()) || codes[pb.Code_CODE_FORBIDDEN] != 3 {
		t.Fatalf("%v", codes)
	}
	refused := items[len(items)-1].Group.Commands[0]
	if s.Audit(refused).GetCode() != pb.Code_CODE_FORBIDDEN {
		t.Fatal("the attempt is not on the channel")
	}
	// Refused, it took nothing of the quota; the same patient again, another clinician, and the next window go.
	if q := s.quota(s.clinician); len(q.GetPatients()) != int(limits.GetPatients()) || q.GetUnreviewed() != limits.GetPatients() {
		t.Fatalf("quota %v", q)
	}
	s.expect(s.One(s.breakGlass(s.stranger, s.Write(s.engine, s.patient))), pb.Code_CODE_OK)
	first := s.quota(s.clinician).GetPatients()[0]
	window := time.Duration(limits.GetWindowHours()) * time.Hour
	s.Now = s.Now.Add(window - time.Millisecond)
	s.expectAt(s.One(s.breakGlass(s.clinician, s.Write(s.engine, s.patient))), pb.Code_CODE_FORBIDDEN, "signer")
	again := s.clinician.Sign(sim.BreakGlass(&sim.Person{Address: first}, s.recordOf(items[0]), s.officer))
	s.expect(s.One(again), pb.Code_CODE_OK)
	s.Now = s.Now.Add(time.Millisecond)
	s.expect(s.One(s.breakGlass(s.clinician, s.Write(s.engine, s.patient))), pb.Code_CODE_OK)
	if q := s.quota(s.clinician); !slices.Equal(q.GetPatients(), []string{s.patient.Address}) || q.GetRecords() != 1 ||
		q.GetBeganAtMs() != s.Now.UnixMilli() || q.GetUnreviewed() != limits.GetPatients()+2 {
		t.Fatalf("quota in the next window %v", q)
	}
}

func (s *story) recordOf(item *pb.BatchItem) string {
	return s.Audit(item.GetGroup().GetCommands()[0]).GetRecordId()
}

func TestAQuotaOfRecordsAndOfReviewsThatWait(t *testing.T) {
	s := begin(t)
	limit := func(change func(*pb.BreakGlassLimits)) {
		inForce := s.policy()
		change(inForce.GetPolicy().GetBreakGlass())
		s.State[state.PolicyKey] = sim.Marshal(t, inForce)
	}
	limit(func(l *pb.BreakGlassLimits) { l.Records = 2 })
	one, two := s.broken(s.clinician), s.broken(s.clinician)
	s.expectAt(s.One(s.breakGlass(s.clinician, s.Write(s.engine, s.patient))), pb.Code_CODE_FORBIDDEN, "signer")
	limit(func(l *pb.BreakGlassLimits) { l.Records, l.Unreviewed = 100, 2 })
	wait := func() *pb.Verdict { return s.One(s.breakGlass(s.clinician, s.Write(s.engine, s.patient))) }
	s.expectAt(wait(), pb.Code_CODE_FORBIDDEN, "signer")
	// Time alone brings nothing back: somebody has to look.
	s.Now = s.Now.Add(30 * 24 * time.Hour)
	s.expectAt(wait(), pb.Code_CODE_FORBIDDEN, "signer")
	s.expect(s.One(s.reviewGlass(s.officer, one, true)), pb.Code_CODE_OK)
	s.expectAt(wait(), pb.Code_CODE_FORBIDDEN, "signer")
	s.expect(s.One(s.reviewGlass(s.otherAdministrator, one, true)), pb.Code_CODE_OK)
	if s.quota(s.clinician).GetUnreviewed() != 1 {
		t.Fatalf("quota %v", s.quota(s.clinician))
	}
	s.expect(wait(), pb.Code_CODE_OK)
	s.expectAt(wait(), pb.Code_CODE_FORBIDDEN, "signer")
	s.expect(s.One(s.reviewGlass(s.officer, two, true)), pb.Code_CODE_OK)
	s.expect(s.One(s.reviewGlass(s.thirdAdmin, two, false)), pb.Code_CODE_OK)
	s.expect(wait(), pb.Code_CODE_OK)
}

func TestTwoMembersAreEnoughForReviews(t *testing.T) {
	w := sim.Of(t, sim.Mercy, sim.Lakeside)
	patient, engine := w.Active(pb.Role_ROLE_PATIENT, sim.Mercy), w.Active(pb.Role_ROLE_ENGINE, sim.Mercy)
	s := &story{World: w, t: t, patient: patient, engine: engine, clinician: w.Active(pb.Role_ROLE_CLINICIAN, sim.Mercy)}
	s.officer = w.Active(pb.Role_ROLE_PRIVACY_OFFICER, sim.Mercy)
	broken := s.broken(s.clinician)
	for _, by := range []*sim.Person{s.officer, w.Active(pb.Role_ROLE_PRIVACY_OFFICER, sim.Lakeside)} {
		s.expect(s.One(s.reviewGlass(by, broken, true)), pb.Code_CODE_OK)
	}
	if !s.glassReviews(broken).GetClosed() {
		t.Fatal("not closed")
	}
}
