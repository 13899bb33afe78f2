package batch

import (
	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/policy"
	"cbmdhi/chaincode/state"
)

const actionEmergency = "emergency-access"

// EmergencyAccess is a glass that was broken while there was no majority. The record has been opened when the command comes
// here. So nothing that became known since refuses it: the entry notes it as an objection, and the same reviewers review it
// as any broken glass. Refused is only what the member itself could know, so that it has opened nothing.
var emergencyAccessHandler = handler{
	check: checkEmergencyAccess,
	describe: func(c *decoded, entry *pb.AuditEntry) {
		entry.Action, entry.Purpose, entry.OpenedAtMs = actionEmergency, purposeEmergency, c.header.GetIssuedAtMs()
		nameRecord(entry, c.body.GetEmergencyAccess().GetGlass())
	},
	reads: func(_ Call, c *decoded, need func(string)) {
		readsForRecord(c.body.GetEmergencyAccess().GetGlass(), need)
		need(state.BreakGlassQuotaKey(c.signed.GetSigner()))
	},
	apply: applyEmergencyAccess,
}

func checkEmergencyAccess(c *decoded) *refusal {
	const path = "body.emergency_access."
	body := c.body.GetEmergencyAccess()
	glass := body.GetGlass()
	if why := checkRecordVersion(path+"glass.", glass); why != nil {
		return why
	}
	if why := checkSealedReasons(path+"glass.sealed_reasons", glass.GetSealedReasons()); why != nil {
		return why
	}
	if c.header.GetGroup() != nil {
		return invalid("group", "what was opened does not depend on others: send it alone")
	}
	if body.GetNewestEpoch() <= 0 || !standsStill(body.GetNewestEpoch(), c.header.GetIssuedAtMs()) {
		return invalid(path+"newest_epoch", "the channel did not stand still then: break the glass instead")
	}
	return nil
}

// standsStill tells that an epoch after the newest has passed and nobody began it. Every member's ledger service tries to,
// so there was no majority for a minute.
func standsStill(newestEpoch, atMs int64) bool { return atMs/EpochMs-newestEpoch >= 2 }

func applyEmergencyAccess(r *run, c *decided) *refusal {
	const path = "body.emergency_access.glass."
	record, why := r.recordOf(path, c.body.GetEmergencyAccess().GetGlass())
	if why != nil {
		return why
	}
	if c.body.GetEmergencyAccess().GetNewestEpoch() < record.GetWrittenAtMs()/EpochMs-1 {
		// The batch that wrote the version has read the epoch before its own, so a peer that has the version has that epoch
		// (checkTime).
		return invalid("body.emergency_access.newest_epoch", "the record was not there yet: nothing can have been opened")
	}
	c.entry.Category = record.GetCategory()
	if c.actor.GetRole() != pb.Role_ROLE_CLINICIAN {
		return forbidden("signer", "only a clinician breaks the glass: ask one")
	}
	patient := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(record.GetPatient()))
	if patient.GetHomeMsp() != c.actor.GetHomeMsp() {
		return forbidden(path+"patient", "without a majority a member's clinicians open records of its own patients alone")
	}
	quota, over := r.chargeQuota(c.actor.GetAddress(), record.GetPatient(), c.header.GetIssuedAtMs())
	if against := firstOf(r.objection(c, record), over); against != nil {
		c.entry.Objection, c.entry.Reason, c.entry.Path = against.code, against.reason, against.path
	}
	r.state.Put(state.BreakGlassQuotaKey(c.actor.GetAddress()), quota)
	r.state.Put(state.BrokenGlassKey(c.id(), c.signed.GetSigner()), c.signed)
	return nil
}

// objection is why a BreakGlass would be refused now, apart from the quota.
func (r *run) objection(c *decided, record *pb.RecordVersion) *refusal {
	if c.actor.GetStatus() != pb.IdentityStatus_IDENTITY_STATUS_ACTIVE {
		return refuse(pb.Code_CODE_INACTIVE_SIGNER, "signer", "the clinician's identity is not active")
	}
	basis, why := r.askPolicy(question{
		actor: c.actor, action: policy.ActionBreakGlass, purpose: purposeEmergency, record: describeRecord(record),
	})
	c.entry.Basis = basis
	return firstOf(why, r.checkLatest("body.emergency_access.glass.version", policy.ActionBreakGlass, record))
}
