"""What a group has to pass before anything of it is sealed, in this order:

    form         channel, membership of the group, bodies
    contents     one for each PutRecord
    signature    by the signer's registered key; delegation by the delegator's
                 (sent before? then the first receipts are the answer: resubmissions.py)
    times        lifetime, and a clock that is not ahead
    status       signer and delegator may act now; the patient is registered
    life left    enough to seal the contents and have the command decided
    content      length, commitment, FHIR, and that it says what the command says

The rules themselves are in services/gateway/domain. What is refused here is never stored. The chaincode
checks all of it again, except for the content, which it never sees.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import PutRecord, Role
from cbmdhi.command.v1.state_pb2 import IdentityDocument
from cbmdhi.gateway.v1.gateway_pb2 import Content
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol.channel import Channel
from services.gateway.backends.identity_cache import IdentityCache
from services.gateway.domain import contents as content_rules
from services.gateway.domain import delegation as delegations
from services.gateway.domain import group as rules
from services.gateway.domain import membership
from services.gateway.domain.fhir import ResourceChecker
from services.gateway.domain.group import Parsed
from services.gateway.fhir.large_contents import check_content
from services.gateway.pipeline.submission import Submission
from services.runtime.refusal import Refused
from services.runtime.side_process import SideProcess

_SIGNER_SECONDS = 5.0
# Whether a patient is registered at all, which does not change.
_PATIENT_SECONDS = 6 * 60 * 60.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What a command is checked by.

    known   the identities that it names, by address; None for one that is not registered
    now_ms  clock, in milliseconds since 1970
    """

    channel: Channel
    known: Mapping[str, IdentityDocument | None]
    now_ms: Callable[[], int]


def signature(parsed: Parsed, facts: Facts) -> None:
    """By the registered key."""
    rules.check_signature(parsed, facts.known.get(parsed.signed.signer))


def delegation(parsed: Parsed, facts: Facts) -> None:
    """A delegation is its delegator's own, for this device and channel."""
    if (found := delegations.of_command(parsed)) is not None:
        delegations.check(parsed, found, facts.known.get(found.delegator), facts.channel)


def times(parsed: Parsed, facts: Facts) -> None:
    """Lifetime and clock."""
    rules.check_times(parsed, facts.now_ms())


def signer_status(parsed: Parsed, facts: Facts) -> None:
    """The signer is active, and an administrator where a policy is proposed."""
    signer = facts.known.get(parsed.signed.signer)
    rules.check_active(parsed, signer)
    rules.check_proposer(parsed, signer)


def delegation_status(parsed: Parsed, facts: Facts) -> None:
    """A delegation has not ended, and the delegator is active."""
    if (found := delegations.of_command(parsed)) is not None:
        delegations.check_status(found, facts.known.get(found.delegator), facts.now_ms())


def patient_status(parsed: Parsed, facts: Facts) -> None:
    """The patient of a record is registered."""
    if (put := parsed.put) is not None:
        patient = facts.known.get(put.patient)
        if patient is None or patient.role != Role.ROLE_PATIENT:
            raise Refused(
                code_pb2.CODE_NOT_FOUND,
                "no patient is registered under this address: check it, or have the patient register",
                "body.put_record.patient",
            )


def life_left(parsed: Parsed, facts: Facts) -> None:
    """There is time to seal what a PutRecord names."""
    if parsed.put is not None:
        rules.check_life_left(parsed, facts.now_ms())


CommandCheck = Callable[[Parsed, Facts], None]
"""One check of one command. Raises Refused."""

AUTHENTIC: tuple[CommandCheck, ...] = (signature, delegation)
"""Before these nobody knows who sent it: nothing is told to the sender, and nothing asked of the ledger."""
SIGNED_HERE: tuple[CommandCheck, ...] = (delegation,)
"""The same for what the gateway's own device has just signed."""
PERMITTED: tuple[CommandCheck, ...] = (times, signer_status, delegation_status, patient_status, life_left)
"""Of what was not sent before."""


class Checks:
    """The list, for groups. Raises Refused, with the index of the command that is to blame.

    members  MSP ids of the channel's
    side_process  checks large contents, which would hold up the event loop
    """

    def __init__(
        self,
        identities: IdentityCache,
        channel: Channel,
        members: Collection[str],
        checker: ResourceChecker,
        side_process: SideProcess,
        clock_ms: Callable[[], int],
    ) -> None:
        self._identities = identities
        self._channel = channel
        self._members = members
        self._checker = checker
        self._side_process = side_process
        self._clock_ms = clock_ms

    async def facts(self, submissions: Iterable[Submission]) -> Facts:
        """All whom these groups name, looked up together. Raises MeshError.

        What is no address is not asked about: it is refused by its form, and shall harm no neighbour.
        """
        acting: set[str] = set()
        patients: set[str] = set()
        for parsed in (parsed for one in submissions for parsed in one.commands):
            if parsed.registration is None:
                acting.add(parsed.signed.signer)
            if parsed.signed.HasField("delegation"):
                acting.update(_delegator(parsed))
            if (put := parsed.put) is not None:
                patients.add(put.patient)
        known = await self._identities.several(_addresses(patients), _PATIENT_SECONDS)
        known |= await self._identities.several(_addresses(acting), _SIGNER_SECONDS)
        return Facts(self._channel, known, self._clock_ms)

    def authenticate(self, one: Submission, facts: Facts) -> None:
        """Form, contents and signatures: whose it is."""
        rules.check_form(one.commands, self._channel, self._members)
        membership.check(one.commands)
        one.matched = content_rules.match(one.commands, one.contents)
        _check_each(one.commands, SIGNED_HERE if one.signed_here else AUTHENTIC, facts)
        one.caller = delegations.acting_for(one.commands[0]) if one.client is None else one.client.address

    def permit(self, one: Submission, facts: Facts) -> None:
        """That it may be done now."""
        _check_each(one.commands, PERMITTED, facts)

    def check_contents(self, one: Submission) -> None:
        """Each content, here."""
        for put, content, at in _puts(one):
            with at:
                content_rules.check(put, content, self._checker)

    async def check_large_contents(self, one: Submission) -> None:
        """Each content, in a process of its own. Raises MeshError too."""
        for put, content, at in _puts(one):
            with at:
                await self._side_process.run(
                    check_content,
                    put.SerializeToString(),
                    content.SerializeToString(),
                    caller=one.caller,
                    size=len(content.content),
                    ends_at=one.ends_at,
                )


def _check_each(commands: Sequence[Parsed], checks: Iterable[CommandCheck], facts: Facts) -> None:
    for index, parsed in enumerate(commands):
        with _blamed_on(index):
            for check in checks:
                check(parsed, facts)


class _blamed_on:
    """What is refused in the block is the fault of this command of the group."""

    __slots__ = ("_index",)

    def __init__(self, index: int) -> None:
        self._index = index

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(self, _: object, why: BaseException | None, __: object) -> None:
        if isinstance(why, Refused):
            raise why.at(self._index) from why


def _puts(one: Submission) -> Iterator[tuple[PutRecord, Content, _blamed_on]]:
    for index, content in one.matched.items():
        yield one.commands[index].put or PutRecord(), content, _blamed_on(index)


def _addresses(named: Iterable[str]) -> list[str]:
    return [one for one in named if addresses.is_address(one)]


def _delegator(parsed: Parsed) -> set[str]:
    try:
        found = delegations.of_command(parsed)
    except Refused:
        return set()  # said where it is checked
    return {found.delegator} if found is not None else set()
