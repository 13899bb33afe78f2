package batch_test

import (
	"fmt"
	"testing"

	"cbmdhi/chaincode/batch"
	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

// BenchmarkFirstRecords is the work of one member for a batch of records, each the first about its
// patient: signatures, decisions, documents and the sealed keys.
func BenchmarkFirstRecords(b *testing.B) {
	for _, size := range []int{1, 100, 400} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := sim.New(b)
			engine := w.Active(pb.Role_ROLE_ENGINE, sim.Mercy)
			var items []*pb.BatchItem
			for range size {
				items = append(items, w.PutRecord(engine, w.Active(pb.Role_ROLE_PATIENT, sim.Mercy), 1, w.ID()))
			}
			settle(b, w, items, sim.Marshal(b, w.Sealed()))
		})
	}
}

// BenchmarkLaterRecords is what a busy mesh does most: the writer's key for each patient is on the
// channel already, two members hold the content, and patients have consented to something.
func BenchmarkLaterRecords(b *testing.B) {
	for _, size := range []int{1, 150} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := sim.New(b)
			engine, patients := w.Active(pb.Role_ROLE_ENGINE, sim.Mercy), consenting(w, size)
			var items []*pb.BatchItem
			for _, patient := range patients {
				w.Write(engine, patient)
				item := w.PutRecord(engine, patient, 1, w.ID())
				item.Contents[0].Replicas = []string{sim.Mercy, sim.Lakeside}
				items = append(items, item)
			}
			settle(b, w, items, nil)
		})
	}
}

// BenchmarkReads is a clinician of another member who opens charts, by the patients' consent.
func BenchmarkReads(b *testing.B) {
	w := sim.New(b)
	engine, clinician := w.Active(pb.Role_ROLE_ENGINE, sim.Mercy), w.Active(pb.Role_ROLE_CLINICIAN, sim.Lakeside)
	var items []*pb.BatchItem
	for _, patient := range consenting(w, 100) {
		items = append(items, sim.Item(clinician.Sign(sim.Read(patient, w.Write(engine, patient), "TREAT"))))
	}
	settle(b, w, items, nil)
}

// consenting patients let the clinicians of another member read, for treatment.
func consenting(w *sim.World, count int) []*sim.Person {
	var patients []*sim.Person
	for range count {
		patient := w.Active(pb.Role_ROLE_PATIENT, sim.Mercy)
		patient.Permit(&pb.Provision{
			Purposes: []string{"TREAT"}, Grantees: []*pb.Grantee{{Role: pb.Role_ROLE_CLINICIAN, Msp: sim.Lakeside}},
		})
		patients = append(patients, patient)
	}
	return patients
}

func settle(b *testing.B, w *sim.World, items []*pb.BatchItem, sealed []byte) {
	raw, call := sim.Marshal(b, w.Batch(items...)), w.Call()
	var out batch.Output
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if out, err = w.Rules.Process(call, raw, sealed, sim.Ledger{World: w}); err != nil {
			b.Fatal(err)
		}
	}
	for _, g := range out.Result.Groups {
		w.MustOK(g.Verdicts...)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(items)), "us/command")
}
