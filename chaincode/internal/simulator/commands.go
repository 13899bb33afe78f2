package simulator

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base32"
	"encoding/hex"
	"math/big"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/signing"
	"cbmdhi/chaincode/state"
)

// Change alters a command before it is signed.
type Change func(*pb.Command)

// Sign makes a signed command of a body.
func (p *Person) Sign(body *pb.CommandBody, changes ...Change) *pb.SignedCommand {
	return p.SignHeader(p.Header(body, changes...))
}

// Header is a fresh command, not yet signed. A consent follows those that the patient has now.
func (p *Person) Header(body *pb.CommandBody, changes ...Change) *pb.Command {
	w := p.World
	body = w.follow(body, "")
	header := &pb.Command{
		CommandId: w.ID(), Channel: Channel, IssuedAtMs: w.Now.UnixMilli(),
		ExpiresAtMs: w.Now.UnixMilli() + 5*60*1000, Body: Marshal(w.T, body), GenesisSha256: w.GenesisSHA256[:],
	}
	for _, change := range changes {
		change(header)
	}
	if body.GetEmergencyAccess() != nil {
		p.nameByContent(header)
	}
	return header
}

// nameByContent gives an emergency the id that follows from the rest.
func (p *Person) nameByContent(header *pb.Command) {
	header.CommandId = ""
	header.CommandId = signing.EmergencyID(p.Address, Marshal(p.World.T, header))
}

// SignHeader signs a command as it stands.
func (p *Person) SignHeader(header *pb.Command) *pb.SignedCommand {
	raw := Marshal(p.World.T, header)
	return &pb.SignedCommand{Command: raw, Signature: p.SignBytes(signing.CommandPrefix, raw), Signer: p.Address}
}

// SignBytes signs with low s.
func (p *Person) SignBytes(prefix string, message []byte) []byte {
	digest := sha256.Sum256(append([]byte(prefix), message...))
	r, s, err := ecdsa.Sign(rand.Reader, p.Key, digest[:])
	if err != nil {
		p.World.T.Fatalf("sign: %v", err)
	}
	order := elliptic.P256().Params().N
	if s.Cmp(new(big.Int).Rsh(order, 1)) > 0 {
		s = new(big.Int).Sub(order, s)
	}
	return encode(p.World.T, r, s)
}

// HighS is the same signature with its other, high s.
func HighS(t T, signature []byte) []byte {
	var pair struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(signature, &pair); err != nil {
		t.Fatalf("signature: %v", err)
	}
	return encode(t, pair.R, new(big.Int).Sub(elliptic.P256().Params().N, pair.S))
}

func encode(t T, r, s *big.Int) []byte {
	der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
	if err != nil {
		t.Fatalf("signature: %v", err)
	}
	return der
}

// Part is one command of a group and who signs it.
type Part struct {
	By   *Person
	Body *pb.CommandBody
}

// Group signs commands that stand or fall together.
func (w *World) Group(parts ...Part) []*pb.SignedCommand {
	headers := w.GroupHeaders(parts...)
	signed := make([]*pb.SignedCommand, len(parts))
	for i, part := range parts {
		signed[i] = part.By.SignHeader(headers[i])
	}
	return signed
}

// GroupHeaders are the group's commands before they are signed.
func (w *World) GroupHeaders(parts ...Part) []*pb.Command {
	meant, members, ids := make([]*pb.CommandBody, len(parts)), make([]signing.Part, len(parts)), make([]string, len(parts))
	changedBy := map[string]string{}
	for i, part := range parts {
		meant[i], ids[i] = part.Body, w.ID()
		if change := consentChange(part.Body); change != nil {
			meant[i] = w.follow(part.Body, changedBy[change.GetPatient()])
			changedBy[change.GetPatient()] = ids[i]
		}
		members[i] = signing.Part{Body: Marshal(w.T, meant[i]), Signer: part.By.Address}
	}
	id, digest := w.ID(), signing.MembersSHA256(members)
	headers := make([]*pb.Command, len(parts))
	for i, part := range parts {
		headers[i] = part.By.Header(meant[i], func(c *pb.Command) {
			c.CommandId = ids[i]
			c.Group = &pb.GroupMembership{GroupId: id, Size: uint32(len(parts)), Index: uint32(i), MembersSha256: digest}
		})
	}
	return headers
}

// consentChange is the body when it changes a patient's consents, else nil.
func consentChange(body *pb.CommandBody) interface {
	GetPatient() string
	GetFollows() string
} {
	if consent := body.GetConsent(); consent != nil {
		return consent
	}
	if revoke := body.GetRevokeConsent(); revoke != nil {
		return revoke
	}
	return nil
}

// follow lets a consent that names nothing follow the command `before` of its group, or what the channel holds.
func (w *World) follow(body *pb.CommandBody, before string) *pb.CommandBody {
	change := consentChange(body)
	if change == nil || change.GetFollows() != "" {
		return body
	}
	if before == "" {
		document := &pb.ConsentDocument{}
		w.Document(state.ConsentKey(change.GetPatient()), document)
		before = document.GetChangedBy()
	}
	body = proto.CloneOf(body)
	if consent := body.GetConsent(); consent != nil {
		consent.Follows = before
	} else {
		body.GetRevokeConsent().Follows = before
	}
	return body
}

// Delegation that lets a device read and write for a person, for treatment.
func (p *Person) Delegation(device *Person) *pb.Delegation {
	w := p.World
	return &pb.Delegation{
		DelegationId: w.ID(), Channel: Channel, Delegator: p.Address, Delegate: device.Address,
		Actions: []string{"read", "search", "write"}, Purposes: []string{"TREAT", "PATRQT"},
		IssuedAtMs: w.Now.UnixMilli(), ExpiresAtMs: w.Now.UnixMilli() + 60*60*1000, GenesisSha256: w.GenesisSHA256[:],
	}
}

// Within puts a delegation of p beside a command, which its signer signs anew since it names the delegation.
func (p *Person) Within(d *pb.Delegation, command *pb.SignedCommand) *pb.SignedCommand {
	raw := Marshal(p.World.T, d)
	var header pb.Command
	if err := proto.Unmarshal(command.GetCommand(), &header); err != nil {
		p.World.T.Fatalf("command: %v", err)
	}
	digest := sha256.Sum256(raw)
	header.DelegationSha256 = digest[:]
	signer := p.World.people[command.GetSigner()]
	if signing.IsEmergencyID(header.GetCommandId()) {
		signer.nameByContent(&header)
	}
	signed := signer.SignHeader(&header)
	signed.Delegation = &pb.SignedDelegation{Delegation: raw, Signature: p.SignBytes(signing.DelegationPrefix, raw)}
	return signed
}

// CID of some bytes, as the storage makes it.
func CID(content string) string {
	digest := sha256.Sum256([]byte(content))
	raw := append([]byte{1, 0x55, 0x12, 32}, digest[:]...)
	return "b" + base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding).EncodeToString(raw)
}

func uuidOf(digest [sha256.Size]byte) string {
	h := hex.EncodeToString(digest[:16])
	return h[:8] + "-" + h[8:12] + "-7" + h[13:16] + "-8" + h[17:20] + "-" + h[20:32]
}
