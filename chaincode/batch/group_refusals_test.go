package batch_test

import (
	"testing"
	"time"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

func TestWhatWasRefusedHasNoEffectLater(t *testing.T) {
	stories := map[string]struct {
		make func(s *story) *pb.BatchItem
		code pb.Code
		// What would have made the command good.
		mend func(s *story, item *pb.BatchItem)
	}{
		"a version whose turn had not come": {
			func(s *story) *pb.BatchItem {
				return s.PutRecord(s.engine, s.patient, 2, "01a2027b-d680-7000-8fff-00000000000a")
			}, pb.Code_CODE_CONFLICT,
			func(s *story, _ *pb.BatchItem) {
				s.expect(s.settle(s.PutRecord(s.engine, s.patient, 1, "01a2027b-d680-7000-8fff-00000000000a"))[0], pb.Code_CODE_OK)
			},
		},
		"an access to what was not there yet": {
			func(s *story) *pb.BatchItem {
				return sim.Item(s.patient.Sign(sim.Read(s.patient, "01a2027b-d680-7000-8fff-00000000000a", "PATRQT")))
			}, pb.Code_CODE_NOT_FOUND,
			func(s *story, _ *pb.BatchItem) {
				s.expect(s.settle(s.PutRecord(s.engine, s.patient, 1, "01a2027b-d680-7000-8fff-00000000000a"))[0], pb.Code_CODE_OK)
			},
		},
		"a command of somebody suspended": {
			func(s *story) *pb.BatchItem {
				s.SetStatus(s.patient, pb.IdentityStatus_IDENTITY_STATUS_SUSPENDED)
				return sim.Item(s.patient.Sign(s.consentBody()))
			}, pb.Code_CODE_INACTIVE_SIGNER,
			func(s *story, _ *pb.BatchItem) { s.SetStatus(s.patient, pb.IdentityStatus_IDENTITY_STATUS_ACTIVE) },
		},
		"a command from the future": {
			func(s *story) *pb.BatchItem {
				return sim.Item(s.patient.Sign(s.consentBody(), func(c *pb.Command) {
					c.IssuedAtMs += 3 * 60 * 1000
					c.ExpiresAtMs = c.IssuedAtMs + 60*1000
				}))
			}, pb.Code_CODE_EXPIRED,
			func(s *story, _ *pb.BatchItem) { s.Now = s.Now.Add(3 * time.Minute) },
		},
		"a write without right": {
			func(s *story) *pb.BatchItem { return s.PutRecord(s.stranger, s.patient, 1, s.ID()) },
			pb.Code_CODE_FORBIDDEN,
			func(s *story, _ *pb.BatchItem) { s.patient.Permit(&pb.Provision{Actions: []string{"write"}}) },
		},
	}
	for name, test := range stories {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			item := test.make(s)
			refused := s.expect(s.settle(item)[0], test.code)
			test.mend(s, item)
			s.traceless(func() {
				again := s.expect(s.settle(item)[0], pb.Code_CODE_ALREADY_COMMITTED)
				if again.GetFirstCode() != test.code || again.GetReason() != refused.GetReason() || again.GetPath() != refused.GetPath() {
					t.Fatalf("first %v, again %v", refused, again)
				}
			})
		})
	}
}

func TestWhoWasRefusedWithItsGroupIsNotDoneWithAnother(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	headers := s.GroupHeaders(sim.Part{By: s.patient, Body: s.consentBody()},
		sim.Part{By: s.clinician, Body: sim.Read(s.patient, s.ID(), "TREAT")})
	group := []*pb.SignedCommand{s.patient.SignHeader(headers[0]), s.clinician.SignHeader(headers[1])}
	s.untouched(func() { s.expectAll(s.Do(group...), pb.Code_CODE_GROUP_REFUSED, pb.Code_CODE_NOT_FOUND) })

	// The clinician signs the same part again, under a fresh id: the consent in it was refused all the same.
	headers[1].CommandId = s.ID()
	s.untouched(func() {
		s.expectAll(s.Do(group[0], s.clinician.SignHeader(headers[1])), pb.Code_CODE_CONFLICT, pb.Code_CODE_CONFLICT)
	})
	s.expect(s.One(s.clinician.Sign(sim.Read(s.patient, record, "TREAT"))), pb.Code_CODE_FORBIDDEN)
}

func TestWhoIsSuspendedInAGroupDoesNotActAfterIt(t *testing.T) {
	suspension := func(of *sim.Person) *pb.CommandBody {
		return sim.Body(&pb.SuspendIdentity{Address: of.Address, Suspend: true, ReasonCode: "misuse"})
	}
	s := begin(t)
	suspended, acts := sim.Part{By: s.administrator, Body: suspension(s.patient)}, sim.Part{By: s.patient, Body: s.consentBody()}
	s.untouched(func() {
		verdicts := s.Do(s.Group(suspended, acts)...)
		s.expectAll(verdicts, pb.Code_CODE_GROUP_REFUSED, pb.Code_CODE_INACTIVE_SIGNER)
	})
	s.expectAll(s.Do(s.Group(acts, suspended)...), pb.Code_CODE_OK, pb.Code_CODE_OK)

	// And nobody acts for them.
	s = begin(t)
	record := s.Write(s.engine, s.patient)
	headers := s.GroupHeaders(sim.Part{By: s.administrator, Body: suspension(s.patient)},
		sim.Part{By: s.device, Body: sim.Read(s.patient, record, "PATRQT")})
	s.untouched(func() {
		s.expectAll(s.Do(s.administrator.SignHeader(headers[0]),
			s.patient.Within(s.patient.Delegation(s.device), s.device.SignHeader(headers[1]))),
			pb.Code_CODE_GROUP_REFUSED, pb.Code_CODE_INACTIVE_SIGNER)
	})
}

func TestNoCarrierSpoilsACommandOfSomebodyElse(t *testing.T) {
	stories := map[string]struct {
		make  func(s *story) *pb.BatchItem
		spoil func(s *story, item *pb.BatchItem)
	}{
		"by another signature": {
			func(s *story) *pb.BatchItem { return sim.Item(s.patient.Sign(s.consentBody())) },
			func(s *story, item *pb.BatchItem) {
				c := item.Group.Commands[0]
				c.Signature = s.stranger.SignBytes("cbmdhi/command/v1\x00", c.Command)
			},
		},
		"by a delegation that it does not name": {
			func(s *story) *pb.BatchItem { return sim.Item(s.patient.Sign(s.consentBody())) },
			func(s *story, item *pb.BatchItem) {
				item.Group.Commands[0].Delegation = s.stranger.Within(s.stranger.Delegation(s.device),
					s.device.Sign(s.consentBody())).Delegation
			},
		},
		"by a damaged signature of the delegation": {
			func(s *story) *pb.BatchItem {
				record := s.Write(s.engine, s.patient)
				return sim.Item(s.patient.Within(s.patient.Delegation(s.device), s.device.Sign(sim.Read(s.patient, record, "PATRQT"))))
			},
			func(_ *story, item *pb.BatchItem) {
				signature := item.Group.Commands[0].Delegation.Signature
				signature[len(signature)-1] ^= 1
			},
		},
		"by leaving out the content": {
			func(s *story) *pb.BatchItem { return s.PutRecord(s.engine, s.patient, 1, s.ID()) },
			func(_ *story, item *pb.BatchItem) { item.Contents = nil },
		},
		"by a content too many": {
			func(s *story) *pb.BatchItem { return s.PutRecord(s.engine, s.patient, 1, s.ID()) },
			func(_ *story, item *pb.BatchItem) { item.Contents = append(item.Contents, item.Contents[0]) },
		},
		"by damaging another's command of the group": {
			func(s *story) *pb.BatchItem {
				return sim.Item(s.Group(sim.Part{By: s.patient, Body: s.consentBody()}, sim.Part{By: s.patient, Body: s.consentBody()})...)
			},
			func(_ *story, item *pb.BatchItem) { item.Group.Commands[1].Signature = nil },
		},
	}
	for name, test := range stories {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			item := test.make(s)
			raw := sim.Marshal(t, item)
			spoilt := &pb.BatchItem{}
			sim.Unmarshal(t, raw, spoilt)
			test.spoil(s, spoilt)
			s.traceless(func() {
				for _, v := range s.settle(spoilt) {
					if v.GetCode() == pb.Code_CODE_OK {
						t.Fatal("what was spoilt was done")
					}
				}
			})
			for _, v := range s.settle(item) {
				s.expect(v, pb.Code_CODE_OK)
			}
		})
	}
}

func TestABreakGlassThatWasRefusedWaitsForNoReview(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	group := s.Group(
		sim.Part{By: s.clinician, Body: sim.BreakGlass(s.patient, record, s.officer)},
		sim.Part{By: s.clinician, Body: sim.Read(s.patient, s.ID(), "TREAT")})
	s.expectAll(s.Do(group...), pb.Code_CODE_GROUP_REFUSED, pb.Code_CODE_NOT_FOUND)
	s.expect(s.One(s.reviewGlass(s.officer, group[0], true)), pb.Code_CODE_NOT_FOUND)
	if s.quota(s.clinician).GetRecords() != 0 {
		t.Fatalf("it was counted: %v", s.quota(s.clinician))
	}
	if e := s.Audit(group[0]); e.GetBasis() != nil || e.GetSignerMsp() != sim.Mercy || e.GetPatient() != s.patient.Address {
		t.Fatalf("audit entry %v", e)
	}
}
