// The messages and services, read from the protos when the engine starts.

import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import protobuf from 'protobufjs';

// [start:recipe]
const PROTOS = fileURLToPath(new URL('../../../protos', import.meta.url));
const FILES = fs
  .readdirSync(PROTOS, { recursive: true })
  .filter((name) => name.endsWith('.proto'))
  .map((name) => path.join(PROTOS, name));
const AS = { keepCase: true, longs: Number, enums: String, bytes: Buffer, defaults: true };

const loaded = grpc.loadPackageDefinition(loadSync(FILES, { ...AS, includeDirs: [PROTOS] }));
export const services = {
  identity: loaded.cbmdhi.identity.v1,
  gateway: loaded.cbmdhi.gateway.v1,
};

const root = new protobuf.Root();
root.resolvePath = (_, target) => path.resolve(PROTOS, target);
root.loadSync(FILES, { keepCase: true });
// [end:recipe]

// A type by its name below `cbmdhi`, such as `command.v1.Command`.
function type(name) {
  return root.lookupType(`cbmdhi.${name}`);
}

// Bytes of a message. A field that has its default value is left out of `fields`: what is signed holds no defaults.
export function encode(name, fields) {
  return Buffer.from(type(name).encode(type(name).fromObject(fields)).finish());
}

export function decode(name, raw) {
  const message = type(name);
  return message.toObject(message.decode(raw), { ...AS, defaults: true, oneofs: true });
}

const details = protobuf.parse(`
  syntax = "proto3";
  message Any { string type_url = 1; bytes value = 2; }
  message Status { int32 code = 1; string message = 2; repeated Any details = 3; }
`, { keepCase: true }).root.lookupType('Status');

// The ErrorDetail in `grpc-status-details-bin`, if there is one.
export function errorDetail(raw) {
  const packed = details.decode(raw).details.find((one) => one.type_url.endsWith('/cbmdhi.command.v1.ErrorDetail'));
  return packed && decode('command.v1.ErrorDetail', packed.value);
}
