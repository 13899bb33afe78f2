"""What an operator does to a running member, each under load: scale, roll, kill, drain, look."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp
import yaml
from prometheus_client.parser import text_string_to_metric_families

from cbmdhi.waiting import until
from ops.devnet.layout import ROOT
from ops.devnet.topology import MEMBERS, ORGANISATIONS, SERVICES
from ops.manifests import rendering
from ops.manifests.listeners import PORTS
from ops.manifests.rendering import Document
from tests.cluster import addons, pods
from tests.cluster.consortium import MANAGER, Consortium
from tests.cluster.control_plane import ControlPlaneError
from tests.cluster.proof_log import Account
from tests.cluster.steady_load import Load

GATEWAYS = 3
# One gateway takes some 65m at 100 records/s, and 12m when nobody calls: at 20m two more shall join it.
BUSY_CPU = "20m"
_AUTOSCALER = ROOT / "deploy" / "k8s" / "components" / "autoscaling" / "gateway.yaml"
_ROLL_SECONDS = 180.0
_METRICS_SECONDS = 90.0
_SCALED_SECONDS = 180.0
_DRAIN_SECONDS = 240.0
_RECORDS = 20
_ANSWERED = "cbmdhi_gateway_rpc_requests_total"


# The address is looked up first: a name that is not found is another failure than a packet that is dropped.
_CONNECT = """
import socket, sys
[found, *_] = socket.getaddrinfo(sys.argv[1], int(sys.argv[2]), type=socket.SOCK_STREAM)
try:
    socket.create_connection(found[4], 3).close()
    print("connected")
except TimeoutError:
    print("timed out")
"""


class NotAsItMust(Exception):
    """Something that an operator relies on did not hold."""


class Operations:
    """On `member`'s programs, with `load` on its gateway all the while."""

    def __init__(self, consortium: Consortium, member: str, load: Load, account: Account) -> None:
        self._node = consortium.node
        self._documents = consortium.documents
        self._member = member
        self._load = load
        self._account = account
        self._said = ""

    async def scale(self) -> None:
        """One gateway, three, one again."""
        self._begin(f"The gateway scales from 1 to {GATEWAYS} and back, by `kubectl scale`")
        await self._scale_to(GATEWAYS)
        await self._all_answer(GATEWAYS)
        self._proved(f"{GATEWAYS} gateways are ready and each answers callers")
        await self._scale_to(1)
        self._proved("back to 1")

    async def autoscale(self) -> None:
        """The autoscaler makes three gateways of one by itself."""
        self._begin("The HorizontalPodAutoscaler scales the gateway under load (metrics-server)")
        [described] = [doc for doc in yaml.safe_load_all(_AUTOSCALER.read_text()) if doc]
        await self._do(self._node.apply, [addons.from_component(described, self._member, BUSY_CPU)], MANAGER)
        try:
            await self._until(self._is_scaled, "the autoscaler asks for all gateways", _SCALED_SECONDS)
            await self._roll_out("deployment/gateway")
            await self._all_answer(GATEWAYS)
            self._proved(f"{GATEWAYS} gateways, asked for by {await self._do(self._autoscaler_says)}")
        finally:
            await self._kubectl("delete", "hpa", "gateway")
        await self._scale_to(1)

    async def roll(self, service: str) -> None:
        """Replace every pod of a service."""
        self._begin(f"{service} is rolled")
        workload = f"{self._kind(service)}/{service}"
        before = pods.ids(await self._do(pods.of, self._node, self._member, service))
        await self._load.moves_on(_RECORDS)
        await self._kubectl("rollout", "restart", workload)
        await self._roll_out(workload)
        await self._load.moves_on(_RECORDS)
        if before & pods.ids(await self._do(pods.of, self._node, self._member, service)):
            raise NotAsItMust(f"{service} was not replaced")
        self._proved(f"{service} is another pod")

    async def kill(self, service: str) -> None:
        """End a pod without a warning."""
        self._begin(f"A pod of {service} is killed")
        [pod] = await self._do(pods.of, self._node, self._member, service)
        await self._load.moves_on(_RECORDS)
        await self._kubectl(
            "delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force", may_warn=True
        )
        await self._roll_out(f"{self._kind(service)}/{service}")
        await self._load.moves_on(_RECORDS)
        if pod["metadata"]["uid"] in pods.ids(await self._do(pods.of, self._node, self._member, service)):
            raise NotAsItMust(f"{service} was not killed")
        self._proved(f"{service} is there again")

    async def look(self) -> None:
        """Logs, metrics and what pods use, as an operator reads them."""
        self._begin("Logs and metrics")
        for service in SERVICES:
            said = await self._kubectl("logs", f"{self._kind(service)}/{service}", "--tail=-1", may_warn=True)
            events = [json.loads(line)["event"] for line in said.splitlines() if line.startswith("{")]
            if "service.ready" not in events:
                raise NotAsItMust(f"the log of {service} does not say that it was ready: {said[-500:]}")
            await until(
                partial(self._says_ready, service),
                f"{service} says by its metrics that it is ready",
                deadline_seconds=_ROLL_SECONDS,
                every_seconds=1,
            )
        self._account.proved(f"{', '.join(SERVICES)}: JSON logs by `kubectl logs`, metrics by their Services")
        top = await self._until(self._top, "metrics-server knows what every pod uses", _METRICS_SECONDS)
        for line in top:
            self._account.note(line)
        self._account.proved(f"`kubectl top pods`: {len(top)} pods of {self._member}")

    async def _says_ready(self, service: str) -> bool:
        """By its Service. After one that it calls was killed, it may be out of it, now or in a moment."""
        with suppress(OSError, aiohttp.ClientError):
            names = await self._metrics(f"{service}.{self._member}")
            return names.get(f"cbmdhi_{service}_ready_bool") == 1.0
        return False

    async def forbid(self) -> None:
        """What the NetworkPolicies draw can be reached, and its neighbour not."""
        self._begin("NetworkPolicies are enforced")
        other = next(member for member in MEMBERS if member != self._member)
        ipfs, ledger = PORTS["ipfs"]["rpc"], PORTS["ledger"]["grpc"]
        for namespace, service, target, port, through in (
            (self._member, "storage", f"ipfs.{self._member}", ipfs, True),
            (self._member, "gateway", f"ipfs.{self._member}", ipfs, False),
            (other, "storage", f"ipfs.{self._member}", ipfs, False),
            (other, "gateway", f"ledger.{self._member}", ledger, False),
            (other, "storage", f"storage.{self._member}", PORTS["storage"]["grpc"], True),
        ):
            said = await self._do(self._connects, namespace, service, target, port)
            if said != ("connected" if through else "timed out"):
                raise NotAsItMust(f"{namespace}/{service} to {target}:{port}: {said}")
            self._account.proved(f"{namespace}/{service} to {target}:{port}: {said}")

    def _connects(self, namespace: str, service: str, target: str, port: int) -> str:
        """Try it from inside a pod; what came of it."""
        [pod, *_] = pods.of(self._node, namespace, service)
        name = pod["metadata"]["name"]
        return self._node.execute(namespace, name, "python", "-c", _CONNECT, target, str(port)).strip()

    def _begin(self, title: str) -> None:
        self._account.step(title)
        self._load.check()
        self._load.begin_anew()

    def _proved(self, what: str) -> None:
        self._load.check()
        tally = self._load.tally
        self._account.proved(
            f"{what}; no request lost ({len(tally.written)} records and {tally.reads} reads so far; "
            f"{tally.again} asked again; longest wait {tally.longest:.1f} s)"
        )

    def _kind(self, service: str) -> str:
        [found] = [
            doc["kind"].lower()
            for doc in rendering.workloads(self._documents)
            if (doc["metadata"]["namespace"], doc["metadata"]["name"]) == (self._member, service)
        ]
        return found

    async def _scale_to(self, count: int) -> None:
        await self._kubectl("scale", "deployment/gateway", f"--replicas={count}")
        await self._roll_out("deployment/gateway")

        def settled() -> bool:
            return len(pods.addresses(self._node, self._member, "gateway")) == count

        await self._until(settled, f"{count} gateways take connections", _ROLL_SECONDS)
        await self._load.moves_on(_RECORDS)

    async def _all_answer(self, count: int) -> None:
        """Each gateway answers calls that come through the Service."""
        addresses = await self._do(pods.addresses, self._node, self._member, "gateway")
        if len(addresses) != count:
            raise NotAsItMust(f"{len(addresses)} gateways take connections, not {count}")
        before = {address: (await self._metrics(address)).get(_ANSWERED, 0.0) for address in addresses}

        async def all_more() -> bool:
            self._load.check()
            now = {address: (await self._metrics(address)).get(_ANSWERED, 0.0) for address in addresses}
            return all(now[address] > before[address] for address in addresses)

        await until(
            all_more, "every gateway answers callers", deadline_seconds=_METRICS_SECONDS, every_seconds=1
        )

    def _is_scaled(self) -> bool:
        # Told as it changes: whoever waits in vain sees how far the load was from what is wanted.
        said = self._autoscaler_says()
        if said != self._said:
            self._said = said
            self._account.note(said)
        deployments = self._node.get("deployments", self._member)
        [found] = [doc for doc in deployments if doc["metadata"]["name"] == "gateway"]
        return int(found["spec"]["replicas"]) == GATEWAYS

    def _autoscaler_says(self) -> str:
        [found] = self._node.get("hpa", self._member)
        return described(found)

    def _top(self) -> list[str]:
        """Lines of `kubectl top pods`, once there is one for every pod."""
        try:
            said = self._node.kubectl("top", "pods", f"--namespace={self._member}", "--no-headers")
        except ControlPlaneError:
            return []
        lines = said.splitlines()
        return lines if len(lines) >= len(self._node.get("pods", self._member)) else []

    async def _metrics(self, host: str) -> Mapping[str, float]:
        address = f"http://{host}:{PORTS['gateway']['ops']}/metrics"
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(10)) as session,
            session.get(address) as response,
        ):
            return totals(await response.text())

    async def _roll_out(self, workload: str) -> None:
        await self._do(pods.wait, self._node, self._member, workload, _ROLL_SECONDS)

    async def _kubectl(self, *arguments: str, may_warn: bool = False) -> str:
        return await asyncio.to_thread(
            lambda: self._node.kubectl(*arguments, f"--namespace={self._member}", may_warn=may_warn)
        )

    async def _until(self, holds: Callable[[], Any], what: str, seconds: float) -> Any:
        async def asked() -> Any:
            self._load.check()
            return await asyncio.to_thread(holds)

        return await until(asked, what, deadline_seconds=seconds, every_seconds=1)

    async def _do(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(call, *arguments)


async def drain(consortium: Consortium, account: Account) -> None:
    """Empty the node as for its maintenance, and give it back. Nobody may call: there is no other node."""
    node = consortium.node
    account.step("The node is drained and comes back")
    before = {name: pods.ids(node.get("pods", name)) for name in ORGANISATIONS}
    nodes = [found["metadata"]["name"] for found in node.get("nodes")]

    def empty() -> None:
        node.kubectl(
            *("drain", *nodes, "--ignore-daemonsets", "--delete-emptydir-data"),
            f"--timeout={_DRAIN_SECONDS:g}s",
            seconds=_DRAIN_SECONDS + 10,
            may_warn=True,
        )

    await asyncio.to_thread(empty)
    account.proved("every pod was evicted within its PodDisruptionBudget")
    await asyncio.to_thread(node.kubectl, "uncordon", *nodes)
    wanted: list[Document] = rendering.workloads(consortium.documents)
    await asyncio.to_thread(pods.roll_out, node, wanted, _DRAIN_SECONDS)
    if any(before[name] & pods.ids(node.get("pods", name)) for name in ORGANISATIONS):
        raise NotAsItMust("a pod outlived the drain")
    account.proved(f"{len(wanted)} workloads are ready again, each another pod, on the volumes that they had")


def totals(text: str) -> dict[str, float]:
    """The sum of each metric's samples, by the sample's name, in what Prometheus would read."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def described(autoscaler: Document) -> str:
    """What an autoscaler measured, in a few words."""
    measured = [
        metric["resource"]["current"].get("averageValue", "?")
        for metric in autoscaler.get("status", {}).get("currentMetrics") or []
        if metric.get("type") == "Resource"
    ]
    wanted = autoscaler["spec"]["metrics"][0]["resource"]["target"]["averageValue"]
    return f"the autoscaler: CPU {', '.join(measured) or 'unknown'} a pod, wanted {wanted}"
