package batch

import (
	"path"
	"strings"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// A private data collection is written with the endorsement of its member alone. A custodian that is unavailable must not
// stop others from writing. So the first record under a writer key may come without that custodian's sealed key: the
// channel notes it as late, and the writer's ledger service delivers the key when the custodian is back. What is sealed
// inside is the writer's word either way. Record keys are never late: they are the patient's, and the patient is told that
// the custodians have them.

// deliverWriterKey puts a new writer key into the collections of its holders. The writer itself must get it; a custodian
// of the patient may get it later.
func (r *run) deliverWriterKey(key *pb.WriterKey, patient *pb.IdentityDocument) *refusal {
	writer := r.call.CreatorMSP
	name := state.SealedWriterKeyName(writer, key.GetKeyId())
	own, ok := r.sealed.find(writer, name, key.GetSealedKeySha256())
	if !ok {
		return invalid("contents.writer_key.sealed_key_sha256",
			"the first record under a writer key needs it in the transient field sealed_keys: missing for %s", writer)
	}
	r.state.PutPrivate(writer, name, own)
	for _, custodian := range patient.GetCustodians() {
		if custodian.GetMsp() == writer {
			continue
		}
		if sealed, ok := r.sealed.find(custodian.GetMsp(), name, key.GetSealedKeySha256()); ok {
			r.state.PutPrivate(custodian.GetMsp(), name, sealed)
			continue
		}
		r.state.Put(state.LateKeyKey(writer, custodian.GetMsp(), key.GetKeyId()),
			&pb.LateKey{SealedKeySha256: key.GetSealedKeySha256()})
	}
	return nil
}

// Deliver gives late writer keys of the calling member to their custodians. It needs no command: the record for which the
// key was first used has announced its hash. A key that has arrived meanwhile is skipped.
func (rules *Rules) Deliver(call Call, rawSealed []byte, ledger state.Ledger) (writes []state.Write, err error) {
	defer recoverFault(&err)
	sealed, failure := indexSealedKeys(rawSealed)
	switch {
	case failure != nil:
		return nil, failure
	case len(sealed) == 0:
		return nil, fail(pb.Code_CODE_INVALID, "sealed_keys", "no key to deliver")
	case len(sealed) > MaxQuerySealed:
		return nil, fail(pb.Code_CODE_TOO_LARGE, "sealed_keys", "more than %d keys", MaxQuerySealed)
	}
	notes := make(map[sealedAt]string, len(sealed))
	keys := callKeys(call)
	for at := range sealed {
		keyID, own := strings.CutPrefix(at.key, state.SealedWriterKeyName(call.CreatorMSP, ""))
		if !own || !isUUIDv7(keyID) || !isMSP(at.msp) {
			return nil, fail(pb.Code_CODE_INVALID, "sealed_keys", "not a writer key of the member that delivers it, for a member")
		}
		notes[at] = state.LateKeyKey(call.CreatorMSP, at.msp, keyID)
		keys = append(keys, notes[at])
	}
	s, failure := fetchState(ledger, distinct(keys))
	if failure != nil {
		return nil, failure
	}
	if failure := admitCall(call, s); failure != nil {
		return nil, failure
	}
	for at, value := range sealed {
		note := state.Load[pb.LateKey](s, notes[at])
		if note == nil {
			continue
		}
		if string(note.GetSealedKeySha256()) != string(at.sha256[:]) {
			return nil, fail(pb.Code_CODE_INVALID, "sealed_keys", "not the key that was announced with its first record")
		}
		writes = append(writes, state.Write{Key: notes[at], Delete: true},
			state.Write{Collection: state.ImplicitCollection(at.msp), Key: at.key, Value: value})
	}
	state.SortWrites(writes)
	return writes, nil
}

// getLateKeys finds what the calling member has to deliver, to one custodian or to any, as Deliver takes it. A key that
// this peer has lost is skipped; whoever asks again from the last place gets the keys behind it.
func getLateKeys(call Call, asked *pb.GetLateKeys, ledger state.Ledger) (*pb.QueryResult, *Failure) {
	prefix, custodian, after := state.LateKeyPrefix(call.CreatorMSP), asked.GetCustodian(), asked.GetAfter()
	if custodian != "" {
		if !isMSP(custodian) {
			return nil, fail(pb.Code_CODE_INVALID, "query", "get_late_keys.custodian is not an MSP id")
		}
		prefix = state.LateKeyKey(call.CreatorMSP, custodian, "")
	}
	if after != "" && !strings.HasPrefix(after, prefix) {
		return nil, fail(pb.Code_CODE_INVALID, "query", "get_late_keys.after is not what an answer to the same said")
	}
	if _, failure := statesFor(call, nil, ledger); failure != nil {
		return nil, failure
	}
	unread := fail(pb.Code_CODE_UNAVAILABLE, "ledger", "the keys could not be read from the peer")
	late, err := ledger.Keys(prefix, after, MaxQuerySealed)
	if err != nil {
		return nil, unread
	}
	result := &pb.QueryResult{LateKeys: &pb.SealedKeys{}}
	if len(late) == 0 {
		return result, nil
	}
	if len(late) == MaxQuerySealed {
		result.LateKeysAfter = late[len(late)-1]
	}
	names := make([]string, len(late))
	for i, key := range late {
		names[i] = state.SealedWriterKeyName(call.CreatorMSP, path.Base(key))
	}
	values, err := ledger.Sealed(names)
	if err != nil || len(values) != len(names) {
		return nil, unread
	}
	for i, value := range values {
		if len(value) > 0 {
			result.LateKeys.Keys = append(result.LateKeys.Keys,
				&pb.SealedKey{Msp: path.Base(path.Dir(late[i])), Key: names[i], Sealed: value})
		}
	}
	return result, nil
}
