// Receipts: what the members' peers hold of a command, whatever the gateway says.

import { parse } from './commands.js';
import { base32, sha256 } from './keys.js';
import { services } from './messages.js';
import { NotProven, Proof, trustOf } from './proof.js';

// [start:receipt]
// What the members' peers hold of a command; of a record that was written also which version it is. The certificate is
// enough. Throws NotProven, and an error with CODE_NOT_FOUND when it is not committed.
export async function prove(engine, signed) {
  const [{ command_id }, body] = parse(signed);
  const signer = engine.keys.address;
  const { RecordService } = services.gateway;
  const { evidence } = await engine.call('grpc', RecordService, 'GetProof', { command_id, signer });
  const proof = new Proof(trustOf(engine.consortium), evidence);
  proof.keys.set(signer, engine.keys.publicKey); // one's own key needs nobody's word
  const { entry, signed: decided } = proof.decided(command_id, signer);
  if (!decided.command.equals(signed.command)) throw new NotProven('another command is committed under this id');
  if (entry.code !== 'CODE_OK' || body.body !== 'put_record') return [entry];
  const put = body.put_record;
  return [entry, proof.version(put.record_id, put.version, put.patient).version];
}

// Check that the stored block has the CID that is proven: CIDv1, raw, SHA-256, base32.
export async function holds(engine, version) {
  const { RecordService } = services.gateway;
  const { cid } = version.content;
  const { blob } = await engine.call('grpc', RecordService, 'GetBlob', { cid }, await engine.metadata());
  if (cid !== `b${base32(Buffer.concat([Buffer.of(1, 0x55, 0x12, 0x20), sha256(blob)]))}`) {
    throw new NotProven('root-cid');
  }
}
// [end:receipt]
