package batch_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/signing"
	"cbmdhi/chaincode/state"
)

const day = 24 * time.Hour

// standStill leaves the channel without a majority for some minutes: nobody tells the time.
func (s *story) standStill() {
	s.Call()
	s.Unattended = true
	s.Now = s.Now.Add(3 * time.Minute)
}

// goOn ends that.
func (s *story) goOn(after time.Duration) {
	s.Unattended = false
	s.Now = s.Now.Add(after)
}

func (s *story) newestEpoch() int64 {
	newest := int64(0)
	for key := range s.State {
		epoch := &pb.Epoch{}
		if strings.HasPrefix(key, state.EpochPrefix) && s.Document(key, epoch) {
			newest = max(newest, epoch.GetNumber())
		}
	}
	return newest
}

func forDays(days int) sim.Change {
	return func(header *pb.Command) { header.ExpiresAtMs = header.GetIssuedAtMs() + int64(days)*day.Milliseconds() }
}

func (s *story) emergency(by, patient *sim.Person, record string) *pb.SignedCommand {
	glass := sim.BreakGlass(patient, record, s.officer).GetBreakGlass()
	return by.Sign(sim.Body(&pb.EmergencyAccess{Glass: glass, NewestEpoch: s.newestEpoch()}), forDays(30))
}

// decides asks the own peer's chaincode, as storage does.
func (s *story) decides(asked *pb.SignedCommand, charges ...*pb.EmergencyCharge) *pb.EmergencyDecision {
	s.t.Helper()
	query := &pb.Query{Query: &pb.Query_DecideEmergency{DecideEmergency: &pb.DecideEmergency{Asked: asked, Charges: charges}}}
	var answer *pb.QueryResult
	s.traceless(func() {
		var err error
		if answer, err = s.Rules.Query(s.Call(), sim.Marshal(s.t, query), sim.Ledger{World: s.World}); err != nil {
			s.t.Fatal(err)
		}
	})
	decision := answer.GetEmergency()
	if permitted := decision.GetVerdict().GetCode() == pb.Code_CODE_OK; permitted != (decision.GetRecord() != nil) {
		s.t.Fatalf("%v with the record %v", decision.GetVerdict(), decision.GetRecord())
	}
	return decision
}

func TestAMemberOpensItsOwnPatientsRecordWhileTheChannelStandsStill(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.patient.Permit(&pb.Provision{Effect: pb.Effect_EFFECT_DENY})
	registration := s.clinician.Sign(sim.Body(s.clinician.Registration()))
	s.State[state.RegistrationKey(s.clinician.Address)] = sim.Marshal(t, registration)
	s.standStill()
	command := s.emergency(s.clinician, s.patient, record)
	decision := s.decides(command)
	s.expect(decision.GetVerdict(), pb.Code_CODE_OK)
	if decision.GetClinician().GetAddress() != s.clinician.Address || decision.GetPatient().GetAddress() != s.patient.Address ||
		decision.GetRecord().GetRecordId() != record || !proto.Equal(decision.GetRegistration(), registration) {
		t.Fatalf("decided by %s about %s", decision.GetClinician().GetAddress(), decision.GetRecord().GetRecordId())
	}
	opened := s.Now.UnixMilli()
	s.goOn(5 * day)
	s.expect(s.One(command), pb.Code_CODE_OK)
	e := s.Audit(command)
	if e.GetAction() != "emergency-access" || e.GetPatient() != s.patient.Address || e.GetRecordId() != record || e.GetVersion() != 1 ||
		e.GetCategory() != "observations" || e.GetPurpose() != "ETREAT" || e.GetObjection() != pb.Code_CODE_UNSPECIFIED ||
		e.GetOpenedAtMs() != opened || e.GetAtMs() != s.Now.UnixMilli() || len(e.GetBasis().GetPolicies()) == 0 {
		t.Fatalf("audit entry %v", e)
	}
	kept := &pb.SignedCommand{}
	if !s.Document(state.BrokenGlassKey(e.GetCommandId(), s.clinician.Address), kept) || !proto.Equal(kept, command) {
		t.Fatal("the clinician's words are not kept for the reviewers")
	}
	if q := s.quota(s.clinician); q.GetRecords() != 1 || q.GetUnreviewed() != 1 {
		t.Fatalf("quota %v", q)
	}
	s.expect(s.One(command), pb.Code_CODE_ALREADY_COMMITTED)
	s.expect(s.One(s.reviewGlass(s.officer, command, true)), pb.Code_CODE_OK)
	s.expect(s.One(s.reviewGlass(s.otherAdministrator, command, false)), pb.Code_CODE_OK)
	if !s.glassReviews(command).GetClosed() || s.quota(s.clinician).GetUnreviewed() != 0 {
		t.Fatalf("the review by two members: %v", s.glassReviews(command))
	}
}

func TestNothingIsOpenedWhileAMajorityIsThere(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.expectAt(s.decides(s.emergency(s.clinician, s.patient, record)).GetVerdict(), pb.Code_CODE_CONFLICT, "epoch")
	// A moment is no standstill: the next epoch may just not have been told.
	s.Call()
	s.Unattended = true
	s.Now = s.Now.Truncate(time.Minute).Add(2*time.Minute - time.Millisecond)
	s.expectAt(s.decides(s.emergency(s.clinician, s.patient, record)).GetVerdict(), pb.Code_CODE_CONFLICT, "epoch")
	s.Now = s.Now.Add(time.Millisecond)
	early := s.emergency(s.clinician, s.patient, record)
	s.expect(s.decides(early).GetVerdict(), pb.Code_CODE_OK)
	// What was signed in one standstill is worth nothing in the next.
	s.goOn(time.Minute)
	s.expectAt(s.decides(early).GetVerdict(), pb.Code_CODE_CONFLICT, "epoch")
	s.standStill()
	s.expectAt(s.decides(early).GetVerdict(), pb.Code_CODE_CONFLICT, "body.emergency_access.newest_epoch")
}

func TestNothingIsOpenedThatCouldBeOverBeforeAMajorityIsBack(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.standStill()
	for _, lifetime := range []time.Duration{time.Second, time.Hour, 30*day - time.Millisecond} {
		command := s.clinician.Sign(sim.Body(&pb.EmergencyAccess{
			Glass: sim.BreakGlass(s.patient, record, s.officer).GetBreakGlass(), NewestEpoch: s.newestEpoch(),
		}), func(header *pb.Command) { header.ExpiresAtMs = header.GetIssuedAtMs() + lifetime.Milliseconds() })
		s.expectAt(s.decides(command).GetVerdict(), pb.Code_CODE_INVALID, "expires_at_ms")
	}
	s.expect(s.decides(s.emergency(s.clinician, s.patient, record)).GetVerdict(), pb.Code_CODE_OK)
}

func TestWithoutAMajorityNobodyOpensAnotherMembersData(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.standStill()
	foreign := s.emergency(s.stranger, s.patient, record)
	s.expectAt(s.decides(foreign).GetVerdict(), pb.Code_CODE_FORBIDDEN, "")
	own := s.emergency(s.clinician, s.patient, record)
	// A patient and a clinician of one member say nothing to the storage of another one, though it be a custodian.
	s.Creator = sim.Lakeside
	s.expectAt(s.decides(own).GetVerdict(), pb.Code_CODE_FORBIDDEN, "")
	s.expectAt(s.decides(foreign).GetVerdict(), pb.Code_CODE_FORBIDDEN, "body.emergency_access.glass.patient")
	s.goOn(time.Minute)
	s.expectAt(s.One(foreign), pb.Code_CODE_FORBIDDEN, "body.emergency_access.glass.patient")
	if s.quota(s.stranger).GetRecords() != 0 {
		t.Fatal("what opened nothing was charged")
	}
	s.expect(s.One(s.reviewGlass(s.officer, foreign, true)), pb.Code_CODE_NOT_FOUND)
}

func TestOnlyWhoMayBreakTheGlassOpensWithoutAMajority(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	other := s.Active(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.standStill()
	for _, p := range []*sim.Person{s.engine, s.administrator, s.officer, s.patient, s.device} {
		s.expectAt(s.decides(s.emergency(p, s.patient, record)).GetVerdict(), pb.Code_CODE_FORBIDDEN, "signer")
	}
	s.expect(s.decides(s.emergency(s.clinician, other, record)).GetVerdict(), pb.Code_CODE_NOT_FOUND)
	s.expect(s.decides(s.emergency(s.clinician, s.patient, s.ID())).GetVerdict(), pb.Code_CODE_NOT_FOUND)
	s.expect(s.decides(s.breakGlass(s.clinician, record)).GetVerdict(), pb.Code_CODE_INVALID)
	forged := s.emergency(s.clinician, s.patient, record)
	forged.Signature = s.emergency(s.clinician, s.patient, s.ID()).GetSignature()
	s.expect(s.decides(forged).GetVerdict(), pb.Code_CODE_BAD_SIGNATURE)
	s.expect(s.decides(s.Enrol(pb.Role_ROLE_CLINICIAN, sim.Mercy).Sign(sim.Body(&pb.EmergencyAccess{
		Glass: sim.BreakGlass(s.patient, record, s.officer).GetBreakGlass(), NewestEpoch: s.newestEpoch(),
	}))).GetVerdict(), pb.Code_CODE_UNKNOWN_SIGNER)
	s.SetStatus(s.clinician, suspended)
	s.expectAt(s.decides(s.emergency(s.clinician, s.patient, record)).GetVerdict(), pb.Code_CODE_INACTIVE_SIGNER, "signer")
}

func TestWithoutAMajorityTheQuotaCountsWhatIsNotOnRecordYet(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.standStill()
	most := int(s.policy().GetPolicy().GetBreakGlass().GetRecords())
	var charges []*pb.EmergencyCharge
	for range most - 1 {
		charges = append(charges, &pb.EmergencyCharge{Patient: s.patient.Address, OpenedAtMs: s.Now.UnixMilli()})
	}
	s.expect(s.decides(s.emergency(s.clinician, s.patient, record), charges...).GetVerdict(), pb.Code_CODE_OK)
	charges = append(charges, charges[0])
	s.expectAt(s.decides(s.emergency(s.clinician, s.patient, record), charges...).GetVerdict(), pb.Code_CODE_FORBIDDEN, "signer")
	s.expect(s.decides(s.emergency(s.Active(pb.Role_ROLE_CLINICIAN, sim.Mercy), s.patient, record)).GetVerdict(), pb.Code_CODE_OK)
}

func TestWhatStandsAgainstAnEmergencyIsPutOnRecordWithIt(t *testing.T) {
	for name, c := range map[string]struct {
		meanwhile func(s *story, record string)
		objection pb.Code
		path      string
	}{
		"the clinician was suspended": {func(s *story, _ string) {
			s.SetStatus(s.clinician, suspended)
		}, pb.Code_CODE_INACTIVE_SIGNER, "signer"},
		"there is a newer version": {func(s *story, record string) {
			s.MustOK(s.Process(s.PutRecord(s.engine, s.patient, 2, record)).GetGroups()[0].GetVerdicts()...)
		}, pb.Code_CODE_FORBIDDEN, "body.emergency_access.glass.version"},
		"the policy forbids it": {func(s *story, _ string) {
			inForce := s.policy()
			inForce.Policy.Cedar += `@id("none") forbid (principal, action == Action::"break-glass", resource);`
			s.State[state.PolicyKey] = sim.Marshal(s.t, inForce)
		}, pb.Code_CODE_FORBIDDEN, ""},
		"the quota is used up": {func(s *story, _ string) {
			inForce := s.policy()
			inForce.Policy.BreakGlass.Records = 0
			s.State[state.PolicyKey] = sim.Marshal(s.t, inForce)
		}, pb.Code_CODE_FORBIDDEN, "signer"},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			record := s.Write(s.engine, s.patient)
			s.standStill()
			command := s.emergency(s.clinician, s.patient, record)
			s.expect(s.decides(command).GetVerdict(), pb.Code_CODE_OK)
			s.goOn(time.Minute)
			c.meanwhile(s, record)
			v := s.expect(s.One(command), pb.Code_CODE_OK)
			e := s.Audit(command)
			if v.GetObjection() != c.objection || e.GetObjection() != c.objection || e.GetPath() != c.path || e.GetReason() == "" ||
				v.GetReason() != e.GetReason() || s.quota(s.clinician).GetUnreviewed() != 1 {
				t.Fatalf("%v, %v, quota %v", v, e, s.quota(s.clinician))
			}
			if again := s.expect(s.One(command), pb.Code_CODE_ALREADY_COMMITTED); again.GetObjection() != c.objection {
				t.Fatalf("sent again: %v", again)
			}
			s.expect(s.One(s.reviewGlass(s.otherAdministrator, command, false)), pb.Code_CODE_OK)
			s.expect(s.One(s.reviewGlass(s.officer, command, false)), pb.Code_CODE_OK)
			if !s.glassReviews(command).GetClosed() {
				t.Fatal("not reviewed")
			}
		})
	}
}

func TestAnEmergencyComesOnRecordWithin30DaysAloneAndInPerson(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.standStill()
	glass := sim.BreakGlass(s.patient, record, s.officer).GetBreakGlass()
	body := sim.Body(&pb.EmergencyAccess{Glass: glass, NewestEpoch: s.newestEpoch()})
	late, tooLong := s.clinician.Sign(body, forDays(30)), s.clinician.Sign(body, forDays(31))
	untimely := s.clinician.Sign(sim.Body(&pb.EmergencyAccess{Glass: glass, NewestEpoch: s.newestEpoch() + 2}), forDays(1))
	unnamed := s.clinician.Sign(sim.Body(&pb.EmergencyAccess{Glass: glass}), forDays(1))
	unsealed := proto.CloneOf(glass)
	unsealed.SealedReasons = nil
	unreasoned := s.clinician.Sign(sim.Body(&pb.EmergencyAccess{Glass: unsealed, NewestEpoch: s.newestEpoch()}), forDays(1))
	bare := s.clinician.Sign(sim.Body(&pb.EmergencyAccess{NewestEpoch: s.newestEpoch()}), forDays(1))
	group := s.Group(sim.Part{By: s.clinician, Body: body}, sim.Part{By: s.patient, Body: s.consentBody()})
	delegated := s.clinician.Within(s.clinician.Delegation(s.device), s.device.Sign(body, forDays(1)))
	s.goOn(time.Minute)
	s.traceless(func() { s.expectAt(s.One(tooLong), pb.Code_CODE_EXPIRED, "expires_at_ms") })
	s.untouched(func() {
		s.expectAt(s.One(untimely), pb.Code_CODE_INVALID, "body.emergency_access.newest_epoch")
		s.expectAt(s.One(unnamed), pb.Code_CODE_INVALID, "body.emergency_access.newest_epoch")
		s.expectAt(s.One(unreasoned), pb.Code_CODE_INVALID, "body.emergency_access.glass.sealed_reasons")
		s.expectAt(s.One(bare), pb.Code_CODE_INVALID, "body.emergency_access.glass.patient")
		s.expectAt(s.Do(group...)[0], pb.Code_CODE_INVALID, "group")
		s.expectAt(s.One(delegated), pb.Code_CODE_FORBIDDEN, "delegation")
	})
	s.goOn(30*day - 2*time.Minute)
	s.expect(s.One(late), pb.Code_CODE_OK)
	s.standStill()
	over := s.emergency(s.clinician, s.patient, record)
	s.goOn(30 * day)
	s.traceless(func() { s.expectAt(s.One(over), pb.Code_CODE_EXPIRED, "expires_at_ms") })
}

// headerOf what somebody signed.
func headerOf(t *testing.T, command *pb.SignedCommand) *pb.Command {
	t.Helper()
	header := &pb.Command{}
	if err := proto.Unmarshal(command.GetCommand(), header); err != nil {
		t.Fatal(err)
	}
	return header
}

func TestNothingTakesThePlaceOfWhatWasOpenedWithoutAMajority(t *testing.T) {
	for name, forge := range map[string]func(s *story, record string, opened *pb.Command){
		"another command under its id": func(s *story, record string, opened *pb.Command) {
			opened.Body = sim.Marshal(s.t, sim.Body(&pb.Access{
				Patient: s.patient.Address, RecordId: record, Version: 1, Purpose: "TREAT", Action: "read",
			}))
			opened.ExpiresAtMs = opened.GetIssuedAtMs() + 5*60*1000
		},
		"another emergency under its id": func(s *story, record string, opened *pb.Command) {
			opened.Body = sim.Marshal(s.t, sim.Body(&pb.EmergencyAccess{
				Glass: sim.BreakGlass(s.patient, record, s.officer).GetBreakGlass(), NewestEpoch: s.newestEpoch() - 1,
			}))
		},
		"the same emergency, ending earlier": func(_ *story, _ string, opened *pb.Command) { opened.ExpiresAtMs-- },
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			record := s.Write(s.engine, s.patient)
			s.standStill()
			opened := s.emergency(s.clinician, s.patient, record)
			s.expect(s.decides(opened).GetVerdict(), pb.Code_CODE_OK)
			header := headerOf(t, opened)
			forge(s, record, header)
			s.goOn(time.Minute)
			s.traceless(func() {
				s.expectAt(s.One(s.clinician.SignHeader(header)), pb.Code_CODE_INVALID, "command_id")
			})
			s.expect(s.One(opened), pb.Code_CODE_OK)
		})
	}
}

func TestAnEmergencyUnderTwoSpellingsOfItsBytesIsOne(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.standStill()
	opened := s.emergency(s.clinician, s.patient, record)
	id := headerOf(t, opened).GetCommandId()
	// The id once more at the end: it is parsed as the same command.
	raw := append(slices.Clone(opened.GetCommand()), append([]byte{0x0a, byte(len(id))}, id...)...)
	twice := &pb.SignedCommand{
		Command: raw, Signature: s.clinician.SignBytes(signing.CommandPrefix, raw), Signer: s.clinician.Address,
	}
	s.expectAt(s.decides(twice).GetVerdict(), pb.Code_CODE_INVALID, "command_id")
	s.goOn(time.Minute)
	s.traceless(func() { s.expectAt(s.One(twice), pb.Code_CODE_INVALID, "command_id") })
	s.expect(s.One(opened), pb.Code_CODE_OK)
}

func TestOnlyTheCliniciansOwnMemberPutsAnEmergencyOnRecord(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	s.standStill()
	command := s.emergency(s.clinician, s.patient, record)
	s.goOn(time.Minute)
	s.Creator = sim.Lakeside
	s.traceless(func() { s.expectAt(s.One(command), pb.Code_CODE_FORBIDDEN, "") })
	s.Creator = sim.Mercy
	s.expect(s.One(command), pb.Code_CODE_OK)
	// What stands there is told to whoever asks.
	s.Creator = sim.Lakeside
	s.expect(s.One(command), pb.Code_CODE_ALREADY_COMMITTED)
}

func TestAnEmergencyOfATimeAtWhichTheRecordWasNotThereIsRefused(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	newest := s.newestEpoch()
	s.standStill()
	s.goOn(time.Minute)
	of := func(epoch int64) *pb.SignedCommand {
		glass := sim.BreakGlass(s.patient, record, s.officer).GetBreakGlass()
		return s.clinician.Sign(sim.Body(&pb.EmergencyAccess{Glass: glass, NewestEpoch: epoch}), forDays(30))
	}
	for _, epoch := range []int64{1, newest - 2} {
		s.untouched(func() { s.expectAt(s.One(of(epoch)), pb.Code_CODE_INVALID, "body.emergency_access.newest_epoch") })
	}
	// A record is written in the epoch after the newest that its peers need to know.
	s.expect(s.One(of(newest-1)), pb.Code_CODE_OK)
	if s.quota(s.clinician).GetUnreviewed() != 1 {
		t.Fatalf("quota %v", s.quota(s.clinician))
	}
}
