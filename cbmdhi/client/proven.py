"""Versions of records that were proven to this wallet: what a version is never changes, so once is enough."""

from __future__ import annotations

from collections import OrderedDict
from functools import cached_property

from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError
from cbmdhi.ledger.v1.ledger_pb2 import Evidence
from cbmdhi.protocol import proof
from cbmdhi.protocol.evidence import Checked, People, ProvenVersion
from cbmdhi.wallet import Wallet

_MOST = 10_000
"""Versions that are remembered, of some 1 kB each."""

_MOST_KEYS = 10_000
"""Authors' keys and delegations, of some 100 bytes each."""


class Proven:
    """Checks evidence by the roots that the wallet pinned. Raises MeshError INTEGRITY."""

    def __init__(self, wallet: Wallet, most: int = _MOST) -> None:
        self._wallet = wallet
        self._most = most
        self._known: OrderedDict[tuple[str, int], ProvenVersion] = OrderedDict()
        self._people = People()

    @cached_property
    def trust(self) -> proof.Trust:
        """What the wallet pinned."""
        return proof.Trust.of(self._wallet.consortium)

    def knows(self, record_id: str, version: int) -> bool:
        """True when no more evidence is needed of a version."""
        return (record_id, version) in self._known

    def checking(self, given: Evidence) -> Checked:
        """Evidence that is to be checked, for several versions at once."""
        if len(self._people) > _MOST_KEYS:
            self._people = People()
        return Checked(given, self.trust, self._wallet.consortium.signed_channel, self._people)

    def version(self, record_id: str, version: int, given: Checked | None) -> ProvenVersion:
        """The version, from memory or from the evidence."""
        place = record_id, version
        known = self._known.get(place)
        if known is None:
            if given is None:
                raise _not_proven("the gateway gave no evidence of it")
            try:
                known = given.version(record_id, version)
            except proof.ProofError as error:
                raise _not_proven(error) from error
            self._known[place] = known
        self._known.move_to_end(place)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return known


def _not_proven(why: object) -> MeshError:
    return MeshError(
        code_pb2.CODE_INTEGRITY,
        f"what was read is not proven, so it is not shown: {why}; ask another member's gateway",
    )
