"""One record across every hop, from what real OpenTelemetry Collectors received over OTLP."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from cbmdhi.client import Client
from cbmdhi.client.consents import provision
from cbmdhi.client.tracing import traced
from ops.cli import trace as command
from ops.devnet import Network, collected_traces
from ops.devnet.collected_traces import Node
from tests.e2e.conftest import People, observation
from tests.support.waiting import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

PERSONAL = re.compile(
    rb"cb1[a-z2-7]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE
)
WRITE = "cbmdhi.gateway.v1.IngestService/Ingest"
READ = "cbmdhi.gateway.v1.RecordService/Read"
SEAL = "cbmdhi.storage.v1.StorageService/Seal"
SUBMIT = "cbmdhi.ledger.v1.LedgerService/Submit"
OPEN = "cbmdhi.storage.v1.StorageService/OpenMany"


def has_path(roots: Sequence[Node], *path: str) -> bool:
    """Whether a span is there under these, each `name @ program` directly below the one before."""
    here, *rest = path
    return any(
        f"{node.span.name} @ {node.span.program}" == here and (not rest or has_path(node.children, *rest))
        for node in roots
    )


async def settled(network: Network, trace_id: str, *paths: Sequence[str]) -> list[Node]:
    """The trace once all these paths of it have arrived: each program sends in its own time."""
    found: list[Node] = []
    missing: list[Sequence[str]] = []

    def arrived() -> bool:
        found[:] = collected_traces.tree(command.read(network.home), trace_id)
        missing[:] = [path for path in paths if not has_path(found, *path)]
        return not missing

    try:
        await until(lambda: asyncio.to_thread(arrived), "the whole trace has arrived", seconds=20)
    except AssertionError as late:
        late.add_note("\n".join([*map(str, missing), *collected_traces.lines(found)]))
        raise
    return found


@asynccontextmanager
async def listening(client: Client) -> AsyncIterator[list[str]]:
    """The kinds of what comes to an inbox meanwhile."""
    kinds: list[str] = []

    async def listen() -> None:
        async for one in client.inbox.stream():
            kinds.append(one.kind)

    task = asyncio.create_task(listen())
    try:
        yield kinds
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_write_can_be_followed_over_both_members_to_the_block_and_into_nats(
    network: Network, people: People, patient: Client
) -> None:
    with traced() as trace_id:
        [written] = await people.engine.records.put([observation(patient)])
    assert written.ok

    batch = (f"{WRITE} @ mercy/gateway", "record @ mercy/gateway", "seal @ mercy/gateway")
    ledger = (*batch, f"{SUBMIT} @ mercy/gateway", f"{SUBMIT} @ mercy/ledger", "records_batch @ mercy/ledger")
    storage = (*batch, f"{SEAL} @ mercy/gateway", f"{SEAL} @ mercy/storage")
    replica = "cbmdhi.storage.v1.MemberStorageService/Replicate"
    roots = await settled(
        network,
        trace_id,
        (*storage, "kubo dag/import @ mercy/storage"),
        (
            *(*storage, f"{replica} @ mercy/storage", f"{replica} @ lakeside/storage"),
            "kubo dag/import @ lakeside/storage",
        ),
        (*ledger, "fabric endorse @ mercy/ledger", "chaincode process @ mercy/chaincode"),
        (*ledger, "fabric endorse @ mercy/ledger", "chaincode process @ lakeside/chaincode"),
        (*ledger, "transaction @ mercy/ledger", "fabric order @ mercy/ledger"),
        (*ledger, "transaction @ mercy/ledger", "fabric commit @ mercy/ledger"),
        (*ledger, "publish @ mercy/ledger", "consume CBMDHI_LEDGER @ mercy/notify"),
    )
    spans = [node.span for root in roots for node in root.walk()]
    assert not [span for span in spans if span.error]
    [transaction] = [span for span in spans if span.name == "transaction"]
    receipt = written.receipt.receipt
    assert transaction.attributes["cbmdhi.tx_id"] == receipt.tx_id
    assert int(transaction.attributes["cbmdhi.block"]) == receipt.block


async def test_a_read_can_be_followed_from_the_decision_to_the_patients_notification(
    network: Network, people: People
) -> None:
    async with await people.new_patient() as patient:
        record = observation(patient)
        [written] = await people.engine.records.put([record])
        assert written.ok
        await patient.consents.grant(provision(grantee=people.mercy_clinician.wallet.address))
        async with listening(patient) as kinds:
            await until(lambda: bool(kinds), "the patient's stream is open: what waited has come")
            before = len(kinds)
            with traced() as trace_id:
                reading = await people.mercy_clinician.records.read(
                    patient.wallet.address, record.record_id, 1, "TREAT"
                )
            assert reading.content == record.content
            await until(lambda: "access.permitted" in kinds[before:], "the patient is told")

    call = f"{READ} @ mercy/gateway"
    ledger = (
        *(call, "access @ mercy/gateway", f"{SUBMIT} @ mercy/gateway", f"{SUBMIT} @ mercy/ledger"),
        "records_batch @ mercy/ledger",
    )
    notify = ("publish @ mercy/ledger", "consume CBMDHI_LEDGER @ mercy/notify")
    await settled(
        network,
        trace_id,
        (call, "open @ mercy/gateway", f"{OPEN} @ mercy/gateway", f"{OPEN} @ mercy/storage"),
        (*ledger, "fabric endorse @ mercy/ledger", "chaincode process @ mercy/chaincode"),
        (*ledger, "fabric endorse @ mercy/ledger", "chaincode process @ lakeside/chaincode"),
        (*ledger, "transaction @ mercy/ledger", "fabric commit @ mercy/ledger"),
        (*ledger, *notify, "deliver notification @ mercy/notify"),
    )


async def test_a_fhir_read_over_rest_is_a_trace_too(
    network: Network, people: People, patient: Client
) -> None:
    record = observation(patient)
    [written] = await people.engine.records.put([record])
    assert written.ok
    await patient.consents.grant(provision(grantee=people.mercy_clinician.wallet.address))
    async with people.mercy_clinician.fhir() as session:
        with traced() as trace_id:
            await session.read("Observation", record.record_id)

    await settled(
        network,
        trace_id,
        ("rest.read @ mercy/gateway", "access @ mercy/gateway"),
        ("rest.read @ mercy/gateway", "open @ mercy/gateway"),
    )


async def test_nothing_of_a_trace_is_on_any_members_channel(
    network: Network, people: People, patient: Client
) -> None:
    with traced() as trace_id:
        [written] = await people.engine.records.put([observation(patient)])
    assert written.ok

    def block_files() -> list[Path]:
        return [path for path in network.home.glob("orgs/*/*/data/**/blockfile_*") if path.is_file()]

    def ledgers_with(needle: bytes) -> set[str]:
        return {
            path.relative_to(network.home).parts[1] for path in block_files() if needle in path.read_bytes()
        }

    # The transaction's id is found where the trace's is not: what is searched are the blocks.
    members = {"mercy", "lakeside", "ordering"}
    await until(
        lambda: ledgers_with(written.receipt.receipt.tx_id.encode()) == members, "everybody has the block"
    )
    for needle in (trace_id.encode(), bytes.fromhex(trace_id), b"traceparent"):
        assert ledgers_with(needle) == set()


async def test_no_exported_span_names_a_person_a_record_or_what_it_says(
    network: Network, people: People, patient: Client
) -> None:
    finding = "finding-never-to-be-seen"
    with traced() as trace_id:
        [written] = await people.engine.records.put([observation(patient, note=[{"text": finding}])])
    assert written.ok
    await settled(network, trace_id, (f"{WRITE} @ mercy/gateway", "record @ mercy/gateway"))

    exported = b"".join(file.read_bytes() for file in command.files(network.home))
    assert trace_id.encode() in exported
    assert finding.encode() not in exported
    assert set(PERSONAL.findall(exported)) == set()
