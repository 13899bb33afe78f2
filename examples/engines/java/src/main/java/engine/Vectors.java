package engine;

import cbmdhi.command.v1.AuditEntry;
import cbmdhi.command.v1.RecordVersion;
import cbmdhi.command.v1.SignedCommand;
import cbmdhi.ledger.v1.Evidence;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Set;

/** This client held to tests/vectors: signatures, a login, and each way in which a proof is none. */
final class Vectors {
  /** Without any of these too few endorsements count. */
  private static final Set<String> OF_ENDORSEMENTS =
      Set.of("peer-root", "peer-validity", "peer-unit", "endorsement-signature", "members");

  /** Throws Refused, naming the first that does not hold. */
  static void check(Path folder) throws Exception {
    var commands = read(folder, "commands.json").getAsJsonArray("commands");
    for (JsonElement element : commands) {
      var one = element.getAsJsonObject();
      byte[] key = hex(one, "public_key_spki_hex");
      boolean isValid = Keys.isSigned(key, hex(one, "signature_hex"), Keys.COMMAND, hex(one, "command_hex"));
      if (!Keys.addressOf(key).equals(text(one, "address")) || isValid != one.get("valid").getAsBoolean()) {
        throw new Refused("commands.json: " + text(one, "name"));
      }
    }
    var sessions = read(folder, "sessions.json");
    var login = sessions.getAsJsonObject("grpc_login");
    byte[] thumbprint = text(login, "certificate_x5t_s256").getBytes(StandardCharsets.US_ASCII);
    byte[] author = hex(sessions, "public_key_spki_hex");
    byte[] challenge = hex(sessions, "challenge_hex");
    if (!Keys.isSigned(author, hex(login, "signature_hex"), Keys.LOGIN, challenge, thumbprint)) {
      throw new Refused("sessions.json: grpc_login");
    }
    for (JsonElement element : login.getAsJsonArray("bad")) {
      var bad = element.getAsJsonObject();
      if (Keys.isSigned(author, hex(bad, "signature_hex"), Keys.LOGIN, challenge, thumbprint)) {
        throw new Refused("sessions.json: a login " + text(bad, "name"));
      }
    }
    var file = read(folder, "evidence.json");
    for (JsonElement element : file.getAsJsonArray("cases")) {
      var one = element.getAsJsonObject();
      boolean isValid = one.get("valid").getAsBoolean();
      String name = isValid ? "" : text(one, "check");
      String wanted = OF_ENDORSEMENTS.contains(name) ? "majority" : name;
      String failed = fails(file, one, isValid);
      if (!failed.equals(wanted)) {
        throw new Refused("evidence.json: " + text(one, "name") + ": " + failed);
      }
    }
    if (commands.isEmpty() || file.getAsJsonArray("cases").isEmpty()) {
      throw new Refused("no vectors in " + folder);
    }
    System.out.println("all vectors hold");
  }

  /** By which check; empty when all hold. */
  private static String fails(JsonObject file, JsonObject one, boolean isValid) throws Exception {
    var members = new ArrayList<Consortium.Member>();
    file.getAsJsonArray("members").forEach(each -> members.add(Consortium.JSON.fromJson(each, Consortium.Member.class)));
    var pinned = new Consortium(text(file, "channel"), text(file, "genesis_sha256_hex"), text(file, "chaincode"), members);
    var evidence = Evidence.newBuilder()
        .setEndorsedState(com.google.protobuf.ByteString.copyFrom(hex(one, "endorsed_state_hex")))
        .addAllCommands(signed(file, one, "commands_hex"))
        .addAllRegistrations(signed(file, one, "registrations_hex"))
        .build();
    boolean ofCommand = text(one, "asks").equals("command");
    try {
      var proof = new Proof(Proof.Trust.of(pinned), evidence);
      if (isValid || ofCommand) {
        var decided = proof.decided(text(file, "command_id"), text(file, "signer"));
        if (isValid) {
          Proof.check("author of the command", decided.author().equals(text(file, "author")));
          Proof.check("audit_entry_hex", decided.entry().equals(AuditEntry.parseFrom(hex(file, "audit_entry_hex"))));
        }
      }
      if (isValid || !ofCommand) {
        var found = proof.version(text(file, "record_id"), file.get("version").getAsInt(), text(file, "patient"));
        if (isValid) {
          Proof.check("author of the record", found.author().equals(text(file, "author")));
          Proof.check("record_hex", found.version().equals(RecordVersion.parseFrom(hex(file, "record_hex"))));
        }
      }
    } catch (NotProven error) {
      return error.check;
    }
    return "";
  }

  private static List<SignedCommand> signed(JsonObject file, JsonObject one, String name) throws IOException {
    var found = new ArrayList<SignedCommand>();
    for (JsonElement raw : (one.has(name) ? one : file).getAsJsonArray(name)) {
      found.add(SignedCommand.parseFrom(HexFormat.of().parseHex(raw.getAsString())));
    }
    return found;
  }

  private static JsonObject read(Path folder, String name) throws IOException {
    return Consortium.JSON.fromJson(Files.readString(folder.resolve(name)), JsonObject.class);
  }

  private static String text(JsonObject object, String name) {
    return object.get(name).getAsString();
  }

  private static byte[] hex(JsonObject object, String name) {
    return HexFormat.of().parseHex(text(object, name));
  }
}
