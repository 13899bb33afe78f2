"""The Kubo adapter against real Kubo 0.43 nodes in a private swarm."""

from __future__ import annotations

import secrets
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import car
from cbmdhi.protocol import cid as cids
from cbmdhi.protocol.ids import uuid7
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database
from services.runtime.telemetry import Metrics
from services.storage.domain import batch
from services.storage.domain.batch import Root
from services.storage.domain.lease import Content, Lease
from services.storage.metrics import StorageMetrics
from services.storage.schema import MIGRATIONS
from services.storage.store.block_cache import BlockCache
from services.storage.store.kubo import Kubo
from services.storage.store.leases import Leases
from services.storage.store.pins import Pins
from tests.contract.kubo_node import KuboNode, new_swarm_key
from tests.support.fakes.committed_channel import AUTHOR
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")

REGISTRY = CollectorRegistry()
METRICS = StorageMetrics(Metrics("storage", REGISTRY))


def blocks(*sizes: int) -> list[tuple[str, bytes]]:
    contents = [secrets.token_bytes(size) for size in sizes]
    return [(cids.raw(content), content) for content in contents]


def adapter(node: KuboNode, call_seconds: float = 10, import_seconds: float = 30) -> Kubo:
    return Kubo(node.rpc_address, METRICS, call_seconds=call_seconds, import_seconds=import_seconds)


async def failed(work: object, code: int) -> None:
    with pytest.raises(MeshError) as caught:
        await work  # type: ignore[misc]
    assert caught.value.code == code, caught.value


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nodes(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[KuboNode, KuboNode]]:
    folder, swarm_key = tmp_path_factory.mktemp("kubo"), new_swarm_key()
    made = KuboNode(folder / "mercy", swarm_key), KuboNode(folder / "lakeside", swarm_key, "flatfs")
    try:
        for node in made:
            await node.make()
            await node.start()
        yield made
    finally:
        for node in made:
            await node.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def kubo(nodes: tuple[KuboNode, KuboNode]) -> AsyncIterator[Kubo]:
    async with adapter(nodes[0]) as kubo:
        yield kubo


async def test_a_batch_is_stored_and_its_root_pinned(nodes: tuple[KuboNode, KuboNode], kubo: Kubo) -> None:
    stored = blocks(1_200, 900, 1)
    packed = batch.pack(stored)
    await kubo.import_car(packed.root_cid, packed.car)
    await kubo.import_car(packed.root_cid, packed.car)
    assert packed.root_cid in await nodes[0].pins()
    for name, data in stored:
        assert await kubo.get(name) == data


async def test_a_chunk_of_a_mebibyte_and_its_tag_is_stored(kubo: Kubo) -> None:
    packed = batch.pack(stored := blocks(batch.MIB + 16, batch.MIB + 16))
    await kubo.import_car(packed.root_cid, packed.car)
    assert await kubo.get(stored[1][0]) == stored[1][1]


async def test_a_full_batch_is_stored(nodes: tuple[KuboNode, KuboNode], kubo: Kubo) -> None:
    packed = batch.pack(blocks(*[batch.MIB + 16] * 32))
    await kubo.import_car(packed.root_cid, packed.car)
    assert packed.root_cid in await nodes[0].pins()
    await kubo.unpin([packed.root_cid])


async def test_a_blob_is_its_own_root(nodes: tuple[KuboNode, KuboNode], kubo: Kubo) -> None:
    packed = batch.pack_blob(blocks(500)[0][1])
    await kubo.import_car(packed.root_cid, packed.car)
    assert packed.root_cid in await nodes[0].pins()


async def test_what_was_unpinned_is_removed_and_the_survivors_are_not(
    nodes: tuple[KuboNode, KuboNode], kubo: Kubo, tmp_path: Path
) -> None:
    kept, dropped = blocks(700, 800)
    packed = batch.pack([kept, dropped])
    contents = tuple(Content(name, uuid7(), AUTHOR) for name, _ in (kept, dropped))
    lease = Lease(packed.root_cid, "MercyMSP", contents, {}, 1)
    async with Database(tmp_path / "storage.db", MIGRATIONS) as database:
        leases = Leases(database)
        pins = Pins(leases, kubo, BlockCache(0))
        await pins.lease(packed, lease)
        await pins.release({lease: {kept[0]}}, 1)
        await pins.release({lease: {kept[0]}}, 1)
        pinned = await nodes[0].pins()
        assert packed.root_cid not in pinned
        new_root = cids.batch_root([cids.to_bytes(kept[0])])
        assert cids.from_bytes(new_root.cid) in pinned

        waiting = await leases.waiting(10)
        assert set(waiting) == {packed.root_cid, dropped[0]}
        # A block that is pinned after all is refused by Kubo itself, and harms no other.
        assert await kubo.remove([kept[0], *waiting, cids.raw(b"never here")]) == 2
        assert await kubo.remove(waiting) == 0
    assert await kubo.get(kept[0]) == kept[1]
    assert await kubo.get(dropped[0]) is None
    assert await kubo.get(packed.root_cid) is None


async def test_thousands_are_removed_by_one_call_of_the_adapter(kubo: Kubo) -> None:
    stored = blocks(*[100] * 2_500)
    packed = batch.pack(stored)
    await kubo.import_car(packed.root_cid, packed.car)
    await kubo.unpin([packed.root_cid])
    assert await kubo.remove([packed.root_cid, *(name for name, _ in stored)]) == 2_501
    assert await kubo.get(stored[-1][0]) is None


async def test_many_are_pinned_and_unpinned_at_once_and_what_is_not_pinned_is_no_error(
    nodes: tuple[KuboNode, KuboNode], kubo: Kubo
) -> None:
    stored = [batch.pack(blocks(100)) for _ in range(3)]
    for packed in stored:
        await kubo.import_car(packed.root_cid, packed.car)
    linked = [cids.batch_root([cids.to_bytes(packed.root_cid)]) for packed in stored]
    roots = [Root(cids.from_bytes(root.cid), root.block) for root in linked]
    await kubo.pin_roots(roots)
    await kubo.pin_roots(roots)
    names = [root.cid for root in roots]
    assert set(names) <= await nodes[0].pins()

    await kubo.unpin([blocks(10)[0][0], *names])
    assert not set(names) & await nodes[0].pins()
    await kubo.unpin(names)
    await kubo.unpin([])
    await kubo.pin_roots([])


async def test_a_block_that_is_not_here_is_not_waited_for(kubo: Kubo) -> None:
    assert await kubo.get(blocks(10)[0][0]) is None


async def test_a_cars_damage_is_an_error_and_nothing_is_pinned(
    nodes: tuple[KuboNode, KuboNode], kubo: Kubo
) -> None:
    before = await nodes[0].pins()
    name = blocks(10)[0][0]
    root = cids.to_bytes(name)
    await failed(kubo.import_car(name, car.write(root, [(root, b"other bytes")])), code_pb2.CODE_UNAVAILABLE)
    await failed(kubo.import_car(name, b"garbage"), code_pb2.CODE_UNAVAILABLE)
    assert await nodes[0].pins() == before


async def test_another_root_than_was_sent_is_noticed(kubo: Kubo) -> None:
    sent, other = batch.pack(blocks(10)), batch.pack(blocks(10))
    await failed(kubo.import_car(other.root_cid, sent.car), code_pb2.CODE_INTEGRITY)
    await kubo.unpin([sent.root_cid])

    made = cids.batch_root([cids.to_bytes(name) for name, _ in blocks(10)])
    root = Root(other.root_cid, made.block)
    await failed(kubo.pin_roots([root]), code_pb2.CODE_INTEGRITY)
    await kubo.unpin([cids.from_bytes(made.cid)])


async def test_the_swarm_is_private_and_the_node_says_how_it_is(
    nodes: tuple[KuboNode, KuboNode], kubo: Kubo, tmp_path: Path
) -> None:
    await nodes[1].run("swarm", "connect", nodes[0].swarm_address)
    assert await kubo.check() is None
    assert REGISTRY.get_sample_value("cbmdhi_storage_swarm_peers_count") == 1
    assert (REGISTRY.get_sample_value("cbmdhi_storage_repository_bytes") or 0) > 0

    outsider = KuboNode(tmp_path / "outsider", new_swarm_key())
    await outsider.make()
    await outsider.start()
    try:
        with pytest.raises(AssertionError):
            await outsider.run("swarm", "connect", nodes[0].swarm_address)
    finally:
        await outsider.stop()


async def test_a_node_with_public_routing_is_not_ready(tmp_path: Path) -> None:
    node = KuboNode(tmp_path / "public", new_swarm_key())
    await node.make(Routing={"Type": "dht"})
    await node.start()
    try:
        async with adapter(node) as kubo:
            problem = await kubo.check()
            assert problem is not None
            assert "Routing.Type" in problem
    finally:
        await node.stop()


async def test_a_node_that_was_restarted_is_found_again(nodes: tuple[KuboNode, KuboNode], kubo: Kubo) -> None:
    packed = batch.pack(stored := blocks(300))
    await kubo.import_car(packed.root_cid, packed.car)
    await nodes[0].stop(signal.SIGKILL)
    later = batch.pack(blocks(300))
    for work in (
        kubo.get(stored[0][0]),
        kubo.unpin([packed.root_cid]),
        kubo.import_car(later.root_cid, later.car),
        kubo.check(),
    ):
        await failed(work, code_pb2.CODE_UNAVAILABLE)
    await nodes[0].start()
    assert await kubo.get(stored[0][0]) == stored[0][1]
    await kubo.import_car(later.root_cid, later.car)
    assert {packed.root_cid, later.root_cid} <= await nodes[0].pins()


async def test_a_node_that_hangs_is_given_up_at_the_deadline(nodes: tuple[KuboNode, KuboNode]) -> None:
    async with adapter(nodes[0], call_seconds=0.3, import_seconds=0.3) as kubo:
        nodes[0].pause(True)
        try:
            packed = batch.pack(blocks(10))
            await failed(kubo.get(packed.root_cid), code_pb2.CODE_UNAVAILABLE)
            await failed(kubo.import_car(packed.root_cid, packed.car), code_pb2.CODE_UNAVAILABLE)
        finally:
            nodes[0].pause(False)
        await until(lambda: _answers(kubo), "the node goes on")


async def test_a_block_that_rotted_on_the_disk_is_noticed(
    nodes: tuple[KuboNode, KuboNode],
) -> None:
    async with adapter(nodes[1]) as kubo:
        # In a `flatfs` repository. A `pebbleds` one checks for itself: Kubo ends when it reads such a block,
        # which is test_a_node_that_was_restarted_is_found_again for this adapter.
        (name, data), *_ = stored = blocks(400)
        packed = batch.pack(stored)
        await kubo.import_car(packed.root_cid, packed.car)
        _rot(nodes[1], data)
        await failed(kubo.get(name), code_pb2.CODE_INTEGRITY)


async def _answers(kubo: Kubo) -> bool:
    try:
        return await kubo.check() is None
    except MeshError:
        return False


def _rot(node: KuboNode, data: bytes) -> None:
    """Change a block's file under the node."""
    files = [file for file in (node.home / "blocks").rglob("*.data") if file.read_bytes() == data]
    assert len(files) == 1
    files[0].chmod(0o600)
    files[0].write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
