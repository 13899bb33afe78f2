// Keys: the signing key, and the key to which data keys are sealed. They never leave the engine's folder.

import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js';
import { BIT_STRING, encode, INTEGER, OID, SEQUENCE, SET, UTF8, values } from './der.js';

export const COMMAND = 'cbmdhi/command/v1';
export const DELEGATION = 'cbmdhi/delegation/v1';
export const LOGIN = 'cbmdhi/login/v1';
const ORDER = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
const X25519_PKCS8 = Buffer.from('302e020100300506032b656e04220420', 'hex');

// Write a new engine's state: its keys, the consortium that it pins, its member.
export function makeKeys(state, consortium, member) {
  const pinned = fs.readFileSync(consortium);
  memberOf(JSON.parse(pinned), member);
  fs.mkdirSync(state, { recursive: true, mode: 0o700 });
  if (fs.existsSync(path.join(state, 'key.pem'))) {
    throw new Error('there are keys already: a lost key cannot be had again');
  }
  const { privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
  write(path.join(state, 'key.pem'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
  // ML-KEM's seed (64 bytes) and X25519 (32).
  write(path.join(state, 'hpke.key'), crypto.randomBytes(96));
  write(path.join(state, 'consortium.json'), pinned);
  write(path.join(state, 'member'), member);
  console.log('address', new Keys(state).address);
}

// Write a file that nobody else may read, whole or not at all.
export function write(file, content) {
  fs.mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 });
  fs.writeFileSync(`${file}.new`, content, { mode: 0o600 });
  fs.renameSync(`${file}.new`, file);
}

export function memberOf(consortium, name) {
  const found = consortium.members.find((member) => member.name === name);
  if (!found) throw new Error(`the consortium has no member ${name}`);
  return found;
}

export class Keys {
  constructor(state) {
    this.privatePem = fs.readFileSync(path.join(state, 'key.pem'));
    this.private = crypto.createPrivateKey(this.privatePem);
    this.publicKey = crypto.createPublicKey(this.private).export({ type: 'spki', format: 'der' });
    this.address = addressOf(this.publicKey);
    const sealing = fs.readFileSync(path.join(state, 'hpke.key'));
    const x25519 = crypto.createPrivateKey({
      key: Buffer.concat([X25519_PKCS8, sealing.subarray(64)]),
      format: 'der',
      type: 'pkcs8',
    });
    this.hpkePublic = Buffer.concat([
      ml_kem768.keygen(sealing.subarray(0, 64)).publicKey,
      crypto.createPublicKey(x25519).export({ type: 'spki', format: 'der' }).subarray(-32),
    ]);
  }

  // [start:sign]
  // ECDSA over SHA-256 of the label, a zero byte and the parts: DER, with s in the lower half.
  sign(label, ...parts) {
    return this.#signed(message(label, parts));
  }

  #signed(bytes) {
    const raw = crypto.sign('sha256', bytes, { key: this.private, dsaEncoding: 'ieee-p1363' });
    const [r, s] = [raw.subarray(0, 32), raw.subarray(32)].map((half) => BigInt(`0x${half.toString('hex')}`));
    return encode(SEQUENCE, integer(r), integer(s > ORDER / 2n ? ORDER - s : s));
  }
  // [end:sign]

  // PKCS#10 in PEM whose common name is the address: it tells nothing about anybody.
  certificateRequest() {
    const name = encode(SEQUENCE, encode(SET, encode(SEQUENCE, OID.commonName, encode(UTF8, Buffer.from(this.address)))));
    const asked = encode(SEQUENCE, integer(0n), name, this.publicKey, encode(0xa0));
    const algorithm = encode(SEQUENCE, OID.ecdsaWithSha256);
    const der = encode(SEQUENCE, asked, algorithm, encode(BIT_STRING, Buffer.of(0), this.#signed(asked)));
    const lines = der.toString('base64').replace(/.{64}(?=.)/g, '$&\n');
    return `-----BEGIN CERTIFICATE REQUEST-----\n${lines}\n-----END CERTIFICATE REQUEST-----\n`;
  }
}

function integer(number) {
  const hex = number.toString(16);
  const raw = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex');
  return encode(INTEGER, raw[0] & 0x80 ? Buffer.of(0) : Buffer.of(), raw);
}

// cb1 and the first 20 bytes of SHA-256 of the DER SubjectPublicKeyInfo.
export function addressOf(publicKey) {
  return `cb1${base32(sha256(publicKey).subarray(0, 20))}`;
}

// Lower case, without padding.
export function base32(raw) {
  const bits = [...raw].map((byte) => byte.toString(2).padStart(8, '0')).join('');
  return bits
    .match(/.{1,5}/g)
    .map((five) => 'abcdefghijklmnopqrstuvwxyz234567'[parseInt(five.padEnd(5, '0'), 2)])
    .join('');
}

export function sha256(...parts) {
  const hash = crypto.createHash('sha256');
  for (const part of parts) hash.update(part);
  return hash.digest();
}

// Whether it is what `sign` makes; a high s is bad, though the mathematics would take it.
export function isSigned(publicKey, signature, label, ...parts) {
  return isSignature(publicKey, signature, message(label, parts));
}

export function isSignature(publicKey, signature, bytes) {
  try {
    const key = crypto.createPublicKey({ key: publicKey, format: 'der', type: 'spki' });
    const [, s] = values(values(signature)[0].content);
    return (
      key.asymmetricKeyDetails.namedCurve === 'prime256v1' &&
      BigInt(`0x${s.content.toString('hex')}`) <= ORDER / 2n &&
      crypto.verify('sha256', bytes, { key, dsaEncoding: 'der' }, signature)
    );
  } catch {
    return false; // no key of P-256, or no DER
  }
}

function message(label, parts) {
  return Buffer.concat([Buffer.from(`${label}\0`), ...parts]);
}

// A new UUIDv7 (RFC 9562): milliseconds first, so that ids ascend.
export function uuid7() {
  const raw = crypto.randomBytes(16);
  raw.writeUIntBE(Date.now(), 0, 6);
  raw[6] = (raw[6] & 0x0f) | 0x70;
  raw[8] = (raw[8] & 0x3f) | 0x80;
  return raw.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
}
