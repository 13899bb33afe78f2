"""Authorised reads: decided on the channel, the key released, decrypted here, compared with what was sent."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from hashlib import sha256

import grpc

from bench.load.plan import READ
from bench.load.tally import Kept, Stands, Tally
from cbmdhi.client import Client
from cbmdhi.client.records import Reading
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, from_rpc

_PURPOSE = "TREAT"


class Readings:
    """Clinicians of the other member, in turn, read records at random under the patients' consents."""

    def __init__(
        self, readers: Sequence[Client], targets: Sequence[Kept], tally: Tally, clock: Callable[[], float]
    ) -> None:
        self._readers = itertools.cycle(readers)
        self._targets = targets
        self._tally = tally
        self._clock = clock
        self._chance = random.Random(0)  # noqa: S311 - not a secret

    async def chart(self, numbers: Sequence[int]) -> None:
        """Readings by one clinician in one call; each has its result noted under its number."""
        reader, wanted = next(self._readers), self._chance.choices(self._targets, k=len(numbers))
        for number, kept, reading in zip(numbers, wanted, await _read(reader, wanted), strict=True):
            self._note(number, kept, reading)

    def _note(self, number: int, wanted: Kept, reading: Reading | MeshError) -> None:
        if isinstance(reading, MeshError):
            self._tally.note(number, READ, reading.code, self._clock())
            return
        if sha256(reading.content).digest() != wanted.content_sha256:
            self._tally.problems["a record does not read as it was written"] += 1
        receipt = reading.receipt
        self._tally.note(number, READ, code_pb2.CODE_OK, self._clock())
        self._tally.stands[number] = Stands(
            receipt.tx_id, receipt.block, receipt.command_id, receipt.signer, receipt.code, "", ""
        )


async def _read(reader: Client, wanted: Sequence[Kept]) -> Sequence[Reading | MeshError]:
    """A single one as those read who want one, several as a chart."""
    places = [(kept.patient, kept.record_id, 1) for kept in wanted]
    try:
        if len(places) == 1:
            return [await reader.records.read(*places[0], _PURPOSE)]
        return await reader.records.read_many(places, _PURPOSE)
    except MeshError as error:
        return [error] * len(wanted)
    except grpc.aio.AioRpcError as error:
        return [from_rpc(error)] * len(wanted)
