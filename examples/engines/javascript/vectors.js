// This client held to tests/vectors: signatures, a login, and each way in which a proof is none.

import fs from 'node:fs';
import path from 'node:path';
import { addressOf, COMMAND, isSigned, LOGIN } from './keys.js';
import { decode, encode } from './messages.js';
import { check, NotProven, Proof, trustOf } from './proof.js';

// Without any of these too few endorsements count.
const OF_ENDORSEMENTS = ['peer-root', 'peer-validity', 'peer-unit', 'endorsement-signature', 'members'];
const hex = (text) => Buffer.from(text, 'hex');

// Throws, naming the first that does not hold.
export function checkVectors(folder) {
  const [commands, sessions, evidence] = ['commands', 'sessions', 'evidence'].map((name) =>
    JSON.parse(fs.readFileSync(path.join(folder, `${name}.json`))),
  );
  for (const one of commands.commands) {
    const key = hex(one.public_key_spki_hex);
    const isValid = isSigned(key, hex(one.signature_hex), COMMAND, hex(one.command_hex));
    if (addressOf(key) !== one.address || isValid !== one.valid) throw new Error(`commands.json: ${one.name}`);
  }
  const { signature_hex: signature, certificate_x5t_s256: thumbprint, bad } = sessions.grpc_login;
  const message = [hex(sessions.challenge_hex), Buffer.from(thumbprint)];
  const holds = (raw) => isSigned(hex(sessions.public_key_spki_hex), hex(raw), LOGIN, ...message);
  if (!holds(signature)) throw new Error('sessions.json: grpc_login');
  for (const one of bad) {
    if (holds(one.signature_hex)) throw new Error(`sessions.json: a login ${one.name}`);
  }
  for (const one of evidence.cases) {
    const failed = fails(evidence, one);
    const wanted = OF_ENDORSEMENTS.includes(one.check) ? 'majority' : one.check;
    if (failed !== (one.valid ? '' : wanted)) throw new Error(`evidence.json: ${one.name}: ${failed}`);
  }
  if (commands.commands.length === 0 || evidence.cases.length === 0) throw new Error(`no vectors in ${folder}`);
  console.log('all vectors hold');
}

// By which check; empty when all hold.
function fails(file, one) {
  const signed = (name) => (one[name] ?? file[name]).map((raw) => decode('command.v1.SignedCommand', hex(raw)));
  const evidence = {
    endorsed_state: hex(one.endorsed_state_hex),
    commands: signed('commands_hex'),
    registrations: signed('registrations_hex'),
  };
  try {
    const proof = new Proof(trustOf({ ...file, genesis_sha256: file.genesis_sha256_hex }), evidence);
    const decided = one.valid || one.asks === 'command' ? proof.decided(file.command_id, file.signer) : undefined;
    const found =
      one.valid || one.asks === 'version' ? proof.version(file.record_id, file.version, file.patient) : undefined;
    if (one.valid) {
      check({
        'who wrote it': decided.author === file.author && found.author === file.author,
        audit_entry_hex: same('command.v1.AuditEntry', decided.entry, file.audit_entry_hex),
        record_hex: same('command.v1.RecordVersion', found.version, file.record_hex),
      });
    }
  } catch (error) {
    if (error instanceof NotProven) return error.check;
    throw error;
  }
  return '';
}

// What was read is all that the bytes say.
function same(name, message, wanted) {
  return JSON.stringify(decode(name, encode(name, message))) === JSON.stringify(decode(name, hex(wanted)));
}
