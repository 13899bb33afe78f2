"""A member's storage over a Kubo node and a wire that are not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.state_pb2 import ReplicaReceipt
from cbmdhi.protocol import car
from cbmdhi.protocol import cid as cids
from services.runtime.byte_budget import ByteBudget
from services.runtime.clock import now_ms
from services.runtime.errors import MeshError
from services.runtime.revocations import Revocations
from services.runtime.sqlite import Database
from services.runtime.telemetry import Metrics
from services.storage.channel.consents import Consents
from services.storage.channel.identity_cache import IdentityCache
from services.storage.domain import batch
from services.storage.domain.batch import MAX_BATCH_BYTES, MIB, Packed, Root
from services.storage.domain.lease import Lease, Quota
from services.storage.metrics import StorageMetrics
from services.storage.release.decision_proofs import DecisionProofs
from services.storage.release.key_release import KeyRelease
from services.storage.release.record_opener import RecordOpener
from services.storage.release.release_log import ReleaseLog
from services.storage.release.writer_key_opener import WriterKeyOpener
from services.storage.sealing.sealer import Sealer
from services.storage.sealing.writer_keys import WriterKeys
from services.storage.store.batch_store import BatchStore
from services.storage.store.blobs import Blobs
from services.storage.store.block_cache import BlockCache
from services.storage.store.blocks import Blocks
from services.storage.store.garbage_collector import GarbageCollector
from services.storage.store.lease_settler import LeaseSettler
from services.storage.store.leases import Leases
from services.storage.store.pins import Pins
from services.storage.store.receipts import Receipts
from services.storage.store.replica_host import ReplicaHost
from services.storage.store.replicas import Replicas
from services.storage.vault import Vault
from tests.support.channel import CHANNEL
from tests.support.fakes.committed_channel import Channel, FakeLedger


class FakeKubo:
    """Blocks and pins in memory; `down`: it does not answer."""

    def __init__(self) -> None:
        self.blocks: dict[str, bytes] = {}
        self.pinned: set[str] = set()
        self.calls: Counter[str] = Counter()
        self.down = False

    async def import_car(self, root_cid: str, packed: bytes) -> None:
        self._answer()
        _, blocks = car.read(packed, batch.MAX_BLOCKS)
        # Like Kubo, it does not write what it has already.
        self.blocks = {cids.from_bytes(name): data for name, data in blocks} | self.blocks
        if root_cid not in self.blocks:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "nothing to pin")
        self.pinned.add(root_cid)

    async def pin_roots(self, roots: Sequence[Root]) -> None:
        self._answer()
        self.calls["pin_roots"] += 1
        for root in roots:
            cids.check(root.cid, root.block)
            # Like Kubo, it does not look whether what is linked is here.
            self.blocks[root.cid] = root.block
            self.pinned.add(root.cid)

    async def unpin(self, root_cids: Sequence[str]) -> None:
        self._answer()
        self.calls["unpin"] += 1
        self.pinned.difference_update(root_cids)

    async def remove(self, cids: Sequence[str]) -> int:
        self._answer()
        gone = {cid for cid in cids if cid in self.blocks} - self.kept()
        for cid in gone:
            del self.blocks[cid]
        return len(gone)

    async def get(self, cid: str) -> bytes | None:
        self._answer()
        data = self.blocks.get(cid)
        if data is None:
            return None
        try:
            cids.check(cid, data)
        except cids.HashMismatch as exc:
            raise MeshError(code_pb2.CODE_INTEGRITY, "damaged") from exc
        return data

    def kept(self) -> set[str]:
        """What a garbage collection would leave: pinned roots and what they link to."""
        kept = set(self.pinned)
        for root in self.pinned:
            if cids.to_bytes(root)[1] == cids.DAG_CBOR:
                kept |= {cids.from_bytes(link) for link in cids.links(self.blocks[root])}
        return kept

    def _answer(self) -> None:
        if self.down:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "down")


class Wire:
    """The other members as one member reaches them; `down`: who does not answer; `asked`: for keys."""

    def __init__(self, own: str, hospitals: dict[str, Hospital]) -> None:
        self.own = own
        self.down: set[str] = set()
        self.lying: set[str] = set()
        self.asked: list[str] = []
        self._hospitals = hospitals

    @property
    def msps(self) -> tuple[str, ...]:
        return tuple(msp for msp in self._hospitals if msp != self.own)

    async def replicate(self, msp: str, packed: Packed, lease: Lease, seconds: float) -> ReplicaReceipt:
        hosting = self._reach(msp).hosting
        receipt = await hosting.replicate(self.own, packed.car, packed.root_cid, lease.contents)
        if msp in self.lying:
            receipt.held_at_ms += 1
        return receipt

    async def release_key(
        self, msp: str, tx_id: str, command_id: str, header: bytes, seconds: float
    ) -> bytes:
        self.asked.append(msp)
        sealed = await self._reach(msp).releasing.release(tx_id, command_id, header)
        return b"the data key in clear" if msp in self.lying else sealed

    async def fetch_block(self, msp: str, cid: str) -> bytes:
        block = await self._reach(msp).blocks.own(cid)
        return b"something else" if msp in self.lying else block

    def _reach(self, msp: str) -> Hospital:
        if msp in self.down:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "no answer")
        return self._hospitals[msp]


class Hospital:
    """A member's storage, put together as `__main__` does. `clock_ms` is what it believes the time is."""

    def __init__(
        self,
        msp: str,
        channel: Channel,
        hospitals: dict[str, Hospital],
        database: Database,
        database_file: Path,
        vault_key: bytes,
        kubo: FakeKubo,
        signing_key: object,
        revocations: Revocations,
    ) -> None:
        self.msp = msp
        self.revocations = revocations
        self.clock_ms = now_ms
        self.registry = CollectorRegistry()
        registry = Metrics("storage", self.registry)
        self.metrics = metrics = StorageMetrics(registry)
        self.kubo = kubo
        self.database = database
        self.ledger = FakeLedger(channel, msp)
        self.wire = Wire(msp, hospitals)
        self.vault = Vault(database, database_file, msp, vault_key)
        self.leases = Leases(database)
        self.recent = BlockCache(MIB)
        self.pins = Pins(self.leases, self.kubo, self.recent)
        receipts = Receipts(msp, CHANNEL.genesis_sha256, signing_key)  # type: ignore[arg-type]
        self.batch_store = BatchStore(
            msp,
            self.leases,
            self.pins,
            Replicas(self.wire, receipts, metrics, push_seconds=5, spare_seconds=5),
            receipts,
            lambda: self.clock_ms(),
        )
        self.settler = LeaseSettler(
            *(msp, self.leases, self.pins, self.ledger, metrics, lambda: self.clock_ms()), every_seconds=0.01
        )
        self.collector = GarbageCollector(
            self.leases, self.pins, self.kubo, metrics, every_seconds=0.01, quiet_seconds=0.0
        )
        self.blocks = Blocks(msp, self.kubo, self.recent, self.pins, self.wire, metrics)
        decisions = DecisionProofs(
            self.ledger,
            lambda: self.clock_ms(),
            wait_seconds=5,
            max_age_seconds=600,
            max_skew_seconds=60,
        )
        self.identities = IdentityCache(self.ledger, revocations, registry)
        self.decisions = decisions
        self.unwrapping = unwrapping = WriterKeyOpener(msp, self.ledger, self.vault, metrics)
        self.consents = Consents(self.ledger, registry)
        self.releases = ReleaseLog(database, lambda: self.clock_ms(), kept_seconds=660)
        self.releasing = KeyRelease(
            *(decisions, self.identities, unwrapping, self.consents, self.releases, metrics)
        )
        self.opening = RecordOpener(msp, self.releasing, self.blocks, self.wire, metrics, release_seconds=5)
        budget = ByteBudget(3 * MAX_BATCH_BYTES)
        self.writer_keys = WriterKeys(self.vault, self.ledger)
        self.sealing = Sealer(
            msp,
            self.ledger,
            self.identities,
            self.writer_keys,
            self.batch_store,
            self.leases,
            self.recent,
            budget,
            metrics,
            lambda: self.clock_ms(),
        )
        self._budget, self._receipts = budget, receipts
        self.host_within(Quota(batches=1_000, size=256 * MIB))
        self.blobs = Blobs(msp, self.ledger, self.batch_store, self.blocks, self.leases)

    def host_within(self, quota: Quota) -> None:
        """What each other member may have open here."""
        self.hosting = ReplicaHost(
            *(self.pins, self.recent, self._budget, self._receipts, self.metrics, self.clock), quota=quota
        )

    def clock(self) -> int:
        """Unix ms."""
        return self.clock_ms()

    def pass_time(self, seconds: float) -> None:
        """Its clock goes on by so much."""
        earlier = self.clock_ms
        self.clock_ms = lambda: earlier() + int(seconds * 1000)

    def count(self, series: str, **labels: str) -> float:
        """Value of `cbmdhi_storage_<series>`."""
        return self.registry.get_sample_value(f"cbmdhi_storage_{series}", labels) or 0.0
