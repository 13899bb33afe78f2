package batch

import (
	"crypto/sha256"
	"crypto/x509"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/signing"
)

// Init writes the beginning of a channel: the members and the first policy. `pin` is the SHA-256 of
// the Genesis that this member's operator agreed to; the chaincode endorses no other, so that no
// single member decides who the others are.
func (rules *Rules) Init(call Call, pin [sha256.Size]byte, raw []byte, ledger Ledger) (writes []Write, err error) {
	defer recoverFault(&err)
	if sha256.Sum256(raw) != pin {
		return nil, fail(pb.Code_CODE_FORBIDDEN, "genesis", "not the genesis that this member's operator agreed to (CBMDHI_GENESIS_SHA256)")
	}
	var genesis pb.Genesis
	if !strictly(raw, &genesis) {
		return nil, fail(pb.Code_CODE_INVALID, "genesis", "not a serialized Genesis of this version")
	}
	if genesis.GetChannel() != call.Channel {
		return nil, fail(pb.Code_CODE_WRONG_CHANNEL, "genesis", "made for another channel")
	}
	s, failure := fetchState(ledger, []string{policyKey})
	if failure != nil {
		return nil, failure
	}
	members, failed := ledger.Members()
	if failed != nil {
		return nil, fail(pb.Code_CODE_UNAVAILABLE, "ledger", "the members could not be read from the peer")
	}
	if load[pb.PolicyState](s, policyKey) != nil || len(members) > 0 {
		return nil, fail(pb.Code_CODE_CONFLICT, "genesis", "this channel has begun already")
	}
	if failure := rules.checkGenesis(call, &genesis); failure != nil {
		return nil, failure
	}
	s.put(policyKey, &pb.PolicyState{Policy: genesis.GetPolicy()})
	for _, member := range genesis.GetMembers() {
		s.put(memberKey(member.GetMsp()), member)
	}
	s.keep()
	return s.writes(), nil
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
	if why := checkPolicy("policy", genesis.GetPolicy(), len(seen), &rules.policies); why != nil {
		return fail(why.code, "genesis", "%s: %s", why.path, why.reason)
	}
	return nil
}
