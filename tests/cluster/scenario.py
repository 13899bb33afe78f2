"""What `make k8s-run` does inside its namespaces: node, images, organisations, story, operations (run.py)."""

import argparse
import asyncio
import json
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cbmdhi.client import Client
from cbmdhi.errors import MeshError
from cbmdhi.waiting import until
from ops.demo.story import Story, StoryFailed
from ops.devnet.errors import DevnetError
from ops.devnet.layout import Home
from ops.devnet.topology import MEMBERS, ORDERING, ORGANISATIONS, SERVICES
from tests.cluster import addons, images, node_config, operator_day, pods
from tests.cluster.consortium import MANAGER, Consortium
from tests.cluster.control_plane import ControlPlaneError
from tests.cluster.node import Node
from tests.cluster.operator_day import NotAsItMust, Operations
from tests.cluster.policy_enforcer import Enforcer
from tests.cluster.proof_log import Account
from tests.cluster.restore_drill import Drill
from tests.cluster.steady_load import Load, RequestLost, record_of

_FAILURES = (ControlPlaneError, DevnetError, MeshError, StoryFailed, RequestLost, NotAsItMust, OSError)
_SYSTEM_SECONDS = 60.0
_NAMES_SECONDS = 20.0
_RECORDS = 20
_POD_LOGS = Path("/var/log/pods")


def main(argv: Sequence[str] | None = None) -> int:
    """Prove all of it; 0 when everything held."""
    parser = argparse.ArgumentParser(prog="inside", description=__doc__)
    parser.add_argument("--begun", type=float, default=time.monotonic())
    parser.add_argument("--logs", type=Path)
    parser.add_argument("--stay", action="store_true")
    parser.add_argument("folder", type=Path)
    parser.add_argument("cgroup")
    options = parser.parse_args(argv)
    folder: Path = options.folder
    account = Account(options.begun)
    cluster = folder / "cluster"
    cluster.mkdir()
    # Containers inherit it from containerd; peers and Kubo hold many files open.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        account.step("A node: etcd, API server, controllers, scheduler, containerd, kubelet, kube-proxy")
        with Node(cluster, options.cgroup) as node:
            try:
                _prove(node, folder, account)
                if options.stay:
                    _stay(node, account)
            except _FAILURES as exc:
                account.failed(str(exc))
                for line in _unready(node):
                    account.note(line)
                return 1
    except ControlPlaneError as exc:
        account.failed(str(exc))
        return 1
    finally:
        if options.logs:
            _keep_logs(cluster, options.logs)
    account.step(f"{account.proofs} things were proved; everything is taken down")
    return 0


def _prove(node: Node, folder: Path, account: Account) -> None:
    [found] = node.get("nodes")
    info = found["status"]["nodeInfo"]
    account.proved(f"Ready: Kubernetes {info['kubeletVersion']}, {info['containerRuntimeVersion']}")
    _images(node, account)
    consortium = Consortium(node, Home(folder / "operator", orderers=(ORDERING,)), account)
    consortium.home.path.mkdir(mode=0o700)
    with Enforcer(node.kubeconfig, node.roots, node_config.PODS_RANGE) as enforcer:
        _system(node, folder / "volumes", consortium, account)
        consortium.make()
        asyncio.run(_use(consortium, account))
        enforcer.check()


def _images(node: Node, account: Account) -> None:
    account.step("The images, imported")
    for image in images.ALL:
        node.import_image(image.path)
    there = node.images()
    missing = [image.tag for image in images.ALL if image.tag not in there]
    if missing:
        raise ControlPlaneError(f"not among containerd's images: {', '.join(missing)}")
    account.proved(f"containerd has {', '.join(image.tag for image in images.ALL)}")


def _system(node: Node, volumes: Path, consortium: Consortium, account: Account) -> None:
    account.step("What every cluster has: names, volumes, metrics of pods")
    count = addons.claims(consortium.documents)
    for number in range(count):
        (volumes / f"disk-{number}").mkdir(parents=True)
    node.apply([*addons.dns(), *addons.metrics(), *addons.states(), *addons.volumes(volumes, count)], MANAGER)
    for name in ("coredns", "metrics-server", "kube-state-metrics"):
        pods.wait(node, "kube-system", f"deployment/{name}", _SYSTEM_SECONDS)
    node.wait(_names_are_found, "the name of a Service", _NAMES_SECONDS)
    account.proved(
        "CoreDNS finds Services, metrics-server and kube-state-metrics are ready, "
        f"{count} volumes wait to be claimed"
    )


def _names_are_found() -> bool:
    with suppress(socket.gaierror):
        return bool(socket.getaddrinfo("kubernetes.default", 443))
    return False


async def _use(consortium: Consortium, account: Account) -> None:
    async with Story(consortium.stage()) as story:
        for number, (title, step) in enumerate(story.steps, 1):
            account.step(f"The story through the Services, {number}: {title}")
            for proof in await step():
                account.proved(proof.removeprefix("✓ "))
        written = await _operate(consortium, story, account)
        await operator_day.drain(consortium, account)
        written |= await _drill(consortium, story, account, written)
        account.step("What was written is there")
        for member in MEMBERS:
            await _is_there(story, member, written)
            account.proved(f"all {len(written)} records that were written under load, each once, at {member}")


async def _operate(consortium: Consortium, story: Story, account: Account) -> set[str]:
    """Everything under load; the ids of the records written meanwhile."""
    resource = json.loads(story.told.written[0].record.content)
    wallets = story.engine.wallet, story.patient.wallet
    async with Load(*wallets, resource, callers=2, records=5, pause_seconds=0.3) as steady:
        operator = Operations(consortium, MEMBERS[0], steady, account)
        await operator.scale()
        for service in SERVICES:
            await operator.roll(service)
        for service in ("gateway", "ledger"):
            await operator.kill(service)
        await operator.look()
        await operator.forbid()
    # A wallet's logins have a limit of their own: what is to be heavy writes much between two of them.
    async with Load(*wallets, resource, callers=6, records=100, pause_seconds=0.0) as heavy:
        await Operations(consortium, MEMBERS[0], heavy, account).autoscale()
    return steady.tally.written | heavy.tally.written


async def _drill(consortium: Consortium, story: Story, account: Account, before: set[str]) -> set[str]:
    """A member backed up, destroyed, restored, read; the ids of the records written meanwhile."""
    resource = json.loads(story.told.written[0].record.content)
    wallets = story.engine.wallet, story.patient.wallet
    drill = Drill(consortium, MEMBERS[0], account)
    await drill.prepare()
    async with Load(*wallets, resource, callers=2, records=5, pause_seconds=0.3) as load:
        place = await drill.back_up(load)
    await drill.miss_a_night(consortium.home.path / "prometheus")
    await drill.destroy()
    await drill.restore(place)
    written = before | load.tally.written
    records = [entry.record for entry in story.told.written]
    records += [record_of(story.patient.wallet.address, resource, record_id) for record_id in sorted(written)]
    async with Client(story.patient.wallet) as patient:
        await drill.read(patient, records)
        first = story.told.written[0].receipt.receipt
        await drill.verify(patient, first.tx_id, first.command_id)
    async with Load(*wallets, resource, callers=2, records=5, pause_seconds=0.0) as after:
        await after.moves_on(_RECORDS)
    account.proved(f"{len(after.tally.written)} new records are written there")
    return load.tally.written | after.tally.written


async def _is_there(story: Story, member: str, written: set[str]) -> None:
    """Raises NotAsItMust, or MeshError when it does not come within some time."""
    async with Client(story.patient.wallet, member) as patient:

        async def complete() -> list[str]:
            listed = [found.record_id for found in await patient.records.list()]
            ours = [record_id for record_id in listed if record_id in written]
            return ours if written == set(ours) else []

        ours = await until(complete, f"{member} lists every record", deadline_seconds=60, every_seconds=1)
        if len(ours) != len(written):
            raise NotAsItMust(f"{member} lists {len(ours) - len(written)} records twice")


def _stay(node: Node, account: Account) -> None:
    account.step("Staying. Ctrl-C takes everything down. In another terminal:")
    account.note('sudo nsenter --target "$(pgrep --newest --full tests.cluster.reaper)" --all \\')
    account.note(f"  env KUBECONFIG={node.kubeconfig} PATH={Path(sys.executable).parent}:$PATH sh")
    signal.pause()


def _unready(node: Node) -> list[str]:
    """What keeps pods from being ready, as far as the API server still tells."""
    with suppress(ControlPlaneError):
        found = [pod for namespace in (*ORGANISATIONS, "kube-system") for pod in node.get("pods", namespace)]
        return pods.unready(found)
    return []


def _keep_logs(cluster: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for log in cluster.glob("*.log"):
        shutil.copy(log, target)
    if _POD_LOGS.exists():
        shutil.copytree(_POD_LOGS, target / "pods", dirs_exist_ok=True, ignore_dangling_symlinks=True)


if __name__ == "__main__":
    sys.exit(main())
