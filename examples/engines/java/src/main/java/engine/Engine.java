package engine;

import com.google.gson.Gson;
import com.google.gson.JsonObject;
import cbmdhi.command.v1.Code;
import cbmdhi.command.v1.ErrorDetail;
import cbmdhi.command.v1.Outcome;
import cbmdhi.identity.v1.ChallengeRequest;
import cbmdhi.identity.v1.LoginRequest;
import cbmdhi.identity.v1.LoginResponse;
import cbmdhi.identity.v1.SessionServiceGrpc;
import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.Grpc;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.TlsChannelCredentials;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.MetadataUtils;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;
import java.util.concurrent.TimeUnit;

/** One identity at one member's gateway: two connections, a login by signature, a token that is renewed in time. */
final class Engine implements AutoCloseable {
  static final int CALL_SECONDS = 30;
  private static final int LARGEST_ANSWER = 17 << 20;
  private static final Metadata.Key<String> AUTHORIZATION =
      Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

  final Path state;
  final Keys keys;
  final Consortium consortium;
  final Consortium.Member member;
  final ManagedChannel firstContact;
  final List<String> refusals = new ArrayList<>();
  private final int renewBeforeSeconds;
  private ManagedChannel gateway;

  Engine(Path state, int renewBeforeSeconds) throws Exception {
    this.state = state;
    this.renewBeforeSeconds = renewBeforeSeconds;
    keys = new Keys(state);
    consortium = Consortium.read(state.resolve("consortium.json"));
    member = consortium.member(Files.readString(state.resolve("member")));
    firstContact = channel(member.gateway().firstContact(), TlsChannelCredentials.newBuilder());
  }

  /** The connection that shows the certificate which the member's Fabric CA gave for the engine's key. */
  ManagedChannel gateway() throws IOException {
    if (gateway == null) {
      var credentials = TlsChannelCredentials.newBuilder()
          .keyManager(Files.newInputStream(certificateFile()), Files.newInputStream(state.resolve("key.pem")));
      gateway = channel(member.gateway().grpc(), credentials);
    }
    return gateway;
  }

  /** The server's certificate is for `gateway.MEMBER`, whatever the host is called. */
  private ManagedChannel channel(String address, TlsChannelCredentials.Builder credentials) throws IOException {
    var roots = new ByteArrayInputStream(member.tlsCaPem().getBytes(StandardCharsets.UTF_8));
    return Grpc.newChannelBuilder(address, credentials.trustManager(roots).build())
        .overrideAuthority("gateway." + member.name())
        .maxInboundMessageSize(LARGEST_ANSWER)
        .disableRetry()
        .build();
  }

  Path certificateFile() throws Refused {
    Path file = state.resolve("certificate.pem");
    if (!Files.exists(file)) {
      throw new Refused("this engine is not enrolled yet: join first");
    }
    return file;
  }

  // [start:login]
  /** Shows that the engine holds the registered key. The token is bound to the connection's certificate. */
  LoginResponse login() throws Exception {
    byte[] certificate = Keys.certificates(Files.readString(certificateFile())).get(0).getEncoded();
    String thumbprint = Base64.getUrlEncoder().withoutPadding().encodeToString(Keys.sha256(certificate));
    var sessions = SessionServiceGrpc.newBlockingStub(firstContact).withDeadlineAfter(CALL_SECONDS, TimeUnit.SECONDS);
    var asked = ChallengeRequest.newBuilder().setAddress(keys.address).build();
    ByteString challenge = sessions.challenge(asked).getChallenge();
    byte[] signature = keys.sign(Keys.LOGIN, challenge.toByteArray(), thumbprint.getBytes(StandardCharsets.US_ASCII));
    return sessions.login(LoginRequest.newBuilder()
        .setAddress(keys.address)
        .setChallenge(challenge)
        .setSignature(ByteString.copyFrom(signature))
        .setCertificateX5TS256(thumbprint)
        .build());
  }
  // [end:login]

  // [start:renewal]
  /** The gateway with a token that has some life left: the one of before, or a new one. */
  Channel withToken() throws Exception {
    Path file = state.resolve("session.json");
    var session = Files.exists(file) ? new Gson().fromJson(Files.readString(file), JsonObject.class) : null;
    long soonMs = System.currentTimeMillis() + renewBeforeSeconds * 1000L;
    if (session == null || session.get("ends_ms").getAsLong() < soonMs) {
      LoginResponse given = login();
      session = new JsonObject();
      session.addProperty("token", given.getToken());
      session.addProperty("ends_ms", given.getExpiresAtMs());
      Keys.write(file, session.toString().getBytes(StandardCharsets.UTF_8));
      System.out.println("session until " + given.getExpiresAtMs());
    }
    Metadata headers = new Metadata();
    headers.put(AUTHORIZATION, "Bearer " + session.get("token").getAsString());
    return ClientInterceptors.intercept(gateway(), MetadataUtils.newAttachHeadersInterceptor(headers));
  }

  /** After CODE_UNAUTHENTICATED: the next call logs in. */
  void forgetToken() throws IOException {
    Files.deleteIfExists(state.resolve("session.json"));
  }
  // [end:renewal]

  // [start:detail]
  /** What an error of gRPC carries. Without it, it is the transport's: what was sent may have arrived. */
  static ErrorDetail detailOf(Throwable error) {
    var told = StatusProto.fromThrowable(error);
    try {
      for (Any packed : told == null ? List.<Any>of() : told.getDetailsList()) {
        if (packed.is(ErrorDetail.class)) {
          return packed.unpack(ErrorDetail.class);
        }
      }
    } catch (InvalidProtocolBufferException unreadable) {
      // As without it.
    }
    Status status = Status.fromThrowable(error);
    String reason = String.valueOf(status.getDescription());
    // A stream that was cut off with HTTP/2's ENHANCE_YOUR_CALM has this status too, and is no limit of size.
    boolean overLimit = status.getCode() == Status.Code.RESOURCE_EXHAUSTED
        && (reason.contains("larger than") || reason.contains("exceeds maximum size"));
    return ErrorDetail.newBuilder()
        .setCode(overLimit ? Code.CODE_TOO_LARGE : Code.CODE_UNAVAILABLE)
        .setReason(reason)
        .setOutcome(Outcome.OUTCOME_UNKNOWN)
        .build();
  }
  // [end:detail]

  @Override
  public void close() {
    firstContact.shutdownNow();
    if (gateway != null) {
      gateway.shutdownNow();
    }
  }
}
