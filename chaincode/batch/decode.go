package batch

import (
	"crypto/sha256"
	"slices"

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

	MaxGroupCommands = 16
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

// group is a decoded item of the batch.
type group struct {
	commands []*command
	// Why the whole group is malformed, decided without the state; nil when it is not.
	malformed *refusal
	// Why one of its commands is refused by its form, and which.
	misformed *refusal
	culprit   int
	// Why the carrier's statements about contents do not fit the group.
	contents *refusal
}

// command is a decoded command, and what becomes known about it on the way.
type command struct {
	signed     *pb.SignedCommand
	header     *pb.Command
	body       *pb.CommandBody
	delegation *pb.Delegation
	family     *family
	sha256     [sha256.Size]byte
	content    *pb.StoredContent
	// MSP id of the member whose services carry it.
	carrier string

	// Why the bytes do not decode.
	undecodable *refusal
	// Its family's keys are read: it can come to be applied.
	planned bool
	// Why its ids or its signer's address are not well-formed.
	misnamed *refusal
	// Why the body's fields are not well-formed.
	misstated *refusal
	// Why the enrolment certificate of a registration does not stand for what it asks for.
	miscertified *refusal
	// Why the carrier's statement about a PutRecord's content is not well-formed.
	misstored *refusal

	// The audit entry in the making, and the key of its place.
	auditKey string
	entry    *pb.AuditEntry
	// The identity on whose authority it is decided: the signer, or the delegator behind it.
	actor     *pb.IdentityDocument
	delegated bool
	// The entry of the same command, when it was committed before.
	first *pb.AuditEntry
}

func (c *command) id() string { return c.header.GetCommandId() }

func decodeBatch(raw []byte) ([]*group, map[string]*sealing, *Failure) {
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
	g := &group{commands: make([]*command, len(signed))}
	if len(signed) > MaxGroupCommands {
		for i := range signed {
			g.commands[i] = &command{}
		}
		g.malformed = invalid("group", "more than %d commands", MaxGroupCommands)
		return g
	}
	for i := range signed {
		g.commands[i] = decodeCommand(signed[i], left)
	}
	g.malformed = checkMembership(g.commands)
	g.contents = assignContents(g.commands, item.GetContents())
	for _, c := range g.commands {
		if c.body.GetPutRecord() != nil {
			c.misstored = checkContent(c.content)
		}
	}
	return g
}

func decodeCommand(signed *pb.SignedCommand, left *wire.Budget) *command {
	c := &command{signed: signed, sha256: sha256.Sum256(signed.GetCommand())}
	if c.undecodable = c.decode(left); c.undecodable != nil {
		return c
	}
	c.misnamed = c.checkNames()
	c.auditKey = state.AuditKey(c.id(), signed.GetSigner())
	c.misstated = c.describe()
	return c
}

// describe begins the audit entry with what the body says.
func (c *command) describe() *refusal {
	c.entry = &pb.AuditEntry{CommandId: c.id(), Signer: c.signed.GetSigner(), CommandSha256: c.sha256[:]}
	return c.family.describe(c)
}

// forget takes out of the entry what the command's application has put in: it was not done.
func (c *command) forget() {
	done := c.entry
	c.describe()
	c.entry.SignerRole, c.entry.SignerMsp, c.entry.OnBehalfOf = done.GetSignerRole(), done.GetSignerMsp(), done.GetOnBehalfOf()
}

func (c *command) decode(left *wire.Budget) *refusal {
	// Unsigned, but a registration is kept with its envelope: nothing may ride along into the state.
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
	if c.family = familyOf(&body); c.family == nil {
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

func (c *command) checkNames() *refusal {
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

// assignContents gives each PutRecord the carrier's statement about its content. One that is missing
// is the record's own fault and found there; one too many is the item's.
func assignContents(commands []*command, contents []*pb.StoredContent) *refusal {
	for _, content := range contents {
		i := int(content.GetCommandIndex())
		if i >= len(commands) || commands[i].body.GetPutRecord() == nil || commands[i].content != nil {
			return invalid("contents", "each content belongs to one PutRecord of the group, by its index")
		}
		commands[i].content = content
	}
	return nil
}

// checkForm finds the first of a group's commands that is refused by its form.
func (g *group) checkForm(call Call) {
	for i, c := range g.commands {
		if g.misformed == nil {
			g.culprit, g.misformed = i, call.checkForm(c)
		}
	}
}

// plan lists, sorted, every state key that any command of the batch could need, and tells whether
// the number of members matters. Nothing is read for what is refused whatever the state.
func plan(call Call, groups []*group) (keys []string, wantsMembers bool) {
	wanted := map[string]struct{}{state.PolicyKey: {}, call.witnessKey(): {}}
	need := func(key string) { wanted[key] = struct{}{} }
	for _, key := range callKeys(call) {
		need(key)
	}
	for _, g := range groups {
		if g.malformed != nil {
			continue
		}
		if g.checkForm(call); g.misformed != nil {
			continue
		}
		for _, c := range g.commands {
			need(c.auditKey)
			need(state.IdentityKey(c.signed.GetSigner()))
			if checkEnd(c.header, call.TimeMs, c.period()) != nil {
				continue // It was committed before, or it is refused.
			}
			if d := c.delegation; isAddress(d.GetDelegator()) && isUUIDv7(d.GetDelegationId()) {
				need(state.IdentityKey(d.GetDelegator()))
				need(state.RevokedDelegationKey(d.GetDelegationId(), d.GetDelegator()))
			}
			c.carrier = call.CreatorMSP
			if c.misstated == nil {
				c.planned = true
				c.family.reads(c, need)
				wantsMembers = wantsMembers || c.family.wantsMembers
			}
		}
	}
	keys = make([]string, 0, len(wanted))
	for key := range wanted {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys, wantsMembers
}
