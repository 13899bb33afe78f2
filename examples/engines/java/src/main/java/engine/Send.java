package engine;

import cbmdhi.command.v1.AuditEntry;
import cbmdhi.command.v1.Code;
import cbmdhi.command.v1.CommandBody;
import cbmdhi.command.v1.CommandGroup;
import cbmdhi.command.v1.ErrorDetail;
import cbmdhi.command.v1.Outcome;
import cbmdhi.command.v1.PutRecord;
import cbmdhi.gateway.v1.Content;
import cbmdhi.gateway.v1.IngestItem;
import cbmdhi.gateway.v1.IngestRequest;
import cbmdhi.gateway.v1.IngestResponse;
import cbmdhi.gateway.v1.IngestResult;
import cbmdhi.gateway.v1.IngestServiceGrpc;
import com.google.protobuf.ByteString;
import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/** Records: signed, kept in an outbox, sent, proven. What has no certain answer is sent again as it was signed. */
final class Send {
  private static final int ATTEMPTS = 5;
  private static final int SEND_SECONDS = 60;

  // [start:send]
  /** Writes each file: signed, kept in the outbox, and only then sent. */
  static void send(Engine engine, String patient, String category, List<String> files) throws Exception {
    for (String file : files) {
      IngestItem item = prepare(engine, patient, category, Files.readAllBytes(Path.of(file)));
      Keys.write(engine.state.resolve("outbox").resolve(item.getSubmissionId()), item.toByteArray());
      deliver(engine);
    }
  }

  /** Signs a new record. On the channel there is a commitment to its content, and the content is not. */
  private static IngestItem prepare(Engine engine, String patient, String category, byte[] content) throws Exception {
    byte[] salt = Keys.random(32);
    var signed = Commands.command(engine, CommandBody.newBuilder()
        .setPutRecord(PutRecord.newBuilder()
            .setRecordId(Keys.uuid7())
            .setVersion(1)
            .setPatient(patient)
            .setCategory(category)
            .setContentCommitment(ByteString.copyFrom(Keys.sha256(salt, content)))
            .setContentBytes(content.length))
        .build());
    return IngestItem.newBuilder()
        .setSubmissionId(Commands.header(signed).getCommandId())
        .setGroup(CommandGroup.newBuilder().addCommands(signed))
        .addContents(Content.newBuilder().setContent(ByteString.copyFrom(content)).setSalt(ByteString.copyFrom(salt)))
        .build();
  }
  // [end:send]

  // [start:resend]
  /**
   * Sends what is in the outbox, as it was signed, until all of it has an answer. The command's id makes that
   * harmless: what was done before gets its first verdict again, and is not done twice.
   */
  static void deliver(Engine engine) throws Exception {
    String last = "";
    long askedMs = 0;
    for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
      Map<String, IngestItem> waiting = outbox(engine);
      if (waiting.isEmpty()) {
        return;
      }
      if (attempt > 0) {
        long pauseMs = (long) ((200L << attempt) * ThreadLocalRandom.current().nextDouble(0.5, 1.5));
        Thread.sleep(Math.max(pauseMs, askedMs));
      }
      try {
        stream(engine, waiting);
      } catch (StatusException | StatusRuntimeException error) {
        ErrorDetail detail = Engine.detailOf(error);
        last = detail.getCode() + " " + detail.getReason();
        askedMs = detail.getRetryAfterMs();
      if (detail.getCode() == Code.CODE_TOO_LARGE) {
        break; // the same once more is as large
      }
        if (detail.getCode() == Code.CODE_UNAUTHENTICATED) {
          engine.forgetToken();
        }
      }
    }
    int left = outbox(engine).size();
    if (left > 0) {
      throw new Unanswered(left + " commands have no answer yet, do what the code asks for: " + last);
    }
  }
  // [end:resend]

  // [start:stream]
  /** Opens one stream, sends everything in one message, and settles each result as it comes. */
  private static void stream(Engine engine, Map<String, IngestItem> waiting) throws Exception {
    var stream = IngestServiceGrpc.newBlockingV2Stub(engine.withToken())
        .withDeadlineAfter(SEND_SECONDS, TimeUnit.SECONDS)
        .ingest();
    waiting.keySet().forEach(id -> System.out.println("sent " + id));
    stream.write(IngestRequest.newBuilder().addAllItems(waiting.values()).build());
    stream.halfClose();
    for (IngestResponse response = stream.read(); response != null; response = stream.read()) {
      for (IngestResult result : response.getResultsList()) {
        IngestItem item = waiting.get(result.getSubmissionId());
        if (item != null) {
          settle(engine, item, result);
        }
      }
    }
  }
  // [end:stream]

  // [start:settle]
  /** Takes what was proven out of the outbox. What has no certain answer stays there, as it was signed. */
  private static void settle(Engine engine, IngestItem item, IngestResult result) throws Exception {
    var receipt = result.getReceiptsCount() == 1 ? result.getReceipts(0).getReceipt() : null;
    ErrorDetail told = receipt == null ? result.getError() : ErrorDetail.newBuilder()
        .setCode(receipt.getCode()).setReason(receipt.getReason()).setOutcome(receipt.getOutcome()).build();
    if (again(told)) {
      return;
    }
    Receipts.Proven proven;
    try {
      proven = Receipts.prove(engine, item.getGroup().getCommands(0));
    } catch (StatusRuntimeException error) {
      boolean isUnknown = Engine.detailOf(error).getCode() == Code.CODE_NOT_FOUND;
      if (!isUnknown || told.getOutcome() != Outcome.OUTCOME_NOT_DONE) {
        throw error;
      }
      refused(engine, item, told.getCode(), told.getReason());
      return;
    }
    AuditEntry entry = proven.entry();
    if (receipt == null || entry.getCode() != receipt.getCode() || !entry.getTxId().equals(receipt.getTxId())) {
      throw new NotProven("what the gateway says is not what the members' peers hold; ask another one");
    }
    if (proven.version() == null) {
      refused(engine, item, entry.getCode(), entry.getReason());
      return;
    }
    Receipts.holds(engine, proven.version());
    String said = receipt.getAlreadyCommitted() ? "proven-again" : "proven";
    System.out.println(String.join(" ", said, item.getSubmissionId(), entry.getTxId(),
        proven.version().getRecordId(), proven.version().getContent().getCid()));
    move(engine, item, "done");
  }

  /** It may have been done, or nothing was and the same may be sent once more. */
  private static boolean again(ErrorDetail told) {
    return switch (told.getOutcome()) {
      case OUTCOME_COMMITTED -> false;
      case OUTCOME_NOT_DONE -> switch (told.getCode()) {
        case CODE_RESOURCE_EXHAUSTED, CODE_UNAVAILABLE, CODE_DEADLINE_EXCEEDED, CODE_ENDORSEMENT_FAILED -> true;
        default -> false;
      };
      default -> true;
    };
  }

  /** A refusal is final; it is kept for whoever mends what was wrong, and the program ends with it. */
  private static void refused(Engine engine, IngestItem item, Code code, String reason) throws IOException {
    System.out.println(String.join(" ", "refused", item.getSubmissionId(), code.toString(), reason));
    move(engine, item, "refused");
    engine.refusals.add(code + " " + reason);
  }
  // [end:settle]

  /** What has no answer, by command id. */
  private static Map<String, IngestItem> outbox(Engine engine) throws IOException {
    var found = new TreeMap<String, IngestItem>();
    Path folder = engine.state.resolve("outbox");
    if (Files.exists(folder)) {
      try (var files = Files.newDirectoryStream(folder, file -> !file.toString().endsWith(".new"))) {
        for (Path file : files) {
          found.put(file.getFileName().toString(), IngestItem.parseFrom(Files.readAllBytes(file)));
        }
      }
    }
    return found;
  }

  /** Out of the outbox, as it is. */
  private static void move(Engine engine, IngestItem item, String to) throws IOException {
    Files.createDirectories(engine.state.resolve(to));
    String name = item.getSubmissionId();
    Files.move(engine.state.resolve("outbox").resolve(name), engine.state.resolve(to).resolve(name));
  }
}
