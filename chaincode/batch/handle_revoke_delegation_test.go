package batch_test

import (
	"testing"
	"time"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

// ends a delegation, signed by whoever says so.
func (s *story) ends(by *sim.Person, d *pb.Delegation) *pb.SignedCommand {
	return by.Sign(sim.Body(&pb.RevokeDelegation{
		DelegationId: d.GetDelegationId(), Delegator: d.GetDelegator(), ExpiresAtMs: d.GetExpiresAtMs(),
	}))
}

// within reads a record through the device, inside a delegation of the patient's.
func (s *story) within(d *pb.Delegation, record string) *pb.SignedCommand {
	return s.patient.Within(d, s.device.Sign(sim.Read(s.patient, record, "PATRQT")))
}

func TestAfterTheLogoutTheDeviceActsNoMore(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	d, other := s.patient.Delegation(s.device), s.patient.Delegation(s.device)
	s.expect(s.One(s.within(d, record)), pb.Code_CODE_OK)
	logout := s.ends(s.patient, d)
	s.expect(s.One(logout), pb.Code_CODE_OK)
	s.expectAt(s.One(s.within(d, record)), pb.Code_CODE_FORBIDDEN, "delegation.delegation_id")
	s.expect(s.One(s.within(other, record)), pb.Code_CODE_OK)
	if e := s.Audit(logout); e.GetAction() != "revoke-delegation" || e.GetSubject() != s.patient.Address || e.GetPatient() != s.patient.Address {
		t.Fatalf("audit entry %v", e)
	}
	kept := &pb.RevokedDelegation{}
	if !s.Document(state.RevokedDelegationKey(d.GetDelegationId(), s.patient.Address), kept) || kept.GetUntilMs() != d.GetExpiresAtMs() ||
		kept.GetRevokedBy() != s.patient.Address {
		t.Fatalf("remembered %v", kept)
	}
	s.expect(s.One(s.ends(s.patient, d)), pb.Code_CODE_CONFLICT)
}

func TestWhatEndsADelegationCountsWithinTheBatch(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	d := s.patient.Delegation(s.device)
	result := s.Process(sim.Item(s.within(d, record)), sim.Item(s.ends(s.patient, d)), sim.Item(s.within(d, record)))
	s.expect(result.Groups[0].Verdicts[0], pb.Code_CODE_OK)
	s.expect(result.Groups[1].Verdicts[0], pb.Code_CODE_OK)
	s.expect(result.Groups[2].Verdicts[0], pb.Code_CODE_FORBIDDEN)
}

func TestWhoEndsADelegation(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	d := s.patient.Delegation(s.device)
	for _, by := range []*sim.Person{s.clinician, s.device, s.officer, s.otherAdministrator} {
		s.expectAt(s.One(s.ends(by, d)), pb.Code_CODE_FORBIDDEN, "signer")
	}
	s.expectAt(s.One(s.patient.Within(s.patient.Delegation(s.device), s.device.Sign(sim.Body(&pb.RevokeDelegation{
		DelegationId: d.GetDelegationId(), Delegator: s.patient.Address, ExpiresAtMs: d.GetExpiresAtMs(),
	})))), pb.Code_CODE_FORBIDDEN, "delegation")
	// Somebody else's delegation under the same id is theirs.
	theirs := s.clinician.Delegation(s.device)
	theirs.DelegationId = d.GetDelegationId()
	s.expect(s.One(s.ends(s.clinician, theirs)), pb.Code_CODE_OK)
	s.expect(s.One(s.within(d, record)), pb.Code_CODE_OK)
	s.expect(s.One(s.ends(s.administrator, d)), pb.Code_CODE_OK)
	s.expect(s.One(s.within(d, record)), pb.Code_CODE_FORBIDDEN)
}

func TestWhatADelegationThatIsEndedHasToSay(t *testing.T) {
	const path = "body.revoke_delegation."
	for name, test := range map[string]struct {
		change func(s *story, d *pb.Delegation)
		code   pb.Code
		path   string
	}{
		"no id":                      {func(_ *story, d *pb.Delegation) { d.DelegationId = "1" }, pb.Code_CODE_INVALID, path + "delegation_id"},
		"a delegator that is a name": {func(_ *story, d *pb.Delegation) { d.Delegator = "Dr. Somebody" }, pb.Code_CODE_INVALID, path + "delegator"},
		"over already":               {func(s *story, d *pb.Delegation) { d.ExpiresAtMs = s.Now.UnixMilli() }, pb.Code_CODE_INVALID, path + "expires_at_ms"},
		"longer than any": {func(s *story, d *pb.Delegation) {
			d.ExpiresAtMs = s.Now.Add(12*time.Hour+2*time.Minute).UnixMilli() + 1
		}, pb.Code_CODE_INVALID, path + "expires_at_ms"},
		"nobody known": {func(s *story, d *pb.Delegation) { d.Delegator = s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy).Address }, pb.Code_CODE_NOT_FOUND, path + "delegator"},
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			d := s.patient.Delegation(s.device)
			test.change(s, d)
			s.expectAt(s.One(s.ends(s.administrator, d)), test.code, test.path)
		})
	}
}

func TestADelegationDoesNotComeBackWithAReinstatement(t *testing.T) {
	suspend := func(s *story, who *sim.Person, stop bool) {
		s.Now = s.Now.Add(time.Minute)
		s.expect(s.One(s.administrator.Sign(sim.Body(&pb.SuspendIdentity{
			Address: who.Address, Suspend: stop, ReasonCode: "misuse",
		}))), pb.Code_CODE_OK)
	}
	for name, who := range map[string]func(s *story) *sim.Person{
		"of the delegator": func(s *story) *sim.Person { return s.patient },
		"of the device":    func(s *story) *sim.Person { return s.device },
	} {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			record := s.Write(s.engine, s.patient)
			d := s.patient.Delegation(s.device)
			s.expect(s.One(s.within(d, record)), pb.Code_CODE_OK)
			suspend(s, who(s), true)
			s.expect(s.One(s.within(d, record)), pb.Code_CODE_INACTIVE_SIGNER)
			suspend(s, who(s), false)
			s.expectAt(s.One(s.within(d, record)), pb.Code_CODE_FORBIDDEN, "delegation.issued_at_ms")
			s.expect(s.One(s.within(s.patient.Delegation(s.device), record)), pb.Code_CODE_OK)
		})
	}
}

func TestADelegationForSomePatientsIsNoneForOthers(t *testing.T) {
	s := begin(t)
	other := s.Active(pb.Role_ROLE_PATIENT, sim.Mercy)
	put := func(d *pb.Delegation, patient *sim.Person) *pb.Verdict {
		body, content := s.Record(patient, 1, s.ID())
		command := s.clinician.Within(d, s.device.Sign(body))
		return s.settle(&pb.BatchItem{Group: sim.Item(command).Group, Contents: []*pb.StoredContent{content}})[0]
	}
	d := s.clinician.Delegation(s.device)
	s.expect(put(d, other), pb.Code_CODE_OK)
	d.Patients = []string{s.patient.Address}
	s.expect(put(d, s.patient), pb.Code_CODE_OK)
	s.expectAt(put(d, other), pb.Code_CODE_FORBIDDEN, "delegation.patients")
	record := s.Write(s.clinician, other)
	s.expectAt(s.One(s.clinician.Within(d, s.device.Sign(sim.Read(other, record, "TREAT")))), pb.Code_CODE_FORBIDDEN, "delegation.patients")
	d.Patients = append(d.Patients, other.Address)
	s.expect(s.One(s.clinician.Within(d, s.device.Sign(sim.Read(other, record, "TREAT")))), pb.Code_CODE_OK)
	d.Patients = []string{"Jane Doe"}
	s.expectAt(put(d, s.patient), pb.Code_CODE_INVALID, "delegation.patients[0]")
	d.Patients = make([]string, 65)
	for i := range d.Patients {
		d.Patients[i] = s.patient.Address
	}
	s.expectAt(put(d, s.patient), pb.Code_CODE_TOO_LARGE, "delegation.patients")
	d.Patients = d.Patients[:64]
	s.expect(put(d, s.patient), pb.Code_CODE_OK)
}
