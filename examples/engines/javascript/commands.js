// Commands: signed by whoever means them, and never encoded anew by anybody.

import { COMMAND, uuid7 } from './keys.js';
import { decode, encode } from './messages.js';

// [start:command]
// Sign what a body means: for this channel and this beginning of it, from now for five minutes.
export function command(engine, body) {
  const now = Date.now();
  const raw = encode('command.v1.Command', {
    command_id: uuid7(),
    channel: engine.consortium.channel,
    genesis_sha256: engine.genesis,
    issued_at_ms: now,
    expires_at_ms: now + 300_000,
    body: encode('command.v1.CommandBody', body),
  });
  return { command: raw, signature: engine.keys.sign(COMMAND, raw), signer: engine.keys.address };
}
// [end:command]

// Header and body of a signed command.
export function parse(signed) {
  const header = decode('command.v1.Command', signed.command);
  return [header, decode('command.v1.CommandBody', header.body)];
}
