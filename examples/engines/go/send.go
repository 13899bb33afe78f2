package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	commandv1 "cbmdhi.internal/protos/command/v1"
	gatewayv1 "cbmdhi.internal/protos/gateway/v1"
)

const (
	attempts    = 5
	sendSeconds = 60
)

// [start:send]
// send writes each file: signed, kept in the outbox, and only then sent.
func (e *Engine) send(ctx context.Context, patient, category string, files []string) error {
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		item, err := e.prepare(patient, category, content)
		if err != nil {
			return err
		}
		raw, err := proto.Marshal(item)
		if err != nil {
			return err
		}
		if err := e.keep("outbox", item.GetSubmissionId(), raw); err != nil {
			return err
		}
		if err := e.deliver(ctx); err != nil {
			return err
		}
	}
	return nil
}

// prepare signs a new record. On the channel there is a commitment to its content, and the content is not.
func (e *Engine) prepare(patient, category string, content []byte) (*gatewayv1.IngestItem, error) {
	salt := make([]byte, 32)
	rand.Read(salt)
	commitment := sha256.Sum256(slices.Concat(salt, content))
	signed, err := e.command(&commandv1.CommandBody{Body: &commandv1.CommandBody_PutRecord{PutRecord: &commandv1.PutRecord{
		RecordId: uuid7(), Version: 1, Patient: patient, Category: category,
		ContentCommitment: commitment[:], ContentBytes: uint64(len(content)),
	}}})
	if err != nil {
		return nil, err
	}
	command, _, err := parse(signed)
	return &gatewayv1.IngestItem{
		SubmissionId: command.GetCommandId(),
		Group:        &commandv1.CommandGroup{Commands: []*commandv1.SignedCommand{signed}},
		Contents:     []*gatewayv1.Content{{CommandIndex: 0, Content: content, Salt: salt}},
	}, err
}

// [end:send]

// [start:resend]
// deliver sends what is in the outbox, as it was signed, until all of it has an answer. The command's id makes that
// harmless: what was done before gets its first verdict again, and is not done twice.
func (e *Engine) deliver(ctx context.Context) error {
	if err := e.connect(); err != nil {
		return err
	}
	var last error
	for attempt := range attempts {
		waiting, err := e.waiting()
		if err != nil || len(waiting) == 0 {
			return err
		}
		if attempt > 0 {
			wait := 200 * time.Millisecond << attempt
			asked := time.Duration(detailOf(last).GetRetryAfterMs()) * time.Millisecond
			time.Sleep(max(wait/2+mathrand.N(wait), asked))
		}
		last = e.stream(ctx, waiting)
		switch code := detailOf(last).GetCode(); {
		case last != nil && code == commandv1.Code_CODE_UNAUTHENTICATED:
			e.forgetToken()
		case last != nil && code == commandv1.Code_CODE_TOO_LARGE:
			return e.left(last) // the same once more is as large
		}
		var notProven failed
		if errors.As(last, &notProven) {
			return last
		}
	}
	return e.left(last)
}

// left in the outbox: nobody could say yet what became of it.
func (e *Engine) left(last error) error {
	waiting, err := e.waiting()
	if err != nil || len(waiting) == 0 {
		return err
	}
	return unanswered(fmt.Sprintf("%d commands have no answer yet, do what the code asks for: %s", len(waiting), said(last)))
}

// [end:resend]

// [start:stream]
// stream opens one stream, sends everything in one message, and settles each result as it comes.
func (e *Engine) stream(ctx context.Context, waiting map[string]*gatewayv1.IngestItem) error {
	ctx, cancel := context.WithTimeout(ctx, sendSeconds*time.Second)
	defer cancel()
	withToken, err := e.withToken(ctx)
	if err != nil {
		return err
	}
	stream, err := gatewayv1.NewIngestServiceClient(e.gateway).Ingest(withToken)
	if err != nil {
		return err
	}
	request := &gatewayv1.IngestRequest{}
	for id, item := range waiting {
		request.Items = append(request.Items, item)
		fmt.Println("sent", id)
	}
	if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, result := range response.GetResults() {
			if item := waiting[result.GetSubmissionId()]; item != nil {
				if err := e.settle(ctx, item, result); err != nil {
					return err
				}
			}
		}
	}
}

// [end:stream]

// [start:settle]
// settle takes what was proven out of the outbox. What has no certain answer stays there, as it was signed.
func (e *Engine) settle(ctx context.Context, item *gatewayv1.IngestItem, result *gatewayv1.IngestResult) error {
	told := result.GetError()
	receipt := &gatewayv1.RecordReceipt{}
	if told == nil {
		if len(result.GetReceipts()) != 1 {
			return failed("not one receipt")
		}
		receipt = result.GetReceipts()[0]
		said := receipt.GetReceipt()
		told = &commandv1.ErrorDetail{Code: said.GetCode(), Reason: said.GetReason(), Outcome: said.GetOutcome()}
	}
	if again(told) {
		return nil
	}
	entry, version, err := e.prove(ctx, item.GetGroup().GetCommands()[0])
	switch {
	case err != nil && told.GetOutcome() == commandv1.Outcome_OUTCOME_NOT_DONE && detailOf(err).GetCode() == commandv1.Code_CODE_NOT_FOUND:
		return e.refused(item, told.GetCode(), told.GetReason())
	case err != nil:
		return err
	case entry.GetCode() != told.GetCode() || receipt.GetReceipt().GetTxId() != entry.GetTxId():
		return failed(fmt.Sprintf("it says %v and the members' peers hold %v", told.GetCode(), entry.GetCode()))
	case entry.GetCode() != commandv1.Code_CODE_OK:
		return e.refused(item, entry.GetCode(), entry.GetReason())
	}
	if err := e.holds(ctx, version); err != nil {
		return err
	}
	done := map[bool]string{true: "proven-again", false: "proven"}[receipt.GetReceipt().GetAlreadyCommitted()]
	fmt.Println(done, item.GetSubmissionId(), entry.GetTxId(), version.GetRecordId(), version.GetContent().GetCid())
	return e.move(item.GetSubmissionId(), "done")
}

// again: it may have been done, or nothing was and the same may be sent once more.
func again(told *commandv1.ErrorDetail) bool {
	switch told.GetOutcome() {
	case commandv1.Outcome_OUTCOME_COMMITTED:
		return false
	case commandv1.Outcome_OUTCOME_NOT_DONE:
		return slices.Contains([]commandv1.Code{
			commandv1.Code_CODE_RESOURCE_EXHAUSTED, commandv1.Code_CODE_UNAVAILABLE,
			commandv1.Code_CODE_DEADLINE_EXCEEDED, commandv1.Code_CODE_ENDORSEMENT_FAILED,
		}, told.GetCode())
	default:
		return true
	}
}

// refused: that is final. It is kept for whoever mends what was wrong, and the program ends with it.
func (e *Engine) refused(item *gatewayv1.IngestItem, code commandv1.Code, reason string) error {
	fmt.Println("refused", item.GetSubmissionId(), code, reason)
	e.refusals = append(e.refusals, fmt.Sprint(code, " ", reason))
	return e.move(item.GetSubmissionId(), "refused")
}

// [end:settle]

// [start:receipt]
// prove has the members' peers say what became of a command, by the certificate alone. Of a record that was written also
// which version it is; otherwise that is nil.
func (e *Engine) prove(ctx context.Context, signed *commandv1.SignedCommand) (*commandv1.AuditEntry, *commandv1.RecordVersion, error) {
	ctx, cancel := context.WithTimeout(ctx, callSeconds*time.Second)
	defer cancel()
	command, body, err := parse(signed)
	if err != nil {
		return nil, nil, err
	}
	given, err := gatewayv1.NewRecordServiceClient(e.gateway).GetProof(ctx, &gatewayv1.GetProofRequest{
		CommandId: command.GetCommandId(), Signer: e.address,
	})
	if err != nil {
		return nil, nil, err
	}
	proof, err := e.trust().open(given.GetEvidence())
	if err != nil {
		return nil, nil, err
	}
	proof.keys[e.address] = e.publicKey // one's own key needs nobody's word
	entry, decided, _, err := proof.decided(command.GetCommandId(), e.address)
	if err != nil {
		return nil, nil, err
	}
	if string(decided.GetCommand()) != string(signed.GetCommand()) {
		return nil, nil, failed("another command is committed under this id")
	}
	put := body.GetPutRecord()
	if put == nil || entry.GetCode() != commandv1.Code_CODE_OK {
		return entry, nil, nil
	}
	version, _, err := proof.version(put.GetRecordId(), put.GetVersion(), put.GetPatient())
	return entry, version, err
}

// holds: the stored block has the CID that is proven.
func (e *Engine) holds(ctx context.Context, version *commandv1.RecordVersion) error {
	withToken, err := e.withToken(ctx)
	if err != nil {
		return err
	}
	cid := version.GetContent().GetCid()
	given, err := gatewayv1.NewRecordServiceClient(e.gateway).GetBlob(withToken, &gatewayv1.GetBlobRequest{Cid: cid})
	if err != nil {
		return err
	}
	if cidOf(given.GetBlob()) != cid {
		return failed("root-cid")
	}
	return nil
}

// cidOf a block: CIDv1, raw, SHA-256, base32.
func cidOf(block []byte) string {
	digest := sha256.Sum256(block)
	return "b" + base32Lower.EncodeToString(append([]byte{1, 0x55, 0x12, 0x20}, digest[:]...))
}

// [end:receipt]

// waiting is what the outbox holds, by command id.
func (e *Engine) waiting() (map[string]*gatewayv1.IngestItem, error) {
	files, err := filepath.Glob(filepath.Join(e.state, "outbox", "*"))
	if err != nil {
		return nil, err
	}
	found := map[string]*gatewayv1.IngestItem{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		item := &gatewayv1.IngestItem{}
		if err := proto.Unmarshal(raw, item); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		found[item.GetSubmissionId()] = item
	}
	return found, nil
}

func (e *Engine) keep(folder, name string, raw []byte) error {
	if err := os.MkdirAll(filepath.Join(e.state, folder), 0o700); err != nil {
		return err
	}
	whole := filepath.Join(e.state, folder, name)
	if err := os.WriteFile(filepath.Join(e.state, name+".new"), raw, 0o600); err != nil {
		return err
	}
	return os.Rename(filepath.Join(e.state, name+".new"), whole)
}

func (e *Engine) move(name, to string) error {
	if err := os.MkdirAll(filepath.Join(e.state, to), 0o700); err != nil {
		return err
	}
	return os.Rename(filepath.Join(e.state, "outbox", name), filepath.Join(e.state, to, name))
}
