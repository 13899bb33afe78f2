package batch_test

import (
	"fmt"
	"testing"

	"cbmdhi/chaincode/batch"
	pb "cbmdhi/chaincode/gen/commandv1"
	sim "cbmdhi/chaincode/internal/simulator"
)

// BenchmarkPutRecords is the work of one member for a batch: signatures, decisions, documents.
func BenchmarkPutRecords(b *testing.B) {
	for _, size := range []int{1, 100, 400} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			w := sim.New(b)
			engine := w.Active(pb.Role_ROLE_ENGINE, sim.Mercy)
			var items []*pb.BatchItem
			for range size {
				items = append(items, w.PutRecord(engine, w.Active(pb.Role_ROLE_PATIENT, sim.Mercy), 1, w.ID()))
			}
			raw, sealed, call := sim.Marshal(b, &pb.Batch{Items: items}), sim.Marshal(b, w.Sealed()), w.Call()
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
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*size), "us/record")
		})
	}
}
