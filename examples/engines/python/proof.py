"""What the members' peers signed, checked as docs/verification.md says: no gateway is believed."""

from __future__ import annotations

import datetime
import hashlib
import json
from dataclasses import dataclass
from typing import Any, Self

from commands import parse
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from fabric_protos.common import common_pb2
from fabric_protos.msp import identities_pb2
from fabric_protos.peer import chaincode_pb2, proposal_pb2, proposal_response_pb2, transaction_pb2
from google.protobuf.message import DecodeError
from keys import COMMAND, DELEGATION, Refused, address_of, is_signature, is_signed

from cbmdhi.command.v1 import command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2

_ATTRIBUTES = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1")


class NotProven(Refused):
    """`check` names the check of docs/verification.md that does not hold."""

    def __init__(self, check: str) -> None:
        super().__init__(f"not proven: {check}")
        self.check = check


def check(**checks: bool) -> None:
    """Raise NotProven, naming the first that does not hold: `tx_id` is the check `tx-id`."""
    for name, holds in checks.items():
        if not holds:
            raise NotProven(name.replace("_", "-"))


@dataclass(frozen=True)
class Trust:
    """What is pinned."""

    channel: str
    genesis: bytes
    chaincode: str
    roots: dict[str, list[x509.Certificate]]

    @classmethod
    def of(cls, consortium: dict[str, Any]) -> Self:
        """From consortium.json."""
        roots = {
            member["msp_id"]: x509.load_pem_x509_certificates(member["ca_pem"].encode())
            for member in consortium["members"]
        }
        genesis = bytes.fromhex(consortium["genesis_sha256"])
        return cls(consortium["channel"], genesis, consortium["chaincode"], roots)

    def issued(self, certificate: x509.Certificate, msp_id: str) -> bool:
        """Whether one of the member's roots issued it directly."""
        return any(_is_issued(certificate, root) for root in self.roots.get(msp_id, []))


class Proof:
    """Evidence whose endorsements hold. Raises NotProven, as all methods do."""

    # [start:proof]
    def __init__(self, trust: Trust, evidence: ledger_pb2.Evidence) -> None:
        """Check the endorsements: docs/verification.md, "What the peers hold"."""
        self._trust = trust
        self._commands = list(evidence.commands)
        self._registrations = list(evidence.registrations)
        self.keys: dict[str, bytes] = {}
        try:
            payload = common_pb2.Payload.FromString(evidence.endorsed_state)
            channel = common_pb2.ChannelHeader.FromString(payload.header.channel_header)
            header = common_pb2.SignatureHeader.FromString(payload.header.signature_header)
            actions = transaction_pb2.Transaction.FromString(payload.data).actions
            check(type=channel.type == common_pb2.ENDORSER_TRANSACTION, one_action=len(actions) == 1)
            action = transaction_pb2.ChaincodeActionPayload.FromString(actions[0].payload)
            endorsed = action.action
            response = proposal_response_pb2.ProposalResponsePayload.FromString(
                endorsed.proposal_response_payload
            )
            answered = proposal_pb2.ChaincodeAction.FromString(response.extension)
            proposal = proposal_pb2.ChaincodeProposalPayload.FromString(action.chaincode_proposal_payload)
            invocation = chaincode_pb2.ChaincodeInvocationSpec.FromString(proposal.input)
            args = invocation.chaincode_spec.input.args
            asked = hashlib.sha256(
                payload.header.channel_header
                + payload.header.signature_header
                + action.chaincode_proposal_payload
            ).digest()
            check(
                channel=channel.channel_id == trust.channel,
                chaincode=answered.chaincode_id.name == trust.chaincode,
                tx_id=channel.tx_id == hashlib.sha256(header.nonce + header.creator).hexdigest(),
                status=answered.response.status == 200,
                two_arguments=len(args) == 2,
                query=args[:1] == [b"query"],
                proposal_hash=response.proposal_hash == asked,
                majority=len(self._endorsers(channel, endorsed)) >= len(trust.roots) // 2 + 1,
            )
            keys = state_pb2.Query.FromString(args[1]).get_keys.keys
            values = state_pb2.QueryResult.FromString(answered.response.payload).values
        except DecodeError as error:
            raise NotProven("bytes that cannot be read") from error
        check(as_many_values=len(keys) == len(values))
        self._values = dict(zip(keys, values, strict=True))

    def _endorsers(self, channel: Any, endorsed: Any) -> set[str]:
        """The members of which a peer signed. What does not count is passed over."""
        at = datetime.datetime.fromtimestamp(channel.timestamp.ToSeconds(), datetime.UTC)
        found: set[str] = set()
        for endorsement in endorsed.endorsements:
            try:
                endorser = identities_pb2.SerializedIdentity.FromString(endorsement.endorser)
                certificate = x509.load_pem_x509_certificate(endorser.id_bytes)
            except (DecodeError, ValueError):
                continue
            units = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
            message = endorsed.proposal_response_payload + endorsement.endorser
            if (
                self._trust.issued(certificate, endorser.mspid)
                and certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc
                and "peer" in [unit.value for unit in units]
                and is_signature(_spki(certificate), endorsement.signature, message)
            ):
                found.add(endorser.mspid)
        return found

    # [end:proof]

    def decided(
        self, command_id: str, signer: str
    ) -> tuple[state_pb2.AuditEntry, command_pb2.SignedCommand, str]:
        """The step "A command and its verdict": the entry, the command, its author."""
        value = self._values.get(f"z/{command_id}/aud/{signer}")
        check(decided=bool(value))
        entry = state_pb2.AuditEntry.FromString(value or b"")
        signed, author = self._meant(command_id, entry.signer)
        check(command_sha256=hashlib.sha256(signed.command).digest() == entry.command_sha256)
        return entry, signed, author

    def version(self, record_id: str, number: int, patient: str) -> tuple[state_pb2.RecordVersion, str]:
        """The step "A version of a record", and its author."""
        value = self._values.get(f"z/{record_id}/rec/{number:08x}")
        check(present=bool(value))
        version = state_pb2.RecordVersion.FromString(value or b"")
        check(
            asked_for=(version.record_id, version.version) == (record_id, number),
            patient=version.patient == patient,
        )
        signed, author = self._meant(version.command_id, version.signed_by)
        body = parse(signed)[1]
        check(put_record=body.HasField("put_record"), author=author == version.author)
        put = body.put_record
        names = ("record_id", "version", "patient", "category", "content_commitment")
        check(as_signed=all(getattr(put, name) == getattr(version, name) for name in names))
        return version, author

    def _meant(self, command_id: str, signer: str) -> tuple[command_pb2.SignedCommand, str]:
        """The step "Who meant it": the command of that id and signer, and its author."""
        for signed in self._commands:
            command = parse(signed)[0]
            if (command.command_id, signed.signer) != (command_id, signer):
                continue
            key = self._certified(signer)
            check(
                command_signature=is_signed(key, signed.signature, COMMAND, signed.command),
                command_channel=command.channel == self._trust.channel,
                command_genesis=command.genesis_sha256 == self._trust.genesis,
            )
            if signed.HasField("delegation"):
                return signed, self._delegator(signed, command)
            check(no_delegation=not command.delegation_sha256)
            return signed, signer
        raise NotProven("nobody's command")

    def _delegator(self, signed: command_pb2.SignedCommand, command: command_pb2.Command) -> str:
        """For whom a device signed."""
        raw = signed.delegation.delegation
        delegation = command_pb2.Delegation.FromString(raw)
        key = self._certified(delegation.delegator)
        check(
            delegation_sha256=hashlib.sha256(raw).digest() == command.delegation_sha256,
            delegate=delegation.delegate == signed.signer,
            delegation_channel=delegation.channel == command.channel,
            delegation_genesis=delegation.genesis_sha256 == command.genesis_sha256,
            delegation_signature=is_signed(key, signed.delegation.signature, DELEGATION, raw),
        )
        return delegation.delegator

    def _certified(self, address: str) -> bytes:
        """The step "Whose key it is"."""
        if address in self.keys:
            return self.keys[address]
        for signed in self._registrations:
            if signed.signer != address:
                continue
            body = parse(signed)[1].register_identity
            key = body.signing_public_key
            certificate = x509.load_der_x509_certificate(body.enrolment_certificate)
            role = command_pb2.Role.Name(body.role).removeprefix("ROLE_").lower()
            check(
                registered_signer=body.address == address,
                registered_address=address_of(key) == address,
                registration_signature=is_signed(key, signed.signature, COMMAND, signed.command),
                enrolment_root=self._trust.issued(certificate, body.home_msp),
                enrolment_key=_spki(certificate) == key,
                enrolment_role=_role(certificate) == role,
            )
            self.keys[address] = key
            return key
        raise NotProven("nobody's key")


def _is_issued(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _role(certificate: x509.Certificate) -> str:
    """The attribute cbmdhi.role that Fabric CA writes into a certificate."""
    for extension in certificate.extensions:
        if extension.oid == _ATTRIBUTES and isinstance(extension.value, x509.UnrecognizedExtension):
            return json.loads(extension.value.value)["attrs"].get("cbmdhi.role", "")
    return ""
