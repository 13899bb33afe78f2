"""The manifests: what the laptop network learned holds in Kubernetes too, and rights are few."""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from ops.devnet import fabric, kubo, layout, nats, services
from ops.devnet.topology import SERVICES, Ports
from ops.manifests import generate, kubo_config
from ops.manifests.listeners import PORTS
from services.gateway.config import GatewayConfig
from services.identity.config import IdentityConfig
from services.ledger.config import LedgerConfig
from services.notify.config import NotifyConfig
from services.runtime import lifecycle
from services.runtime.config import ServiceConfig, SignedChannelConfig
from services.storage.config import StorageConfig
from tests.support.pki import Issued, MemberCa
from tests.unit.ops.manifests.manifests import (
    OVERLAYS,
    all_workloads,
    config_map,
    container,
    cron_jobs,
    environment,
    of_kind,
    pod,
    program,
    rendered,
    workload,
)

CONFIGS: dict[str, type[ServiceConfig]] = {
    "gateway": GatewayConfig,
    "identity": IdentityConfig,
    "ledger": LedgerConfig,
    "notify": NotifyConfig,
    "storage": StorageConfig,
}
KUSTOMIZATION = generate.FOLDER


def test_the_generated_files_are_up_to_date() -> None:
    assert generate.main(["--check"]) == 0


def test_a_generated_file_that_was_changed_by_hand_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(fabric.PEER_TUNING, "GOGC", "100")
    assert generate.main(["--check"]) == 1
    assert "peer.env is not up to date" in capsys.readouterr().out


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_program_is_tuned_as_on_the_laptop(overlay: str, tmp_path: Path) -> None:
    home, ports = layout.home_at(tmp_path / "network"), Ports(20000)
    laptop = {
        "peer": fabric.peer_program(home, "mercy").env,
        "chaincode": fabric.chaincode_program(home, "mercy", ports).env,
        "ipfs": kubo.program(home, "mercy").env,
        "nats": nats.program(home, "mercy").env,
        "orderer": fabric.orderer_program(home, "ordering").env,
        **{service: services.program(home, "mercy", service).env for service in SERVICES},
    }
    seen: set[str] = set()
    for document in all_workloads(overlay):
        there = environment(overlay, document)
        for name, value in laptop.get(program(document), {}).items():
            seen.add(name)
            assert name in there, f"{program(document)} is not told {name}"
            of_this_machine = str(home.path) in value or "127.0.0.1" in value or not value
            assert of_this_machine or there[name] == value, f"{name} of {program(document)}"
    assert {
        "GOGC",
        "GOMEMLIMIT",
        "MALLOC_TRIM_THRESHOLD_",
        "FABRIC_LOGGING_SPEC",
        "LIBP2P_FORCE_PNET",
    } <= seen


def test_the_peer_keeps_no_history_index_and_reads_many_keys_at_once() -> None:
    core = yaml.safe_load(_file("laptop", "mercy", "peer", "core.yaml"))
    assert core["ledger"]["history"]["enableHistoryDatabase"] is False
    assert core["chaincode"]["runtimeParams"]["useGetMultipleKeys"] is True
    assert core["chaincode"]["runtimeParams"]["useWriteBatch"] is True


def test_kubo_and_nats_are_settled_as_on_the_laptop() -> None:
    node = json.loads(_file("laptop", "mercy", "ipfs", "kubo.json", init=True))
    on_the_laptop = kubo.settings(swarm="", api="", peers=[])
    assert {**node, "Addresses": {}} == {**on_the_laptop, "Addresses": {}}
    assert node["Datastore"]["Spec"]["l0CompactionThreshold"] == 168
    assert "sync_interval: always" in _file("laptop", "mercy", "nats", "nats.conf")


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("service", sorted(CONFIGS))
def test_a_service_takes_the_configuration_that_its_pod_gives_it(
    overlay: str, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = workload(overlay, "mercy", service)
    variables = environment(overlay, document)
    text = _file(overlay, "mercy", service, "config.toml")
    # Whatever a volume brings is there, under a folder of this test's.
    mounts = [mount["mountPath"] for mount in container(document)["volumeMounts"]]
    authority = MemberCa(tmp_path, "authority")
    issued = authority.issue(service)
    files = set(
        re.findall(r'"((?:/run|/etc)/[^"]+)"', text + json.dumps(list(variables.values())).replace("\\", ""))
    )
    assert files
    for file in files:
        assert any(file.startswith(mount + "/") or file == mount for mount in mounts), (
            f"{file} is in no volume"
        )
        here = tmp_path / file.lstrip("/")
        if file in mounts:
            here.mkdir(parents=True, exist_ok=True)
        else:
            here.parent.mkdir(parents=True, exist_ok=True)
            here.write_bytes(_like(here.name, authority, issued))
    moved = tmp_path / "config.toml"
    moved.write_text(re.sub(r'"(/run|/etc|/var)/', rf'"{tmp_path}/\1/'.replace("//", "/"), text))
    for name in [name for name in os.environ if name.startswith("CBMDHI_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, re.sub(r'"(/run|/etc)/', rf'"{tmp_path}\1/', value))

    config = CONFIGS[service].load(["--config", str(moved)])

    assert (config.organisation, config.msp_id, config.channel) == ("mercy", "MercyMSP", "cbmdhi")
    assert config.listen_address == f"0.0.0.0:{PORTS[service]['grpc']}"
    assert config.metrics_address == f"0.0.0.0:{PORTS[service]['ops']}"
    assert len(config.tls.members) == (3 if overlay == "three-members" else 2)
    if isinstance(config, SignedChannelConfig):
        assert config.genesis_sha256 == bytes.fromhex("ab" * 32)
    if isinstance(config, IdentityConfig):
        assert config.fabric_ca_url == f"https://ca.mercy:{PORTS['ca']['https']}"
    if isinstance(config, LedgerConfig):
        assert config.peer.tls_server_name == "peer.mercy"
    assert (config.data_directory is None) == (document["kind"] == "Deployment")


def _like(name: str, authority: MemberCa, issued: Issued) -> bytes:
    """What a Secret or ConfigMap holds under that name: a key, a program's certificate, or roots."""
    if "key" in name:
        return issued.key_file.read_bytes()
    if name in ("tls.crt", "cert.pem", "certificate.pem"):
        return issued.certificate_file.read_bytes()
    return authority.ca_file.read_bytes()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_all_images_come_from_one_place(overlay: str) -> None:
    said = yaml.safe_load((KUSTOMIZATION / "overlays" / overlay / "kustomization.yaml").read_text())["images"]
    expected = {f"{image['newName']}:{image['newTag']}" for image in said}
    used = {
        part["image"]
        for document in [*all_workloads(overlay), *cron_jobs(overlay)]
        for part in [*pod(document)["containers"], *pod(document).get("initContainers", [])]
    }
    assert used == expected
    assert len(used) == 2
    assert not any(image.endswith(":latest") for image in used)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_program_is_asked_whether_it_started_is_ready_and_lives(overlay: str) -> None:
    for document in all_workloads(overlay):
        listeners = {port["name"] for port in container(document)["ports"]}
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            asked = container(document)[probe]
            assert (asked.get("httpGet") or asked["tcpSocket"])["port"] in listeners
        if program(document) in SERVICES:
            assert container(document)["startupProbe"]["httpGet"] == {"path": "/livez", "port": "ops"}
            assert container(document)["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "ops"}
            # Not ready is no reason to be killed: what it waits for may be away for long.
            assert container(document)["livenessProbe"]["httpGet"] == {"path": "/livez", "port": "ops"}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_service_has_the_time_it_needs_to_drain(overlay: str) -> None:
    for document in all_workloads(overlay):
        if program(document) not in SERVICES:
            continue
        text = _file(overlay, document["metadata"]["namespace"], program(document), "config.toml")
        [drain] = re.findall(r"^drain_seconds = ([\d.]+)$", text, re.MULTILINE)
        pause = container(document)["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed = pause + float(drain) + lifecycle._CLOSE_SECONDS
        assert pod(document)["terminationGracePeriodSeconds"] >= needed
        assert float(drain) == services.DRAIN_SECONDS


def test_the_chaincode_has_the_time_it_needs_to_drain() -> None:
    source = (layout.ROOT / "chaincode" / "server.go").read_text()
    [drain] = re.findall(r"drainTimeout = (\d+) \* time.Second", source)
    assert pod(workload("laptop", "mercy", "chaincode"))["terminationGracePeriodSeconds"] > int(drain)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_pods_have_no_rights_they_do_not_need(overlay: str) -> None:
    for document in [*all_workloads(overlay), *cron_jobs(overlay)]:
        spec = pod(document)
        # Backups alone have a service account of their own, whose rights test_backup_manifests.py looks at.
        assert spec["automountServiceAccountToken"] is (document["kind"] == "CronJob")
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        for part in [*spec["containers"], *spec.get("initContainers", [])]:
            assert part["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert set(part["resources"]["requests"]) == {"cpu", "memory"}
            assert "memory" in part["resources"]["limits"]
    for namespace in of_kind(overlay, "Namespace"):
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_a_mounted_secret_is_read_by_the_pods_group_alone(overlay: str) -> None:
    volumes = [volume for document in all_workloads(overlay) for volume in pod(document)["volumes"]]
    modes = [volume["secret"]["defaultMode"] for volume in volumes if "secret" in volume]
    assert len(modes) > 10
    assert set(modes) == {0o440}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_secret_lies_in_the_repository(overlay: str) -> None:
    assert not of_kind(overlay, "Secret")
    assert "PRIVATE KEY" not in json.dumps(rendered(overlay))


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_program_may_be_disrupted_one_at_a_time_and_is_spread(overlay: str) -> None:
    budgets = {
        (budget["metadata"]["namespace"], budget["spec"]["selector"]["matchLabels"]["app.kubernetes.io/name"])
        for budget in of_kind(overlay, "PodDisruptionBudget")
        if budget["spec"]["maxUnavailable"] == 1
    }
    for document in all_workloads(overlay):
        assert (document["metadata"]["namespace"], program(document)) in budgets
        keys = {spread["topologyKey"] for spread in pod(document)["topologySpreadConstraints"]}
        assert keys == {"kubernetes.io/hostname", "topology.kubernetes.io/zone"}


@pytest.mark.parametrize("overlay", sorted(set(OVERLAYS) - {"laptop"}))
def test_what_is_reserved_covers_what_was_measured(overlay: str) -> None:
    cores, mebibytes = _measured()
    for document in all_workloads(overlay):
        resources = container(document)["resources"]
        name = program(document)
        assert _cores(resources["requests"]["cpu"]) >= cores[name], name
        assert _mebibytes(resources["requests"]["memory"]) >= mebibytes[name], name
        # Room for what it may hold at most, and not for a leak of many times that.
        assert 2 * mebibytes[name] <= _mebibytes(resources["limits"]["memory"]) <= 10 * mebibytes[name], name


def test_what_keeps_a_file_runs_once_and_is_not_scaled() -> None:
    [scaled] = of_kind("production", "ScaledObject")
    assert scaled["spec"]["scaleTargetRef"]["name"] == "notify"
    assert scaled["spec"]["maxReplicaCount"] == 1
    assert 'organisation="mercy"' in scaled["spec"]["triggers"][0]["metadata"]["query"]
    for document in all_workloads("production"):
        if document["kind"] == "StatefulSet":
            assert document["spec"]["replicas"] == 1


def test_the_autoscaler_and_the_manifest_do_not_fight_over_the_gateways() -> None:
    assert "replicas" not in workload("production", "mercy", "gateway")["spec"]
    [scaler] = of_kind("production", "HorizontalPodAutoscaler")
    assert {metric["type"] for metric in scaler["spec"]["metrics"]} == {"Resource", "Pods"}


@pytest.mark.parametrize("overlay", ["three-members", "production", "bft"])
def test_every_tls_secret_has_a_certificate_of_the_name_others_check(overlay: str) -> None:
    certificates = {
        (found["metadata"]["namespace"], found["spec"]["secretName"]): found["spec"]
        for found in of_kind(overlay, "Certificate")
    }
    for document in all_workloads(overlay):
        namespace = document["metadata"]["namespace"]
        for volume in pod(document)["volumes"]:
            secret = volume.get("secret", {}).get("secretName", "")
            if secret.startswith("tls-"):
                name = secret.removeprefix("tls-")
                assert certificates[namespace, secret]["commonName"] == name
                assert f"{name}.{namespace}" in certificates[namespace, secret]["dnsNames"]


def test_bft_has_four_orderers_with_keys_of_their_own() -> None:
    orderers = [document for document in all_workloads("bft") if program(document) == "orderer"]
    secrets = Counter(
        volume["secret"]["secretName"]
        for document in orderers
        for volume in pod(document)["volumes"]
        if "secret" in volume
    )
    assert len(orderers) == 4
    assert set(secrets.values()) == {1}
    selectors = {
        json.dumps(service["spec"]["selector"])
        for service in of_kind("bft", "Service")
        if "orderer" in service["metadata"]["name"]
    }
    assert len(selectors) == 4


def test_a_kubo_node_is_configured_before_and_after_its_repository_is_made(tmp_path: Path) -> None:
    identity, settings, first = tmp_path / "identity", tmp_path / "kubo.json", tmp_path / "init" / "config"
    repository = tmp_path / "repository"
    repository.mkdir()
    identity.write_text(
        json.dumps({"Identity": {"PeerID": "own"}, "Datastore": {"Spec": {"type": "pebbleds"}}})
    )
    settings.write_text(json.dumps({"Datastore": {"Spec": {"cacheSize": 1}}, "Bootstrap": []}))
    peers = '[{"ID": "other", "Addrs": ["/dns4/ipfs.lakeside/tcp/4001"]}]'

    kubo_config.configure(repository, peers, identity=identity, settings=settings, first=first)
    assert not (repository / "config").exists()
    (repository / "config").write_text("{}")
    kubo_config.configure(repository, peers, identity=identity, settings=settings, first=first)

    document = json.loads((repository / "config").read_text())
    assert document == json.loads(first.read_text())
    assert document["Identity"] == {"PeerID": "own"}
    assert document["Datastore"]["Spec"] == {"type": "pebbleds", "cacheSize": 1}
    assert document["Peering"]["Peers"][0]["ID"] == "other"
    assert (repository / "config").stat().st_mode & 0o077 == 0


def _file(overlay: str, namespace: str, name: str, file: str, *, init: bool = False) -> str:
    """What a file of the ConfigMap that a program's pod mounts holds."""
    volumes = pod(workload(overlay, namespace, name))["volumes"]
    wanted = "settings" if init else "config"
    [found] = [volume["configMap"]["name"] for volume in volumes if volume["name"] == wanted]
    return config_map(overlay, namespace, found)[file]


def _measured() -> tuple[dict[str, float], dict[str, float]]:
    """Cores at the bar's rates, and resident MiB, of each program: the most of all steps and members."""
    cores: dict[str, float] = {}
    mebibytes: dict[str, float] = {}
    for row in ("records", "reads"):
        result = json.loads((layout.ROOT / "bench" / "results" / f"{row}.json").read_text())
        step: dict[str, Any] = result["runs"][0]["steps"][0]
        for name, used in step["cpu"]["us_per_operation"].items():
            kind = name.rpartition("-")[2]
            cores[kind] = max(cores.get(kind, 0.0), used * step["load"]["rate"] / 1e6)
        for name, used in step["memory_mib"].items():
            kind = name.rpartition("-")[2]
            mebibytes[kind] = max(mebibytes.get(kind, 0.0), used)
    return cores, mebibytes


def _cores(quantity: str | int) -> float:
    text = str(quantity)
    return int(text[:-1]) / 1000 if text.endswith("m") else float(text)


def _mebibytes(quantity: str) -> int:
    return int(quantity[:-2]) * {"Mi": 1, "Gi": 1024}[quantity[-2:]]
