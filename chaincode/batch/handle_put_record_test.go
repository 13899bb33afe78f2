package batch_test

import (
	"slices"
	"strings"
	"testing"

	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/state"
)

// put is a record whose statement was changed.
func (s *story) put(author *sim.Person, change func(*pb.PutRecord, *pb.StoredContent)) (*pb.BatchItem, *pb.SignedCommand) {
	body, content := s.Record(s.patient, 1, s.ID())
	change(body.GetPutRecord(), content)
	item := sim.Item(author.Sign(body))
	item.Contents = []*pb.StoredContent{content}
	return item, item.Group.Commands[0]
}

func TestARecordIsStoredAsItsAuthorSignedIt(t *testing.T) {
	s := begin(t)
	item := s.PutRecord(s.engine, s.patient, 1, s.ID())
	s.MustOK(s.settle(item)...)
	body := &pb.RecordVersion{}
	command := item.Group.Commands[0]
	entry := s.Audit(command)
	if !s.Document(state.RecordKey(entry.GetRecordId(), 1), body) {
		t.Fatal("not stored")
	}
	if body.GetAuthor() != s.engine.Address || body.GetSignedBy() != s.engine.Address || body.GetWriterMsp() != sim.Mercy || body.GetPatient() != s.patient.Address ||
		body.GetContent().GetCid() != item.Contents[0].GetCid() || body.GetCommandId() != entry.GetCommandId() ||
		body.GetWrittenAtMs() != s.Now.UnixMilli() {
		t.Fatalf("stored %v", body)
	}
	if entry.GetAction() != "write" || entry.GetCategory() != "observations" || entry.GetPatient() != s.patient.Address ||
		!slices.Equal(entry.GetBasis().GetPolicies(), []string{"write-by-treating-member"}) || entry.GetBasis().GetPolicyVersion() != 1 {
		t.Fatalf("audit entry %v", entry)
	}
}

func TestWhoWroteThroughADeviceReadsWhatTheyWrote(t *testing.T) {
	s := begin(t)
	body, content := s.Record(s.patient, 1, s.ID())
	record := body.GetPutRecord().GetRecordId()
	command := s.clinician.Within(s.clinician.Delegation(s.device), s.device.Sign(body))
	s.MustOK(s.settle(&pb.BatchItem{Group: sim.Item(command).Group, Contents: []*pb.StoredContent{content}})...)
	stored := &pb.RecordVersion{}
	s.Document(state.RecordKey(record, 1), stored)
	if stored.GetAuthor() != s.clinician.Address || stored.GetSignedBy() != s.device.Address {
		t.Fatalf("written by %s, signed by %s", stored.GetAuthor(), stored.GetSignedBy())
	}
	read := sim.Read(s.patient, record, "TREAT")
	s.expect(s.One(s.clinician.Sign(read)), pb.Code_CODE_OK)
	s.expect(s.One(s.clinician.Within(s.clinician.Delegation(s.device), s.device.Sign(read))), pb.Code_CODE_OK)
	// The device is nobody's author, whoever else it acts for.
	s.expect(s.One(s.device.Sign(read)), pb.Code_CODE_FORBIDDEN)
	colleague := s.Active(pb.Role_ROLE_CLINICIAN, sim.Mercy)
	s.expect(s.One(colleague.Within(colleague.Delegation(s.device), s.device.Sign(read))), pb.Code_CODE_FORBIDDEN)
}

func TestARecordStaysInItsCategory(t *testing.T) {
	s := begin(t)
	record := s.ID()
	s.MustOK(s.settle(s.PutRecord(s.engine, s.patient, 1, record))...)
	item, _ := s.put(s.engine, func(b *pb.PutRecord, _ *pb.StoredContent) {
		b.RecordId, b.Version, b.Category = record, 2, "conditions"
	})
	s.untouched(func() { s.expectAt(s.settle(item)[0], pb.Code_CODE_CONFLICT, "body.put_record.category") })
}

func TestARecordStaysOfItsTypeAsFarAsItsWritersCanTell(t *testing.T) {
	s := begin(t)
	observation, condition := []byte("key1observation!"), []byte("key1condition..!")
	elsewhere := []byte("key2condition..!")
	record := s.ID()
	put := func(version uint32, tag []byte) *pb.BatchItem {
		item, _ := s.put(s.engine, func(b *pb.PutRecord, _ *pb.StoredContent) { b.RecordId, b.Version, b.TypeTag = record, version, tag })
		return item
	}
	s.expect(s.settle(put(1, observation))[0], pb.Code_CODE_OK)
	s.expectAt(s.settle(put(2, condition))[0], pb.Code_CODE_CONFLICT, "body.put_record.type_tag")
	s.expect(s.settle(put(2, observation))[0], pb.Code_CODE_OK)
	// Who cannot tell does not make it forgotten.
	s.expect(s.settle(put(3, nil))[0], pb.Code_CODE_OK)
	s.expectAt(s.settle(put(4, condition))[0], pb.Code_CODE_CONFLICT, "body.put_record.type_tag")
	// Under another key nothing can be compared: another member's writer, or a device with new keys.
	s.expect(s.settle(put(4, elsewhere))[0], pb.Code_CODE_OK)
	s.expectAt(s.settle(put(5, []byte("key2observation!")))[0], pb.Code_CODE_CONFLICT, "body.put_record.type_tag")
	s.expectAt(s.settle(put(5, []byte("short")))[0], pb.Code_CODE_INVALID, "body.put_record.type_tag")
}

func TestVersionsFollowEachOther(t *testing.T) {
	s := begin(t)
	record := s.ID()
	put := func(version uint32) *pb.Verdict {
		return s.settle(s.PutRecord(s.engine, s.patient, version, record))[0]
	}
	s.expectAt(put(2), pb.Code_CODE_CONFLICT, "body.put_record.version")
	s.expect(put(1), pb.Code_CODE_OK)
	s.expect(put(1), pb.Code_CODE_CONFLICT)
	s.expect(put(3), pb.Code_CODE_CONFLICT)
	s.expect(put(2), pb.Code_CODE_OK)
	other := s.Active(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.expectAt(s.settle(s.PutRecord(s.engine, other, 3, record))[0], pb.Code_CODE_CONFLICT, "body.put_record.patient")
	result := s.Process(s.PutRecord(s.engine, s.patient, 3, record), s.PutRecord(s.engine, s.patient, 4, record))
	s.MustOK(result.Groups[0].Verdicts[0], result.Groups[1].Verdicts[0])
}

func TestTwoWritersOfTheSameVersionInOneBatchConflict(t *testing.T) {
	s := begin(t)
	record := s.ID()
	result := s.Process(s.PutRecord(s.engine, s.patient, 1, record), s.PutRecord(s.clinician, s.patient, 1, record))
	s.expect(result.Groups[0].Verdicts[0], pb.Code_CODE_OK)
	s.expect(result.Groups[1].Verdicts[0], pb.Code_CODE_CONFLICT)
}

func TestARecordWhoseStatementIsWrongIsRefusedAndSaysWhere(t *testing.T) {
	stories := map[string]struct {
		change func(s *story, b *pb.PutRecord, c *pb.StoredContent)
		path   string
	}{
		"a category of one's own": {func(_ *story, b *pb.PutRecord, _ *pb.StoredContent) { b.Category = "hiv" }, "body.put_record.category"},
		"version 0":               {func(_ *story, b *pb.PutRecord, _ *pb.StoredContent) { b.Version = 0 }, "body.put_record.version"},
		"a name instead of an id": {func(_ *story, b *pb.PutRecord, _ *pb.StoredContent) { b.RecordId = "jane" }, "body.put_record.record_id"},
		"a short commitment":      {func(_ *story, b *pb.PutRecord, _ *pb.StoredContent) { b.ContentCommitment = []byte{1} }, "body.put_record.content_commitment"},
		"a CID in upper case":     {func(_ *story, _ *pb.PutRecord, c *pb.StoredContent) { c.Cid = strings.ToUpper(c.Cid) }, "contents.cid"},
		"a CIDv0": {func(_ *story, _ *pb.PutRecord, c *pb.StoredContent) {
			c.Cid = "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG"
		}, "contents.cid"},
		"no stored bytes": {func(_ *story, _ *pb.PutRecord, c *pb.StoredContent) { c.StoredBytes = 0 }, "contents.stored_bytes"},
		"no writer key":   {func(_ *story, _ *pb.PutRecord, c *pb.StoredContent) { c.WriterKey = nil }, "contents.writer_key.key_id"},
		"epoch 0":         {func(_ *story, _ *pb.PutRecord, c *pb.StoredContent) { c.WriterKey.Epoch = 0 }, "contents.writer_key.epoch"},
		"a writer key that nobody sealed": {func(_ *story, _ *pb.PutRecord, c *pb.StoredContent) { c.WriterKey.SealedKeySha256 = make([]byte, 32) },
			"contents.writer_key.sealed_key_sha256"},
		"no replicas":                {func(_ *story, _ *pb.PutRecord, c *pb.StoredContent) { c.Replicas = nil }, "contents.replicas"},
		"replicas elsewhere only":    {func(_ *story, _ *pb.PutRecord, c *pb.StoredContent) { c.Replicas = []string{sim.Lakeside} }, "contents.replicas"},
		"a replica counted twice":    {func(_ *story, _ *pb.PutRecord, c *pb.StoredContent) { c.Replicas = []string{sim.Mercy, sim.Mercy} }, "contents.replicas[1]"},
		"a replica at no member":     {func(_ *story, _ *pb.PutRecord, c *pb.StoredContent) { c.Replicas = []string{sim.Mercy, "NowhereMSP"} }, "contents.replicas[1]"},
		"content of another command": {func(_ *story, _ *pb.PutRecord, c *pb.StoredContent) { c.CommandIndex = 1 }, "contents"},
	}
	for name, test := range stories {
		t.Run(name, func(t *testing.T) {
			s := begin(t)
			item, _ := s.put(s.engine, func(b *pb.PutRecord, c *pb.StoredContent) { test.change(s, b, c) })
			s.untouched(func() { s.expectAt(s.settle(item)[0], pb.Code_CODE_INVALID, test.path) })
		})
	}
}

func TestFewerReplicasThanThePolicyAsksForAreRefused(t *testing.T) {
	s := begin(t)
	inForce := &pb.PolicyState{}
	s.Document(state.PolicyKey, inForce)
	inForce.Policy.MinReplicas = 2
	s.State[state.PolicyKey] = sim.Marshal(t, inForce)
	item, _ := s.put(s.engine, func(*pb.PutRecord, *pb.StoredContent) {})
	s.expect(s.settle(item)[0], pb.Code_CODE_INVALID)
	item, _ = s.put(s.engine, func(_ *pb.PutRecord, c *pb.StoredContent) { c.Replicas = append(c.Replicas, sim.Lakeside) })
	s.expect(s.settle(item)[0], pb.Code_CODE_OK)
}

func TestARecordIsAboutARegisteredActivePatient(t *testing.T) {
	s := begin(t)
	nobody := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.expect(s.settle(s.PutRecord(s.engine, nobody, 1, s.ID()))[0], pb.Code_CODE_NOT_FOUND)
	s.expect(s.settle(s.PutRecord(s.engine, s.clinician, 1, s.ID()))[0], pb.Code_CODE_NOT_FOUND)
	s.SetStatus(s.patient, pending)
	s.expect(s.settle(s.PutRecord(s.engine, s.patient, 1, s.ID()))[0], pb.Code_CODE_FORBIDDEN)
}

func TestWhoMayWrite(t *testing.T) {
	s := begin(t)
	custodial := s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	custodial.Custodians = []string{sim.Mercy, sim.Lakeside}
	s.expect(s.One(s.register(custodial)), pb.Code_CODE_OK)
	s.expect(s.review(s.administrator, custodial, approve), pb.Code_CODE_OK)
	s.expect(s.review(s.otherAdministrator, custodial, approve), pb.Code_CODE_OK)
	verdict := func(author, patient *sim.Person) *pb.Verdict {
		return s.settle(s.PutRecord(author, patient, 1, s.ID()))[0]
	}
	s.expect(verdict(s.engine, s.patient), pb.Code_CODE_OK)
	s.expect(verdict(s.clinician, s.patient), pb.Code_CODE_OK)
	s.expect(verdict(s.stranger, s.patient), pb.Code_CODE_FORBIDDEN)
	s.expect(verdict(s.stranger, custodial), pb.Code_CODE_OK) // A clinician of a custodian.
	for _, p := range []*sim.Person{s.administrator, s.device, s.officer, s.researcher} {
		s.expect(verdict(p, s.patient), pb.Code_CODE_FORBIDDEN)
	}
	consent := s.patient.Permit(&pb.Provision{Actions: []string{"write"}, Grantees: []*pb.Grantee{{Address: s.stranger.Address}}})
	v := s.expect(verdict(s.stranger, s.patient), pb.Code_CODE_OK)
	if v.GetBasis().GetConsentId() != consent || v.GetBasis().GetConsentVersion() != 1 {
		t.Fatalf("the decision rested on %v", v.GetBasis())
	}
}

func TestAWriterKeyIsSealedToEveryHolderOnceAndThenReused(t *testing.T) {
	s := begin(t)
	s.patient = s.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy)
	s.patient.Custodians = []string{sim.Lakeside}
	s.expect(s.One(s.register(s.patient)), pb.Code_CODE_OK)
	s.expect(s.review(s.administrator, s.patient, approve), pb.Code_CODE_OK)
	s.expect(s.review(s.otherAdministrator, s.patient, approve), pb.Code_CODE_OK)
	item, _ := s.put(s.engine, func(*pb.PutRecord, *pb.StoredContent) {})
	name := state.SealedWriterKeyName(sim.Mercy, item.Contents[0].GetWriterKey().GetKeyId())
	s.expect(s.settle(item)[0], pb.Code_CODE_OK)
	for _, holder := range []string{sim.Mercy, sim.Lakeside} {
		if s.Private[state.ImplicitCollection(holder)][name] == nil {
			t.Fatalf("%s does not hold the writer key", holder)
		}
	}
	if s.Private[state.ImplicitCollection(sim.Insurer)] != nil {
		t.Fatal("a member that is no custodian holds a key")
	}
	// Later records need no transient map.
	again, _ := s.put(s.engine, func(*pb.PutRecord, *pb.StoredContent) {})
	out, err := s.EndorseWith(nil, again)
	if err != nil {
		t.Fatal(err)
	}
	s.expect(out.Result.Groups[0].Verdicts[0], pb.Code_CODE_OK)
}

func TestAWriterKeyIdBelongsToOneKeyAndPatientOfItsWriter(t *testing.T) {
	s := begin(t)
	s.Write(s.engine, s.patient)
	mine := s.WriterKey(s.patient, sim.Mercy)
	item, _ := s.put(s.engine, func(_ *pb.PutRecord, c *pb.StoredContent) { c.WriterKey.Epoch = 2 })
	s.expectAt(s.settle(item)[0], pb.Code_CODE_CONFLICT, "contents.writer_key")
	other := s.Active(pb.Role_ROLE_PATIENT, sim.Mercy)
	body, content := s.Record(other, 1, s.ID())
	content.WriterKey = mine
	item = sim.Item(s.engine.Sign(body))
	item.Contents = []*pb.StoredContent{content}
	s.expectAt(s.settle(item)[0], pb.Code_CODE_CONFLICT, "contents.writer_key")
	s.Creator = sim.Lakeside
	item, _ = s.put(s.engine, func(_ *pb.PutRecord, c *pb.StoredContent) { c.WriterKey = mine })
	s.expectAt(s.settle(item)[0], pb.Code_CODE_INVALID, "contents.writer_key.sealed_key_sha256")
}

func TestAWriterKeyThatAFailedGroupBroughtIsNewToTheNext(t *testing.T) {
	s := begin(t)
	group, _ := s.updateAndConsent()
	group.Group.Commands[1].Signature = group.Group.Commands[0].Signature
	result := s.Process(group, s.PutRecord(s.engine, s.patient, 1, s.ID()))
	s.expect(result.Groups[1].Verdicts[0], pb.Code_CODE_OK)
	if len(s.Private[state.ImplicitCollection(sim.Mercy)]) != 1 {
		t.Fatal("the writer key is not there")
	}
}

func TestNobodyTakesAWriterKeyIdOfAnotherMember(t *testing.T) {
	s := begin(t)
	s.patient.Custodians = []string{sim.Mercy, sim.Lakeside}
	document := s.Identity(s.patient.Address)
	document.Custodians = append(document.Custodians, &pb.Custodian{Msp: sim.Lakeside, SealedKeySha256: make([]byte, 32)})
	s.State[state.IdentityKey(s.patient.Address)] = sim.Marshal(t, document)
	s.patient.Permit(&pb.Provision{Actions: []string{"write"}})
	item := s.PutRecord(s.engine, s.patient, 1, s.ID())
	mine := item.Contents[0].GetWriterKey()

	// Lakeside saw the id on its way and is quicker with a key of its own under it.
	s.Creator = sim.Lakeside
	theirs := s.PutRecord(s.stranger, s.patient, 1, s.ID())
	theirs.Contents[0].WriterKey.KeyId = mine.GetKeyId()
	sealed := s.Sealed()
	for _, key := range sealed.GetKeys() {
		key.Key = strings.Replace(key.GetKey(), "wk/"+sim.Lakeside+"/", state.SealedWriterKeyName(sim.Lakeside, mine.GetKeyId())+"#", 1)
		key.Key, _, _ = strings.Cut(key.GetKey(), "#")
	}
	out, err := s.EndorseWith(sim.Marshal(t, sealed), theirs)
	if err != nil {
		t.Fatal(err)
	}
	s.expect(out.Result.GetGroups()[0].GetVerdicts()[0], pb.Code_CODE_OK)
	s.Commit(out.Writes)

	s.Creator = sim.Mercy
	s.expect(s.settle(item)[0], pb.Code_CODE_OK)
	held := s.Private[state.ImplicitCollection(sim.Lakeside)]
	for _, writer := range []string{sim.Mercy, sim.Lakeside} {
		if held[state.SealedWriterKeyName(writer, mine.GetKeyId())] == nil {
			t.Fatalf("the custodian does not hold the key of %s: %d keys", writer, len(held))
		}
	}
}
