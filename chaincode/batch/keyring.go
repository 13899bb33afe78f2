package batch

import (
	"crypto/ecdsa"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/signing"
	"cbmdhi/chaincode/state"
)

// keyring parses each signer's key and verifies each delegation once in a batch: an engine or a gateway signs hundreds of
// its commands.
type keyring struct {
	parsed      map[string]*ecdsa.PublicKey
	delegations map[delegationSignature]bool
}

type delegationSignature struct{ delegator, delegation, signature string }

func newKeyring() keyring {
	return keyring{parsed: map[string]*ecdsa.PublicKey{}, delegations: map[delegationSignature]bool{}}
}

// of an identity. The key can be kept by address, since an address is the hash of its key.
func (k keyring) of(identity *pb.IdentityDocument) *ecdsa.PublicKey {
	if key, ok := k.parsed[identity.GetAddress()]; ok {
		return key
	}
	key, err := signing.ParseKey(identity.GetSigningPublicKey())
	if err != nil {
		panic(state.Fault{Reason: "a registered key of the state does not parse"})
	}
	k.parsed[identity.GetAddress()] = key
	return key
}

func (k keyring) verifyDelegation(delegator *pb.IdentityDocument, signed *pb.SignedDelegation) bool {
	at := delegationSignature{delegator.GetAddress(), string(signed.GetDelegation()), string(signed.GetSignature())}
	holds, known := k.delegations[at]
	if !known {
		holds = signing.Verify(k.of(delegator), signing.DelegationPrefix, signed.GetDelegation(), signed.GetSignature())
		k.delegations[at] = holds
	}
	return holds
}
