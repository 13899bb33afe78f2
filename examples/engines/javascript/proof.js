// What the members' peers signed, checked as docs/verification.md says: no gateway is believed.

import crypto from 'node:crypto';
import fabric from '@hyperledger/fabric-protos';
import { parse } from './commands.js';
import { roleOf, unitsOf } from './der.js';
import { addressOf, COMMAND, DELEGATION, isSignature, isSigned, sha256 } from './keys.js';
import { decode } from './messages.js';

const { common, msp, peer } = fabric;

// `check` names the check of docs/verification.md that does not hold.
export class NotProven extends Error {
  constructor(check) {
    super(`not proven: ${check}`);
    this.check = check;
  }
}

// Throws, naming the first that does not hold.
export function check(checks) {
  for (const [name, holds] of Object.entries(checks)) {
    if (!holds) throw new NotProven(name);
  }
}

// What is pinned.
export function trustOf(consortium) {
  const roots = new Map(
    consortium.members.map((member) => [
      member.msp_id,
      member.ca_pem.match(/-----BEGIN[^]+?-----END CERTIFICATE-----/g).map((pem) => new crypto.X509Certificate(pem)),
    ]),
  );
  const genesis = Buffer.from(consortium.genesis_sha256, 'hex');
  return { channel: consortium.channel, chaincode: consortium.chaincode, genesis, roots };
}

// Whether one of the member's roots issued it directly.
function isIssued(trust, certificate, mspId) {
  return (trust.roots.get(mspId) ?? []).some((root) => certificate.checkIssued(root) && certificate.verify(root.publicKey));
}

// Of bytes that cannot be read nothing is proven.
function reading(read) {
  try {
    return read();
  } catch (error) {
    if (error instanceof NotProven) throw error;
    throw new NotProven('bytes that cannot be read');
  }
}

// Evidence whose endorsements hold. All methods throw NotProven.
export class Proof {
  // [start:proof]
  // Check the endorsements: docs/verification.md, "What the peers hold".
  constructor(trust, evidence) {
    this.trust = trust;
    this.commands = evidence.commands;
    this.registrations = evidence.registrations;
    this.keys = new Map();
    this.values = reading(() => this.#open(evidence.endorsed_state));
  }

  #open(raw) {
    const payload = common.Payload.deserializeBinary(raw);
    const [channelBytes, signatureBytes] = [
      Buffer.from(payload.getHeader().getChannelHeader_asU8()),
      Buffer.from(payload.getHeader().getSignatureHeader_asU8()),
    ];
    const channel = common.ChannelHeader.deserializeBinary(channelBytes);
    const header = common.SignatureHeader.deserializeBinary(signatureBytes);
    const actions = peer.Transaction.deserializeBinary(payload.getData_asU8()).getActionsList();
    check({ type: channel.getType() === common.HeaderType.ENDORSER_TRANSACTION, 'one-action': actions.length === 1 });
    const action = peer.ChaincodeActionPayload.deserializeBinary(actions[0].getPayload_asU8());
    const endorsed = action.getAction();
    const responseBytes = Buffer.from(endorsed.getProposalResponsePayload_asU8());
    const response = peer.ProposalResponsePayload.deserializeBinary(responseBytes);
    const answered = peer.ChaincodeAction.deserializeBinary(response.getExtension_asU8());
    const proposalBytes = Buffer.from(action.getChaincodeProposalPayload_asU8());
    const proposal = peer.ChaincodeProposalPayload.deserializeBinary(proposalBytes);
    const invocation = peer.ChaincodeInvocationSpec.deserializeBinary(proposal.getInput_asU8());
    const args = invocation.getChaincodeSpec().getInput().getArgsList_asU8().map((argument) => Buffer.from(argument));
    const id = sha256(header.getNonce_asU8(), header.getCreator_asU8()).toString('hex');
    const asked = sha256(channelBytes, signatureBytes, proposalBytes);
    check({
      channel: channel.getChannelId() === this.trust.channel,
      chaincode: answered.getChaincodeId().getName() === this.trust.chaincode,
      'tx-id': channel.getTxId() === id,
      status: answered.getResponse().getStatus() === 200,
      'two-arguments': args.length === 2,
      query: args[0]?.equals(Buffer.from('query')),
      'proposal-hash': asked.equals(response.getProposalHash_asU8()),
      majority: this.#endorsers(channel, endorsed, responseBytes).size >= Math.floor(this.trust.roots.size / 2) + 1,
    });
    const { keys } = decode('command.v1.Query', args[1]).get_keys;
    const { values } = decode('command.v1.QueryResult', answered.getResponse().getPayload_asU8());
    check({ 'as-many-values': keys.length === values.length });
    return new Map(keys.map((key, place) => [key, values[place]]));
  }

  // The members of which a peer signed. What does not count is passed over.
  #endorsers(channel, endorsed, responseBytes) {
    const at = channel.getTimestamp().toDate();
    const found = new Set();
    for (const endorsement of endorsed.getEndorsementsList()) {
      const endorserBytes = Buffer.from(endorsement.getEndorser_asU8());
      try {
        const endorser = msp.SerializedIdentity.deserializeBinary(endorserBytes);
        const certificate = new crypto.X509Certificate(Buffer.from(endorser.getIdBytes_asU8()));
        const key = certificate.publicKey.export({ type: 'spki', format: 'der' });
        const signature = Buffer.from(endorsement.getSignature_asU8());
        if (
          isIssued(this.trust, certificate, endorser.getMspid()) &&
          new Date(certificate.validFrom) <= at &&
          at <= new Date(certificate.validTo) &&
          unitsOf(certificate).includes('peer') &&
          isSignature(key, signature, Buffer.concat([responseBytes, endorserBytes]))
        ) {
          found.add(endorser.getMspid());
        }
      } catch {
        // No identity, or no certificate.
      }
    }
    return found;
  }
  // [end:proof]

  // The step "A command and its verdict": the entry, the command, its author.
  decided(commandId, signer) {
    const value = this.values.get(`z/${commandId}/aud/${signer}`);
    check({ decided: value?.length > 0 });
    const entry = reading(() => decode('command.v1.AuditEntry', value));
    const { signed, author } = this.#meant(commandId, entry.signer);
    check({ 'command-sha256': sha256(signed.command).equals(entry.command_sha256) });
    return { entry, signed, author };
  }

  // The step "A version of a record", and its author.
  version(recordId, number, patient) {
    const value = this.values.get(`z/${recordId}/rec/${number.toString(16).padStart(8, '0')}`);
    check({ present: value?.length > 0 });
    const version = reading(() => decode('command.v1.RecordVersion', value));
    check({
      'asked-for': version.record_id === recordId && version.version === number,
      patient: version.patient === patient,
    });
    const { signed, author } = this.#meant(version.command_id, version.signed_by);
    const put = parse(signed)[1].put_record;
    check({
      'put-record': put,
      author: author === version.author,
      'as-signed':
        ['record_id', 'version', 'patient', 'category'].every((name) => put?.[name] === version[name]) &&
        put.content_commitment.equals(version.content_commitment),
    });
    return { version, author };
  }

  // The step "Who meant it": the command of that id and signer, and its author.
  #meant(commandId, signer) {
    for (const signed of this.commands) {
      const [command] = reading(() => parse(signed));
      if (command.command_id !== commandId || signed.signer !== signer) continue;
      const key = this.#certified(signer);
      check({
        'command-signature': isSigned(key, signed.signature, COMMAND, signed.command),
        'command-channel': command.channel === this.trust.channel,
        'command-genesis': command.genesis_sha256.equals(this.trust.genesis),
      });
      if (signed.delegation) return { signed, author: this.#delegator(signed, command) };
      check({ 'no-delegation': command.delegation_sha256.length === 0 });
      return { signed, author: signer };
    }
    throw new NotProven("nobody's command");
  }

  // For whom a device signed.
  #delegator(signed, command) {
    const raw = signed.delegation.delegation;
    const delegation = reading(() => decode('command.v1.Delegation', raw));
    const key = this.#certified(delegation.delegator);
    check({
      'delegation-sha256': sha256(raw).equals(command.delegation_sha256),
      delegate: delegation.delegate === signed.signer,
      'delegation-channel': delegation.channel === command.channel,
      'delegation-genesis': delegation.genesis_sha256.equals(command.genesis_sha256),
      'delegation-signature': isSigned(key, signed.delegation.signature, DELEGATION, raw),
    });
    return delegation.delegator;
  }

  // The step "Whose key it is".
  #certified(address) {
    if (this.keys.has(address)) return this.keys.get(address);
    for (const signed of this.registrations) {
      if (signed.signer !== address) continue;
      const body = reading(() => parse(signed)[1].register_identity);
      const key = body.signing_public_key;
      const certificate = reading(() => new crypto.X509Certificate(body.enrolment_certificate));
      check({
        'registered-signer': body.address === address,
        'registered-address': addressOf(key) === address,
        'registration-signature': isSigned(key, signed.signature, COMMAND, signed.command),
        'enrolment-root': isIssued(this.trust, certificate, body.home_msp),
        'enrolment-key': certificate.publicKey.export({ type: 'spki', format: 'der' }).equals(key),
        'enrolment-role': `ROLE_${roleOf(certificate).toUpperCase()}` === body.role,
      });
      this.keys.set(address, key);
      return key;
    }
    throw new NotProven("nobody's key");
  }
}
