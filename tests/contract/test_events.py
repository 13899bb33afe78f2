"""Publisher and durable consumer against the real NATS server, with JetStream and TLS."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import nats.errors
import nats.js.errors
import pytest
from nats.js.api import StorageType
from opentelemetry import trace

from cbmdhi.command.v1 import code_pb2
from services.runtime import telemetry, tracing
from services.runtime.errors import MeshError
from services.runtime.events import Event
from services.runtime.nats_connection import NatsConnection
from services.runtime.publisher import LEDGER_STREAM, Publisher
from tests.contract.events_bench import MANAGED, Bench, is_well, publish, publish_until_taken
from tests.support.nats_server import NatsServer
from tests.support.pki import Consortium
from tests.support.waiting import until


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    return Consortium(tmp_path / "pki")


@pytest.fixture
async def server(tmp_path: Path, consortium: Consortium) -> AsyncIterator[NatsServer]:
    server = NatsServer(tmp_path / "nats", consortium)
    yield server
    await server.kill()


@pytest.fixture
async def bench(consortium: Consortium, server: NatsServer) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        bench = Bench(consortium, server, stack)
        yield bench
        for reader in bench.readers:
            await reader.stop()


async def test_an_event_arrives_with_its_cloudevents_headers_and_trace(bench: Bench) -> None:
    telemetry.configure("ledger")
    traces: list[int] = []

    async def on_event(_: Event) -> None:
        traces.append(trace.get_current_span().get_span_context().trace_id)

    await bench.server.start()
    reader = await bench.reader(on_event)
    publisher = await bench.publisher()
    with tracing.span("commit") as span:
        assert await publish(publisher, b"a") == 1
    await until(lambda: reader.data == [b"a"], "arrived")

    headers = reader.events[0].headers
    assert headers["ce-id"] == headers["Nats-Msg-Id"] == "tx-a"
    assert headers["ce-type"] == "cbmdhi.ledger.transaction.committed.v1"
    assert headers["ce-source"] == "MercyMSP"
    assert headers["ce-specversion"] == "1.0"
    assert headers["ce-time"] == "2023-11-14T22:13:20.123+00:00"
    assert headers["content-type"] == "application/protobuf"
    assert traces == [span.context.trace_id]


async def test_the_same_event_published_again_arrives_once(bench: Bench) -> None:
    await bench.server.start()
    reader = await bench.reader()
    publisher = await bench.publisher()
    first = await publish(publisher, b"a")
    again = await publish(publisher, b"a")
    await publish(publisher, b"b")
    await until(lambda: b"b" in reader.data, "the later one arrived")

    assert first == again
    assert reader.data == [b"a", b"b"]


async def test_what_was_published_while_nobody_read_arrives_later_and_only_once(bench: Bench) -> None:
    await bench.server.start()
    publisher = await bench.publisher()
    await publish(publisher, b"a")
    reader = await bench.reader()
    await until(lambda: reader.count("done") == 1, "handled")
    link = await bench.link("notify")
    await link.wait_connected()

    async def acknowledged() -> bool:
        info = await link.jetstream().consumer_info("CBMDHI_LEDGER", "notify")
        return info.ack_floor is not None and info.ack_floor.stream_seq == 1

    await until(acknowledged, "acknowledged")
    await reader.stop()
    await publish(publisher, b"b")

    later = await bench.reader()
    await until(lambda: later.data == [b"b"], "only what was new")


async def test_an_event_whose_handler_cannot_reach_something_comes_again_for_ever(bench: Bench) -> None:
    async def on_event(event: Event) -> None:
        if event.attempt < 4:
            raise MeshError(code_pb2.CODE_UNAVAILABLE, "the database is away")

    await bench.server.start()
    reader = await bench.reader(on_event, max_attempts=1)
    publisher = await bench.publisher()
    await publish(publisher, b"a")
    await until(lambda: reader.count("done") == 1, "handled at last")

    assert [event.attempt for event in reader.events] == [1, 2, 3, 4]
    assert reader.count("set_aside") == 0


async def test_a_poisonous_event_is_set_aside_and_its_neighbours_get_through(bench: Bench) -> None:
    async def on_event(event: Event) -> None:
        if event.data == b"poison":
            raise ValueError("cannot parse")

    await bench.server.start()
    reader = await bench.reader(on_event, max_attempts=2)
    publisher = await bench.publisher()
    for data in (b"a", b"poison", b"b"):
        await publish(publisher, data)
    await until(lambda: reader.count("set_aside") == 1, "set aside")
    await until(lambda: reader.count("done") == 2, "neighbours handled")

    assert reader.data.count(b"poison") == 2
    assert await is_well(reader)


async def test_events_that_wait_are_handed_over_together_in_order_and_not_again(bench: Bench) -> None:
    batches: list[list[bytes]] = []

    async def on_events(events: Sequence[Event]) -> None:
        batches.append([event.data for event in events])

    await bench.server.start()
    publisher = await bench.publisher()
    for number in range(5):
        await publish(publisher, b"%d" % number)
    reader = await bench.reader(together=on_events)
    await until(lambda: reader.count("done") == 5, "handled")
    await reader.stop()
    later = await bench.reader(together=on_events)
    await publish(publisher, b"alone")
    await until(lambda: later.count("done") == 1, "handled alone")

    assert [data for batch in batches for data in batch] == [b"%d" % number for number in range(5)]
    assert reader.data == []
    assert later.data == [b"alone"]


async def test_events_that_cannot_be_handled_together_come_one_by_one_and_the_bad_one_is_set_aside(
    bench: Bench,
) -> None:
    async def on_events(events: Sequence[Event]) -> None:
        if any(event.data == b"poison" for event in events):
            raise ValueError("cannot parse")

    async def on_event(event: Event) -> None:
        await on_events([event])

    await bench.server.start()
    publisher = await bench.publisher()
    for data in (b"a", b"poison", b"b"):
        await publish(publisher, data)
    reader = await bench.reader(on_event, max_attempts=2, together=on_events)
    await until(lambda: reader.count("set_aside") == 1, "set aside")
    await until(lambda: reader.count("done") == 2, "neighbours handled")

    assert reader.data[:3] == [b"a", b"poison", b"b"]
    assert await is_well(reader)


async def test_nats_down_at_the_start_is_waited_for_and_told_in_readiness(bench: Bench) -> None:
    reader = await bench.reader()
    link = await bench.link("ledger")
    publisher = Publisher(link, LEDGER_STREAM, source="MercyMSP")

    assert "NATS is not connected" in (await link.check() or "")
    assert "NATS is not connected" in (await reader.consumer.check() or "")
    with pytest.raises(MeshError) as caught:
        await publish(publisher, b"a")
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE

    await bench.server.start()
    await publish_until_taken(publisher, b"a")
    await until(lambda: is_well(reader), "well, with the stream that its publisher made")
    await until(lambda: reader.data == [b"a"], "arrived")
    assert await link.check() is None


@pytest.mark.parametrize("turns", range(0, 40, 4))
async def test_a_link_closes_quickly_at_whatever_step_of_connecting_in_vain_it_is(
    bench: Bench, turns: int
) -> None:
    async with asyncio.timeout(5):
        async with NatsConnection(bench.consortium.nats(bench.server.url), "notify"):
            for _ in range(turns):
                await asyncio.sleep(0)


async def test_a_link_closes_while_its_server_is_away_and_something_was_still_to_be_sent(
    bench: Bench,
) -> None:
    await bench.server.start()
    async with NatsConnection(bench.consortium.nats(bench.server.url, "ledger"), "ledger") as link:
        await link.wait_connected()
        jetstream = link.jetstream()
        await bench.server.kill()
        await until(lambda: not link.is_connected, "told to be away")
        with pytest.raises(TimeoutError):
            await jetstream.publish(LEDGER_STREAM.subject, b"a", timeout=0.1)


async def test_after_nats_died_and_came_back_everything_goes_on_and_nothing_is_lost(bench: Bench) -> None:
    await bench.server.start()
    reader = await bench.reader()
    publisher = await bench.publisher()
    await publish(publisher, b"a")
    await until(lambda: reader.count("done") == 1, "handled")

    await bench.server.kill()

    async def is_unwell() -> bool:
        return not await is_well(reader)

    await until(is_unwell, "told in readiness")
    with pytest.raises(MeshError) as caught:
        await publish(publisher, b"b")
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE
    await bench.server.start()
    await publish_until_taken(publisher, b"b")
    await until(lambda: b"b" in reader.data, "arrived after the restart")
    await until(lambda: is_well(reader), "well again")

    # Killed before it had written down the acknowledgement, the server hands out again: twice is allowed.
    assert list(dict.fromkeys(reader.data)) == [b"a", b"b"]


async def test_after_nats_came_back_without_its_data_stream_and_consumer_are_made_anew(bench: Bench) -> None:
    await bench.server.start()
    reader = await bench.reader()
    publisher = await bench.publisher()
    await publish(publisher, b"a")
    await until(lambda: reader.count("done") == 1, "handled")

    await bench.server.kill()
    bench.server.forget()
    await bench.server.start()
    await publish_until_taken(publisher, b"b")
    await until(lambda: b"b" in reader.data, "arrived", seconds=30)


async def test_a_client_without_the_members_certificate_gets_no_link(bench: Bench, tmp_path: Path) -> None:
    await bench.server.start()
    stranger = Consortium(tmp_path / "strangers").nats(bench.server.url)
    own = bench.consortium.nats(bench.server.url)
    mixed = stranger.model_copy(update={"ca_file": own.ca_file})
    async with NatsConnection(mixed, "stranger") as link:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await link.wait_connected()


@pytest.mark.parametrize(
    ("service", "may_not"),
    [
        ("gateway", sorted(MANAGED)),
        ("notify", ["delete", "end a consumer", "publish", "purge", "read", "take over", "update"]),
        ("ledger", ["delete", "end a consumer", "purge", "read", "take over", "update"]),
    ],
)
async def test_no_services_certificate_may_do_more_than_that_service_does(
    bench: Bench, service: str, may_not: list[str]
) -> None:
    await bench.server.start()
    reader = await bench.reader()
    publisher = await bench.publisher()
    await publish(publisher, b"a")
    await until(lambda: reader.count("done") == 1, "the ledger publishes and notify reads")

    link = await bench.link(service)
    await link.wait_connected()
    jetstream = link.jetstream()
    jetstream._timeout = 0.5
    for action in may_not:
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await MANAGED[action](jetstream)

    await publish(publisher, b"b")
    await until(lambda: reader.data == [b"a", b"b"], "the stream is as it was, and nothing foreign in it")


@pytest.mark.parametrize("service", ["storage", "identity", "peer"])
async def test_a_certificate_of_the_member_that_has_nothing_to_do_with_events_gets_no_link(
    bench: Bench, service: str
) -> None:
    await bench.server.start()
    async with NatsConnection(bench.consortium.nats(bench.server.url, service), service) as link:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.5):
                await link.wait_connected()


async def test_the_gateway_keeps_what_its_replicas_share_in_a_bucket_of_its_own(bench: Bench) -> None:
    await bench.server.start()
    link = await bench.link("gateway")
    await link.wait_connected()
    kept = await link.jetstream().create_key_value(
        bucket="gateway", ttl=60, storage=StorageType.MEMORY, direct=True
    )
    await kept.create("p.a", b"1")
    assert (await kept.get("p.a")).value == b"1"
    with pytest.raises(nats.js.errors.KeyWrongLastSequenceError):
        await kept.create("p.a", b"2")
    with pytest.raises((nats.errors.Error, TimeoutError)):
        await link.jetstream().create_key_value(bucket="another", ttl=60)


async def test_answers_to_one_service_are_not_heard_by_another(bench: Bench) -> None:
    await bench.server.start()
    link = await bench.link("gateway")
    await link.wait_connected()
    refused: list[Exception] = []
    client = link._client
    assert client is not None

    async def on_error(error: Exception) -> None:
        refused.append(error)

    client._error_cb = on_error
    for subject in ("_INBOX.>", "_INBOX.notify.>", "cbmdhi.ledger.>", ">"):
        await client.subscribe(subject)
        await client.flush()
    await until(lambda: len(refused) == 4, "each is refused")
    assert all("permissions violation" in str(error).lower() for error in refused)
