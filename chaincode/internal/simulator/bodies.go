package simulator

import (
	"crypto/sha256"
	"maps"
	"slices"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/state"
)

// Registration of a person, as their own client states it.
func (p *Person) Registration() *pb.RegisterIdentity {
	body := &pb.RegisterIdentity{
		Address: p.Address, Role: p.Role, HomeMsp: p.MSP, SigningPublicKey: p.SPKI,
		HpkePublicKey: make([]byte, 1216), EnrolmentCertificate: p.Certificate,
	}
	if p.Role == pb.Role_ROLE_PATIENT {
		body.EvidenceCid = CID("evidence of " + p.Address)
	}
	for _, custodian := range p.Custodians {
		digest := sha256.Sum256(p.SealedRecordKey(custodian))
		body.Custodians = append(body.Custodians, &pb.Custodian{Msp: custodian, SealedKeySha256: digest[:]})
		p.World.seal(custodian, state.SealedRecordKeyName(p.Address), p.SealedRecordKey(custodian))
	}
	return body
}

// Record is a PutRecord with the storage's statement about its content.
func (w *World) Record(patient *Person, version uint32, recordID string) (*pb.CommandBody, *pb.StoredContent) {
	commitment := sha256.Sum256([]byte(recordID))
	body := &pb.PutRecord{
		RecordId: recordID, Version: version, Patient: patient.Address, Category: "observations",
		ContentCommitment: commitment[:], ContentBytes: 1000,
	}
	return Body(body), &pb.StoredContent{
		Cid: CID(recordID), StoredBytes: 1100, Replicas: []string{w.Creator}, WriterKey: w.WriterKey(patient, w.Creator),
	}
}

// WriterKey is the first epoch's key of a writer for a patient; its sealed form is in the transient map.
func (w *World) WriterKey(patient *Person, writer string) *pb.WriterKey {
	name := "writer key of " + writer + " for " + patient.Address
	digest := sha256.Sum256([]byte(name))
	id := uuidOf(digest)
	for _, holder := range append([]string{writer}, patient.Custodians...) {
		w.seal(holder, state.SealedWriterKeyName(writer, id), []byte(name))
	}
	return &pb.WriterKey{KeyId: id, Epoch: 1, SealedKeySha256: digest[:]}
}

// PutRecord is a lone record as an item.
func (w *World) PutRecord(author, patient *Person, version uint32, recordID string) *pb.BatchItem {
	body, content := w.Record(patient, version, recordID)
	item := Item(author.Sign(body))
	item.Contents = []*pb.StoredContent{content}
	return item
}

// Write puts the first version of a record and insists that it was done.
func (w *World) Write(author, patient *Person) string {
	w.T.Helper()
	id := w.ID()
	w.MustOK(w.Process(w.PutRecord(author, patient, 1, id)).GetGroups()[0].GetVerdicts()...)
	return id
}

// Read is an Access to the first version.
func Read(patient *Person, recordID, purpose string) *pb.CommandBody {
	return Body(&pb.Access{Patient: patient.Address, RecordId: recordID, Version: 1, Purpose: purpose, Action: "read"})
}

// BreakGlass of the first version, its reason sealed (as far as the rules can tell) to a reviewer.
func BreakGlass(patient *Person, recordID string, reviewer *Person) *pb.CommandBody {
	return Body(&pb.BreakGlass{
		Patient: patient.Address, RecordId: recordID, Version: 1,
		SealedReasons: []*pb.SealedReason{{Reviewer: reviewer.Address, Sealed: make([]byte, 1200)}},
	})
}

// MustOK insists on verdicts.
func (w *World) MustOK(verdicts ...*pb.Verdict) {
	w.T.Helper()
	for _, v := range verdicts {
		if v.GetCode() != pb.Code_CODE_OK {
			w.T.Fatalf("refused: %v", v)
		}
	}
}

// Permit gives a consent with one provision.
func (p *Person) Permit(provision *pb.Provision) string {
	p.World.T.Helper()
	if provision.Effect == pb.Effect_EFFECT_UNSPECIFIED {
		provision.Effect = pb.Effect_EFFECT_PERMIT
	}
	id := p.World.ID()
	p.World.MustOK(p.World.One(p.Sign(Body(&pb.Consent{
		ConsentId: id, Patient: p.Address, Provisions: []*pb.Provision{provision},
	}))))
	return id
}

// Sealed is what the transient map holds: all that anybody sealed so far.
func (w *World) Sealed() *pb.SealedKeys {
	sealed := &pb.SealedKeys{}
	for _, at := range slices.SortedFunc(maps.Keys(w.sealed), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		sealed.Keys = append(sealed.Keys, &pb.SealedKey{Msp: at[0], Key: at[1], Sealed: w.sealed[at]})
	}
	return sealed
}

func (w *World) seal(msp, key string, value []byte) {
	if w.sealed == nil {
		w.sealed = map[[2]string][]byte{}
	}
	w.sealed[[2]string{msp, key}] = value
}

// Body wraps what is meant into a CommandBody.
func Body(meant any) *pb.CommandBody {
	switch b := meant.(type) {
	case *pb.RegisterIdentity:
		return &pb.CommandBody{Body: &pb.CommandBody_RegisterIdentity{RegisterIdentity: b}}
	case *pb.ReviewRegistration:
		return &pb.CommandBody{Body: &pb.CommandBody_ReviewRegistration{ReviewRegistration: b}}
	case *pb.SuspendIdentity:
		return &pb.CommandBody{Body: &pb.CommandBody_SuspendIdentity{SuspendIdentity: b}}
	case *pb.PutRecord:
		return &pb.CommandBody{Body: &pb.CommandBody_PutRecord{PutRecord: b}}
	case *pb.Consent:
		return &pb.CommandBody{Body: &pb.CommandBody_Consent{Consent: b}}
	case *pb.RevokeConsent:
		return &pb.CommandBody{Body: &pb.CommandBody_RevokeConsent{RevokeConsent: b}}
	case *pb.Access:
		return &pb.CommandBody{Body: &pb.CommandBody_Access{Access: b}}
	case *pb.BreakGlass:
		return &pb.CommandBody{Body: &pb.CommandBody_BreakGlass{BreakGlass: b}}
	case *pb.EmergencyAccess:
		return &pb.CommandBody{Body: &pb.CommandBody_EmergencyAccess{EmergencyAccess: b}}
	case *pb.ReviewBreakGlass:
		return &pb.CommandBody{Body: &pb.CommandBody_ReviewBreakGlass{ReviewBreakGlass: b}}
	case *pb.RevokeDelegation:
		return &pb.CommandBody{Body: &pb.CommandBody_RevokeDelegation{RevokeDelegation: b}}
	case *pb.SetPolicy:
		return &pb.CommandBody{Body: &pb.CommandBody_SetPolicy{SetPolicy: b}}
	}
	return &pb.CommandBody{}
}
