"""The laptop network's infrastructure, real: Fabric, Fabric CA, Kubo and NATS, without the services on top.

One network for the whole file, on ports of its own; each test leaves it whole.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from cbmdhi.protocol import address, consortium
from ops.devnet import DevnetError, Network, doctor, health, layout, processes, status
from ops.devnet.errors import PortTaken
from ops.devnet.topology import MEMBERS, ORDERING
from ops.devnet.waiting import until

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    made = Network(tmp_path_factory.mktemp("mesh"))
    try:
        started = made.up(services=False)
        assert started.first_time
        yield made
    finally:
        made.clean()


def supervisor_of(network: Network) -> psutil.Process:
    [process] = processes.of_network(network.home)[processes.SUPERVISOR]
    return process


def program_of(network: Network, name: str) -> psutil.Process:
    [process] = processes.of_network(network.home)[name]
    return process


def height(network: Network, member: str) -> int | None:
    [found] = [found for found in status.of(network).members if found.name == member]
    return found.channel_height


def test_both_peers_have_the_channel_with_an_initialised_chaincode(network: Network) -> None:
    # Genesis, the approvals (in one block or two), the commit of the definition, `init`.
    def heights() -> set[int | None]:
        return {height(network, member) for member in MEMBERS}

    until(lambda: heights() in ({4}, {5}) or None, "the same blocks at both peers", 10)


def test_everything_listens_on_loopback_alone(network: Network) -> None:
    ours = processes.of_network(network.home)
    listening = [
        connection.laddr
        for found in ours.values()
        for process in found
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 24
    assert {where.ip for where in listening} == {"127.0.0.1"}
    assert {where.port for where in listening} <= set(network.ports().all())


def test_every_certificate_is_issued_by_the_fabric_ca_of_its_organisation(network: Network) -> None:
    for organisation in (*MEMBERS, ORDERING):
        folders = network.files.organisation(organisation)
        roots = [
            x509.load_pem_x509_certificate(path.read_bytes())
            for path in (folders.ca_certificate, folders.tls_ca_certificate)
        ]
        certificates = [
            x509.load_pem_x509_certificate(path.read_bytes())
            for pattern in (
                "**/tls/server.crt",
                "**/signcerts/cert.pem",
                "**/certificate.pem",
                "**/tls-cert.pem",
            )
            for path in folders.root.glob(pattern)
        ]
        assert len(certificates) >= 5
        for certificate in certificates:
            [root] = [root for root in roots if root.subject == certificate.issuer]
            certificate.verify_directly_issued_by(root)


def test_private_keys_and_secrets_are_for_their_owner_only(network: Network) -> None:
    assert network.home.stat().st_mode & 0o077 == 0
    keys = [
        path
        for pattern in ("**/*.key", "**/key.pem", "**/*_sk", "**/*secret*", "**/swarm.key", "**/*.tar.gz")
        for path in network.home.glob(pattern)
    ]
    assert len(keys) > 30
    assert [path for path in keys if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("member", MEMBERS)
def test_the_gateways_device_is_certified_under_its_address(network: Network, member: str) -> None:
    device = network.files.organisation(member).service("gateway") / "device"
    certificate = x509.load_pem_x509_certificate((device / "certificate.pem").read_bytes())
    [name] = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    public = certificate.public_key()
    assert name.value == (device / "address").read_text() == address.of_public_key(public)  # type: ignore[arg-type]
    attributes = certificate.extensions.get_extension_for_oid(x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1"))
    assert json.loads(attributes.value.value)["attrs"]["cbmdhi.role"] == "device"  # type: ignore[attr-defined]


def test_the_consortium_file_names_both_members(network: Network) -> None:
    found = consortium.load(network.files.consortium_file)
    assert sorted(found.members) == ["LakesideMSP", "MercyMSP"]
    assert [orderer.msp_id for orderer in found.orderers] == ["OrderingMSP", "MercyMSP", "LakesideMSP"]


def test_the_kubo_nodes_form_one_private_swarm(network: Network) -> None:
    for member in MEMBERS:
        rpc = network.ports().address(member, "ipfs_rpc")
        until(lambda rpc=rpc: connected(rpc) or None, f"a connection of {member}'s node", 15)


def connected(rpc: str) -> bool:
    _, body = health.get(rpc, "/api/v0/swarm/peers", "POST")
    return len({peer["Peer"] for peer in json.loads(body)["Peers"] or []}) == 1


def test_nats_keeps_what_it_acknowledges(network: Network) -> None:
    for member in MEMBERS:
        _, body = health.get(network.ports().address(member, "nats_monitor"), "/jsz")
        assert json.loads(body)["config"]["sync_always"] is True


def test_a_second_up_changes_nothing(network: Network) -> None:
    before = {name: found.pid for name, found in network.supervisor.states().items()}
    started = network.up(services=False)
    assert started.already_running
    assert started.mended == ()
    assert {name: found.pid for name, found in network.supervisor.states().items()} == before


def test_a_second_command_at_the_same_time_is_told_so(network: Network) -> None:
    program = (
        "import pathlib, sys; from ops.devnet import Network, state\n"
        "network = Network(pathlib.Path(sys.argv[1]))\n"
        "with state.exclusively(network.files): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(network.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DevnetError, match=f"process {other.pid}"):
            network.up(services=False)
        other.communicate("")


def test_a_killed_program_is_started_again_by_the_supervisor(network: Network) -> None:
    old = network.kill("mercy-nats")
    until(lambda: network.supervisor.states()["mercy-nats"].pid not in (0, old) or None, "a new NATS", 15)
    network.wait_ready("mercy-nats", seconds=20)


def test_up_starts_what_is_stopped(network: Network) -> None:
    network.stop("lakeside-ipfs")
    assert network.up(services=False).mended == ("lakeside-ipfs",)


def test_the_doctor_names_a_dead_program_and_the_remedy(network: Network) -> None:
    network.stop("lakeside-nats")
    [finding] = [finding for finding in doctor.examine(network) if finding.check == "lakeside-nats"]
    assert finding.grade is doctor.Grade.BAD
    assert network.files.command("up") in finding.mend
    network.start("lakeside-nats")
    assert not any(finding.check == "lakeside-nats" for finding in doctor.examine(network))


def test_status_for_machines_is_not_green_while_the_services_are_left_out(network: Network) -> None:
    command = [sys.executable, "-m", "cbmdhi.cli.main", "status", "--json", "--home", str(network.home)]
    completed = subprocess.run(command, capture_output=True, text=True, check=False)
    document = json.loads(completed.stdout)
    assert completed.returncode == 1
    assert document["running"] is True
    assert document["green"] is False
    healthy = {program["name"] for program in document["programs"] if program["healthy"]}
    assert {"mercy-peer", "lakeside-chaincode", "ordering-orderer", "mercy-orderer"} <= healthy
    assert "mercy-gateway is STOPPED: Not started" in document["problems"]


def test_up_restarts_what_was_built_anew(network: Network) -> None:
    binary = layout.tool("cbmdhi-chaincode")
    before = binary.stat()
    started_at = network.supervisor.states()["mercy-chaincode"].started_at
    until(lambda: time.time() > started_at + 2 or None, "a later second", 5)
    os.utime(binary)
    try:
        mended = network.up(services=False).mended
    finally:
        os.utime(binary, (before.st_atime, before.st_mtime))
    assert set(mended) == {"mercy-chaincode", "lakeside-chaincode"}


def test_up_replaces_programs_that_hang(network: Network) -> None:
    names = ("mercy-peer", "lakeside-chaincode")
    hanging = [program_of(network, name) for name in names]
    for process in hanging:
        process.send_signal(signal.SIGSTOP)
    assert set(network.up(services=False).mended) == set(names)
    assert not any(process.is_running() for process in hanging)


def test_up_takes_over_from_a_killed_supervisor(network: Network) -> None:
    orphan = program_of(network, "mercy-peer")
    supervisor_of(network).kill()
    started = network.up(services=False)
    assert not started.already_running
    assert not orphan.is_running()
    assert network.up(services=False).mended == ()


def test_up_takes_over_from_a_hanging_supervisor(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.devnet.supervision._ANSWER_SECONDS", 1.0)
    hanging = supervisor_of(network)
    hanging.send_signal(signal.SIGSTOP)
    network.up(services=False)
    assert not hanging.is_running()
    assert supervisor_of(network).is_running()


def test_down_leaves_no_process_even_without_a_supervisor(network: Network) -> None:
    supervisor_of(network).kill()
    assert network.down() > 0
    assert processes.of_network(network.home) == {}
    assert network.down() == 0
    network.up(services=False)


def test_a_port_that_somebody_else_took_is_named_with_its_program(network: Network) -> None:
    network.down()
    port = network.ports().of("mercy", "peer")
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(PortTaken) as told:
            network.up(services=False)
        assert str(port) in told.value.problem
        assert "mercy-peer" in told.value.problem
        assert str(psutil.Process().pid) in told.value.problem
    network.up(services=False)


def test_state_outlives_down_and_up(network: Network) -> None:
    before = height(network, "mercy")
    genesis = network.files.chaincode_genesis.read_bytes()
    network.down()
    network.up(services=False)
    until(lambda: height(network, "mercy") == before or None, "the same channel", 10)
    assert network.files.chaincode_genesis.read_bytes() == genesis


def test_an_interrupted_first_start_is_made_afresh_and_cleaned_away(tmp_path: Path) -> None:
    program = (
        "import pathlib, sys; from ops.devnet import Network\n"
        "Network(pathlib.Path(sys.argv[1])).up(services=False)"
    )
    home = tmp_path / "mesh"
    network = Network(home)
    try:
        with subprocess.Popen([sys.executable, "-c", program, str(home)]) as first:
            until(
                lambda: (home / "orgs" / "mercy" / "peer" / "msp").exists() or None,
                "the first certificates",
                60,
            )
            first.kill()
        assert processes.of_network(home)
        assert network.up(services=False).first_time
    finally:
        network.clean()
    assert not home.exists()
    assert processes.of_network(home) == {}


def test_a_long_path_gets_its_socket_elsewhere(tmp_path: Path) -> None:
    home = tmp_path / ("a-long-name-of-a-folder-" * 4)
    network = Network(home)
    assert len(str(network.supervisor.socket)) < 100
    home.mkdir()
    network.supervisor.configure([])
    network.supervisor.start()
    assert network.supervisor.alive()
    # Nothing was made, so there is no state; what was started is ended all the same.
    assert network.down() == 1


@pytest.mark.parametrize(
    ("organisation", "part"), [("mercy", "peer"), ("lakeside", "peer"), ("ordering", "orderer")]
)
def test_log_levels_and_metrics_are_for_who_shows_a_certificate(
    network: Network, organisation: str, part: str
) -> None:
    address = network.ports().address(organisation, f"{part}_operations")
    stranger, monitoring = health.ANYONE, health.monitoring(network.files.organisation(organisation))
    neighbour = "lakeside" if organisation == "mercy" else "mercy"
    another = health.monitoring(network.files.organisation(neighbour))
    another.check_hostname, another.verify_mode = False, ssl.CERT_NONE
    louder = json.dumps({"spec": "debug"}).encode()

    before = health.get(address, "/logspec", tls=monitoring)
    assert before[0] == 200
    assert health.get(address, "/logspec", tls=stranger)[0] == 401
    assert health.get(address, "/logspec", "PUT", tls=stranger, body=louder)[0] == 401
    assert health.get(address, "/metrics", tls=stranger)[0] == 401
    # A certificate of another organisation's ends the handshake; nothing is answered in the clear.
    assert health.get(address, "/logspec", tls=another)[0] == 0
    assert health.get(address, "/logspec")[0] in (0, 400)

    assert health.get(address, "/logspec", tls=monitoring) == before
    assert health.get(address, "/metrics", tls=monitoring)[0] == 200
    assert health.get(address, "/healthz", tls=stranger)[0] == 200
