package batch

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
)

// Limits of one query.
const (
	MaxQueryKeys    = 1000
	MaxQuerySealed  = 100
	MaxExplainItems = 1000
)

// Query answers without recording anything. No key follows from it: only a committed Access does that.
func (rules *Rules) Query(call Call, raw []byte, ledger Ledger) (result *pb.QueryResult, err error) {
	defer recoverFault(&err)
	var query pb.Query
	if proto.Unmarshal(raw, &query) != nil {
		return nil, fail(pb.Code_CODE_INVALID, "query", "not a serialized Query")
	}
	var failure *Failure
	switch q := query.GetQuery().(type) {
	case *pb.Query_GetKeys:
		result, failure = getKeys(q.GetKeys.GetKeys(), ledger)
	case *pb.Query_GetSealedKeys:
		result, failure = getSealedKeys(q.GetSealedKeys.GetKeys(), ledger)
	case *pb.Query_Explain:
		result, failure = rules.explain(call, q.Explain.GetItems(), ledger)
	default:
		failure = fail(pb.Code_CODE_INVALID, "query", "no query is set")
	}
	if failure != nil {
		return nil, failure
	}
	return result, nil
}

func getKeys(keys []string, ledger Ledger) (*pb.QueryResult, *Failure) {
	if len(keys) > MaxQueryKeys {
		return nil, fail(pb.Code_CODE_TOO_LARGE, "query", "more than %d keys", MaxQueryKeys)
	}
	for i, key := range keys {
		if key != policyKey && !hasPrefix(key, "id/", "reg/", "con/", MemberPrefix, timelinePrefix) {
			return nil, fail(pb.Code_CODE_INVALID, "query", "get_keys.keys[%d] has none of the prefixes id/, reg/, con/, org/, pol, z/", i)
		}
	}
	return valuesOf(keys, ledger.States)
}

func getSealedKeys(keys []string, ledger Ledger) (*pb.QueryResult, *Failure) {
	if len(keys) > MaxQuerySealed {
		return nil, fail(pb.Code_CODE_TOO_LARGE, "query", "more than %d keys", MaxQuerySealed)
	}
	for i, key := range keys {
		if !hasPrefix(key, "rk/", "wk/") {
			return nil, fail(pb.Code_CODE_INVALID, "query", "get_sealed_keys.keys[%d] has none of the prefixes rk/, wk/", i)
		}
	}
	return valuesOf(keys, ledger.Sealed)
}

func valuesOf(keys []string, read func([]string) ([][]byte, error)) (*pb.QueryResult, *Failure) {
	if len(keys) == 0 {
		return &pb.QueryResult{}, nil
	}
	values, err := read(keys)
	if err != nil || len(values) != len(keys) {
		return nil, fail(pb.Code_CODE_UNAVAILABLE, "ledger", "the keys could not be read from the peer")
	}
	return &pb.QueryResult{Values: values}, nil
}

func hasPrefix(key string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(key, p) && len(key) > len(p) })
}

// explain takes two multi-gets: only the records tell whose consents are needed.
func (rules *Rules) explain(call Call, items []*pb.ExplainItem, ledger Ledger) (*pb.QueryResult, *Failure) {
	if len(items) > MaxExplainItems {
		return nil, fail(pb.Code_CODE_TOO_LARGE, "query", "more than %d items", MaxExplainItems)
	}
	first := []string{policyKey}
	for _, item := range items {
		if checkExplain(item) == nil {
			first = append(first, identityKey(item.GetPrincipal()), recordKey(item.GetRecordId(), item.GetVersion()))
		}
	}
	s, failure := fetchState(ledger, distinct(first))
	if failure != nil {
		return nil, failure
	}
	if load[pb.PolicyState](s, policyKey) == nil {
		return nil, fail(pb.Code_CODE_NOT_FOUND, "genesis", "this channel has no genesis yet: call init first")
	}
	var second []string
	for _, item := range items {
		if checkExplain(item) != nil {
			continue
		}
		if record := load[pb.RecordVersion](s, recordKey(item.GetRecordId(), item.GetVersion())); record != nil {
			second = append(second, identityKey(record.GetPatient()), consentKey(record.GetPatient()))
		}
	}
	if len(second) > 0 {
		more, failure := fetchState(ledger, distinct(second))
		if failure != nil {
			return nil, failure
		}
		maps.Copy(s.fetched, more.fetched)
	}
	r := &run{rules: rules, call: call, state: s}
	verdicts := make([]*pb.Verdict, len(items))
	for i, item := range items {
		verdicts[i] = r.explainOne(at("explain.items", i), item)
	}
	return &pb.QueryResult{Verdicts: verdicts}, nil
}

func (r *run) explainOne(path string, item *pb.ExplainItem) *pb.Verdict {
	basis, why := r.decideExplain(item)
	verdict := &pb.Verdict{Code: pb.Code_CODE_OK, Basis: basis}
	if why != nil {
		verdict.Code, verdict.Reason = why.code, why.reason
		if why.path != "" {
			verdict.Path = path + "." + why.path
		}
	}
	return verdict
}

func (r *run) decideExplain(item *pb.ExplainItem) (*pb.DecisionBasis, *refusal) {
	if why := checkExplain(item); why != nil {
		return nil, why
	}
	principal := load[pb.IdentityDocument](r.state, identityKey(item.GetPrincipal()))
	if principal == nil {
		return nil, refuse(pb.Code_CODE_UNKNOWN_SIGNER, "principal", "not registered on this channel")
	}
	if principal.GetStatus() != pb.IdentityStatus_IDENTITY_STATUS_ACTIVE {
		return nil, refuse(pb.Code_CODE_INACTIVE_SIGNER, "principal", "the principal's identity is not active")
	}
	record := load[pb.RecordVersion](r.state, recordKey(item.GetRecordId(), item.GetVersion()))
	if record == nil {
		return nil, notFound("record_id", "there is no such record version")
	}
	return r.decide(question{
		actor: principal, action: item.GetAction(), purpose: item.GetPurpose(), record: describeRecord(record),
	})
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
