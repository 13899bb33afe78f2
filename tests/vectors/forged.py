"""The cases of evidence.json: one that holds, and for each check of docs/verification.md some that fail by it
alone. Who leaves that check out takes them."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol import address
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.state_keys import record_key
from tests.support.fakes.fabric_blocks import Organisation, Otherwise
from tests.vectors import story
from tests.vectors.commands import AUTHOR, DEVICE, delegation, put_record
from tests.vectors.fixed import CHANNEL, Fixed, Vectors, key, same, signed, uuid
from tests.vectors.story import Story

STRANGER = key(1030)
_STRANGERS = address.of_public_key(STRANGER.public_key())
_OTHER = hashlib.sha256(b"another").digest()
_CONFIG = 1  # of common.HeaderType
_ELSEWHERE = {"channel": Channel("other", CHANNEL.genesis_sha256), "genesis": Channel(CHANNEL.name, _OTHER)}


@dataclass(frozen=True)
class Case:
    """Evidence, and by which check it fails.

    check  by its name in docs/verification.md; empty: it holds
    fails  as `ProofError.check` calls it
    asks   for the version, or for the command
    """

    name: str
    check: str
    fails: str
    state: bytes
    commands: Sequence[pb.SignedCommand] = ()
    registrations: Sequence[pb.SignedCommand] = ()
    asks: str = "version"

    @property
    def vector(self) -> Vectors:
        """As it stands in the file."""
        other = {"commands_hex": self.commands, "registrations_hex": self.registrations}
        return {
            "name": self.name,
            "valid": not self.check,
            "check": self.check,
            "fails": self.fails,
            "asks": self.asks,
            "endorsed_state_hex": self.state.hex(),
            **{field: [same(one).hex() for one in several] for field, several in other.items() if several},
        }


def cases(told: Story) -> Iterator[Case]:
    """All of them; keys are counted, so new ones come last."""
    yield from _of_endorsements(told)
    yield from _of_the_call(told)
    yield from _of_the_version(told)
    yield from _of_the_verdict(told)
    yield from _of_the_command(told)
    yield from _of_registrations(told)


def _of_endorsements(told: Story) -> Iterator[Case]:
    network, values = told.network, told.values
    mercy, lakeside = network.peers
    clients = [network.client, network.lakeside.issue("client")]
    good = network.state(values)
    self_made = Organisation("LakesideMSP", Fixed(4000))
    now = network.chance.now()
    early, late = (network.lakeside.issue("peer", now + datetime.timedelta(days=days)) for days in (-2, 1))
    yield Case("both members' peers hold it", "", "", good)
    by = {
        "one member's peer alone": ("majority", [mercy]),
        "one peer twice": ("members", [mercy, mercy]),
        "two peers of one member": ("members", [mercy, network.mercy.issue("peer")]),
        "signed by members' clients, not by peers": ("peer-unit", clients),
        "a peer of a root that somebody made under the member's name": (
            "peer-root",
            [mercy, self_made.issue("peer")],
        ),
        "a peer of one member that says it is another's": (
            "peer-root",
            [mercy, dataclasses.replace(network.mercy.issue("peer"), msp_id="LakesideMSP")],
        ),
        "a peer of who is no member": ("peer-root", [mercy, network.ordering.issue("peer")]),
        "a peer whose certificate was past": ("peer-validity", [mercy, early]),
        "a peer whose certificate was not valid yet": ("peer-validity", [mercy, late]),
        "signed by another key than the peer's": (
            "endorsement-signature",
            [mercy, dataclasses.replace(lakeside, key=STRANGER)],
        ),
    }
    for name, (check, endorsers) in by.items():
        yield Case(name, check, "endorsements", network.state(values, endorsers=endorsers))
    exchanged = good.replace(told.record.content.root_sha256, _OTHER)
    yield Case("a value exchanged after it was endorsed", "endorsement-signature", "endorsements", exchanged)


def _of_the_call(told: Story) -> Iterator[Case]:
    network, values = told.network, told.values
    otherwise = {
        "of another type": ("type", "state", Otherwise(kind=_CONFIG)),
        "of two actions": ("one-action", "state", Otherwise(actions=2)),
        "of another channel": ("channel", "transaction", Otherwise(channel="other")),
        "under another's id": ("tx-id", "transaction", Otherwise(tx_id=_OTHER.hex())),
        "refused by the chaincode": ("status", "transaction", Otherwise(status=500)),
        "with an argument too many": ("two-arguments", "transaction", Otherwise(arguments=(b"more",))),
        "an answer to another question": ("proposal-hash", "transaction", Otherwise(proposal_hash=_OTHER)),
        "more values than keys": ("as-many-values", "state", Otherwise(values=(b"more",))),
    }
    for name, (check, fails, forged) in otherwise.items():
        yield Case(name, check, fails, network.state(values, otherwise=forged))
    yield Case("of another chaincode", "chaincode", "transaction", network.state(values, chaincode="other"))
    batch = network.state(values, function=b"process")
    yield Case("of a batch, and not of a question", "query", "transaction", batch)


def _of_the_version(told: Story) -> Iterator[Case]:
    state, record = told.network.state, told.record

    def committed(name: str, check: str, fails: str, field: str, value: object) -> Case:
        """What the channel holds says otherwise than the command."""
        forged = type(record)()
        forged.CopyFrom(record)
        setattr(forged, field, value)
        return Case(name, check, fails, state(story.held(forged, told.entry)))

    def written(name: str, check: str, fails: str, field: str, value: object) -> Case:
        """The command says it as well."""
        body = put_record(story.RECORD_ID)
        setattr(body, field, value)
        return _written(told, name, check, fails, body)

    yield Case("the key is absent", "present", "state", state({story.PLACE: b""}))
    elsewhere = state({record_key(story.RECORD_ID, 2): same(record)})
    yield Case("another key was asked for", "present", "state", elsewhere)
    yield written("another version under the key", "asked-for", "state", "version", 2)
    yield written("another record under the key", "asked-for", "state", "record_id", uuid(60))
    yield written("a record of another patient", "patient", "patient", "patient", _STRANGERS)
    yield committed("another author than who meant it", "author", "author", "author", _STRANGERS)
    commitment = "a commitment that its author did not sign"
    yield committed(commitment, "as-signed", "author", "content_commitment", _OTHER)
    yield committed("a category that its author did not sign", "as-signed", "author", "category", "documents")
    for field, value in (("record_id", uuid(60)), ("version", 2), ("patient", _STRANGERS)):
        body = put_record(story.RECORD_ID)
        setattr(body, field, value)
        meant = story.write(body, DEVICE, delegation(AUTHOR, DEVICE))
        name = f"another {field} than its author signed"
        yield Case(name, "as-signed", "author", state(told.values), commands=[meant])
    access = pb.Access(patient=record.patient, record_id=story.RECORD_ID, version=1, purpose="TREAT")
    read = story.write(access, DEVICE, delegation(AUTHOR, DEVICE))
    yield Case("its author signed no PutRecord", "put-record", "state", state(told.values), commands=[read])


def _of_the_verdict(told: Story) -> Iterator[Case]:
    state, entry = told.network.state, told.entry
    yield Case("no verdict", "decided", "verdict", state({story.PLACE: same(told.record)}), asks="command")
    forged = type(entry)()
    forged.CopyFrom(entry)
    forged.command_sha256 = _OTHER
    values = story.held(told.record, forged)
    name = "a verdict about other bytes under the same id"
    yield Case(name, "command-sha256", "author", state(values), asks="command")


def _of_the_command(told: Story) -> Iterator[Case]:
    good, body = told.network.state(told.values), put_record(story.RECORD_ID)

    def signed_as(name: str, check: str, signed: pb.SignedCommand, state: bytes = good) -> Case:
        return Case(name, check, "author", state, commands=[signed])

    forged = signed(STRANGER, told.written.command, told.written.delegation)
    forged.signer = told.written.signer
    yield signed_as("a command that another key signed", "command-signature", forged)
    for what, channel in _ELSEWHERE.items():
        by_hand = story.write(body, AUTHOR, channel=channel)
        yield _in_person(told, f"a command for another {what}", f"command-{what}", by_hand)
    within = delegation(AUTHOR, DEVICE)
    stripped = story.write(body, AUTHOR, within)
    stripped.ClearField("delegation")
    yield _in_person(told, "a command without the delegation that it names", "no-delegation", stripped)
    beside = signed(DEVICE, told.written.command, delegation(AUTHOR, DEVICE, number=21))
    yield signed_as("within another delegation than the one beside it", "delegation-sha256", beside)
    others = delegation(AUTHOR, STRANGER)
    yield signed_as("within a delegation to another", "delegate", story.write(body, DEVICE, others))
    for what, channel in _ELSEWHERE.items():
        other = delegation(AUTHOR, DEVICE, channel=channel)
        name = f"within a delegation for another {what}"
        yield signed_as(name, f"delegation-{what}", story.write(body, DEVICE, other))
    self_given = delegation(AUTHOR, DEVICE, signed_by=DEVICE)
    name = "within a delegation that the device gave itself"
    yield signed_as(name, "delegation-signature", story.write(body, DEVICE, self_given))


def _of_registrations(told: Story) -> Iterator[Case]:
    good, mercy, (author, device) = told.network.state(told.values), told.network.mercy, told.people
    authors = author.signer

    def registered(
        name: str, check: str, one: pb.SignedCommand, commands: Sequence[pb.SignedCommand] = ()
    ) -> Case:
        return Case(name, check, "author", good, commands, registrations=[one, device])

    # Somebody else's key as the author's: all that it signs holds by that key.
    impostor = story.registered(mercy, STRANGER, "clinician", as_address=authors)
    body = put_record(story.RECORD_ID)
    within = story.write(body, DEVICE, delegation(AUTHOR, DEVICE, signed_by=STRANGER))
    name = "another's key under the author's address"
    yield registered(name, "registered-address", impostor, commands=[within])
    stated = story.registered(mercy, AUTHOR, "clinician", as_address=_STRANGERS)
    stated.signer = authors
    yield registered("a registration of another address", "registered-signer", stated)
    unsigned = story.registered(mercy, AUTHOR, "clinician", signed_by=STRANGER)
    yield registered("a registration that another signed", "registration-signature", unsigned)
    self_made = Organisation("MercyMSP", Fixed(4100))
    of_that = story.registered(self_made, AUTHOR, "clinician")
    yield registered("a certificate of a root made under the member's name", "enrolment-root", of_that)
    elsewhere = story.registered(told.network.lakeside, AUTHOR, "clinician", home_msp="MercyMSP")
    yield registered("a certificate of another member's root", "enrolment-root", elsewhere)
    another = story.registered(mercy, AUTHOR, "clinician", of_key=STRANGER)
    yield registered("a certificate of another key", "enrolment-key", another)
    promoted = story.registered(mercy, AUTHOR, "clinician", certified_as="device")
    yield registered("a certificate for another role", "enrolment-role", promoted)


def _written(told: Story, name: str, check: str, fails: str, body: pb.PutRecord) -> Case:
    written = story.write(body, DEVICE, delegation(AUTHOR, DEVICE))
    entry = story.entry_of(body, written, AUTHOR)
    state = told.network.state(story.held(story.version_of(body, written, AUTHOR), entry))
    return Case(name, check, fails, state, commands=[written])


def _in_person(told: Story, name: str, check: str, written: pb.SignedCommand) -> Case:
    """Without a device between."""
    body = put_record(story.RECORD_ID)
    record, entry = story.version_of(body, written, AUTHOR), story.entry_of(body, written, AUTHOR)
    return Case(name, check, "author", told.network.state(story.held(record, entry)), commands=[written])
