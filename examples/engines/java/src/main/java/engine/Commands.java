package engine;

import cbmdhi.command.v1.Command;
import cbmdhi.command.v1.CommandBody;
import cbmdhi.command.v1.SignedCommand;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import java.util.HexFormat;

/** Commands: signed by whoever means them, and never encoded anew by anybody. */
final class Commands {
  private static final long LIFETIME_MS = 300_000;

  // [start:command]
  /** Signs what a body means: for this channel and this beginning of it, from now for five minutes. */
  static SignedCommand command(Engine engine, CommandBody body) throws Exception {
    long now = System.currentTimeMillis();
    ByteString raw = Command.newBuilder()
        .setCommandId(Keys.uuid7())
        .setChannel(engine.consortium.channel())
        .setGenesisSha256(ByteString.copyFrom(HexFormat.of().parseHex(engine.consortium.genesisSha256())))
        .setIssuedAtMs(now)
        .setExpiresAtMs(now + LIFETIME_MS)
        .setBody(body.toByteString())
        .build()
        .toByteString();
    return SignedCommand.newBuilder()
        .setCommand(raw)
        .setSignature(ByteString.copyFrom(engine.keys.sign(Keys.COMMAND, raw.toByteArray())))
        .setSigner(engine.keys.address)
        .build();
  }
  // [end:command]

  static Command header(SignedCommand signed) throws InvalidProtocolBufferException {
    return Command.parseFrom(signed.getCommand());
  }

  static CommandBody body(SignedCommand signed) throws InvalidProtocolBufferException {
    return CommandBody.parseFrom(header(signed).getBody());
  }
}
