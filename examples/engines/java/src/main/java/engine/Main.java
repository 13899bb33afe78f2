package engine;

import io.grpc.StatusException;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * An integration engine that speaks to a member's gateway over gRPC: its keys, its registration, its session, signed
 * records, and receipts that it checks. It uses the generated messages and none of CBMDHI's own code.
 */
final class Main {
  private static final String USAGE = """
      engine keys STATE CONSORTIUM MEMBER             make keys, print the address that an administrator invites
      engine join STATE SECRET                        enrol, register, wait until the administrators approve
      engine send STATE PATIENT CATEGORY FILE...      write each FILE (a FHIR R4 resource in JSON) into the patient's chart
      engine resend STATE                             send again, as it was signed, what has no answer yet
      engine check-vectors FOLDER                     check this client by tests/vectors

      --renew-before SECONDS                          renew the session when it ends so soon (30)

      It ends with 0 when all is done and proven, 1 when something was refused or could not be done, 2 when it was
      called otherwise than here, 3 when something was sent and has no certain answer yet.
      """;

  private static final String CODES = "docs/integrate/error-codes.md";

  public static void main(String[] args) {
    int code = 0;
    try {
      code = run(new ArrayList<>(List.of(args)));
    } catch (StatusException | StatusRuntimeException error) {
      var detail = Engine.detailOf(error);
      System.err.println(detail.getCode() + " " + detail.getReason());
      code = 1;
    } catch (Unanswered error) {
      System.err.println(error.getMessage());
      code = 3;
    } catch (Exception error) {
      System.err.println(error.getMessage());
      code = 1;
    }
    System.exit(code);
  }

  private static int run(List<String> words) throws Exception {
    int renewBefore = 30;
    if (words.size() > 1 && words.get(0).equals("--renew-before")) {
      renewBefore = Integer.parseInt(words.get(1));
      words = words.subList(2, words.size());
    }
    String asked = words.isEmpty() ? "" : words.get(0) + " " + Math.min(words.size(), 5);
    switch (asked) {
      case "keys 4" -> Keys.make(Path.of(words.get(1)), Path.of(words.get(2)), words.get(3));
      case "check-vectors 2" -> Vectors.check(Path.of(words.get(1)));
      case "join 3", "send 5", "resend 2" -> {
        try (Engine engine = new Engine(Path.of(words.get(1)), renewBefore)) {
          switch (words.get(0)) {
            case "join" -> Join.join(engine, words.get(2));
            case "send" -> Send.send(engine, words.get(2), words.get(3), words.subList(4, words.size()));
            default -> Send.deliver(engine);
          }
          return end(engine);
        }
      }
      default -> {
        System.err.print(USAGE);
        return 2;
      }
    }
    return 0;
  }

  /** 0, or 1 when records were refused: which, and what to do about it. */
  private static int end(Engine engine) {
    engine.refusals.forEach(why -> System.err.println("refused: " + why));
    if (engine.refusals.isEmpty()) {
      return 0;
    }
    System.err.println("What each code asks you to do: " + CODES + ". What was signed is kept in "
        + engine.state.resolve("refused"));
    return 1;
  }
}
