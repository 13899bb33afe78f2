// From new keys to an active identity: enrolment, registration, the administrators' approval.

import crypto from 'node:crypto';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { command } from './commands.js';
import { write } from './keys.js';
import { services } from './messages.js';
import { prove } from './receipts.js';
import { detailOf } from './session.js';

const POLL_MS = 1000;

// Enrol by the invitation's secret, register, and wait. Begun again, it goes on where it was.
export async function join(engine, secret) {
  await enrol(engine, secret);
  if ((await ownStatus(engine)) === 'IDENTITY_STATUS_UNSPECIFIED') await register(engine);
  await untilActive(engine);
}

// [start:enrol]
// Have the member's Fabric CA certify the key. The private key stays here.
async function enrol(engine, secret) {
  const { EnrolmentService } = services.identity;
  const given = await engine.call('first_contact', EnrolmentService, 'Enrol', {
    csr_pem: engine.keys.certificateRequest(),
    secret,
    role: 'ROLE_ENGINE',
  });
  write(path.join(engine.state, 'certificate.pem'), given.certificate_pem);
}
// [end:enrol]

// [start:register]
// Ask the consortium for the identity: a command, signed with the key that it registers.
async function register(engine) {
  const signed = command(engine, {
    register_identity: {
      address: engine.keys.address,
      role: 'ROLE_ENGINE',
      home_msp: engine.member.msp_id,
      signing_public_key: engine.keys.publicKey,
      hpke_public_key: engine.keys.hpkePublic,
      enrolment_certificate: new crypto.X509Certificate(engine.certificate()).raw,
    },
  });
  await engine.call('grpc', services.identity.RegistrationService, 'Register', { command: signed });
  const [entry] = await prove(engine, signed);
  if (entry.code !== 'CODE_OK') throw new Error(`the registration was refused: ${entry.code} ${entry.reason}`);
  console.log('registered', entry.command_id);
}
// [end:register]

// [start:approval]
// Ask how the registration stands. The certificate is enough: there is no session before it is active.
async function untilActive(engine) {
  for (;;) {
    const status = await ownStatus(engine);
    if (status === 'IDENTITY_STATUS_REJECTED') throw new Error('the administrators rejected the registration');
    if (status === 'IDENTITY_STATUS_ACTIVE') break;
    await sleep(POLL_MS);
  }
  console.log('active');
}

// Unspecified before the gateway's own peer has heard of the registration.
async function ownStatus(engine) {
  try {
    const given = await engine.call('grpc', services.identity.RegistrationService, 'GetOwnIdentity', {});
    return given.identity.status;
  } catch (error) {
    if (detailOf(error).code === 'CODE_NOT_FOUND') return 'IDENTITY_STATUS_UNSPECIFIED';
    throw error;
  }
}
// [end:approval]
