package batch

import (
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
	"cbmdhi/chaincode/wire"
)

// explain takes two multi-gets: only the records tell whose consents are needed.
func (rules *Rules) explain(call Call, items []*pb.ExplainItem, ledger state.Ledger) (*pb.QueryResult, *Failure) {
	if len(items) > MaxExplainItems {
		return nil, fail(pb.Code_CODE_TOO_LARGE, "query", "more than %d items", MaxExplainItems)
	}
	first := append(callKeys(call), state.PolicyKey)
	asked := make([]explainQuestion, len(items))
	for i, item := range items {
		asked[i] = decodeExplain(item)
		if asked[i].malformed != nil {
			continue
		}
		first = append(first, state.IdentityKey(item.GetPrincipal()),
			state.RecordKey(item.GetRecordId(), item.GetVersion()), state.RecordKey(item.GetRecordId(), item.GetVersion()+1))
		if d := asked[i].delegation; d != nil {
			first = append(first, state.IdentityKey(d.GetDelegate()), state.RevokedDelegationKey(d.GetDelegationId(), d.GetDelegator()))
		}
	}
	s, failure := fetchState(ledger, distinct(first))
	if failure != nil {
		return nil, failure
	}
	if failure := admitCall(call, s); failure != nil {
		return nil, failure
	}
	var second []string
	for _, one := range asked {
		if one.malformed != nil {
			continue
		}
		if record := state.Load[pb.RecordVersion](s, state.RecordKey(one.item.GetRecordId(), one.item.GetVersion())); record != nil {
			second = append(second, state.IdentityKey(record.GetPatient()), state.ConsentKey(record.GetPatient()))
		}
	}
	if len(second) > 0 {
		more, failure := fetchState(ledger, distinct(second))
		if failure != nil {
			return nil, failure
		}
		s.Extend(more)
	}
	r := &run{rules: rules, call: call, state: s}
	verdicts := make([]*pb.Verdict, len(items))
	for i := range asked {
		verdicts[i] = r.explainOne(elementOf("explain.items", i), &asked[i])
	}
	return &pb.QueryResult{Verdicts: verdicts}, nil
}

func (r *run) explainOne(path string, one *explainQuestion) *pb.Verdict {
	basis, why := r.decideExplain(one)
	verdict := &pb.Verdict{Code: pb.Code_CODE_OK, Basis: basis}
	if why != nil {
		verdict.Code, verdict.Reason = why.code, why.reason
		if why.path != "" {
			verdict.Path = path + "." + why.path
		}
	}
	return verdict
}

func (r *run) decideExplain(one *explainQuestion) (*pb.DecisionBasis, *refusal) {
	if one.malformed != nil {
		return nil, one.malformed
	}
	item := one.item
	principal := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(item.GetPrincipal()))
	if principal == nil {
		return nil, refuse(pb.Code_CODE_UNKNOWN_SIGNER, "principal", "not registered on this channel")
	}
	if principal.GetStatus() != pb.IdentityStatus_IDENTITY_STATUS_ACTIVE {
		return nil, refuse(pb.Code_CODE_INACTIVE_SIGNER, "principal", "the principal's identity is not active")
	}
	if d := one.delegation; d != nil {
		device := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(d.GetDelegate()))
		if device.GetStatus() != pb.IdentityStatus_IDENTITY_STATUS_ACTIVE {
			return nil, refuse(pb.Code_CODE_INACTIVE_SIGNER, "delegation.delegate", "the device's identity is not active")
		}
		if why := r.checkDelegate(d, device); why != nil {
			return nil, why
		}
		if why := r.checkNotEnded(d, principal, device); why != nil {
			return nil, why
		}
	}
	record := state.Load[pb.RecordVersion](r.state, state.RecordKey(item.GetRecordId(), item.GetVersion()))
	if record == nil {
		return nil, notFound("record_id", "there is no such record version")
	}
	basis, why := r.askPolicy(question{
		delegated: one.delegation != nil,
		actor:     principal, action: item.GetAction(), purpose: item.GetPurpose(), record: describeRecord(record),
	})
	// As for an Access. Only there: a list that is a little older than the state may name a version that is the latest no
	// more, and a record must not vanish from it while it is being amended.
	if why == nil && slices.Contains(accessActions, item.GetAction()) {
		why = r.checkLatest("version", item.GetAction(), record)
	}
	return basis, why
}

// explainQuestion is a question with what its bytes hold.
type explainQuestion struct {
	item       *pb.ExplainItem
	delegation *pb.Delegation
	malformed  *refusal
}

func decodeExplain(item *pb.ExplainItem) explainQuestion {
	one := explainQuestion{item: item, malformed: checkExplain(item)}
	raw := item.GetDelegation()
	if len(raw) == 0 || one.malformed != nil {
		return one
	}
	const entries = 4 * maxDelegationPatients
	d := &pb.Delegation{}
	switch {
	case len(raw) > MaxDelegationBytes || delegationShape.Count(raw, entries) > entries:
		one.malformed = tooLarge("delegation", "over %d bytes, or too many entries", MaxDelegationBytes)
	case !wire.Strict(raw, d):
		one.malformed = invalid("delegation", "not a serialized Delegation of this version")
	case d.GetDelegator() != item.GetPrincipal():
		one.malformed = invalid("delegation.delegator", "the delegation is not the principal's")
	default:
		one.delegation, one.malformed = d, checkDelegation(d)
	}
	return one
}

func checkExplain(item *pb.ExplainItem) *refusal {
	switch {
	case !isAddress(item.GetPrincipal()):
		return invalid("principal", "not an address")
	case !slices.Contains(explainActions, item.GetAction()):
		return invalid("action", "not an action of the closed list")
	case !isUUIDv7(item.GetRecordId()):
		return invalid("record_id", notUUIDv7)
	case item.GetVersion() == 0:
		return invalid("version", "versions begin at 1")
	case !isPurpose(item.GetPurpose()):
		return invalid("purpose", "not a purpose of use of the closed list")
	}
	return nil
}
