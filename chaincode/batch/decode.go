package batch

import (
	"crypto/sha256"

	"google.golang.org/protobuf/proto"

	pb "cbmdhi/chaincode/gen/commandv1"
	"cbmdhi/chaincode/signing"
	"cbmdhi/chaincode/state"
	"cbmdhi/chaincode/wire"
)

// Limits of one call and of what is in it. They are part of the contract with the services (state.proto).
const (
	MaxBatchBytes = 9 << 20
	MaxItems      = 1000
	// MaxCommands of all groups.
	MaxCommands = 4_000
	// MaxElements are messages and entries of lists in all items, their commands, bodies, delegations and contents.
	MaxElements = 128 << 10

	// MaxGroupCommands of any kind; a group of records alone has MaxGroupRecords, as a FHIR transaction does.
	MaxGroupCommands = 16
	MaxGroupRecords  = 128
	MaxCommandBytes  = 256 << 10
	// MaxBodyElements of one command: the largest consent has some 4,200.
	MaxBodyElements    = 8 << 10
	MaxDelegationBytes = 8 << 10
)

var (
	batchShape      = wire.ShapeOf((&pb.Batch{}).ProtoReflect().Descriptor())
	commandShape    = wire.ShapeOf((&pb.Command{}).ProtoReflect().Descriptor())
	bodyShape       = wire.ShapeOf((&pb.CommandBody{}).ProtoReflect().Descriptor())
	delegationShape = wire.ShapeOf((&pb.Delegation{}).ProtoReflect().Descriptor())
	sealedShape     = wire.ShapeOf((&pb.SealedKeys{}).ProtoReflect().Descriptor())
	queryShape      = wire.ShapeOf((&pb.Query{}).ProtoReflect().Descriptor())
)

// group is an item of the batch, decoded. checkForm completes it, and nothing changes it afterwards.
type group struct {
	commands []*decoded
	// Why the commands are not one group, so that none of them is processed. This and the reasons below are nil where
	// nothing is wrong.
	badMembership *refusal
	// Why one of the commands is refused by its form, and which.
	badForm *refusal
	culprit int
	// Why the carrier's statements about contents do not fit the group.
	badContents *refusal
}

// decoded is what a carrier sent as a command, and what can be said of it by itself.
type decoded struct {
	signed     *pb.SignedCommand
	header     *pb.Command
	body       *pb.CommandBody
	delegation *pb.Delegation
	handler    *handler
	sha256     [sha256.Size]byte
	auditKey   string
	// The carrier's statement about the content of a PutRecord. It is not signed by the command's signer.
	content *pb.StoredContent

	// Why the bytes do not decode. This and the reasons below are nil where nothing is wrong.
	badEncoding *refusal
	// Why its ids or its signer's address are not well-formed.
	badNames *refusal
	// Why the body's fields are not well-formed.
	badBody *refusal
	// Why the carrier's statement about the content is not well-formed.
	badContent *refusal
}

func (c *decoded) id() string { return c.header.GetCommandId() }

func decodeBatch(raw []byte) ([]*group, map[string]*contentSeal, *Failure) {
	if len(raw) > MaxBatchBytes {
		return nil, nil, fail(pb.Code_CODE_TOO_LARGE, "batch", "over %d bytes: send fewer items", MaxBatchBytes)
	}
	left := wire.NewBudget(MaxElements)
	if !left.Take(batchShape, raw) {
		return nil, nil, tooMuch
	}
	var batch pb.Batch
	if err := proto.Unmarshal(raw, &batch); err != nil {
		return nil, nil, fail(pb.Code_CODE_INVALID, "batch", "not a serialized Batch")
	}
	if len(batch.GetItems()) == 0 {
		return nil, nil, fail(pb.Code_CODE_INVALID, "batch", "no items")
	}
	if len(batch.GetItems()) > MaxItems {
		return nil, nil, fail(pb.Code_CODE_TOO_LARGE, "batch", "more than %d items", MaxItems)
	}
	commands := 0
	for _, item := range batch.GetItems() {
		commands += len(item.GetGroup().GetCommands())
	}
	if commands > MaxCommands {
		return nil, nil, fail(pb.Code_CODE_TOO_LARGE, "batch", "more than %d commands", MaxCommands)
	}
	groups := make([]*group, len(batch.GetItems()))
	for i, item := range batch.GetItems() {
		if groups[i] = decodeGroup(item, left); left.Exceeded() {
			return nil, nil, tooMuch
		}
	}
	seals, failure := decodeSeals(&batch)
	return groups, seals, failure
}

var tooMuch = fail(pb.Code_CODE_TOO_LARGE, "batch", "holds more than %d messages and entries of lists: send fewer items", MaxElements)

func decodeGroup(item *pb.BatchItem, left *wire.Budget) *group {
	signed := item.GetGroup().GetCommands()
	g := &group{commands: make([]*decoded, len(signed))}
	if len(signed) > MaxGroupRecords {
		for i := range signed {
			g.commands[i] = &decoded{}
		}
		g.badMembership = invalid("group", "more than %d commands", MaxGroupRecords)
		return g
	}
	for i := range signed {
		g.commands[i] = decodeCommand(signed[i], left)
	}
	if g.badMembership = checkMembership(g.commands); g.badMembership == nil {
		g.badMembership = checkCount(g.commands)
	}
	g.badContents = assignContents(g.commands, item.GetContents())
	for _, c := range g.commands {
		if c.body.GetPutRecord() != nil {
			c.badContent = checkContent(c.content)
		}
	}
	return g
}

func decodeCommand(signed *pb.SignedCommand, left *wire.Budget) *decoded {
	c := &decoded{signed: signed, sha256: sha256.Sum256(signed.GetCommand())}
	if c.badEncoding = c.decode(left); c.badEncoding != nil {
		return c
	}
	c.badNames = c.checkNames()
	c.auditKey = state.AuditKey(c.id(), signed.GetSigner())
	c.badBody = c.handler.check(c)
	return c
}

func (c *decoded) decode(left *wire.Budget) *refusal {
	// The envelope is not signed, but that of a registration is kept. So it may hold nothing that this version does not know.
	if !wire.AllKnown(c.signed.ProtoReflect()) {
		return invalid("", "not a SignedCommand of this version")
	}
	if len(c.signed.GetCommand()) > MaxCommandBytes {
		return tooLarge("command", "over %d bytes", MaxCommandBytes)
	}
	if !left.Take(commandShape, c.signed.GetCommand()) {
		return tooLarge("command", "holds too many entries")
	}
	var header pb.Command
	if !wire.Strict(c.signed.GetCommand(), &header) {
		return invalid("command", "not a serialized Command of this version")
	}
	c.header = &header
	if bodyShape.Count(header.GetBody(), MaxBodyElements) > MaxBodyElements || !left.Take(bodyShape, header.GetBody()) {
		return tooLarge("body", "holds more than %d messages and entries of lists", MaxBodyElements)
	}
	var body pb.CommandBody
	if !wire.Strict(header.GetBody(), &body) {
		return invalid("body", "not a serialized CommandBody of this version")
	}
	c.body = &body
	if c.handler = handlerOf(&body); c.handler == nil {
		return invalid("body", "no body is set")
	}
	if signed := c.signed.GetDelegation(); signed != nil {
		if len(signed.GetDelegation()) > MaxDelegationBytes {
			return tooLarge("delegation", "over %d bytes", MaxDelegationBytes)
		}
		if !left.Take(delegationShape, signed.GetDelegation()) {
			return tooLarge("delegation", "holds too many entries")
		}
		var delegation pb.Delegation
		if !wire.Strict(signed.GetDelegation(), &delegation) {
			return invalid("delegation", "not a serialized Delegation of this version")
		}
		c.delegation = &delegation
	} else if len(header.GetDelegationSha256()) > 0 {
		return invalid("delegation", "the command names a delegation that is not beside it")
	}
	return nil
}

func (c *decoded) checkNames() *refusal {
	isEmergency := c.body.GetEmergencyAccess() != nil
	switch {
	case isEmergency && !signing.NamesItself(c.signed.GetSigner(), c.signed.GetCommand()):
		return invalid("command_id", "an emergency's id follows from what is signed, and this one does not: sign it anew")
	case !isEmergency && !isUUIDv7(c.id()):
		return invalid("command_id", "not a UUIDv7 in canonical lower-case text")
	case c.header.GetGroup() != nil && !isUUIDv7(c.header.GetGroup().GetGroupId()):
		return invalid("group.group_id", "not a UUIDv7 in canonical lower-case text")
	case !isAddress(c.signed.GetSigner()):
		return invalid("signer", "not an address")
	}
	return nil
}

// assignContents gives each PutRecord the carrier's statement about its content. A missing one is found with the record;
// one too many is a fault of the item.
func assignContents(commands []*decoded, contents []*pb.StoredContent) *refusal {
	for _, content := range contents {
		i := int(content.GetCommandIndex())
		if i >= len(commands) || commands[i].body.GetPutRecord() == nil || commands[i].content != nil {
			return invalid("contents", "each content belongs to one PutRecord of the group, by its index")
		}
		commands[i].content = content
	}
	return nil
}
