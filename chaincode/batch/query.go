package batch

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
	"cbmdhi/chaincode/wire"
)

// Limits of one query.
const (
	MaxQueryBytes   = 1 << 20
	MaxQueryKeys    = 1000
	MaxQuerySealed  = 100
	MaxExplainItems = 1000
	// The longest list and the messages around it.
	maxQueryElements = 1100
)

// What a query can read; the prefixes alone are no keys.
var (
	readableKeys     = []string{state.PolicyKey, state.ChannelKey}
	readablePrefixes = []string{
		state.IdentityPrefix, state.RegistrationPrefix, state.ConsentPrefix, state.MemberPrefix,
		state.PolicyVotePrefix, state.EpochPrefix, state.TimelinePrefix,
	}
	sealedPrefixes = []string{state.SealedRecordKeyPrefix, state.SealedWriterKeyPrefix}
)

// Query answers without recording anything. No key follows from it: only a committed Access does that.
func (rules *Rules) Query(call Call, raw []byte, ledger state.Ledger) (result *pb.QueryResult, err error) {
	defer recoverFault(&err)
	if len(raw) > MaxQueryBytes || queryShape.Count(raw, maxQueryElements) > maxQueryElements {
		return nil, fail(pb.Code_CODE_TOO_LARGE, "query", "over %d bytes, or too many keys or items", MaxQueryBytes)
	}
	var query pb.Query
	if proto.Unmarshal(raw, &query) != nil {
		return nil, fail(pb.Code_CODE_INVALID, "query", "not a serialized Query")
	}
	var failure *Failure
	switch q := query.GetQuery().(type) {
	case *pb.Query_GetKeys:
		result, failure = getKeys(call, q.GetKeys.GetKeys(), ledger)
	case *pb.Query_GetSealedKeys:
		result, failure = getSealedKeys(call, q.GetSealedKeys.GetKeys(), ledger)
	case *pb.Query_GetLateKeys:
		result, failure = getLateKeys(call, q.GetLateKeys, ledger)
	case *pb.Query_Explain:
		result, failure = rules.explain(call, q.Explain.GetItems(), ledger)
	case *pb.Query_DecideEmergency:
		result, failure = rules.decideEmergency(call, q.DecideEmergency, ledger)
	default:
		failure = fail(pb.Code_CODE_INVALID, "query", "no query is set")
	}
	if failure != nil {
		return nil, failure
	}
	return result, nil
}

func getKeys(call Call, keys []string, ledger state.Ledger) (*pb.QueryResult, *Failure) {
	if len(keys) > MaxQueryKeys {
		return nil, fail(pb.Code_CODE_TOO_LARGE, "query", "more than %d keys", MaxQueryKeys)
	}
	for i, key := range keys {
		if !slices.Contains(readableKeys, key) && !hasPrefix(key, readablePrefixes) {
			return nil, fail(pb.Code_CODE_INVALID, "query", "get_keys.keys[%d] is none of %s and has none of the prefixes %s",
				i, strings.Join(readableKeys, ", "), strings.Join(readablePrefixes, ", "))
		}
	}
	values, failure := statesFor(call, keys, ledger)
	return &pb.QueryResult{Values: values}, failure
}

func getSealedKeys(call Call, keys []string, ledger state.Ledger) (*pb.QueryResult, *Failure) {
	if len(keys) > MaxQuerySealed {
		return nil, fail(pb.Code_CODE_TOO_LARGE, "query", "more than %d keys", MaxQuerySealed)
	}
	for i, key := range keys {
		if !hasPrefix(key, sealedPrefixes) {
			return nil, fail(pb.Code_CODE_INVALID, "query", "get_sealed_keys.keys[%d] has none of the prefixes %s",
				i, strings.Join(sealedPrefixes, ", "))
		}
	}
	if _, failure := statesFor(call, nil, ledger); failure != nil || len(keys) == 0 {
		return &pb.QueryResult{}, failure
	}
	values, err := ledger.Sealed(keys)
	if err != nil || len(values) != len(keys) {
		return nil, fail(pb.Code_CODE_UNAVAILABLE, "ledger", "the keys could not be read from the peer")
	}
	return &pb.QueryResult{Values: values}, nil
}

// statesFor reads state for a call that may be answered, in one multi-get with what that is seen by.
func statesFor(call Call, keys []string, ledger state.Ledger) ([][]byte, *Failure) {
	all := append(callKeys(call), keys...)
	values, err := ledger.States(all)
	if err != nil || len(values) != len(all) {
		return nil, fail(pb.Code_CODE_UNAVAILABLE, "ledger", "the keys could not be read from the peer")
	}
	own := len(all) - len(keys)
	if failure := admitCall(call, state.Of(all[:own], values[:own])); failure != nil {
		return nil, failure
	}
	return values[own:], nil
}

func hasPrefix(key string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) && len(key) > len(p) })
}

// explain takes two multi-gets: only the records tell whose consents are needed.
func (rules *Rules) explain(call Call, items []*pb.ExplainItem, ledger state.Ledger) (*pb.QueryResult, *Failure) {
	if len(items) > MaxExplainItems {
		return nil, fail(pb.Code_CODE_TOO_LARGE, "query", "more than %d items", MaxExplainItems)
	}
	first := append(callKeys(call), state.PolicyKey)
	asked := make([]explained, len(items))
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
		verdicts[i] = r.explainOne(at("explain.items", i), &asked[i])
	}
	return &pb.QueryResult{Verdicts: verdicts}, nil
}

func (r *run) explainOne(path string, one *explained) *pb.Verdict {
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

func (r *run) decideExplain(one *explained) (*pb.DecisionBasis, *refusal) {
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
	// As for an Access. Who is told that a version exists is told of the latest as its list has it, which
	// may be older than the state: a record that is being amended does not vanish meanwhile.
	if why == nil && slices.Contains(accessActions, item.GetAction()) {
		why = r.notSuperseded("version", item.GetAction(), record)
	}
	return basis, why
}

// explained is a question with what its bytes hold.
type explained struct {
	item       *pb.ExplainItem
	delegation *pb.Delegation
	malformed  *refusal
}

func decodeExplain(item *pb.ExplainItem) explained {
	one := explained{item: item, malformed: checkExplain(item)}
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

func distinct(keys []string) []string {
	slices.Sort(keys)
	return slices.Compact(keys)
}
