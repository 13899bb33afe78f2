// The session: two connections to the gateway, a login by signature, a token that is renewed in time.

import crypto from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import grpc from '@grpc/grpc-js';
import { Keys, LOGIN, memberOf, sha256, write } from './keys.js';
import { errorDetail, services } from './messages.js';

const CALL_SECONDS = 30;
const LARGEST_ANSWER = 17 << 20;

// Something was sent, and what became of it is not known yet.
export class Unanswered extends Error {}

// One identity at one member's gateway.
export class Engine {
  constructor(state, renewBeforeSeconds) {
    this.state = state;
    this.keys = new Keys(state);
    this.consortium = JSON.parse(fs.readFileSync(path.join(state, 'consortium.json')));
    this.genesis = Buffer.from(this.consortium.genesis_sha256, 'hex');
    this.member = memberOf(this.consortium, fs.readFileSync(path.join(state, 'member'), 'utf8'));
    this.renewBeforeSeconds = renewBeforeSeconds;
    this.clients = new Map();
    this.refusals = [];
  }

  close() {
    for (const client of this.clients.values()) client.close();
  }

  certificate() {
    const file = path.join(this.state, 'certificate.pem');
    if (!fs.existsSync(file)) throw new Error('this engine is not enrolled yet: join first');
    return fs.readFileSync(file);
  }

  // A client on the port for first contact, or on the one where the engine's certificate is shown. The server's
  // certificate is for `gateway.<member>`, whatever the host is called.
  client(port, Service) {
    const known = `${port} ${Service.serviceName}`;
    if (!this.clients.has(known)) {
      const own = port === 'grpc' ? [this.keys.privatePem, this.certificate()] : [];
      const credentials = grpc.credentials.createSsl(Buffer.from(this.member.tls_ca_pem), ...own);
      const options = {
        'grpc.ssl_target_name_override': `gateway.${this.member.name}`,
        'grpc.max_receive_message_length': LARGEST_ANSWER,
        'grpc.enable_retries': 0,
      };
      this.clients.set(known, new Service(this.member.gateway[port], credentials, options));
    }
    return this.clients.get(known);
  }

  // One call with a deadline, as a promise.
  call(port, Service, method, request, metadata = new grpc.Metadata()) {
    const client = this.client(port, Service);
    const deadline = Date.now() + CALL_SECONDS * 1000;
    return new Promise((resolve, reject) => {
      client[method](request, metadata, { deadline }, (error, answer) => (error ? reject(error) : resolve(answer)));
    });
  }

  // [start:login]
  // Show that the engine holds the registered key. The token is bound to the connection's certificate.
  async login() {
    const der = new crypto.X509Certificate(this.certificate()).raw;
    const thumbprint = sha256(der).toString('base64url');
    const { SessionService } = services.identity;
    const address = this.keys.address;
    const { challenge } = await this.call('first_contact', SessionService, 'Challenge', { address });
    return this.call('first_contact', SessionService, 'Login', {
      address,
      challenge,
      signature: this.keys.sign(LOGIN, challenge, Buffer.from(thumbprint)),
      certificate_x5t_s256: thumbprint,
    });
  }
  // [end:login]

  // [start:renewal]
  // A token with some life left: the one of before, or a new one.
  async metadata() {
    const file = path.join(this.state, 'session.json');
    let session = fs.existsSync(file) ? JSON.parse(fs.readFileSync(file)) : { token: '', ends_ms: 0 };
    if (session.ends_ms - Date.now() < this.renewBeforeSeconds * 1000) {
      const given = await this.login();
      session = { token: given.token, ends_ms: given.expires_at_ms };
      write(file, JSON.stringify(session));
      console.log('session until', session.ends_ms);
    }
    const metadata = new grpc.Metadata();
    metadata.set('authorization', `Bearer ${session.token}`);
    return metadata;
  }

  // After CODE_UNAUTHENTICATED: the next call logs in.
  forgetToken() {
    fs.rmSync(path.join(this.state, 'session.json'), { force: true });
  }
  // [end:renewal]
}

// [start:detail]
// What an error of gRPC carries. Without it, it is the transport's: what was sent may have arrived.
export function detailOf(error) {
  const [raw] = error.metadata?.get('grpc-status-details-bin') ?? [];
  // A stream that was cut off with HTTP/2's ENHANCE_YOUR_CALM has this status too, and is no limit of size.
  const overLimit = error.code === grpc.status.RESOURCE_EXHAUSTED && /larger than/.test(error.details);
  const code = overLimit ? 'CODE_TOO_LARGE' : 'CODE_UNAVAILABLE';
  return (raw && errorDetail(raw)) ?? { code, reason: error.details, outcome: 'OUTCOME_UNKNOWN' };
}
// [end:detail]
