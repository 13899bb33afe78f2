package batch_test

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

func TestAnAccessIsOnTheChannelWhetherPermittedOrNot(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	for _, test := range []struct {
		reader   *sim.Person
		purpose  string
		code     pb.Code
		policies []string
	}{
		{s.patient, "PATRQT", pb.Code_CODE_OK, []string{"patient-reads-own"}},
		{s.engine, "TREAT", pb.Code_CODE_OK, []string{"author-reads-own-for-treatment"}},
		{s.engine, "HOPERAT", pb.Code_CODE_FORBIDDEN, nil},
		{s.clinician, "TREAT", pb.Code_CODE_FORBIDDEN, nil},
		{s.administrator, "TREAT", pb.Code_CODE_FORBIDDEN, nil},
	} {
		command := test.reader.Sign(sim.Read(s.patient, record, test.purpose))
		v := s.expect(s.One(command), test.code)
		entry := s.Audit(command)
		if entry.GetCode() != test.code || entry.GetCategory() != "observations" || entry.GetPurpose() != test.purpose ||
			entry.GetAction() != "read" || entry.GetPatient() != s.patient.Address || entry.GetVersion() != 1 ||
			entry.GetReason() != v.GetReason() || entry.GetSignerMsp() != test.reader.MSP || entry.GetAtMs() != s.Now.UnixMilli() {
			t.Fatalf("audit entry %v", entry)
		}
		if !slices.Equal(v.GetBasis().GetPolicies(), test.policies) || v.GetBasis().GetPolicyVersion() != 1 {
			t.Fatalf("basis %v, want %v", v.GetBasis(), test.policies)
		}
		permitted := test.code == pb.Code_CODE_OK
		if read := v.GetRecord(); (read != nil) != permitted || permitted && !proto.Equal(read, s.committed(record)) {
			t.Fatalf("the verdict is of %v", read)
		}
	}
}

// committed is a first version of a record as the state has it.
func (s *story) committed(record string) *pb.RecordVersion {
	s.t.Helper()
	stored := &pb.RecordVersion{}
	if !s.Document("z/"+record+"/rec/00000001", stored) {
		s.t.Fatal("no such record")
	}
	return stored
}

func TestWhoProvesThatAGlassWasBrokenHasProvenWhatIsRead(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	v := s.expect(s.One(s.breakGlass(s.stranger, record)), pb.Code_CODE_OK)
	if !proto.Equal(v.GetRecord(), s.committed(record)) {
		t.Fatalf("the verdict is of %v", v.GetRecord())
	}
	refused := s.expect(s.One(s.breakGlass(s.engine, record)), pb.Code_CODE_FORBIDDEN)
	if refused.GetRecord() != nil {
		t.Fatalf("a refusal shows %v", refused.GetRecord())
	}
}

func TestWhatIsNotThereCannotBeRead(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	other := s.Active(pb.Role_ROLE_PATIENT, sim.Mercy)
	body := func(patient *sim.Person, id string, version uint32) *pb.CommandBody {
		b := sim.Read(patient, id, "PATRQT")
		b.GetAccess().Version = version
		return b
	}
	s.untouched(func() {
		s.expect(s.One(s.patient.Sign(body(s.patient, s.ID(), 1))), pb.Code_CODE_NOT_FOUND)
		s.expect(s.One(s.patient.Sign(body(s.patient, record, 2))), pb.Code_CODE_NOT_FOUND)
		// Somebody claims another patient's record as their own.
		s.expect(s.One(other.Sign(body(other, record, 1))), pb.Code_CODE_NOT_FOUND)
		s.expect(s.One(s.patient.Sign(body(s.patient, record, 0))), pb.Code_CODE_INVALID)
	})
}

func TestAResearcherReadsForConsentedResearchOnly(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	read := func(purpose string) *pb.Verdict {
		return s.One(s.researcher.Sign(sim.Read(s.patient, record, purpose)))
	}
	s.expect(read("HRESCH"), pb.Code_CODE_FORBIDDEN)
	s.patient.Permit(&pb.Provision{}) // For anything, by anyone.
	v := s.expect(read("TREAT"), pb.Code_CODE_FORBIDDEN)
	if !slices.Equal(v.GetBasis().GetPolicies(), []string{"researcher-only-for-consented-research"}) {
		t.Fatalf("refused by %v", v.GetBasis())
	}
	s.expect(read("HRESCH"), pb.Code_CODE_OK)
}

func TestADeviceActsForAPersonWithinADelegation(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	command := s.patient.Within(s.patient.Delegation(s.device), s.device.Sign(sim.Read(s.patient, record, "PATRQT")))
	s.expect(s.One(command), pb.Code_CODE_OK)
	entry := s.Audit(command)
	if entry.GetOnBehalfOf() != s.patient.Address || entry.GetSigner() != s.device.Address || entry.GetSignerRole() != pb.Role_ROLE_DEVICE {
		t.Fatalf("audit entry %v", entry)
	}
	// In its own name the device opens nothing, not even under a consent for anyone.
	s.patient.Permit(&pb.Provision{})
	v := s.expect(s.One(s.device.Sign(sim.Read(s.patient, record, "TREAT"))), pb.Code_CODE_FORBIDDEN)
	if !slices.Equal(v.GetBasis().GetPolicies(), []string{"device-reads-nothing-for-itself"}) {
		t.Fatalf("refused by %v", v.GetBasis())
	}
}

func TestADeviceWritesForAClinicianAndForAnAdministratorsSystem(t *testing.T) {
	s := begin(t)
	write := func(d *pb.Delegation, who *sim.Person) *pb.Verdict {
		item := s.PutRecord(s.device, s.patient, 1, s.ID())
		item.Group.Commands[0] = who.Within(d, item.Group.Commands[0])
		return s.settle(item)[0]
	}
	s.expect(write(s.clinician.Delegation(s.device), s.clinician), pb.Code_CODE_OK)
	s.expect(write(s.administrator.Delegation(s.device), s.administrator), pb.Code_CODE_OK)
	s.expect(write(s.otherAdministrator.Delegation(s.device), s.otherAdministrator), pb.Code_CODE_FORBIDDEN)
	s.expect(write(s.patient.Delegation(s.device), s.patient), pb.Code_CODE_FORBIDDEN)
}

func TestADelegationHoldsWithinItsBoundsOnly(t *testing.T) {
	stories := []struct {
		name  string
		make  func(s *story, d *pb.Delegation, read *pb.SignedCommand) *pb.SignedCommand
		code  pb.Code
		trace bool
	}{
		{"forged by the device", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand { return s.device.Within(d, c) }, pb.Code_CODE_BAD_SIGNATURE, false},
		{"changed after signing", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			c = s.patient.Within(d, c)
			d.Purposes = append(d.Purposes, "HOPERAT")
			c.Delegation.Delegation = sim.Marshal(s.t, d)
			return c
		}, pb.Code_CODE_BAD_SIGNATURE, false},
		{"put beside a command that names another", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			named := s.clinician.Within(s.clinician.Delegation(s.device), c)
			named.Delegation = s.patient.Within(d, c).Delegation
			return named
		}, pb.Code_CODE_BAD_SIGNATURE, false},
		{"put beside a command that names none", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			c.Delegation = s.patient.Within(d, c).Delegation
			return c
		}, pb.Code_CODE_BAD_SIGNATURE, false},
		{"taken away from a command that names it", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			c = s.patient.Within(d, c)
			c.Delegation = nil
			return c
		}, pb.Code_CODE_INVALID, false},
		{"signed with high s", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			c = s.patient.Within(d, c)
			c.Delegation.Signature = sim.HighS(s.t, c.Delegation.Signature)
			return c
		}, pb.Code_CODE_BAD_SIGNATURE, false},
		{"for another channel", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			d.Channel = "elsewhere"
			return s.patient.Within(d, c)
		}, pb.Code_CODE_WRONG_CHANNEL, false},
		{"for a channel of the same name that began otherwise", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			d.GenesisSha256 = make([]byte, 32)
			return s.patient.Within(d, c)
		}, pb.Code_CODE_WRONG_CHANNEL, false},
		{"for another device", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			d.Delegate = s.Active(pb.Role_ROLE_DEVICE, sim.Lakeside).Address
			return s.patient.Within(d, c)
		}, pb.Code_CODE_FORBIDDEN, true},
		{"expired", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			d.IssuedAtMs, d.ExpiresAtMs = s.Now.UnixMilli()-2, s.Now.UnixMilli()
			return s.patient.Within(d, c)
		}, pb.Code_CODE_EXPIRED, true},
		{"for longer than a shift", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			d.ExpiresAtMs = d.IssuedAtMs + 12*60*60*1000 + 1
			return s.patient.Within(d, c)
		}, pb.Code_CODE_EXPIRED, true},
		{"without the action", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			d.Actions = []string{"write"}
			return s.patient.Within(d, c)
		}, pb.Code_CODE_FORBIDDEN, true},
		{"without the purpose", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			d.Purposes = []string{"TREAT"}
			return s.patient.Within(d, c)
		}, pb.Code_CODE_FORBIDDEN, true},
		{"without any purpose", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			d.Purposes = nil
			return s.patient.Within(d, c)
		}, pb.Code_CODE_INVALID, false},
		{"by nobody known", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			nobody := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
			d.Delegator = nobody.Address
			return nobody.Within(d, c)
		}, pb.Code_CODE_UNKNOWN_SIGNER, false},
		{"by somebody suspended since", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			s.SetStatus(s.patient, suspended)
			return s.patient.Within(d, c)
		}, pb.Code_CODE_INACTIVE_SIGNER, true},
		{"used by somebody who is no device", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			d.Delegate = s.clinician.Address
			return s.patient.Within(d, s.clinician.Sign(sim.Read(s.patient, s.ID(), "PATRQT")))
		}, pb.Code_CODE_FORBIDDEN, true},
		{"that does not decode", func(s *story, d *pb.Delegation, c *pb.SignedCommand) *pb.SignedCommand {
			c.Delegation = &pb.SignedDelegation{Delegation: []byte{0xff}}
			return c
		}, pb.Code_CODE_INVALID, false},
	}
	for _, test := range stories {
		t.Run(test.name, func(t *testing.T) {
			s := begin(t)
			record := s.Write(s.engine, s.patient)
			command := test.make(s, s.patient.Delegation(s.device), s.device.Sign(sim.Read(s.patient, record, "PATRQT")))
			s.expect(s.One(command), test.code)
			if (s.Audit(command) != nil) != test.trace {
				t.Fatalf("audit entry %v", s.Audit(command))
			}
			if s.Audit(command).GetOnBehalfOf() != "" && test.name == "for another device" {
				t.Fatal("the refused attempt is blamed on the delegator")
			}
		})
	}
}

func TestWhatIsNeverDelegated(t *testing.T) {
	bodies := map[string]func(s *story) *pb.CommandBody{
		"consent": func(s *story) *pb.CommandBody { return s.consentBody() },
		"revoke": func(s *story) *pb.CommandBody {
			return sim.Body(&pb.RevokeConsent{ConsentId: s.ID(), Patient: s.patient.Address})
		},
		"review": func(s *story) *pb.CommandBody {
			return sim.Body(&pb.ReviewRegistration{Address: s.patient.Address, RegistrationId: s.ID(), Decision: approve, ReasonCode: "other"})
		},
		"suspend": func(s *story) *pb.CommandBody {
			return sim.Body(&pb.SuspendIdentity{Address: s.patient.Address, Suspend: true, ReasonCode: "other"})
		},
		"break-glass": func(s *story) *pb.CommandBody {
			return sim.BreakGlass(s.patient, s.ID(), s.officer)
		},
		"review-break-glass": func(s *story) *pb.CommandBody {
			return sim.Body(&pb.ReviewBreakGlass{BreakGlassId: s.ID(), Clinician: s.clinician.Address})
		},
		"revoke-delegation": func(s *story) *pb.CommandBody {
			return sim.Body(&pb.RevokeDelegation{DelegationId: s.ID(), Delegator: s.patient.Address, ExpiresAtMs: s.Now.Add(time.Hour).UnixMilli()})
		},
		"set-policy": func(s *story) *pb.CommandBody { return sim.Body(&pb.SetPolicy{Policy: sim.DefaultPolicy(s.t)}) },
	}
	for action, body := range bodies {
		t.Run(action, func(t *testing.T) {
			s := begin(t)
			command := s.patient.Within(s.patient.Delegation(s.device), s.device.Sign(body(s)))
			s.expectAt(s.One(command), pb.Code_CODE_FORBIDDEN, "delegation")
			if e := s.Audit(command); e.GetAction() != action || e.GetOnBehalfOf() != "" {
				t.Fatalf("audit entry %v", e)
			}
		})
	}
	t.Run("register", func(t *testing.T) {
		s := begin(t)
		newcomer := s.Enrol(pb.Role_ROLE_ENGINE, sim.Mercy)
		command := s.administrator.Within(s.administrator.Delegation(newcomer), s.register(newcomer))
		s.expectAt(s.One(command), pb.Code_CODE_FORBIDDEN, "delegation")
	})
}

func TestOneDelegationCarriesManyCommands(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	d := s.patient.Delegation(s.device)
	var items []*pb.BatchItem
	for range 5 {
		items = append(items, sim.Item(s.patient.Within(d, s.device.Sign(sim.Read(s.patient, record, "PATRQT")))))
	}
	// The same delegation with somebody else's signature must not profit from the one checked before.
	items = append(items, sim.Item(s.clinician.Within(d, s.device.Sign(sim.Read(s.patient, record, "PATRQT")))))
	result := s.Process(items...)
	for _, g := range result.Groups[:5] {
		s.expect(g.Verdicts[0], pb.Code_CODE_OK)
	}
	s.expect(result.Groups[5].Verdicts[0], pb.Code_CODE_BAD_SIGNATURE)
}
