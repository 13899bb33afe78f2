// An integration engine that speaks to a member's gateway over gRPC: its keys, its registration, its session, signed
// records, and receipts that it checks. It reads the protos and uses none of CBMDHI's own code.

import process from 'node:process';
import { parseArgs } from 'node:util';
import { join } from './join.js';
import { makeKeys } from './keys.js';
import { deliver, send } from './send.js';
import { detailOf, Engine, Unanswered } from './session.js';
import { checkVectors } from './vectors.js';

const USAGE = `engine keys STATE CONSORTIUM MEMBER             make keys, print the address that an administrator invites
engine join STATE SECRET                        enrol, register, wait until the administrators approve
engine send STATE PATIENT CATEGORY FILE...      write each FILE (a FHIR R4 resource in JSON) into the patient's chart
engine resend STATE                             send again, as it was signed, what has no answer yet
engine check-vectors FOLDER                     check this client by tests/vectors

--renew-before SECONDS                          renew the session when it ends so soon (30)

It ends with 0 when all is done and proven, 1 when something was refused or could not be done, 2 when it was called
otherwise than here, 3 when something was sent and has no certain answer yet.
`;
const CODES = 'docs/integrate/error-codes.md';

async function main() {
  const options = { 'renew-before': { type: 'string', default: '30' } };
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const [command, state, ...rest] = positionals;
  if (command === 'check-vectors' && state) return checkVectors(state);
  if (command === 'keys' && rest.length === 2) return makeKeys(state, ...rest);
  const uses = {
    join: rest.length === 1 && ((engine) => join(engine, rest[0])),
    send: rest.length > 2 && ((engine) => send(engine, rest[0], rest[1], rest.slice(2))),
    resend: rest.length === 0 && ((engine) => deliver(engine)),
  };
  if (!state || !uses[command]) {
    process.stderr.write(USAGE);
    process.exitCode = 2;
    return undefined;
  }
  const engine = new Engine(state, Number(values['renew-before']));
  try {
    await uses[command](engine);
  } finally {
    engine.close();
  }
  return end(engine);
}

// The program's status is 1 when records were refused: which, and what to do about it.
function end({ refusals, state }) {
  if (refusals.length === 0) return;
  for (const why of refusals) process.stderr.write(`refused: ${why}\n`);
  process.stderr.write(`What each code asks you to do: ${CODES}. What was signed is kept in ${state}/refused\n`);
  process.exitCode = 1;
}

try {
  await main();
} catch (error) {
  const detail = error.metadata ? detailOf(error) : undefined;
  process.stderr.write(`${detail ? `${detail.code} ${detail.reason}` : error.message}\n`);
  process.exitCode = error instanceof Unanswered ? 3 : 1;
}
