"""What is wrong is said within five seconds, with how to mend it: by each service, and by `cbmdhi doctor`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import time
import tomllib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import tomli_w

from ops.devnet import Network, health
from ops.devnet.layout import ROOT
from ops.devnet.topology import SERVICES
from tests.support.shifted_clock import clock_off_by
from tests.support.waiting import free_port, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECONDS = 5.0
KEEPS_DATABASE = ("ledger", "storage", "notify")
needs_mounts = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")

Document = dict[str, Any]


@dataclass
class Trial:
    """A service of mercy with its real configuration, on ports and data of its own, and something wrong."""

    service: str
    document: Document
    file: Path

    @classmethod
    def of(cls, network: Network, service: str, folder: Path) -> Trial:
        config = network.files.organisation("mercy").service(service) / "config.toml"
        document = tomllib.loads(config.read_text())
        for key in ("listen_address", "metrics_address", "first_contact_address", "rest_address"):
            if key in document:
                document[key] = f"127.0.0.1:{free_port()}"
        document["data_directory"] = str(folder / "data")
        (folder / "data").mkdir()
        return cls(service, document, folder / "config.toml")

    def alone(self) -> None:
        """Take away everything that it talks to."""
        for key in self.document:
            if key.endswith("_address") and key not in ("listen_address", "metrics_address"):
                self.document[key] = nowhere()
        if "fabric_ca_url" in self.document:
            self.document["fabric_ca_url"] = f"https://{nowhere()}"
        if "peer" in self.document:
            self.document["peer"]["address"] = nowhere()
        if "nats" in self.document:
            self.document["nats"]["url"] = f"tls://{nowhere()}"

    @contextlib.asynccontextmanager
    async def running(self, *wrapper: str) -> AsyncIterator[Running]:
        self.file.write_text(tomli_w.dumps(self.document))
        process = await asyncio.create_subprocess_exec(
            *(*wrapper, sys.executable, "-m", f"services.{self.service}", "--config", str(self.file)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield Running(process, self.document["metrics_address"], time.monotonic())
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.communicate(), 30)


@dataclass
class Running:
    process: asyncio.subprocess.Process
    metrics_address: str
    started: float

    async def last_words(self) -> str:
        """What it said before it ended by itself, in time and with a status that is not 0."""
        out, _ = await asyncio.wait_for(self.process.communicate(), SECONDS)
        assert time.monotonic() - self.started < SECONDS
        assert self.process.returncode not in (0, None)
        return out.decode()

    async def problem(self, check: str, says: str) -> Document:
        """Wait until /readyz says so; all that it says. It must not have been ready meanwhile."""
        found: Document = {}

        async def said() -> bool:
            assert self.process.returncode is None, "it ended"
            with contextlib.suppress(aiohttp.ClientError):
                async with (
                    aiohttp.ClientSession() as http,
                    http.get(f"http://{self.metrics_address}/readyz") as answer,
                ):
                    found.update(await answer.json())
                    assert answer.status == 503
            return says in found.get("checks", {}).get(check, {}).get("problem", "")

        left = SECONDS - (time.monotonic() - self.started)
        try:
            await until(said, "", seconds=left)
        except AssertionError as exc:
            raise AssertionError(f"{check} should say {says!r}: {found}") from exc
        return found


def nowhere() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture
def trial(network: Network, tmp_path: Path) -> Callable[[str], Trial]:
    return lambda service: Trial.of(network, service, tmp_path)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_missing_and_an_unknown_key_are_named_together(
    trial: Callable[[str], Trial], service: str
) -> None:
    wrong = trial(service)
    del wrong.document["channel"]
    wrong.document["listen_adress"] = "127.0.0.1:1"
    async with wrong.running() as running:
        said = await running.last_words()
    assert "channel is missing: add it to" in said
    assert "listen_adress" in said
    assert "remove it, or correct its spelling" in said


@pytest.mark.parametrize(
    ("service", "key"),
    [
        *((service, key) for service in SERVICES for key in ("listen_address", "metrics_address")),
        *(("gateway", key) for key in ("first_contact_address", "rest_address")),
    ],
)
async def test_a_taken_port_is_named_with_how_to_find_who_has_it(
    trial: Callable[[str], Trial], service: str, key: str
) -> None:
    wrong = trial(service)
    if service != "gateway":
        wrong.alone()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        wrong.document[key] = f"127.0.0.1:{taken.getsockname()[1]}"
        async with wrong.running() as running:
            said = await running.last_words()
    assert f"{wrong.document[key]} cannot be bound" in said
    assert "ss -ltnp" in said


@pytest.mark.parametrize("service", SERVICES)
async def test_a_certificate_of_another_service_or_member_or_without_its_key_stops_the_start(
    network: Network, trial: Callable[[str], Trial], service: str
) -> None:
    wrong = trial(service)
    other = "ledger" if service != "ledger" else "storage"
    own = dict(wrong.document["tls"])
    cases = [
        ("mercy", other, True, f"is the certificate of {other}, not of {service}"),
        ("lakeside", service, True, "was not issued by this member's TLS CA"),
        ("mercy", other, False, "is not the key of"),
    ]
    for organisation, name, with_certificate, why in cases:
        tls = network.files.organisation(organisation).service(name) / "tls"
        wrong.document["tls"] = {**own, "key_file": str(tls / "server.key")}
        if with_certificate:
            wrong.document["tls"]["certificate_file"] = str(tls / "server.crt")
        async with wrong.running() as running:
            assert why in await running.last_words()


ABSENT = {
    "ledger": ("peer", "see that peer runs"),
    "notify": ("inboxes", "see that it runs"),
    "storage": ("kubo", "the Kubo node cannot be reached; start it"),
    "identity": ("ledger", "see that ledger runs"),
    "gateway": ("ledger", "see that ledger runs"),
}


@pytest.mark.parametrize("service", SERVICES)
async def test_without_what_it_depends_on_a_service_is_not_ready_and_says_what_is_missing(
    trial: Callable[[str], Trial], service: str
) -> None:
    lonely = trial(service)
    lonely.alone()
    check, says = ABSENT[service]
    async with lonely.running() as running:
        found = await running.problem(check, says)
    assert not found["ready"]


CLOCK = {
    "ledger": ("peer", "the peer refuses to deliver blocks"),
    **{service: ("clock", "20.0 minutes ahead of that of") for service in SERVICES if service != "ledger"},
}


@pytest.mark.parametrize("service", SERVICES)
async def test_a_clock_20_minutes_ahead_keeps_a_service_from_being_ready(
    trial: Callable[[str], Trial], service: str
) -> None:
    ahead = trial(service)
    if "nats" in ahead.document:
        ahead.document["nats"]["url"] = f"tls://{nowhere()}"
    check, says = CLOCK[service]
    async with ahead.running(*clock_off_by("+20m")) as running:
        found = await running.problem(check, says)
    assert "timedatectl set-ntp true" in found["checks"][check]["problem"]


@pytest.mark.parametrize("by", ["+180s", "-180s"])
async def test_a_ledger_three_minutes_off_its_chaincode_is_not_ready(
    trial: Callable[[str], Trial], by: str
) -> None:
    """What was seen: it was, and nothing that it sent was endorsed."""
    off = trial("ledger")
    off.document["nats"]["url"] = f"tls://{nowhere()}"
    async with off.running(*clock_off_by(by)) as running:
        address = running.metrics_address

        async def said() -> bool:
            # Its first question is answered some moments after it is there.
            status, body = await asyncio.to_thread(health.get, address, "/readyz")
            checks = json.loads(body)["checks"] if status else {}
            told = checks.get("clock", {}).get("problem", "")
            return status == 503 and "a minute off that of the own chaincode" in told

        await until(said, "it says that its clock is off", seconds=30)


@needs_mounts
@pytest.mark.parametrize("service", KEEPS_DATABASE)
@pytest.mark.parametrize("size", ["16k", "8m"])
async def test_on_a_full_or_nearly_full_disk_a_service_says_where_to_make_room(
    trial: Callable[[str], Trial], service: str, size: str
) -> None:
    full = trial(service)
    if "nats" in full.document:
        full.document["nats"]["url"] = f"tls://{nowhere()}"
    data = full.document["data_directory"]
    wrapper = on_small_disk(data, size)
    async with full.running(*wrapper) as running:
        if size == "16k":
            said = await running.last_words()
            assert "cannot be written" in said
            assert "make room" in said
            assert data in said
        else:
            found = await running.problem("database", "make room on that disk")
            assert data in found["checks"]["database"]["problem"]


def on_small_disk(folder: str | Path, size: str) -> tuple[str, ...]:
    """Runs what follows where `folder` is a disk of that size, which nobody else sees."""
    script = 'mount -t tmpfs -o size="$1" tmpfs "$2" && shift 2 && exec "$@"'
    return ("unshare", "--mount", "sh", "-c", script, "sh", size, str(folder))


# What the doctor finds


async def examined(network: Network, *wrapper: str) -> list[Document]:
    process = await asyncio.create_subprocess_exec(
        *(*wrapper, sys.executable, "-m", "cbmdhi.cli.main", "doctor", "--json"),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "CBMDHI_HOME": str(network.home)},
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    found = json.loads(out)
    assert found["well"] == (process.returncode == 0)
    return [each for each in found["findings"] if each["grade"] == "bad"]


@contextlib.asynccontextmanager
async def patient_in_bed(network: Network) -> AsyncIterator[Path]:
    """mercy's notify, stopped, with its configuration to be spoiled; well again afterwards."""
    config = network.files.organisation("mercy").service("notify") / "config.toml"
    sound = config.read_text()
    await asyncio.to_thread(network.stop, "mercy-notify")
    try:
        yield config
    finally:
        config.write_text(sound)
        await asyncio.to_thread(network.stop, "mercy-notify")
        await asyncio.to_thread(network.start, "mercy-notify")


async def found_by_doctor(network: Network, says: str) -> None:
    async def is_found() -> bool:
        return any(
            each["check"] == "mercy-notify" and says in each["says"] and each["mend"]
            for each in await examined(network)
        )

    await until(is_found, f"the doctor says {says!r}", seconds=40)


def without_channel(document: Document, _: Network) -> None:
    del document["channel"]


def with_another_key(document: Document, _: Network) -> None:
    document["listen_adress"] = "127.0.0.1:1"


def with_another_certificate(document: Document, network: Network) -> None:
    tls = network.files.organisation("mercy").service("storage") / "tls"
    document["tls"]["certificate_file"] = str(tls / "server.crt")
    document["tls"]["key_file"] = str(tls / "server.key")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (without_channel, "channel is missing"),
        (with_another_key, "listen_adress"),
        (with_another_certificate, "is the certificate of storage, not of notify"),
    ],
)
@pytest.mark.timeout(180)
async def test_the_doctor_repeats_what_a_service_said_of_its_configuration(
    network: Network, spoil: Callable[[Document, Network], None], says: str
) -> None:
    async with patient_in_bed(network) as config:
        document = tomllib.loads(config.read_text())
        spoil(document, network)
        config.write_text(tomli_w.dumps(document))
        await asyncio.to_thread(network.start, "mercy-notify", wait=False)
        await found_by_doctor(network, says)


@pytest.mark.timeout(180)
async def test_the_doctor_says_whose_port_is_taken(network: Network) -> None:
    async with patient_in_bed(network):
        with socket.socket() as taken:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind(("127.0.0.1", network.ports().of("mercy", "notify")))
            taken.listen()
            await asyncio.to_thread(network.start, "mercy-notify", wait=False)
            await found_by_doctor(network, "cannot be bound: it is taken")


@pytest.mark.timeout(180)
async def test_the_doctor_names_what_is_absent_and_who_waits_for_it(network: Network) -> None:
    await asyncio.to_thread(network.stop, "mercy-ledger")
    try:

        async def both() -> bool:
            bad = {each["check"]: each["says"] for each in await examined(network)}
            return "mercy-ledger" in bad and "the ledger service" in bad.get("mercy-notify", "")

        await until(both, "the doctor names both", seconds=40)
    finally:
        await asyncio.to_thread(network.start, "mercy-ledger")
        await asyncio.to_thread(network.wait_ready)


@pytest.mark.timeout(180)
async def test_the_doctor_names_a_program_whose_clock_is_off(network: Network) -> None:
    async with patient_in_bed(network) as config:
        process = await asyncio.create_subprocess_exec(
            *(*clock_off_by("+20m"), sys.executable, "-m", "services.notify", "--config", str(config)),
            cwd=ROOT,
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            address = network.ports().address("mercy", "notify_metrics")
            await until(lambda: health.date(address) is not None, "it answers")
            bad = await examined(network)
        finally:
            process.terminate()
            await process.wait()
    assert any("The clock of mercy-notify is 20 minutes ahead" in each["says"] for each in bad), bad


@needs_mounts
@pytest.mark.timeout(180)
async def test_the_doctor_finds_a_full_disk_of_one_program(network: Network) -> None:
    data = network.files.organisation("mercy").service("notify") / "data"
    bad = await examined(network, *on_small_disk(data, "8m"))
    assert [each["check"] for each in bad] == ["disk"]
    assert str(data) in bad[0]["says"]
    assert "Make room" in bad[0]["mend"]
