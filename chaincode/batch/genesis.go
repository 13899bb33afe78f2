package batch

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/signing"
	"cbmdhi/chaincode/state"
	"cbmdhi/chaincode/wire"
)

// Init writes the beginning of a channel: the members, the first policy, and the hash of this Genesis. The chaincode
// endorses only the Genesis that its operator agreed to, so that no single member decides who the others are.
func (rules *Rules) Init(call Call, raw []byte, ledger state.Ledger) (writes []state.Write, err error) {
	defer recoverFault(&err)
	if sha256.Sum256(raw) != call.GenesisSHA256 {
		return nil, fail(pb.Code_CODE_FORBIDDEN, "genesis", "not the genesis that this member's operator agreed to (CBMDHI_GENESIS_SHA256)")
	}
	var genesis pb.Genesis
	if !wire.Strict(raw, &genesis) {
		return nil, fail(pb.Code_CODE_INVALID, "genesis", "not a serialized Genesis of this version")
	}
	if genesis.GetChannel() != call.Channel {
		return nil, fail(pb.Code_CODE_WRONG_CHANNEL, "genesis", "made for another channel")
	}
	s, failure := fetchState(ledger, []string{state.PolicyKey})
	if failure != nil {
		return nil, failure
	}
	members, failed := ledger.Members()
	if failed != nil {
		return nil, fail(pb.Code_CODE_UNAVAILABLE, "ledger", "the members could not be read from the peer")
	}
	if state.Load[pb.PolicyState](s, state.PolicyKey) != nil || len(members) > 0 {
		return nil, fail(pb.Code_CODE_CONFLICT, "genesis", "this channel has begun already")
	}
	if failure := rules.checkGenesis(call, &genesis); failure != nil {
		return nil, failure
	}
	s.Put(state.ChannelKey, &pb.ChannelState{GenesisSha256: call.GenesisSHA256[:]})
	s.Put(state.PolicyKey, &pb.PolicyState{Policy: genesis.GetPolicy()})
	for _, member := range genesis.GetMembers() {
		s.Put(state.MemberKey(member.GetMsp()), member)
	}
	s.Commit()
	return s.Writes(), nil
}

func (rules *Rules) checkGenesis(call Call, genesis *pb.Genesis) *Failure {
	seen := map[string]bool{}
	for _, member := range genesis.GetMembers() {
		if !isMSP(member.GetMsp()) || seen[member.GetMsp()] {
			return fail(pb.Code_CODE_INVALID, "genesis", "a member's MSP id is malformed or named twice")
		}
		seen[member.GetMsp()] = true
		if !x509.NewCertPool().AppendCertsFromPEM([]byte(member.GetCaCertificatesPem())) {
			return fail(pb.Code_CODE_INVALID, "genesis", "member %s has no CA certificate in PEM", member.GetMsp())
		}
		if len(member.GetVaultPublicKey()) != hpkeKeyBytes {
			return fail(pb.Code_CODE_INVALID, "genesis", "the vault key of %s is not %d bytes", member.GetMsp(), hpkeKeyBytes)
		}
		if _, err := signing.ParseKey(member.GetStorageSigningKey()); err != nil {
			return fail(pb.Code_CODE_INVALID, "genesis", "the storage signing key of %s is not a P-256 key", member.GetMsp())
		}
	}
	if !seen[call.CreatorMSP] {
		return fail(pb.Code_CODE_FORBIDDEN, "creator", "the transaction's creator does not belong to a member of the genesis")
	}
	if genesis.GetPolicy().GetVersion() != 1 {
		return fail(pb.Code_CODE_INVALID, "genesis", "the first policy's version is 1")
	}
	if why := checkPolicy("policy", genesis.GetPolicy(), len(seen), call.TimeMs, &rules.policies); why != nil {
		return fail(why.code, "genesis", "%s: %s", why.path, why.reason)
	}
	return nil
}

// callKeys are the keys by which a call is admitted; every call reads them.
func callKeys(call Call) []string {
	return []string{state.ChannelKey, state.MemberKey(call.CreatorMSP)}
}

// admitCall decides who may call this channel's chaincode: a member, whose server agrees about the genesis. It is one rule
// for every function but `init`.
func admitCall(call Call, s *state.Overlay) *Failure {
	began := state.Load[pb.ChannelState](s, state.ChannelKey)
	switch {
	case began == nil:
		return fail(pb.Code_CODE_NOT_FOUND, "genesis", "this channel has no genesis yet: call init first")
	case !bytes.Equal(began.GetGenesisSha256(), call.GenesisSHA256[:]):
		return fail(pb.Code_CODE_WRONG_CHANNEL, "genesis", "this member's chaincode server holds the hash of another genesis: "+
			"set CBMDHI_GENESIS_SHA256 to the one that the members agreed to")
	case state.Load[pb.MemberDocument](s, state.MemberKey(call.CreatorMSP)) == nil:
		return fail(pb.Code_CODE_FORBIDDEN, "creator", "the transaction's creator does not belong to a member of this channel")
	}
	return nil
}
