package batch

import (
	"slices"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
	"cbmdhi/chaincode/state"
)

const (
	hourMs           = 60 * 60 * 1000
	maxSealedReasons = 16
	// sealedReasonBytes is what HPKE adds (1,136) to a reason of 64.
	sealedReasonBytes = 1136 + 64
)

// BreakGlass: an access in an emergency. What makes it tolerable is structural and so is here and
// not in the policies: a clinician, in person, within a quota, with the review of two members waiting.
var breakGlassHandler = handler{
	check: checkBreakGlass,
	describe: func(c *decoded, entry *pb.AuditEntry) {
		entry.Action, entry.Purpose = policy.ActionBreakGlass, purposeEmergency
		nameRecord(entry, c.body.GetBreakGlass())
	},
	reads: func(_ Call, c *decoded, need func(string)) {
		readsOfRecord(c.body.GetBreakGlass(), need)
		need(state.BreakGlassQuotaKey(c.signed.GetSigner()))
	},
	apply: applyBreakGlass,
}

func checkBreakGlass(c *decoded) *refusal {
	body := c.body.GetBreakGlass()
	if why := checkRecordVersion("body.break_glass.", body); why != nil {
		return why
	}
	return checkSealedReasons("body.break_glass.sealed_reasons", body.GetSealedReasons())
}

func applyBreakGlass(r *run, c *decided) *refusal {
	record, why := r.recordOf("body.break_glass.", c.body.GetBreakGlass())
	if why != nil {
		return why
	}
	c.entry.Category = record.GetCategory()
	if c.actor.GetRole() != pb.Role_ROLE_CLINICIAN {
		return forbidden("signer", "only a clinician breaks the glass: ask one")
	}
	c.entry.Basis, why = r.askPolicy(question{
		actor: c.actor, action: policy.ActionBreakGlass, purpose: purposeEmergency, record: describeRecord(record),
	})
	if why != nil {
		return why
	}
	if why := r.notSuperseded("body.break_glass.version", policy.ActionBreakGlass, record); why != nil {
		return why
	}
	quota, why := r.chargeQuota(c.actor.GetAddress(), record.GetPatient(), r.call.TimeMs)
	if why != nil {
		return why
	}
	c.read = record
	r.state.Put(state.BreakGlassQuotaKey(c.actor.GetAddress()), quota)
	// The clinician's own signed words: a reviewer who opens the reason need not believe who hands it over.
	r.state.Put(state.BrokenGlassKey(c.id(), c.signed.GetSigner()), c.signed)
	return nil
}

// checkSealedReasons looks at form alone. Whom the reason was sealed to is the reviewers' to judge: an emergency
// does not wait because somebody on the clinician's list has left.
func checkSealedReasons(path string, reasons []*pb.SealedReason) *refusal {
	if len(reasons) == 0 {
		return invalid(path, "the reason is sealed to at least one reviewer")
	}
	if len(reasons) > maxSealedReasons {
		return tooLarge(path, "more than %d", maxSealedReasons)
	}
	seen := map[string]bool{}
	for i, reason := range reasons {
		switch {
		case !isAddress(reason.GetReviewer()):
			return invalid(at(path, i)+".reviewer", "not an address")
		case seen[reason.GetReviewer()]:
			return invalid(at(path, i)+".reviewer", "named twice")
		case len(reason.GetSealed()) != sealedReasonBytes:
			return invalid(at(path, i)+".sealed", "not %d bytes: its length would tell the reason", sealedReasonBytes)
		}
		seen[reason.GetReviewer()] = true
	}
	return nil
}

// chargeQuota gives the clinician's quota with one break-glass more, and why that is too many: what is tolerable once is not tolerable for
// every chart of the mesh, and nobody goes on breaking while nobody looks. The quota is the clinician's
// own document, so that two clinicians are never in each other's way.
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
