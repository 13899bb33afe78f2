"""Evidence of what the channel holds, checked by whoever reads it: the members' peers for what is committed,
the author's own signature for what was meant. The gateway and the ledger service that hand it out are not
believed in anything.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.command.v1.state_pb2 import AuditEntry, RecordVersion
from cbmdhi.ledger.v1.ledger_pb2 import Evidence
from cbmdhi.protocol import authorship, command, proof, registration
from cbmdhi.protocol.authorship import Authorship
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.proof import ProofError, Trust
from cbmdhi.protocol.state_keys import audit_key, record_key


@dataclass(frozen=True)
class ProvenVersion:
    """A version of a record that stands on the channel as its author signed it.

    endorsers  MSP ids of the members whose peers hold it
    signed     the author's command
    """

    record: RecordVersion
    endorsers: tuple[str, ...]
    signed: pb.SignedCommand


@dataclass(frozen=True)
class ProvenCommand:
    """A command that stands on the channel: `entry` says what was decided, `signed` is the word of `who`."""

    entry: AuditEntry
    endorsers: tuple[str, ...]
    signed: pb.SignedCommand
    who: Authorship


@dataclass
class People:
    """What was checked of those who sign, and never changes: an address is the hash of its key.

    keys         DER SubjectPublicKeyInfo that a member's Fabric CA certified, by address
    delegations  digests of delegations, each with its delegator's signature
    """

    keys: dict[str, bytes] = field(default_factory=dict[str, bytes])
    delegations: set[bytes] = field(default_factory=set[bytes])

    def __len__(self) -> int:
        return len(self.keys) + len(self.delegations)


@dataclass
class Checked:
    """Evidence, checked when something is asked of it: its endorsements once, and then what it says of a
    version or a command. All of it raises ProofError.

    people     who was checked already, by the same `trust`
    of_member  MSP id of the member whose word it is that something is committed; empty: a majority's
    """

    evidence: Evidence
    trust: Trust
    channel: Channel
    people: People = field(default_factory=People)
    of_member: str = ""

    @cached_property
    def state(self) -> proof.VerifiedState:
        """What the peers endorsed. Raises ProofError."""
        return proof.verify_state(self.evidence.endorsed_state, self.trust, of_member=self.of_member)

    def version(self, record_id: str, version: int) -> ProvenVersion:
        """A version of a record: committed at a majority, its commitment signed by its author."""
        value = self._value(record_key(record_id, version), "no such version of the record is committed")
        try:
            record = RecordVersion.FromString(value)
        except DecodeError as error:
            raise ProofError("state", "the committed value is not a version of a record") from error
        signed, who = self._by(record.command_id, record.signed_by)
        body = command.body_of(signed)[1]
        meant = (record.record_id, record.version, record.patient, record.category, record.content_commitment)
        if (record.record_id, record.version) != (record_id, version) or not isinstance(body, pb.PutRecord):
            raise ProofError("state", "the committed value is another's")
        if who.author != record.author:
            raise ProofError("author", "it was written for another author than is committed")
        if meant != (body.record_id, body.version, body.patient, body.category, body.content_commitment):
            raise ProofError("author", "the author signed something else than what is committed")
        return ProvenVersion(record, self.state.endorsers, signed)

    def command(self, command_id: str, signer: str = "") -> ProvenCommand:
        """A command by its id; by whom, where somebody else's under the same id would do harm."""
        signers = [signer] if signer else [one.signer for one in self._signed.get(command_id, ())]
        for one in signers:
            value = self.state.values.get(audit_key(command_id, one))
            if value:
                break
        else:
            raise ProofError("verdict", "no such command is committed")
        try:
            entry = AuditEntry.FromString(value)
        except DecodeError as error:
            raise ProofError("state", "the committed value is not an audit entry") from error
        signed, who = self._by(command_id, entry.signer)
        if hashlib.sha256(signed.command).digest() != entry.command_sha256:
            raise ProofError("author", "the signer signed something else than what is committed")
        return ProvenCommand(entry, self.state.endorsers, signed, who)

    def _value(self, key: str, otherwise: str) -> bytes:
        value = self.state.values.get(key)
        if not value:
            raise ProofError("state", otherwise)
        return value

    @cached_property
    def _signed(self) -> dict[str, list[pb.SignedCommand]]:
        found: dict[str, list[pb.SignedCommand]] = {}
        for signed in self.evidence.commands:
            try:
                found.setdefault(command.parse(signed)[0].command_id, []).append(signed)
            except command.MalformedCommand as error:
                raise ProofError("author", str(error)) from error
        return found

    @cached_property
    def _registrations(self) -> dict[str, pb.SignedCommand]:
        return {one.signer: one for one in self.evidence.registrations}

    def _by(self, command_id: str, signer: str) -> tuple[pb.SignedCommand, Authorship]:
        """The command of that signer and who means it, with every signature on it checked."""
        for signed in self._signed.get(command_id, ()):
            if signed.signer == signer:
                return signed, self._check(signed)
        raise ProofError("author", "the signer's signature is missing")

    def _check(self, signed: pb.SignedCommand) -> Authorship:
        try:
            claimed = authorship.claimed(signed)
            keys = {address: self._key(address) for address in (claimed.author, claimed.signed_by)}
            who = authorship.check(signed, keys, self.people.delegations)
            header = command.parse(signed)[0]
            command.body_of(signed)
        except (authorship.NotMeant, command.MalformedCommand) as error:
            raise ProofError("author", str(error)) from error
        if (header.channel, header.genesis_sha256) != (self.channel.name, self.channel.genesis_sha256):
            raise ProofError("author", "the command was signed for another channel")
        return who

    def _key(self, address: str) -> bytes:
        known = self.people.keys.get(address)
        if known is None:
            registered = self._registrations.get(address)
            if registered is None:
                raise ProofError("author", "the signer's registration is missing")
            try:
                known = registration.certified_key(address, registered, self.trust.member_roots)
            except registration.NotCertified as error:
                raise ProofError("author", str(error)) from error
            self.people.keys[address] = known
        return known
