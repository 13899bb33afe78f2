"""Two members' storage services as they run: processes, mTLS, real Kubo nodes in one private swarm."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import ROLE_CLINICIAN
from cbmdhi.protocol import cid as cids
from cbmdhi.protocol import replica
from cbmdhi.protocol.ids import uuid7
from cbmdhi.storage.v1 import storage_pb2, storage_pb2_grpc
from services.runtime.client import call
from services.runtime.errors import MeshError
from services.storage.domain.batch import MIB
from tests.contract.kubo_node import KuboNode
from tests.contract.storage_mesh import MEMBERS, SECONDS, Mesh, start
from tests.contract.storage_service import StorageProcess
from tests.support.channel import CHANNEL
from tests.support.fakes.committed_channel import AUTHOR, LAKESIDE, MERCY, Channel, decrypt, item
from tests.support.pki import Consortium
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Mesh]:
    folder = tmp_path_factory.mktemp("storage")
    mesh = Mesh(Channel(), Consortium(folder / "pki"))
    async with AsyncExitStack() as stack:
        await start(mesh, folder, stack)
        yield mesh


async def test_what_mercy_seals_lakeside_holds_and_opens_for_a_reader(mesh: Mesh) -> None:
    patient, reader = mesh.patient(LAKESIDE), mesh.channel.register(ROLE_CLINICIAN)
    items = tuple(item(patient.address, f"finding {n}".encode()) for n in range(100))
    sealed = await mesh.seal(*items)

    [seal] = sealed.seals
    assert [receipt.msp for receipt in seal.receipts] == [MERCY, LAKESIDE]
    for receipt in seal.receipts:
        replica.verify_receipt(
            receipt, CHANNEL.genesis_sha256, mesh.channel.members[receipt.msp].storage_signing_key
        )
    for node in mesh.kubo.values():
        assert _root(sealed) in await node.pins()
    assert {key.msp for key in sealed.results[0].sealed_keys} == {MERCY, LAKESIDE}

    mesh.commit(items, sealed)
    for of in MEMBERS:
        tx_id, command_id = mesh.channel.decide(reader, items[42])
        opened = await mesh.open(tx_id, command_id, of)
        assert opened.released_by == MEMBERS[of]
        assert decrypt(reader, opened, command_id, items[42]) == b"finding 42"


async def test_many_are_opened_in_one_call_and_one_that_is_refused_harms_no_other(mesh: Mesh) -> None:
    patient, reader = mesh.patient(LAKESIDE), mesh.channel.register(ROLE_CLINICIAN)
    items = tuple(item(patient.address, f"finding {n}".encode()) for n in range(5))
    mesh.commit(items, await mesh.seal(*items))
    decided = [mesh.channel.decide(reader, each) for each in items]
    decided[2] = mesh.channel.decide(reader, items[2], code=code_pb2.CODE_FORBIDDEN)
    opens = [storage_pb2.OpenRequest(tx_id=tx_id, command_id=command_id) for tx_id, command_id in decided]

    async with mesh.calling("gateway", "lakeside", "lakeside") as channel:
        open_many = storage_pb2_grpc.StorageServiceStub(channel).OpenMany
        request = storage_pb2.OpenManyRequest(opens=opens)
        results = (await call(open_many, request, deadline_seconds=SECONDS)).results
        for wrong, code in (([], code_pb2.CODE_INVALID), (opens * 41, code_pb2.CODE_TOO_LARGE)):
            with pytest.raises(MeshError) as caught:
                await call(open_many, storage_pb2.OpenManyRequest(opens=wrong), deadline_seconds=SECONDS)
            assert caught.value.code == code

    assert [result.error.code for result in results if result.HasField("error")] == [code_pb2.CODE_FORBIDDEN]
    for n in (0, 1, 3, 4):
        assert decrypt(reader, results[n].opened, decided[n][1], items[n]) == items[n].content


async def test_the_largest_batch_goes_through_every_limit(mesh: Mesh) -> None:
    patient, reader = mesh.patient(), mesh.channel.register(ROLE_CLINICIAN)
    items = tuple(item(patient.address, bytes([n]) * (16 * MIB)) for n in range(2))
    sealed = await mesh.seal(*items)
    mesh.commit(items, sealed)
    tx_id, command_id = mesh.channel.decide(reader, items[1])
    opened = await mesh.open(tx_id, command_id, "lakeside")
    assert decrypt(reader, opened, command_id, items[1]) == items[1].content


async def test_what_the_channel_refused_leaves_both_nodes_and_their_disks_and_its_neighbours_stay(
    mesh: Mesh,
) -> None:
    patient = mesh.patient()
    kept, refused, large = item(patient.address), item(patient.address), item(patient.address, bytes(3 * MIB))
    sealed = await mesh.seal(kept, refused, large)
    mesh.commit((kept,), storage_pb2.SealResponse(results=sealed.results[:1]))
    mesh.refuse(refused, large)

    for node in mesh.kubo.values():
        await until(lambda node=node: _unpinned(node, _root(sealed)), "it is let go of", 30)
    for of, node in mesh.kubo.items():
        assert re.search("[0-9]+ blocks removed, 0 wait", await mesh.storage[of].collect())
        held = await node.blocks()
        cids_of = [result.stored.cid for result in sealed.results]
        assert [name in held for name in cids_of] == [True, False, False]
        assert sealed.seals[0].root_sha256 not in {cids.digest(name) for name in held}


async def test_nobody_s_word_lets_go_of_what_is_committed(mesh: Mesh) -> None:
    """A gateway and a storage that were broken into have no call left that unpins."""
    for service in ("StorageService", "MemberStorageService"):
        methods = storage_pb2.DESCRIPTOR.services_by_name[service].methods_by_name
        assert {"Unpin", "Discard", "Release"}.isdisjoint(methods)


async def test_evidence_put_at_one_member_is_got_at_the_other(mesh: Mesh) -> None:
    blob = b"sealed by the wallet"
    async with mesh.calling("identity", "mercy") as channel:
        request = storage_pb2.PutBlobRequest(blob=blob, cid=cids.raw(blob), command_id=uuid7(), signer=AUTHOR)
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        assert (await call(stub.PutBlob, request, deadline_seconds=SECONDS)).replicas == [MERCY, LAKESIDE]
    async with mesh.calling("identity", "lakeside", "lakeside") as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        wanted = storage_pb2.GetBlobRequest(cid=cids.raw(blob))
        assert (await call(stub.GetBlob, wanted, deadline_seconds=SECONDS)).blob == blob
    async with mesh.calling("gateway", "mercy") as channel:
        stub = storage_pb2_grpc.StorageServiceStub(channel)
        with pytest.raises(MeshError) as caught:
            await call(stub.GetBlob, wanted, deadline_seconds=SECONDS)
        assert caught.value.code == code_pb2.CODE_FORBIDDEN
        sealed = await mesh.seal(item(mesh.patient().address))
        record = sealed.results[0].stored.cid
        found = await call(stub.GetBlob, storage_pb2.GetBlobRequest(cid=record), deadline_seconds=SECONDS)
        cids.check(record, found.blob)


@pytest.mark.parametrize(
    ("service", "organisation", "stub", "method", "request_type"),
    [
        ("identity", "mercy", "StorageServiceStub", "Seal", "SealRequest"),
        ("identity", "mercy", "StorageServiceStub", "Open", "OpenRequest"),
        ("identity", "mercy", "StorageServiceStub", "OpenMany", "OpenManyRequest"),
        ("gateway", "lakeside", "StorageServiceStub", "OpenMany", "OpenManyRequest"),
        ("gateway", "mercy", "StorageServiceStub", "PutBlob", "PutBlobRequest"),
        ("notify", "mercy", "StorageServiceStub", "GetBlob", "GetBlobRequest"),
        ("gateway", "lakeside", "StorageServiceStub", "Seal", "SealRequest"),
        ("gateway", "lakeside", "StorageServiceStub", "Open", "OpenRequest"),
        ("gateway", "mercy", "MemberStorageServiceStub", "ReleaseKey", "ReleaseKeyRequest"),
        ("gateway", "lakeside", "MemberStorageServiceStub", "Replicate", "ReplicateRequest"),
        ("gateway", "mercy", "StorageServiceStub", "Collect", "CollectRequest"),
        ("storage", "lakeside", "StorageServiceStub", "Collect", "CollectRequest"),
        ("identity", "lakeside", "MemberStorageServiceStub", "FetchBlock", "FetchBlockRequest"),
    ],
)
async def test_a_call_is_for_those_that_it_is_offered_to(
    mesh: Mesh, service: str, organisation: str, stub: str, method: str, request_type: str
) -> None:
    async with mesh.calling(service, organisation) as channel:
        with pytest.raises(MeshError) as caught:
            await call(
                getattr(getattr(storage_pb2_grpc, stub)(channel), method),
                getattr(storage_pb2, request_type)(),
                deadline_seconds=SECONDS,
            )
    assert caught.value.code == code_pb2.CODE_FORBIDDEN


async def test_a_storage_that_was_killed_finds_its_keys(mesh: Mesh) -> None:
    patient = mesh.patient()
    before = await mesh.seal(item(patient.address))
    await mesh.storage["mercy"].stop(signal.SIGKILL)
    await mesh.storage["mercy"].start()
    after = await mesh.seal(item(patient.address))
    assert before.results[0].stored.writer_key == after.results[0].stored.writer_key
    assert before.results[0].sealed_keys == after.results[0].sealed_keys


@pytest_asyncio.fixture(loop_scope="module")
async def twin(mesh: Mesh) -> AsyncIterator[StorageProcess]:
    """Another process of mercy's storage, not started yet."""
    twin = mesh.storage["mercy"].twin()
    try:
        yield twin
    finally:
        await twin.stop()


async def test_two_processes_of_a_storage_seal_for_the_same_new_patient_under_one_key(
    mesh: Mesh, twin: StorageProcess
) -> None:
    await twin.start()
    patient, reader = mesh.patient(), mesh.channel.register(ROLE_CLINICIAN)
    items = [item(patient.address, f"finding {n}".encode()) for n in range(8)]

    sealed = await asyncio.gather(
        *(mesh.seal(each, at=twin if n % 2 else None) for n, each in enumerate(items))
    )

    assert len({answer.results[0].stored.writer_key.key_id for answer in sealed}) == 1
    for each, answer in zip(items, sealed, strict=True):
        mesh.commit((each,), answer)
        tx_id, command_id = mesh.channel.decide(reader, each)
        opened = await mesh.open(tx_id, command_id, "mercy")
        assert decrypt(reader, opened, command_id, each) == each.content


async def test_a_process_that_joins_another_undoes_nothing_that_is_being_stored(
    mesh: Mesh, twin: StorageProcess
) -> None:
    pinned = await mesh.kubo["mercy"].pins()
    mesh.kubo["lakeside"].pause(True)
    try:
        sealing = asyncio.create_task(mesh.seal(item(mesh.patient().address)))
        await until(lambda: _more_pins(mesh.kubo["mercy"], pinned), "mercy pins")
        await twin.start()
        assert await _more_pins(mesh.kubo["mercy"], pinned), (
            "the second process let go of the first one's batch"
        )
    finally:
        mesh.kubo["lakeside"].pause(False)
    sealed = await sealing
    assert sealed.results[0].code == code_pb2.CODE_OK
    assert _root(sealed) in await mesh.kubo["mercy"].pins()


async def test_without_the_other_member_nothing_is_kept_and_later_all_works(mesh: Mesh) -> None:
    patient = mesh.patient()
    pinned = await mesh.kubo["mercy"].pins()
    assert await mesh.storage["lakeside"].stop() == 0
    try:
        with pytest.raises(MeshError) as caught:
            await mesh.seal(item(patient.address))
        assert caught.value.code == code_pb2.CODE_UNAVAILABLE
        await until(lambda: _same_pins(mesh.kubo["mercy"], pinned), "mercy lets go")
    finally:
        await mesh.storage["lakeside"].start()
    await mesh.seal(item(patient.address))


async def test_a_seal_cut_off_by_a_crash_leaves_nothing_pinned(mesh: Mesh) -> None:
    pinned = {of: await node.pins() for of, node in mesh.kubo.items()}
    sent = item(mesh.patient().address)
    mesh.kubo["lakeside"].pause(True)
    try:
        sealing = asyncio.create_task(mesh.seal(sent))
        await until(lambda: _more_pins(mesh.kubo["mercy"], pinned["mercy"]), "mercy pins")
        await mesh.storage["mercy"].stop(signal.SIGKILL)
        with pytest.raises(MeshError):
            await sealing
    finally:
        mesh.kubo["lakeside"].pause(False)
        await mesh.storage["mercy"].start()
    # The command comes to nothing: until that is known everything stays.
    assert await _more_pins(mesh.kubo["mercy"], pinned["mercy"])
    mesh.refuse(sent)
    for of, node in mesh.kubo.items():
        await until(
            lambda of=of, node=node: _same_pins(node, pinned[of]), f"{of} lets go after the restart", 60
        )


async def test_what_is_sealed_again_after_a_crash_is_pinned_once(mesh: Mesh) -> None:
    sent = item(mesh.patient().address)
    before = await mesh.seal(sent)
    pinned = {of: await node.pins() for of, node in mesh.kubo.items()}
    await mesh.storage["mercy"].stop(signal.SIGKILL)
    await mesh.storage["mercy"].start()
    for _ in range(3):
        assert (await mesh.seal(sent)).results == before.results
    for of, node in mesh.kubo.items():
        assert await _same_pins(node, pinned[of])


async def test_records_stay_readable_and_storage_ready_again_when_kubo_comes_back(mesh: Mesh) -> None:
    patient, reader = mesh.patient(), mesh.channel.register(ROLE_CLINICIAN)
    items = (item(patient.address),)
    mesh.commit(items, await mesh.seal(*items))
    await mesh.kubo["mercy"].stop(signal.SIGKILL)
    try:
        tx_id, command_id = mesh.channel.decide(reader, items[0])
        opened = await mesh.open(tx_id, command_id, "mercy")
        assert decrypt(reader, opened, command_id, items[0]) == b"a finding"
        await until(lambda: _not_ready(mesh.storage["mercy"]), "mercy says that it is not ready")
    finally:
        await mesh.kubo["mercy"].start()
    await until(mesh.storage["mercy"].is_ready, "mercy is ready again")
    await mesh.seal(item(patient.address))


async def test_neither_logs_nor_metrics_name_anybody(mesh: Mesh) -> None:
    patient, reader = mesh.patient(), mesh.channel.register(ROLE_CLINICIAN)
    items = (item(patient.address), item(patient.address))
    mesh.commit(items, await mesh.seal(*items))
    await mesh.open(*mesh.channel.decide(reader, items[0]), "lakeside")
    refused = mesh.channel.decide(reader, items[1], code=code_pb2.CODE_FORBIDDEN)
    with pytest.raises(MeshError):
        await mesh.open(*refused, "mercy")

    logs = "".join(storage.log() for storage in mesh.storage.values())
    assert "rpc.refused" in logs
    assert "rpc.answered" in logs
    for pattern in (r"cb1[a-z2-7]{32}", r"baf[ky][a-z2-7]{40}", r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-"):
        assert not re.search(pattern, logs)
    assert await mesh.storage["mercy"].metric("cbmdhi_storage_records_sealed_total") > 0


def _root(sealed: storage_pb2.SealResponse) -> str:
    return cids.of_root(sealed.seals[0].root_sha256)


async def _unpinned(node: KuboNode, root: str) -> bool:
    return root not in await node.pins()


async def _not_ready(storage: StorageProcess) -> bool:
    return not await storage.is_ready()


async def _same_pins(node: KuboNode, pinned: set[str]) -> bool:
    return await node.pins() == pinned


async def _more_pins(node: KuboNode, pinned: set[str]) -> bool:
    return await node.pins() > pinned
