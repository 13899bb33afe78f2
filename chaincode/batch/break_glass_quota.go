package batch

import (
	"slices"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

const hourMs = 60 * 60 * 1000

// chargeQuota gives the clinician's quota with one break-glass more, and why that is too many. Nobody breaks the glass of
// every chart of the mesh, or goes on while nobody reviews. The quota is the clinician's own document, so that two
// clinicians never conflict.
func (r *run) chargeQuota(clinician, patient string, atMs int64) (*pb.BreakGlassQuota, *refusal) {
	limits := r.policyDocument().GetBreakGlass()
	quota := &pb.BreakGlassQuota{}
	if known := state.Load[pb.BreakGlassQuota](r.state, state.BreakGlassQuotaKey(clinician)); known != nil {
		quota = proto.CloneOf(known)
	}
	if atMs >= quota.GetBeganAtMs()+int64(limits.GetWindowHours())*hourMs {
		quota.BeganAtMs, quota.Patients, quota.Records = atMs, nil, 0
	}
	if !slices.Contains(quota.GetPatients(), patient) {
		quota.Patients = append(quota.GetPatients(), patient)
	}
	quota.Records++
	quota.Unreviewed++
	const ask = "a colleague who treats the patient can"
	switch {
	case quota.GetUnreviewed() > limits.GetUnreviewed():
		return quota, forbidden("signer", "%d break-glasses of this clinician wait for review, as many as may: have them reviewed; "+
			"meanwhile "+ask, limits.GetUnreviewed())
	case len(quota.GetPatients()) > int(limits.GetPatients()):
		return quota, forbidden("signer", "this clinician has broken the glass of %d patients within %d hours, as many as may: "+ask,
			limits.GetPatients(), limits.GetWindowHours())
	case quota.GetRecords() > limits.GetRecords():
		return quota, forbidden("signer", "this clinician has broken the glass of %d records within %d hours, as many as may: "+ask,
			limits.GetRecords(), limits.GetWindowHours())
	}
	return quota, nil
}

// releaseQuota takes a closed break-glass off those that wait for review.
func (r *run) releaseQuota(clinician string) {
	key := state.BreakGlassQuotaKey(clinician)
	if known := state.Load[pb.BreakGlassQuota](r.state, key); known.GetUnreviewed() > 0 {
		quota := proto.CloneOf(known)
		quota.Unreviewed--
		r.state.Put(key, quota)
	}
}
