package batch

import (
	"bytes"
	"crypto/ecdsa"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/signing"
)

// checkForm finds the first of a group's commands that is refused by its form.
func (g *group) checkForm(call Call) {
	if g.badMembership != nil {
		return
	}
	for i, c := range g.commands {
		if g.culprit, g.badForm = i, call.checkForm(c); g.badForm != nil {
			return
		}
	}
}

// checkForm looks at what can be told of a command without the state. Nothing is read for one that is refused here, and
// it leaves no trace. One that is too late is refused for that, whatever else is wrong with it.
func (call Call) checkForm(c *decoded) *refusal {
	if c.badEncoding != nil {
		return c.badEncoding
	}
	if c.header.GetChannel() != call.Channel {
		return refuse(pb.Code_CODE_WRONG_CHANNEL, "channel", "signed for another channel: sign it for this one")
	}
	if !call.isGenesis(c.header.GetGenesisSha256()) {
		return refuse(pb.Code_CODE_WRONG_CHANNEL, "genesis_sha256",
			"signed for a channel of this name that began otherwise: sign it with the genesis hash of this one")
	}
	late := checkEnd(c.header, call.TimeMs, c.period())
	if c.badNames != nil {
		return firstOf(late, c.badNames)
	}
	if registration := c.body.GetRegisterIdentity(); registration != nil {
		return firstOf(late, checkNewcomer(c, registration.GetSigningPublicKey()))
	}
	return nil
}

// checkNewcomer checks that a registration is signed by the key that it registers.
func checkNewcomer(c *decoded, spki []byte) *refusal {
	const path = "body.register_identity.signing_public_key"
	key, err := signing.ParseKey(spki)
	if err != nil {
		return invalid(path, "not a P-256 key as DER SubjectPublicKeyInfo")
	}
	if signing.Address(spki) != c.signed.GetSigner() {
		return invalid(path, "the signer is not the address of this key")
	}
	return checkSignature(c, key)
}

func checkSignature(c *decoded, key *ecdsa.PublicKey) *refusal {
	if signing.Verify(key, signing.CommandPrefix, c.signed.GetCommand(), c.signed.GetSignature()) {
		return nil
	}
	return refuse(pb.Code_CODE_BAD_SIGNATURE, "signature", "the signature does not match the command and the signer's key, or its s is not low")
}

// isGenesis compares what was signed with how this channel began.
func (call Call) isGenesis(digest []byte) bool { return bytes.Equal(digest, call.GenesisSHA256[:]) }
