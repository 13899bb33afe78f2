// Records: signed, kept in an outbox, sent, proven. What has no certain answer is sent again as it was signed.

import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { command, parse } from './commands.js';
import { sha256, uuid7, write } from './keys.js';
import { decode, encode, services } from './messages.js';
import { NotProven } from './proof.js';
import { holds, prove } from './receipts.js';
import { detailOf, Unanswered } from './session.js';

const ATTEMPTS = 5;
const SEND_SECONDS = 60;

// [start:send]
// Write each file: signed, kept in the outbox, and only then sent.
export async function send(engine, patient, category, files) {
  for (const file of files) {
    const item = prepare(engine, patient, category, fs.readFileSync(file));
    write(path.join(engine.state, 'outbox', item.submission_id), encode('gateway.v1.IngestItem', item));
    await deliver(engine);
  }
}

// Sign a new record. On the channel there is a commitment to its content, and the content is not.
function prepare(engine, patient, category, content) {
  const salt = crypto.randomBytes(32);
  const signed = command(engine, {
    put_record: {
      record_id: uuid7(),
      version: 1,
      patient,
      category,
      content_commitment: sha256(salt, content),
      content_bytes: content.length,
    },
  });
  const [{ command_id }] = parse(signed);
  return { submission_id: command_id, group: { commands: [signed] }, contents: [{ content, salt }] };
}
// [end:send]

// [start:resend]
// Send what is in the outbox, as it was signed, until all of it has an answer. The command's id makes that harmless:
// what was done before gets its first verdict again, and is not done twice.
export async function deliver(engine) {
  let last = '';
  let askedMs = 0;
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    const waiting = outbox(engine);
    if (waiting.size === 0) return;
    if (attempt > 0) await sleep(Math.max(200 * 2 ** attempt * (0.5 + Math.random()), askedMs));
    try {
      await stream(engine, waiting);
    } catch (error) {
      if (!error.metadata) throw error; // not gRPC's
      const detail = detailOf(error);
      last = `${detail.code} ${detail.reason}`;
      askedMs = detail.retry_after_ms ?? 0;
      if (detail.code === 'CODE_TOO_LARGE') break; // the same once more is as large
      if (detail.code === 'CODE_UNAUTHENTICATED') engine.forgetToken();
    }
  }
  const left = outbox(engine).size;
  if (left > 0) throw new Unanswered(`${left} commands have no answer yet, do what the code asks for: ${last}`);
}
// [end:resend]

// [start:stream]
// Open one stream, send everything in one message, and settle each result as it comes.
async function stream(engine, waiting) {
  const metadata = await engine.metadata();
  const client = engine.client('grpc', services.gateway.IngestService);
  const call = client.Ingest(metadata, { deadline: Date.now() + SEND_SECONDS * 1000 });
  for (const id of waiting.keys()) console.log('sent', id);
  call.write({ items: [...waiting.values()] });
  call.end();
  for await (const response of call) {
    for (const result of response.results) {
      const item = waiting.get(result.submission_id);
      if (item) await settle(engine, item, result);
    }
  }
}
// [end:stream]

// [start:settle]
// Take what was proven out of the outbox. What has no certain answer stays there, as it was signed.
async function settle(engine, item, result) {
  const receipt = result.receipts[0]?.receipt;
  const told = receipt ?? result.error;
  if (again(told)) return;
  let entry;
  let version;
  try {
    [entry, version] = await prove(engine, item.group.commands[0]);
  } catch (error) {
    const isUnknown = error.metadata && detailOf(error).code === 'CODE_NOT_FOUND';
    if (!isUnknown || told.outcome !== 'OUTCOME_NOT_DONE') throw error;
    refused(engine, item, told);
    return;
  }
  if (entry.code !== told.code || entry.tx_id !== receipt?.tx_id) {
    throw new NotProven("what the gateway says is not what the members' peers hold; ask another one");
  }
  if (!version) {
    refused(engine, item, entry);
    return;
  }
  await holds(engine, version);
  const said = receipt.already_committed ? 'proven-again' : 'proven';
  console.log(said, item.submission_id, entry.tx_id, version.record_id, version.content.cid);
  move(engine, item, 'done');
}

// It may have been done, or nothing was and the same may be sent once more.
function again(told) {
  if (told.outcome === 'OUTCOME_NOT_DONE') {
    const passing = ['RESOURCE_EXHAUSTED', 'UNAVAILABLE', 'DEADLINE_EXCEEDED', 'ENDORSEMENT_FAILED'];
    return passing.some((name) => told.code === `CODE_${name}`);
  }
  return told.outcome !== 'OUTCOME_COMMITTED';
}

// A refusal is final; it is kept for whoever mends what was wrong, and the program ends with it.
function refused(engine, item, why) {
  console.log('refused', item.submission_id, why.code, why.reason);
  move(engine, item, 'refused');
  engine.refusals.push(`${why.code} ${why.reason}`);
}
// [end:settle]

// What has no answer, by command id.
function outbox(engine) {
  const folder = path.join(engine.state, 'outbox');
  const names = fs.existsSync(folder) ? fs.readdirSync(folder).filter((name) => !name.endsWith('.new')) : [];
  return new Map(
    names.sort().map((name) => [name, decode('gateway.v1.IngestItem', fs.readFileSync(path.join(folder, name)))]),
  );
}

// Out of the outbox, as it is.
function move(engine, item, to) {
  fs.mkdirSync(path.join(engine.state, to), { recursive: true, mode: 0o700 });
  fs.renameSync(
    path.join(engine.state, 'outbox', item.submission_id),
    path.join(engine.state, to, item.submission_id),
  );
}
