package engine;

import cbmdhi.command.v1.AuditEntry;
import cbmdhi.command.v1.Code;
import cbmdhi.command.v1.RecordVersion;
import cbmdhi.command.v1.SignedCommand;
import cbmdhi.gateway.v1.GetBlobRequest;
import cbmdhi.gateway.v1.GetProofRequest;
import cbmdhi.gateway.v1.RecordServiceGrpc;
import java.util.concurrent.TimeUnit;

/** Receipts: what the members' peers hold of a command, whatever the gateway says. */
final class Receipts {
  /** `version` of a record that was written; otherwise null. */
  record Proven(AuditEntry entry, RecordVersion version) {}

  // [start:receipt]
  /** Asked by the certificate alone. Throws NotProven, and CODE_NOT_FOUND of gRPC when it is not committed. */
  static Proven prove(Engine engine, SignedCommand signed) throws Exception {
    String id = Commands.header(signed).getCommandId();
    String signer = engine.keys.address;
    var evidence = RecordServiceGrpc.newBlockingStub(engine.gateway())
        .withDeadlineAfter(Engine.CALL_SECONDS, TimeUnit.SECONDS)
        .getProof(GetProofRequest.newBuilder().setCommandId(id).setSigner(signer).build())
        .getEvidence();
    var proof = new Proof(Proof.Trust.of(engine.consortium), evidence);
    proof.keys.put(signer, engine.keys.publicKey); // one's own key needs nobody's word
    var decided = proof.decided(id, signer);
    if (!decided.signed().getCommand().equals(signed.getCommand())) {
      throw new NotProven("another command is committed under this id");
    }
    var body = Commands.body(signed);
    if (decided.entry().getCode() != Code.CODE_OK || !body.hasPutRecord()) {
      return new Proven(decided.entry(), null);
    }
    var put = body.getPutRecord();
    var version = proof.version(put.getRecordId(), put.getVersion(), put.getPatient()).version();
    return new Proven(decided.entry(), version);
  }

  /** Checks that the stored block has the CID that is proven: CIDv1, raw, SHA-256, base32. */
  static void holds(Engine engine, RecordVersion version) throws Exception {
    String cid = version.getContent().getCid();
    var block = RecordServiceGrpc.newBlockingStub(engine.withToken())
        .withDeadlineAfter(Engine.CALL_SECONDS, TimeUnit.SECONDS)
        .getBlob(GetBlobRequest.newBuilder().setCid(cid).build())
        .getBlob();
    byte[] head = {1, 0x55, 0x12, 0x20};
    if (!cid.equals("b" + Keys.base32(Keys.concat(head, Keys.sha256(block.toByteArray()))))) {
      throw new NotProven("root-cid");
    }
  }
  // [end:receipt]
}
