package batch_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

func TestACommandIsRefusedForTheFirstThingThatIsWrongWithIt(t *testing.T) {
	minute := int64(60 * 1000)
	stories := []struct {
		name string
		make func(s *story) *pb.SignedCommand
		code pb.Code
		path string
	}{
		{"bytes that are no command", func(s *story) *pb.SignedCommand {
			c := s.patient.Sign(s.consentBody())
			c.Command = []byte("\xff\xff")
			return c
		}, pb.Code_CODE_INVALID, "command"},
		{"a field that this version does not know", func(s *story) *pb.SignedCommand {
			h := s.patient.Header(s.consentBody())
			h.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
			return s.patient.SignHeader(h)
		}, pb.Code_CODE_INVALID, "command"},
		{"an unknown field deep in the body", func(s *story) *pb.SignedCommand {
			body := s.consentBody()
			body.GetConsent().Provisions[0].ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
			return s.patient.Sign(body)
		}, pb.Code_CODE_INVALID, "body"},
		{"something that rides along unsigned", func(s *story) *pb.SignedCommand {
			c := s.patient.Sign(s.consentBody())
			c.ProtoReflect().SetUnknown(protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 1))
			return c
		}, pb.Code_CODE_INVALID, ""},
		{"no body", func(s *story) *pb.SignedCommand {
			return s.patient.Sign(&pb.CommandBody{})
		}, pb.Code_CODE_INVALID, "body"},
		{"another channel", func(s *story) *pb.SignedCommand {
			return s.patient.Sign(s.consentBody(), func(c *pb.Command) { c.Channel = "elsewhere" })
		}, pb.Code_CODE_WRONG_CHANNEL, "channel"},
		{"a channel of the same name that began otherwise", func(s *story) *pb.SignedCommand {
			return s.patient.Sign(s.consentBody(), func(c *pb.Command) { c.GenesisSha256 = make([]byte, 32) })
		}, pb.Code_CODE_WRONG_CHANNEL, "genesis_sha256"},
		{"no beginning at all", func(s *story) *pb.SignedCommand {
			return s.patient.Sign(s.consentBody(), func(c *pb.Command) { c.GenesisSha256 = nil })
		}, pb.Code_CODE_WRONG_CHANNEL, "genesis_sha256"},
		{"expired at this very moment", func(s *story) *pb.SignedCommand {
			return s.patient.Sign(s.consentBody(), func(c *pb.Command) {
				c.IssuedAtMs, c.ExpiresAtMs = s.Now.UnixMilli()-minute, s.Now.UnixMilli()
			})
		}, pb.Code_CODE_EXPIRED, "expires_at_ms"},
		{"valid for too long", func(s *story) *pb.SignedCommand {
			return s.patient.Sign(s.consentBody(), func(c *pb.Command) { c.ExpiresAtMs = c.IssuedAtMs + 10*minute + 1 })
		}, pb.Code_CODE_EXPIRED, "expires_at_ms"},
		{"from too far in the future", func(s *story) *pb.SignedCommand {
			return s.patient.Sign(s.consentBody(), func(c *pb.Command) {
				c.IssuedAtMs = s.Now.UnixMilli() + 2*minute + 1
				c.ExpiresAtMs = c.IssuedAtMs + minute
			})
		}, pb.Code_CODE_EXPIRED, "issued_at_ms"},
		{"an id in upper case", func(s *story) *pb.SignedCommand {
			return s.patient.Sign(s.consentBody(), func(c *pb.Command) { c.CommandId = "0192F0C1-0000-7000-8000-000000000000" })
		}, pb.Code_CODE_INVALID, "command_id"},
		{"a random id instead of a time-ordered one", func(s *story) *pb.SignedCommand {
			return s.patient.Sign(s.consentBody(), func(c *pb.Command) { c.CommandId = "0192f0c1-0000-4000-8000-000000000000" })
		}, pb.Code_CODE_INVALID, "command_id"},
		{"a signer that is no address", func(s *story) *pb.SignedCommand {
			c := s.patient.Sign(s.consentBody())
			c.Signer = "cb1x/../pol"
			return c
		}, pb.Code_CODE_INVALID, "signer"},
		{"nobody's signature", func(s *story) *pb.SignedCommand {
			return s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy).Sign(s.consentBody())
		}, pb.Code_CODE_UNKNOWN_SIGNER, "signer"},
		{"somebody else's signature", func(s *story) *pb.SignedCommand {
			c := s.clinician.Sign(s.consentBody())
			c.Signer = s.patient.Address
			return c
		}, pb.Code_CODE_BAD_SIGNATURE, "signature"},
		{"one changed byte", func(s *story) *pb.SignedCommand {
			c := s.patient.Sign(s.consentBody())
			c.Command[5] ^= 1
			return c
		}, pb.Code_CODE_BAD_SIGNATURE, "signature"},
		{"the second signature that anybody can make: high s", func(s *story) *pb.SignedCommand {
			c := s.patient.Sign(s.consentBody())
			c.Signature = sim.HighS(s.t, c.Signature)
			return c
		}, pb.Code_CODE_BAD_SIGNATURE, "signature"},
		{"a signature for a delegation", func(s *story) *pb.SignedCommand {
			c := s.patient.Sign(s.consentBody())
			c.Signature = s.patient.SignBytes("cbmdhi/delegation/v1\x00", c.Command)
			return c
		}, pb.Code_CODE_BAD_SIGNATURE, "signature"},
		{"a suspended signer", func(s *story) *pb.SignedCommand {
			s.SetStatus(s.patient, pb.IdentityStatus_IDENTITY_STATUS_SUSPENDED)
			return s.patient.Sign(s.consentBody())
		}, pb.Code_CODE_INACTIVE_SIGNER, "signer"},
		{"a pending signer", func(s *story) *pb.SignedCommand {
			s.SetStatus(s.patient, pb.IdentityStatus_IDENTITY_STATUS_PENDING)
			return s.patient.Sign(s.consentBody())
		}, pb.Code_CODE_INACTIVE_SIGNER, "signer"},
		{"a body with a malformed field", func(s *story) *pb.SignedCommand {
			body := s.consentBody()
			body.GetConsent().Provisions[0].Purposes = []string{"CURIOSITY"}
			return s.patient.Sign(body)
		}, pb.Code_CODE_INVALID, "body.consent.provisions[0].purposes[0]"},
	}
	for _, test := range stories {
		t.Run(test.name, func(t *testing.T) {
			s := begin(t)
			command := test.make(s)
			s.untouched(func() { s.expectAt(s.One(command), test.code, test.path) })
		})
	}
}

func TestACommandWithinTheAllowedClockErrorIsDone(t *testing.T) {
	s := begin(t)
	s.expect(s.One(s.patient.Sign(s.consentBody(), func(c *pb.Command) {
		c.IssuedAtMs = s.Now.UnixMilli() + 2*60*1000
		c.ExpiresAtMs = c.IssuedAtMs + 10*60*1000
	})), pb.Code_CODE_OK)
}

func TestACommandSentAgainGetsItsFirstVerdict(t *testing.T) {
	later := map[string]func(s *story){
		"at once":                        func(*story) {},
		"after it expired":               func(s *story) { s.Now = s.Now.Add(time.Hour) },
		"after its signer was suspended": func(s *story) { s.SetStatus(s.patient, pb.IdentityStatus_IDENTITY_STATUS_SUSPENDED) },
		"carried by another member":      func(s *story) { s.Creator = sim.Lakeside },
		"expired, signer suspended, both": func(s *story) {
			s.Now = s.Now.Add(time.Hour)
			s.SetStatus(s.patient, pb.IdentityStatus_IDENTITY_STATUS_SUSPENDED)
		},
	}
	for name, change := range later {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			command := s.patient.Sign(s.consentBody())
			s.expect(s.One(command), pb.Code_CODE_OK)
			first := s.Audit(command).GetTxId()
			change(s)
			s.untouched(func() {
				v := s.expect(s.One(command), pb.Code_CODE_ALREADY_COMMITTED)
				if v.GetFirstCode() != pb.Code_CODE_OK || v.GetFirstTxId() != first || first == "" {
					t.Fatalf("first verdict is not told: %v", v)
				}
			})
		})
	}
}

func TestARefusalByPolicyIsRememberedAndNotDecidedAgain(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	read := s.clinician.Sign(sim.Read(s.patient, record, "TREAT"))
	refused := s.expect(s.One(read), pb.Code_CODE_FORBIDDEN)
	s.patient.Permit(&pb.Provision{})
	again := s.expect(s.One(read), pb.Code_CODE_ALREADY_COMMITTED)
	if again.GetFirstCode() != pb.Code_CODE_FORBIDDEN || again.GetReason() != refused.GetReason() ||
		!proto.Equal(again.GetBasis(), refused.GetBasis()) {
		t.Fatalf("the first verdict was %v, the repetition says %v", refused, again)
	}
	s.expect(s.One(s.clinician.Sign(sim.Read(s.patient, record, "TREAT"))), pb.Code_CODE_OK)
}

func TestAReplayWithAForgedSignatureLearnsNothing(t *testing.T) {
	s := begin(t)
	command := s.patient.Sign(s.consentBody())
	s.expect(s.One(command), pb.Code_CODE_OK)
	command.Signature = s.clinician.SignBytes("cbmdhi/command/v1\x00", command.Command)
	s.expect(s.One(command), pb.Code_CODE_BAD_SIGNATURE)
}

func TestAnIdUsedForOtherBytesIsAConflict(t *testing.T) {
	s := begin(t)
	h := s.patient.Header(s.consentBody())
	s.expect(s.One(s.patient.SignHeader(h)), pb.Code_CODE_OK)
	h.ExpiresAtMs++
	s.expect(s.One(s.patient.SignHeader(h)), pb.Code_CODE_CONFLICT)
}

func TestTheSameIdOfTwoSignersIsTwoCommands(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	id := s.ID()
	same := func(c *pb.Command) { c.CommandId = id }
	s.expect(s.One(s.patient.Sign(sim.Read(s.patient, record, "PATRQT"), same)), pb.Code_CODE_OK)
	s.expect(s.One(s.clinician.Sign(sim.Read(s.patient, record, "TREAT"), same)), pb.Code_CODE_FORBIDDEN)
}

func TestTheSameCommandTwiceInOneBatchTakesEffectOnce(t *testing.T) {
	s := begin(t)
	command := s.patient.Sign(s.consentBody())
	result := s.Process(sim.Item(command), sim.Item(command))
	s.expect(result.Groups[0].Verdicts[0], pb.Code_CODE_OK)
	second := s.expect(result.Groups[1].Verdicts[0], pb.Code_CODE_ALREADY_COMMITTED)
	if second.GetFirstTxId() != s.Audit(command).GetTxId() {
		t.Fatalf("the first is in this very transaction, not in %q", second.GetFirstTxId())
	}
	consents := &pb.ConsentDocument{}
	s.Document(state.ConsentKey(s.patient.Address), consents)
	if consents.GetVersion() != 1 {
		t.Fatalf("the consents changed %d times", consents.GetVersion())
	}
}

func TestTheWholeBatchIsReadWithOneMultiGet(t *testing.T) {
	s := begin(t)
	if _, err := s.Endorse(
		s.PutRecord(s.engine, s.patient, 1, s.ID()), sim.Item(s.patient.Sign(s.consentBody())),
		s.PutRecord(s.engine, s.patient, 1, s.ID()),
	); err != nil {
		t.Fatal(err)
	}
	if s.Reads != 1 {
		t.Fatalf("%d multi-gets", s.Reads)
	}
}
