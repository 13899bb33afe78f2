package engine;

import cbmdhi.command.v1.Code;
import cbmdhi.command.v1.CommandBody;
import cbmdhi.command.v1.IdentityStatus;
import cbmdhi.command.v1.RegisterIdentity;
import cbmdhi.command.v1.Role;
import cbmdhi.command.v1.SignedCommand;
import cbmdhi.identity.v1.EnrolRequest;
import cbmdhi.identity.v1.EnrolmentServiceGrpc;
import cbmdhi.identity.v1.GetOwnIdentityRequest;
import cbmdhi.identity.v1.RegisterRequest;
import cbmdhi.identity.v1.RegistrationServiceGrpc;
import com.google.protobuf.ByteString;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.concurrent.TimeUnit;

/** From new keys to an active identity: enrolment, registration, the administrators' approval. */
final class Join {
  private static final long POLL_MS = 1000;

  /** Enrols by the invitation's secret, registers, and waits. Begun again, it goes on where it was. */
  static void join(Engine engine, String secret) throws Exception {
    enrol(engine, secret);
    if (ownStatus(engine) == IdentityStatus.IDENTITY_STATUS_UNSPECIFIED) {
      register(engine);
    }
    untilActive(engine);
  }

  // [start:enrol]
  /** Has the member's Fabric CA certify the key. The private key stays here. */
  private static void enrol(Engine engine, String secret) throws Exception {
    var given = EnrolmentServiceGrpc.newBlockingStub(engine.firstContact)
        .withDeadlineAfter(Engine.CALL_SECONDS, TimeUnit.SECONDS)
        .enrol(EnrolRequest.newBuilder()
            .setCsrPem(engine.keys.certificateRequest())
            .setSecret(secret)
            .setRole(Role.ROLE_ENGINE)
            .build());
    var pem = given.getCertificatePem().getBytes(StandardCharsets.US_ASCII);
    Keys.write(engine.state.resolve("certificate.pem"), pem);
  }
  // [end:enrol]

  // [start:register]
  /** Asks the consortium for the identity: a command, signed with the key that it registers. */
  private static void register(Engine engine) throws Exception {
    var certificate = Keys.certificates(Files.readString(engine.certificateFile())).get(0);
    SignedCommand signed = Commands.command(engine, CommandBody.newBuilder()
        .setRegisterIdentity(RegisterIdentity.newBuilder()
            .setAddress(engine.keys.address)
            .setRole(Role.ROLE_ENGINE)
            .setHomeMsp(engine.member.mspId())
            .setSigningPublicKey(ByteString.copyFrom(engine.keys.publicKey))
            .setHpkePublicKey(ByteString.copyFrom(engine.keys.hpkePublic))
            .setEnrolmentCertificate(ByteString.copyFrom(certificate.getEncoded())))
        .build());
    registrations(engine).register(RegisterRequest.newBuilder().setCommand(signed).build());
    var entry = Receipts.prove(engine, signed).entry();
    if (entry.getCode() != Code.CODE_OK) {
      throw new Refused("the registration was refused: " + entry.getCode() + " " + entry.getReason());
    }
    System.out.println("registered " + entry.getCommandId());
  }
  // [end:register]

  // [start:approval]
  /** Asks how the registration stands. The certificate is enough: there is no session before it is active. */
  private static void untilActive(Engine engine) throws IOException, InterruptedException {
    while (true) {
      switch (ownStatus(engine)) {
        case IDENTITY_STATUS_ACTIVE -> {
          System.out.println("active");
          return;
        }
        case IDENTITY_STATUS_REJECTED -> throw new Refused("the administrators rejected the registration");
        default -> Thread.sleep(POLL_MS);
      }
    }
  }

  /** Unspecified before the gateway's own peer has heard of the registration. */
  private static IdentityStatus ownStatus(Engine engine) throws IOException {
    try {
      return registrations(engine).getOwnIdentity(GetOwnIdentityRequest.getDefaultInstance()).getIdentity().getStatus();
    } catch (StatusRuntimeException error) {
      if (Engine.detailOf(error).getCode() == Code.CODE_NOT_FOUND) {
        return IdentityStatus.IDENTITY_STATUS_UNSPECIFIED;
      }
      throw error;
    }
  }
  // [end:approval]

  private static RegistrationServiceGrpc.RegistrationServiceBlockingStub registrations(Engine engine)
      throws IOException {
    return RegistrationServiceGrpc.newBlockingStub(engine.gateway())
        .withDeadlineAfter(Engine.CALL_SECONDS, TimeUnit.SECONDS);
  }
}
