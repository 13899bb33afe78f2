package batch

import (
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
	"cbmdhi/chaincode/wire"
)

// maxEmergencyCharges of one question: as many as a policy may let wait for review.
const maxEmergencyCharges = maxBreakGlassUnreviewed

// decideEmergency says whether a member's storage may carry out an EmergencyAccess: by the rules by which it will come on
// record, at the state that the member's own peer has, and only while the channel stands still there.
func (rules *Rules) decideEmergency(call Call, asked *pb.DecideEmergency, ledger state.Ledger) (*pb.QueryResult, *Failure) {
	if len(asked.GetCharges()) > maxEmergencyCharges {
		return nil, fail(pb.Code_CODE_TOO_LARGE, "query", "more than %d charges", maxEmergencyCharges)
	}
	item := &pb.BatchItem{Group: &pb.CommandGroup{Commands: []*pb.SignedCommand{asked.GetAsked()}}}
	groups := []*group{decodeGroup(item, wire.NewBudget(MaxElements))}
	groups[0].checkForm(call)
	plan := planReads(call, groups)
	c, keys := groups[0].commands[0], plan.keys
	for number := range int64(state.EpochSlots) {
		keys = append(keys, state.EpochKey(number))
	}
	if c.badEncoding == nil {
		keys = append(keys, state.RegistrationKey(c.signed.GetSigner()))
	}
	s, failure := fetchState(ledger, distinct(keys))
	if failure != nil {
		return nil, failure
	}
	if failure := admitCall(call, s); failure != nil {
		return nil, failure
	}
	r := &run{rules: rules, call: call, state: s, keys: newKeyring()}
	decision := &pb.EmergencyDecision{Verdict: &pb.Verdict{Code: pb.Code_CODE_OK}}
	if why := r.decideEmergency(groups[0], plan, asked.GetCharges(), decision); why != nil {
		decision = &pb.EmergencyDecision{
			Verdict: &pb.Verdict{CommandId: c.id(), Code: why.code, Reason: why.reason, Path: why.path},
		}
	}
	return &pb.QueryResult{Emergency: decision}, nil
}

// decideEmergency processes a single EmergencyAccess and fills the decision, or says why it is not to be carried out.
func (r *run) decideEmergency(g *group, plan readPlan, charges []*pb.EmergencyCharge, decision *pb.EmergencyDecision) *refusal {
	c := g.commands[0]
	if why := r.checkStandstill(c); why != nil {
		return why
	}
	if slices.Contains(plan.applicable, c) {
		for _, charge := range charges {
			quota, _ := r.chargeQuota(c.signed.GetSigner(), charge.GetPatient(), charge.GetOpenedAtMs())
			r.state.Put(state.BreakGlassQuotaKey(c.signed.GetSigner()), quota)
			r.state.Commit()
		}
	}
	switch v := r.processGroup(g)[0]; {
	case v.GetCode() == pb.Code_CODE_ALREADY_COMMITTED:
		return conflict("command_id", "this command is on record already: sign a new one")
	case v.GetCode() != pb.Code_CODE_OK:
		return refuse(v.GetCode(), v.GetPath(), "%s", v.GetReason())
	case v.GetObjection() != pb.Code_CODE_UNSPECIFIED:
		return refuse(v.GetObjection(), v.GetPath(), "%s", v.GetReason())
	case c.header.GetExpiresAtMs()-c.header.GetIssuedAtMs() < maxEmergencyLifetimeMs:
		// Nobody opens what is over before a majority is back.
		return invalid("expires_at_ms", "not 30 days after issued_at_ms: it has to come on record whenever a majority is back")
	}
	glass := c.body.GetEmergencyAccess().GetGlass()
	decision.Clinician = state.Load[pb.IdentityDocument](r.state, state.IdentityKey(c.signed.GetSigner()))
	decision.Registration = state.Load[pb.SignedCommand](r.state, state.RegistrationKey(c.signed.GetSigner()))
	decision.Patient = state.Load[pb.IdentityDocument](r.state, state.IdentityKey(glass.GetPatient()))
	decision.Record = state.Load[pb.RecordVersion](r.state, state.RecordKey(glass.GetRecordId(), glass.GetVersion()))
	decision.Verdict.CommandId = c.id()
	return nil
}

// checkStandstill insists that the channel stands still at the own peer, and that the clinician means this standstill.
func (r *run) checkStandstill(c *decoded) *refusal {
	newest := int64(0)
	for number := range int64(state.EpochSlots) {
		newest = max(newest, state.Load[pb.Epoch](r.state, state.EpochKey(number)).GetNumber())
	}
	if !standsStill(newest, r.call.TimeMs) {
		return conflict("epoch", "the channel goes on, or stopped a moment ago: break the glass, which is tried again for half a minute")
	}
	if c.badEncoding != nil {
		return nil // processGroup says why.
	}
	if c.body.GetEmergencyAccess() == nil {
		return invalid("body", "not an EmergencyAccess: send the command to the channel")
	}
	if c.body.GetEmergencyAccess().GetNewestEpoch() != newest {
		return conflict("body.emergency_access.newest_epoch", "the channel has gone on since: ask how it stands, and sign anew")
	}
	return nil
}
