package batch

import (
	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

const (
	// hpkeKeyBytes of an ML-KEM-768 + X25519 public key.
	hpkeKeyBytes  = 1216
	maxCustodians = 16
)

// RegisterIdentity is the one command whose signer the channel does not know yet. The identity acts only after the members
// have reviewed it.
var registerIdentityHandler = handler{
	check: checkRegisterIdentity,
	describe: func(c *decoded, entry *pb.AuditEntry) {
		body := c.body.GetRegisterIdentity()
		entry.Action, entry.Subject = "register", body.GetAddress()
		if body.GetRole() == pb.Role_ROLE_PATIENT {
			entry.Patient = body.GetAddress()
		}
	},
	reads: func(_ Call, c *decoded, need func(string)) {
		body := c.body.GetRegisterIdentity()
		need(state.MemberKey(body.GetHomeMsp()))
		need(state.FirstAdministratorKey(body.GetHomeMsp()))
		for _, custodian := range body.GetCustodians() {
			need(state.MemberKey(custodian.GetMsp()))
		}
	},
	apply: applyRegisterIdentity,
}

func checkRegisterIdentity(c *decoded) *refusal {
	const path = "body.register_identity."
	body := c.body.GetRegisterIdentity()
	switch {
	case body.GetAddress() != c.signed.GetSigner():
		return invalid(path+"address", "not the signer's address: an identity registers itself")
	case !isRole(body.GetRole()):
		return invalid(path+"role", "not a role of the closed list")
	case !isMSP(body.GetHomeMsp()):
		return invalid(path+"home_msp", "not an MSP id")
	case len(body.GetHpkePublicKey()) != hpkeKeyBytes:
		return invalid(path+"hpke_public_key", "not %d bytes", hpkeKeyBytes)
	}
	if body.GetRole() != pb.Role_ROLE_PATIENT {
		if len(body.GetCustodians()) > 0 {
			return invalid(path+"custodians", "only a patient has custodians")
		}
		if body.GetEvidenceCid() != "" {
			return invalid(path+"evidence_cid", "only a patient has evidence")
		}
		return nil
	}
	if !isCID(body.GetEvidenceCid()) {
		return invalid(path+"evidence_cid",
			"a patient shows the reviewers evidence: its CIDv1 (sha2-256) in lower-case base32 is required")
	}
	return checkCustodians(path+"custodians", body.GetCustodians())
}

func checkCustodians(path string, custodians []*pb.Custodian) *refusal {
	if len(custodians) == 0 {
		return invalid(path, "a patient chooses at least one custodian")
	}
	if len(custodians) > maxCustodians {
		return tooLarge(path, "more than %d", maxCustodians)
	}
	seen := map[string]bool{}
	for i, custodian := range custodians {
		switch {
		case !isMSP(custodian.GetMsp()):
			return invalid(elementOf(path, i)+".msp", "not an MSP id")
		case seen[custodian.GetMsp()]:
			return invalid(elementOf(path, i)+".msp", "named twice")
		case !isSHA256(custodian.GetSealedKeySha256()):
			return invalid(elementOf(path, i)+".sealed_key_sha256", "not 32 bytes")
		}
		seen[custodian.GetMsp()] = true
	}
	return nil
}

func applyRegisterIdentity(r *run, c *decided) *refusal {
	const path = "body.register_identity."
	body := c.body.GetRegisterIdentity()
	known := state.Load[pb.IdentityDocument](r.state, state.IdentityKey(body.GetAddress()))
	if known != nil && known.GetStatus() != pb.IdentityStatus_IDENTITY_STATUS_REJECTED {
		return conflict(path+"address", "already registered")
	}
	rule := r.reviewRule(body.GetRole())
	if rule == nil {
		return forbidden(path+"role", "the consortium's policy has no review rule for this role, so nobody registers for it")
	}
	for i, custodian := range body.GetCustodians() {
		if state.Load[pb.MemberDocument](r.state, state.MemberKey(custodian.GetMsp())) == nil {
			return invalid(elementOf(path+"custodians", i)+".msp", "not a member of this channel")
		}
		name := state.SealedRecordKeyName(body.GetAddress())
		sealed, ok := r.sealed.find(custodian.GetMsp(), name, custodian.GetSealedKeySha256())
		if !ok {
			return invalid(elementOf(path+"custodians", i)+".sealed_key_sha256",
				"the transient field sealed_keys holds no key with this hash for this custodian").byCarrier()
		}
		r.state.PutPrivate(custodian.GetMsp(), name, sealed)
	}
	status := pb.IdentityStatus_IDENTITY_STATUS_PENDING
	if rule.GetQuorum() == 0 && !isPrivileged(body.GetRole()) || r.isFirstAdministrator(body) {
		status = pb.IdentityStatus_IDENTITY_STATUS_ACTIVE
	}
	r.state.Put(state.IdentityKey(body.GetAddress()), &pb.IdentityDocument{
		Address: body.GetAddress(), Role: body.GetRole(), HomeMsp: body.GetHomeMsp(), Status: status,
		SigningPublicKey: body.GetSigningPublicKey(), HpkePublicKey: body.GetHpkePublicKey(),
		Custodians: body.GetCustodians(), EvidenceCid: body.GetEvidenceCid(), RegistrationId: c.id(),
		RegisteredAtMs: r.call.TimeMs, ChangedAtMs: r.call.TimeMs, Version: known.GetVersion() + 1,
	})
	// The signed command certifies the keys: whoever gets the document can check them and need not believe the service
	// that hands it out.
	r.state.Put(state.RegistrationKey(body.GetAddress()), c.signed)
	return nil
}

// isFirstAdministrator tells whether this is the first administrator of a member, who is active without review: somebody
// has to review the others. Each member's certificate authority names one, once. That gives the member no more than its own
// vote.
func (r *run) isFirstAdministrator(body *pb.RegisterIdentity) bool {
	key := state.FirstAdministratorKey(body.GetHomeMsp())
	if body.GetRole() != pb.Role_ROLE_ADMINISTRATOR || state.Load[pb.FirstAdministrator](r.state, key) != nil {
		return false
	}
	r.state.Put(key, &pb.FirstAdministrator{Address: body.GetAddress()})
	return true
}

// reviewRule of a role; nil when the consortium admits none.
func (r *run) reviewRule(role pb.Role) *pb.ReviewRule {
	for _, rule := range r.policyDocument().GetReviewRules() {
		if rule.GetRole() == role {
			return rule
		}
	}
	return nil
}
