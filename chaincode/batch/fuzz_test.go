package batch_test

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	"cbmdhi/chaincode/batch"
	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
	"cbmdhi/chaincode/wire"
)

// FuzzProcess: whatever a carrier sends, there is an answer, and a refusal of the whole call is
// never a fault of ours.
func FuzzProcess(f *testing.F) {
	w := sim.New(f)
	patient, engine := w.Active(pb.Role_ROLE_PATIENT, sim.Mercy), w.Active(pb.Role_ROLE_ENGINE, sim.Mercy)
	device := w.Active(pb.Role_ROLE_DEVICE, sim.Mercy)
	consent := sim.Body(&pb.Consent{ConsentId: w.ID(), Patient: patient.Address, Provisions: []*pb.Provision{{Effect: pb.Effect_EFFECT_PERMIT}}})
	for _, item := range []*pb.BatchItem{
		w.PutRecord(engine, patient, 1, w.ID()),
		sim.Item(patient.Sign(consent)),
		sim.Item(w.Group(sim.Part{By: patient, Body: consent}, sim.Part{By: patient, Body: consent})...),
		sim.Item(patient.Within(patient.Delegation(device), device.Sign(sim.Read(patient, w.ID(), "PATRQT")))),
		sim.Item(w.Enrol(pb.Role_ROLE_PATIENT, sim.Mercy).Sign(sim.Body(patient.Registration()))),
	} {
		f.Add(sim.Marshal(f, w.Batch(item)), sim.Marshal(f, w.Sealed()))
	}
	call := w.Call()
	f.Fuzz(func(t *testing.T, raw, sealed []byte) {
		_, err := w.Rules.Process(call, raw, sealed, sim.Ledger{World: w})
		var failure *batch.Failure
		if err != nil && (!errors.As(err, &failure) || failure.Code == pb.Code_CODE_INTERNAL) {
			t.Fatalf("failure %v", err)
		}
	})
}

// FuzzBody signs whatever body the fuzzer finds, so that it gets past the signature to the rules.
func FuzzBody(f *testing.F) {
	w := sim.New(f)
	people := []*sim.Person{w.Active(pb.Role_ROLE_PATIENT, sim.Mercy), w.Active(pb.Role_ROLE_CLINICIAN, sim.Mercy), w.Active(pb.Role_ROLE_ADMINISTRATOR, sim.Mercy)}
	patient := people[0]
	record := w.Write(people[1], patient)
	body, content := w.Record(patient, 2, record)
	for _, b := range []*pb.CommandBody{
		body, sim.Read(patient, record, "TREAT"), sim.Body(patient.Registration()),
		sim.BreakGlass(patient, record, patient),
		sim.Body(&pb.ReviewBreakGlass{BreakGlassId: w.ID(), Clinician: people[1].Address}),
		sim.Body(&pb.RevokeConsent{ConsentId: w.ID(), Patient: patient.Address}),
		sim.Body(&pb.SuspendIdentity{Address: patient.Address, Suspend: true, ReasonCode: "left"}),
		sim.Body(&pb.ReviewRegistration{Address: patient.Address, RegistrationId: w.ID(), Decision: 1, ReasonCode: "other"}),
		sim.Body(&pb.SetPolicy{Policy: &pb.PolicyDocument{Version: 2, Cedar: `@id("a") permit (principal, action, resource);`, MinReplicas: 1}}),
	} {
		f.Add(sim.Marshal(f, b), sim.Marshal(f, content))
	}
	f.Fuzz(func(t *testing.T, raw, rawContent []byte) {
		w.T = t
		var items []*pb.BatchItem
		for _, p := range people {
			h := p.Header(&pb.CommandBody{}, func(c *pb.Command) { c.Body = raw })
			item := sim.Item(p.SignHeader(h))
			items = append(items, item)
			if stored := decodeContent(rawContent); stored != nil {
				item.Contents = []*pb.StoredContent{stored}
			}
		}
		if _, err := w.Endorse(items...); err != nil {
			t.Fatalf("failure %v", err)
		}
	})
}

func decodeContent(raw []byte) *pb.StoredContent {
	content := &pb.StoredContent{}
	if proto.Unmarshal(raw, content) != nil {
		return nil
	}
	return content
}

// FuzzCount: what is counted before decoding is never less than what decoding makes.
func FuzzCount(f *testing.F) {
	w := sim.New(f)
	patient := w.Active(pb.Role_ROLE_PATIENT, sim.Mercy)
	f.Add(sim.Marshal(f, &pb.Batch{Items: []*pb.BatchItem{w.PutRecord(patient, patient, 1, w.ID())}}))
	f.Add(many(1)[:100])
	f.Fuzz(func(t *testing.T, raw []byte) {
		b := &pb.Batch{}
		if proto.Unmarshal(raw, b) == nil && countBatch(raw) < elementsOf(b.ProtoReflect()) {
			t.Fatalf("counted %d, there are %d", countBatch(raw), elementsOf(b.ProtoReflect()))
		}
	})
}

// countBatch counts the messages and entries of lists of a serialized Batch.
func countBatch(raw []byte) int {
	return wire.ShapeOf((&pb.Batch{}).ProtoReflect().Descriptor()).Count(raw, batch.MaxBatchBytes)
}
