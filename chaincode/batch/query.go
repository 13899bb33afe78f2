package batch

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
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

// Query answers without recording anything. It releases no key: only a committed Access does that.
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

// statesFor reads state for a call, in one multi-get with the keys by which the call is admitted.
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
