package batch_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"cbmdhi/chaincode/batch"
	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

// updateAndConsent is the paper's case: the update and the consent to share it, one transaction.
func (s *story) updateAndConsent() (*pb.BatchItem, string) {
	record := s.ID()
	body, content := s.Record(s.patient, 1, record)
	item := sim.Item(s.Group(sim.Part{By: s.engine, Body: body}, sim.Part{By: s.patient, Body: s.consentBody()})...)
	item.Contents = []*pb.StoredContent{content}
	return item, record
}

func (s *story) settle(item *pb.BatchItem) []*pb.Verdict {
	s.t.Helper()
	return s.Process(item).GetGroups()[0].GetVerdicts()
}

func (s *story) expectAll(verdicts []*pb.Verdict, want ...pb.Code) {
	s.t.Helper()
	if !slices.Equal(codes(verdicts), want) {
		s.t.Fatalf("verdicts %v, want %v", verdicts, want)
	}
}

func TestAGroupIsDoneAsOne(t *testing.T) {
	s := begin(t)
	item, record := s.updateAndConsent()
	s.expectAll(s.settle(item), pb.Code_CODE_OK, pb.Code_CODE_OK)
	if !s.Document(state.RecordKey(record, 1), &pb.RecordVersion{}) || !s.Document(state.ConsentKey(s.patient.Address), &pb.ConsentDocument{}) {
		t.Fatal("the group's changes are not there")
	}
	s.Now = s.Now.Add(time.Hour)
	s.expectAll(s.settle(item), pb.Code_CODE_ALREADY_COMMITTED, pb.Code_CODE_ALREADY_COMMITTED)
}

func TestAGroupOfWhichOneIsRefusedChangesNothing(t *testing.T) {
	s := begin(t)
	item, record := s.updateAndConsent()
	item.Contents = nil // The record's content is missing: INVALID.
	s.untouched(func() {
		s.expectAll(s.settle(item), pb.Code_CODE_INVALID, pb.Code_CODE_GROUP_REFUSED)
	})
	body, content := s.Record(s.patient, 1, record)
	item = sim.Item(s.Group(sim.Part{By: s.patient, Body: s.consentBody()}, sim.Part{By: s.engine, Body: body})...)
	content.CommandIndex, content.Replicas = 1, nil
	item.Contents = []*pb.StoredContent{content}
	s.untouched(func() {
		s.expectAll(s.settle(item), pb.Code_CODE_GROUP_REFUSED, pb.Code_CODE_INVALID)
	})
	if len(s.Private) != 0 {
		t.Fatal("a writer key of a refused group was stored")
	}
}

func TestARefusedGroupIsRecordedAndChangesNothing(t *testing.T) {
	s := begin(t)
	record := s.ID()
	body, content := s.Record(s.patient, 1, record)
	group := s.Group(sim.Part{By: s.patient, Body: s.consentBody()}, sim.Part{By: s.stranger, Body: body})
	item := sim.Item(group...)
	content.CommandIndex = 1
	item.Contents = []*pb.StoredContent{content}
	before := len(s.State)
	s.expectAll(s.settle(item), pb.Code_CODE_GROUP_REFUSED, pb.Code_CODE_FORBIDDEN)
	if len(s.State) != before+2 || s.Audit(group[1]).GetCode() != pb.Code_CODE_FORBIDDEN || s.Audit(group[0]).GetCode() != pb.Code_CODE_GROUP_REFUSED {
		t.Fatal("each command of the group has its entry, and nothing else is there")
	}
	// Sent again, even late, the group gets its first verdict and still changes nothing.
	s.Now = s.Now.Add(time.Hour)
	s.untouched(func() {
		verdicts := s.settle(item)
		s.expectAll(verdicts, pb.Code_CODE_ALREADY_COMMITTED, pb.Code_CODE_ALREADY_COMMITTED)
		if verdicts[0].GetFirstCode() != pb.Code_CODE_GROUP_REFUSED || verdicts[1].GetFirstCode() != pb.Code_CODE_FORBIDDEN {
			t.Fatalf("the first verdict was a refusal: %v", verdicts[1])
		}
	})
}

func TestAnEntryOfWhatFellWithItsGroupSaysForWhomItWasAndNothingThatWasFoundOut(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	group := s.Group(
		sim.Part{By: s.device, Body: sim.Read(s.patient, record, "PATRQT")},
		sim.Part{By: s.patient, Body: sim.Read(s.patient, s.ID(), "PATRQT")}, // There is no such record.
	)
	group[0] = s.patient.Within(s.patient.Delegation(s.device), group[0])
	s.expectAll(s.Do(group...), pb.Code_CODE_GROUP_REFUSED, pb.Code_CODE_NOT_FOUND)
	entry := s.Audit(group[0])
	if entry.GetOnBehalfOf() != s.patient.Address || entry.GetSigner() != s.device.Address || entry.GetSignerMsp() != sim.Mercy {
		t.Fatalf("the entry does not say who meant it: %v", entry)
	}
	if entry.GetRecordId() != record || entry.GetCategory() != "" || entry.GetBasis() != nil {
		t.Fatalf("the entry says more than the command did: %v", entry)
	}
}

func TestNoCommandCanBeTakenOutOfItsGroup(t *testing.T) {
	s := begin(t)
	item, _ := s.updateAndConsent()
	for i, command := range item.Group.Commands {
		lone := sim.Item(command)
		if i == 0 {
			lone.Contents = item.Contents
		}
		s.untouched(func() { s.expectAll(s.settle(lone), pb.Code_CODE_INVALID) })
	}
}

func TestAGroupThatDoesNotHoldTogetherIsInvalidAltogether(t *testing.T) {
	change := map[string]func(s *story, h []*pb.Command){
		"another group's id": func(s *story, h []*pb.Command) { h[1].Group.GroupId = s.ID() },
		"a wrong size":       func(_ *story, h []*pb.Command) { h[1].Group.Size = 3 },
		"a wrong place":      func(_ *story, h []*pb.Command) { h[1].Group.Index = 0 },
		"no membership":      func(_ *story, h []*pb.Command) { h[1].Group = nil },
		"a hash of others":   func(_ *story, h []*pb.Command) { h[1].Group.MembersSha256[0] ^= 1 },
		"an exchanged body":  func(s *story, h []*pb.Command) { h[1].Body = sim.Marshal(s.t, s.consentBody()) },
		"the same id twice":  func(_ *story, h []*pb.Command) { h[1].CommandId = h[0].CommandId },
	}
	for name, damage := range change {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			headers := s.GroupHeaders(sim.Part{By: s.patient, Body: s.consentBody()}, sim.Part{By: s.patient, Body: s.consentBody()})
			headers[1].Group = proto.CloneOf(headers[1].Group)
			damage(s, headers)
			item := sim.Item(s.patient.SignHeader(headers[0]), s.patient.SignHeader(headers[1]))
			s.untouched(func() { s.expectAll(s.settle(item), pb.Code_CODE_INVALID, pb.Code_CODE_INVALID) })
		})
	}
}

func TestAGroupIsSentInItsOrderAndWhole(t *testing.T) {
	s := begin(t)
	g := s.Group(sim.Part{By: s.patient, Body: s.consentBody()}, sim.Part{By: s.patient, Body: s.consentBody()},
		sim.Part{By: s.patient, Body: s.consentBody()})
	s.expectAll(s.Do(g[1], g[0], g[2]), pb.Code_CODE_INVALID, pb.Code_CODE_INVALID, pb.Code_CODE_INVALID)
	s.expectAll(s.Do(g[0], g[1]), pb.Code_CODE_INVALID, pb.Code_CODE_INVALID)
	s.expectAll(s.Do(g...), pb.Code_CODE_OK, pb.Code_CODE_OK, pb.Code_CODE_OK)
}

func TestAGroupHasAtMostSixteenCommands(t *testing.T) {
	s := begin(t)
	parts := make([]sim.Part, 17)
	for i := range parts {
		parts[i] = sim.Part{By: s.patient, Body: s.consentBody()}
	}
	for _, v := range s.Do(s.Group(parts...)...) {
		s.expect(v, pb.Code_CODE_INVALID)
	}
	for _, v := range s.Do(s.Group(parts[:16]...)...) {
		s.expect(v, pb.Code_CODE_OK)
	}
}

// records of one group, as many as that.
func (s *story) records(count int) *pb.BatchItem {
	parts, contents := make([]sim.Part, count), make([]*pb.StoredContent, count)
	for i := range parts {
		body, content := s.Record(s.patient, 1, s.ID())
		content.CommandIndex = uint32(i)
		parts[i], contents[i] = sim.Part{By: s.engine, Body: body}, content
	}
	item := sim.Item(s.Group(parts...)...)
	item.Contents = contents
	return item
}

func TestAGroupOfRecordsAloneHasAtMost128(t *testing.T) {
	s := begin(t)
	for _, v := range s.settle(s.records(batch.MaxGroupRecords)) {
		s.expect(v, pb.Code_CODE_OK)
	}
	s.traceless(func() {
		for _, v := range s.settle(s.records(batch.MaxGroupRecords + 1)) {
			s.expectAt(v, pb.Code_CODE_INVALID, "group")
		}
	})
}

func TestOfManyRecordsAllAreThereOrNone(t *testing.T) {
	s := begin(t)
	item := s.records(40)
	item.Contents[39].Cid = "elsewhere"
	for i, v := range s.settle(item) {
		if want := pb.Code_CODE_GROUP_REFUSED; i < 39 {
			s.expect(v, want)
		} else {
			s.expect(v, pb.Code_CODE_INVALID)
		}
	}
	for key := range s.State {
		if strings.Contains(key, "/rec/") {
			t.Fatalf("%s is there", key)
		}
	}
}

func TestOfManyRecordsOneThatDoesNotDecodeIsBlamedItself(t *testing.T) {
	s := begin(t)
	item := s.records(batch.MaxGroupCommands + 1)
	item.Group.Commands[3].Command = []byte{0xff}
	s.traceless(func() {
		for i, v := range s.settle(item) {
			if i == 3 {
				s.expectAt(v, pb.Code_CODE_INVALID, "command")
			} else {
				s.expect(v, pb.Code_CODE_GROUP_REFUSED)
			}
		}
	})
}

func TestManyRecordsAndSomethingElseAreNoGroup(t *testing.T) {
	s := begin(t)
	parts := make([]sim.Part, batch.MaxGroupCommands+1)
	contents := make([]*pb.StoredContent, 0, batch.MaxGroupCommands)
	for i := range batch.MaxGroupCommands {
		body, content := s.Record(s.patient, 1, s.ID())
		content.CommandIndex = uint32(i)
		parts[i], contents = sim.Part{By: s.engine, Body: body}, append(contents, content)
	}
	parts[batch.MaxGroupCommands] = sim.Part{By: s.patient, Body: s.consentBody()}
	item := sim.Item(s.Group(parts...)...)
	item.Contents = contents
	s.traceless(func() {
		for _, v := range s.settle(item) {
			s.expectAt(v, pb.Code_CODE_INVALID, "group")
		}
	})
}

func TestACommandOfADoneGroupCannotStandInAnother(t *testing.T) {
	s := begin(t)
	a, b := s.consentBody(), s.consentBody()
	h := s.GroupHeaders(sim.Part{By: s.patient, Body: a}, sim.Part{By: s.patient, Body: b})
	first, second := s.patient.SignHeader(h[0]), s.patient.SignHeader(h[1])
	s.expectAll(s.Do(first, second), pb.Code_CODE_OK, pb.Code_CODE_OK)
	h[1].CommandId = s.ID()
	s.untouched(func() {
		s.expectAll(s.Do(first, s.patient.SignHeader(h[1])), pb.Code_CODE_CONFLICT, pb.Code_CODE_CONFLICT)
	})
}

func TestOneBadSignatureRefusesTheGroupAndIsBlamed(t *testing.T) {
	s := begin(t)
	g := s.Group(sim.Part{By: s.patient, Body: s.consentBody()}, sim.Part{By: s.patient, Body: s.consentBody()})
	g[1].Signature = g[0].Signature
	s.traceless(func() { s.expectAll(s.Do(g...), pb.Code_CODE_GROUP_REFUSED, pb.Code_CODE_BAD_SIGNATURE) })
}

func TestALaterGroupSeesTheEffectsOfAnEarlierOne(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	read := func() *pb.BatchItem { return sim.Item(s.clinician.Sign(sim.Read(s.patient, record, "TREAT"))) }
	result := s.Process(read(), sim.Item(s.patient.Sign(s.consentBody())), read())
	s.expect(result.Groups[0].Verdicts[0], pb.Code_CODE_FORBIDDEN)
	s.expect(result.Groups[2].Verdicts[0], pb.Code_CODE_OK)
}

func TestContentsThatBelongToNoRecordAreRefused(t *testing.T) {
	s := begin(t)
	item, _ := s.updateAndConsent()
	extra := proto.CloneOf(item.Contents[0])
	extra.CommandIndex = 1 // The consent.
	item.Contents = append(item.Contents, extra)
	s.untouched(func() { s.expectAll(s.settle(item), pb.Code_CODE_INVALID, pb.Code_CODE_INVALID) })
	item.Contents[1].CommandIndex = 0 // The record's, again.
	s.untouched(func() { s.expectAll(s.settle(item), pb.Code_CODE_INVALID, pb.Code_CODE_INVALID) })
}

func TestNobodyTakesAnothersPlaceInAGroup(t *testing.T) {
	s := begin(t)
	record := s.Write(s.engine, s.patient)
	// The clinician agrees to read together with the patient's consent. The patient's neighbour signs the
	// clinician's part instead, word for word.
	headers := s.GroupHeaders(sim.Part{By: s.patient, Body: s.consentBody()},
		sim.Part{By: s.clinician, Body: sim.Read(s.patient, record, "TREAT")})
	consent := s.patient.SignHeader(headers[0])
	headers[1].CommandId = s.ID()
	s.untouched(func() {
		for _, v := range s.Do(consent, s.stranger.SignHeader(headers[1])) {
			s.expectAt(v, pb.Code_CODE_INVALID, "group.members_sha256")
		}
	})
	s.expectAll(s.Do(consent, s.clinician.SignHeader(headers[1])), pb.Code_CODE_OK, pb.Code_CODE_OK)
}
