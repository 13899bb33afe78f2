"""Authorised reads: decided on the channel, the key released, decrypted here, compared with what was sent."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from hashlib import sha256

import grpc

from cbmdhi.client import Client
from cbmdhi.command.v1 import code_pb2
from cbmdhi.errors import MeshError, from_rpc
from cbmdhi.hammer.plan import READ
from cbmdhi.hammer.tally import Kept, Stands, Tally

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

    async def one(self, number: int) -> None:
        """One reading; its result is noted under that number."""
        reader, wanted = next(self._readers), self._chance.choice(self._targets)
        try:
            reading = await reader.records.read(wanted.patient, wanted.record_id, 1, _PURPOSE)
        except MeshError as error:
            self._tally.note(number, READ, error.code, self._clock())
            return
        except grpc.aio.AioRpcError as error:
            self._tally.note(number, READ, from_rpc(error).code, self._clock())
            return
        if sha256(reading.content).digest() != wanted.content_sha256:
            self._tally.problems["a record does not read as it was written"] += 1
        receipt = reading.receipt
        self._tally.note(number, READ, code_pb2.CODE_OK, self._clock())
        self._tally.stands[number] = Stands(
            receipt.tx_id, receipt.block, receipt.command_id, receipt.signer, receipt.code, "", ""
        )
