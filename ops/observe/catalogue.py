"""docs/metrics.md from the code: the parts of each service that count are made, and asked what they made.

A part that counts and is not named here is missing from the page; tests/e2e/test_observe.py compares it
with what running services show.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from prometheus_client.metrics import MetricWrapperBase

from services.gateway.metrics import GatewayMetrics
from services.gateway.rest.server import RestServer
from services.identity.ca_watch import CaWatch
from services.identity.fabric_ca_transport import Transport
from services.ledger.domain.batches import Lane
from services.ledger.metrics import LedgerMetrics
from services.ledger.nats_metrics import NatsMetrics
from services.notify.emergency import EmergencyServicer
from services.notify.feeds import Feeds
from services.notify.intake import Intake
from services.runtime.batching import MicroBatcher
from services.runtime.events import DurableConsumer
from services.runtime.expiry import expiry_gauge
from services.runtime.interceptor import MeshInterceptor
from services.runtime.ops import OpsServer
from services.runtime.publisher import LEDGER_STREAM
from services.runtime.telemetry import Metrics
from services.storage.metrics import StorageMetrics

PAGE = Path("docs/metrics.md")

# What the parts are made with is never used here.
_NOTHING = cast(Any, None)

_HEAD = """# Metrics

Made from the code by `make observe-docs`; a test fails when it is not up to date. Every service shows these
at `/metrics` of its `metrics_address`, with exemplars (`trace_id`) on durations when Prometheus asks for
OpenMetrics. Names are stable: one that goes is named in the changelog one release before.

No label holds an identifier. `method` is an RPC, `route` a FHIR interaction or a session's step, `code` is
of `protos/cbmdhi/command/v1/code.proto`, `certificate` is what a certificate is for, `queue` names a queue of
the service; the other values are in the text. Beside these there are `process_*` and `python_*`."""
_TAIL = """## Others

Scraped as they are: the operations ports of peers, orderer and CAs (jobs `fabric-peer`, `fabric-orderer`,
`fabric-ca`), and Kubo's `/debug/metrics/prometheus` (`ipfs`). NATS tells of itself in JSON; the ledger
service translates (`cbmdhi_ledger_nats_*`, [decision](adr/0015-prometheus-and-nats.md))."""

Part = Callable[[Metrics], object]


def _batcher(name: str) -> Part:
    return lambda metrics: MicroBatcher[Any, Any](
        _NOTHING,
        max_count=1,
        max_bytes=1,
        linger_seconds=0,
        max_queue=1,
        size_of=_NOTHING,
        max_in_flight=1,
        metrics=metrics,
        name=name,
    )


def _rpc(metrics: Metrics) -> object:
    return MeshInterceptor(metrics, _NOTHING, default_deadline_seconds=1, max_message_bytes=1, max_running=1)


def _rest(metrics: Metrics) -> object:
    return RestServer(
        address="",
        tls=_NOTHING,
        readiness=_NOTHING,
        metrics=metrics,
        routes=(),
        drain_seconds=0,
        sources=_NOTHING,
        connections=_NOTHING,
        anonymous_slots=_NOTHING,
        anonymous={},
    )


_EVERY: tuple[Part, ...] = (lambda metrics: OpsServer("", _NOTHING, metrics), expiry_gauge, _rpc)
_OWN: dict[str, tuple[Part, ...]] = {
    "gateway": (GatewayMetrics, _rest, *map(_batcher, ("seal", "access", "open"))),
    "identity": (
        lambda metrics: Transport(_NOTHING, "", metrics),
        lambda metrics: CaWatch(_NOTHING, metrics),
    ),
    "ledger": (LedgerMetrics, NatsMetrics, *(_batcher(f"{lane.value}_batch") for lane in Lane)),
    "notify": (
        Feeds,
        lambda metrics: Intake(_NOTHING, _NOTHING, _NOTHING, _NOTHING, metrics, channel="", home=""),
        lambda metrics: EmergencyServicer(
            _NOTHING, _NOTHING, _NOTHING, metrics, _NOTHING, channel=_NOTHING, home=""
        ),
        lambda metrics: DurableConsumer(_NOTHING, LEDGER_STREAM, "", _NOTHING, metrics=metrics),
    ),
    "storage": (StorageMetrics, *map(_batcher, ("consents", "identities", "records"))),
}
SERVICES = tuple(_OWN)


@dataclass(frozen=True)
class Series:
    """A metric as it is scraped: counters end in `_total`."""

    name: str
    kind: str
    labels: tuple[str, ...]
    says: str


def of_service(service: str) -> list[Series]:
    """All metrics of a service, by name."""
    return asyncio.run(_of_service(service))


async def _of_service(service: str) -> list[Series]:
    metrics = Metrics(service)
    for part in (*_EVERY, *_OWN[service]):
        part(metrics)
    return sorted((_series(one) for one in metrics.made), key=lambda one: one.name)


def _series(metric: MetricWrapperBase) -> Series:
    [family] = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = tuple(getattr(metric, "_labelnames", ()))
    return Series(name, family.type, labels, family.documentation)


def page() -> str:
    """The text of docs/metrics.md."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    for service in SERVICES:
        yield ""
        yield f"## {service}"
        yield ""
        yield "| metric | kind | labels | what |"
        yield "|---|---|---|---|"
        for one in of_service(service):
            labels = ", ".join(f"`{label}`" for label in one.labels)
            yield f"| `{one.name}` | {one.kind} | {labels} | {one.says} |"
    yield ""
    yield _TAIL
