"""A node: what it is told, what is put back after it, and what is said when it cannot be."""

import io
import ipaddress
import tomllib
from pathlib import Path

import pytest

from ops.devnet.topology import Ports
from tests.cluster import addons, cgroups, kernel, machine, namespaces, node, node_config, overlays, pods
from tests.cluster.control_plane import SERVICES_RANGE
from tests.cluster.proof_log import Account
from tests.cluster.service_ports import ServicePorts
from tests.unit.ops.manifests.manifests import of_kind, rendered


def test_containerd_is_told_where_things_are(tmp_path: Path) -> None:
    told = tomllib.loads(node_config.containerd(tmp_path, Path("/usr/lib/cni")))
    cri = told["plugins"]["io.containerd.grpc.v1.cri"]
    assert told["root"] == str(tmp_path / "containerd")
    assert cri["sandbox_image"] == node_config.IMAGE
    assert cri["cni"]["bin_dir"] == "/usr/lib/cni"


def test_pods_services_and_the_node_do_not_share_addresses() -> None:
    pods_range = ipaddress.ip_network(node_config.PODS_RANGE)
    services = ipaddress.ip_network(SERVICES_RANGE)
    assert not pods_range.overlaps(services)
    assert ipaddress.ip_address(node_config.DNS_ADDRESS) in services
    for address in (node_config.ADDRESS, node_config.GATEWAY):
        assert ipaddress.ip_address(address) not in pods_range
        assert ipaddress.ip_address(address) not in services
    assert node_config.kubelet("group")["clusterDNS"] == [node_config.DNS_ADDRESS]
    assert f"nameserver {node_config.DNS_ADDRESS}" in node_config.resolver()


def test_what_every_cluster_has_is_as_the_schemas_say(tmp_path: Path) -> None:
    documents = [*addons.dns(), *addons.metrics(), *addons.volumes(tmp_path, 2)]
    assert overlays.check_schemas(documents) == len(documents)


def test_there_is_a_volume_for_every_claim_of_the_overlay() -> None:
    claimed = addons.claims(list(rendered("laptop")))
    kept = ("StatefulSet", "PersistentVolumeClaim")
    assert claimed == sum(document["kind"] in kept for document in rendered("laptop"))
    made = [doc for doc in addons.volumes(Path("/volumes"), claimed) if doc["kind"] == "PersistentVolume"]
    assert len({document["spec"]["local"]["path"] for document in made}) == claimed


def test_a_small_nodes_autoscaler_differs_in_numbers_alone() -> None:
    [ours] = of_kind("production", "HorizontalPodAutoscaler")
    small = addons.from_component(ours, "mercy", "50m")
    assert small["spec"]["scaleTargetRef"] == ours["spec"]["scaleTargetRef"]
    assert small["spec"]["behavior"] == ours["spec"]["behavior"]
    assert (small["spec"]["minReplicas"], small["spec"]["maxReplicas"]) == (1, 3)
    # The component's own is not touched.
    assert {metric["type"] for metric in ours["spec"]["metrics"]} == {"Resource", "Pods"}


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("ca", "ca.mercy:7054"),
        ("ca_operations", "ca.mercy:9443"),
        ("peer", "peer.mercy:7051"),
        ("peer_chaincode", "peer.mercy:7052"),
        ("chaincode", "chaincode.mercy:7052"),
        ("gateway", "gateway.mercy:7411"),
        ("gateway_first_contact", "gateway.mercy:7413"),
        ("gateway_rest", "gateway.mercy:7414"),
        ("ledger_metrics", "ledger.mercy:7412"),
        ("nats", "nats.mercy:4222"),
        ("nats_monitor", "nats.mercy:8222"),
        ("ipfs_rpc", "ipfs.mercy:5001"),
    ],
)
def test_a_listener_is_found_by_its_services_name(name: str, address: str) -> None:
    assert ServicePorts().address("mercy", name) == address


def test_a_forwarded_listener_is_found_where_it_is_forwarded_to() -> None:
    ports = ServicePorts(forwarded={("ordering", "orderer_admin"): "127.0.0.1:40000"})
    assert ports.address("ordering", "orderer_admin") == "127.0.0.1:40000"
    assert ports.address("ordering", "orderer") == "orderer.ordering:7050"
    assert Ports(20_000).host("ordering", "orderer") == "127.0.0.1"


def test_control_groups_are_gone_after_the_block_also_after_a_failure(tmp_path: Path) -> None:
    for hierarchy in ("cpu", "memory"):
        (tmp_path / hierarchy).mkdir()
        (tmp_path / hierarchy / "cgroup.procs").touch()

    def fail() -> None:
        with cgroups.group("ours", tmp_path):
            (tmp_path / "cpu" / "ours" / "kubepods" / "pod").mkdir(parents=True)
            assert (tmp_path / "memory" / "ours").is_dir()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not list(tmp_path.glob("*/ours"))


def test_a_new_group_may_use_what_its_parent_may(tmp_path: Path) -> None:
    parent = tmp_path / "cpuset"
    parent.mkdir()
    for name, value in (("cgroup.procs", ""), ("cpuset.cpus", "0-1\n"), ("cpuset.mems", "0\n")):
        (parent / name).write_text(value)
    ours = parent / "ours"
    ours.mkdir()
    for name in ("cpuset.cpus", "cpuset.mems"):
        (ours / name).write_text("\n")
    cgroups._inherit(ours)
    assert ((ours / "cpuset.cpus").read_text(), (ours / "cpuset.mems").read_text()) == ("0-1", "0")


def test_the_kernels_settings_are_put_back(tmp_path: Path) -> None:
    setting = tmp_path / kernel.TUNABLES[0]
    setting.parent.mkdir()
    setting.write_text("0\n")
    with kernel.restored(tmp_path):
        setting.write_text("1\n")
    assert setting.read_text() == "0\n"


def test_what_is_missing_is_named_by_its_package_once() -> None:
    assert machine.packages(["ctr", "containerd", "nft"]) == ["containerd", "nftables"]


def test_a_machine_without_containerd_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "_SYSTEM", str(tmp_path))
    monkeypatch.setattr(node, "PLUGIN_FOLDERS", (tmp_path,))
    assert machine.main() == 1
    said = capsys.readouterr().err
    assert "apt-get install containerd runc nftables" in said
    assert "containernetworking-plugins" in said


def test_a_checkout_that_the_node_would_hide_is_told() -> None:
    assert machine._folders([Path("/var/lib/ci/checkout")])
    assert not machine._folders([Path("/work/checkout"), Path("/home/someone/checkout")])


def test_inside_there_are_no_proxies() -> None:
    given = {"HTTPS_PROXY": "somewhere", "no_proxy": "x", "PATH": "/bin"}
    assert namespaces._environment(given) == {"PATH": "/bin"}


def test_a_pod_that_waits_is_explained_by_its_status() -> None:
    waiting = {
        "metadata": {"namespace": "mercy", "name": "ledger-0"},
        "status": {
            "phase": "Pending",
            "conditions": [{"type": "Ready", "status": "False", "message": "containers not ready"}],
            "initContainerStatuses": [{"name": "first", "state": {"terminated": {"reason": "Completed"}}}],
            "containerStatuses": [
                {
                    "name": "ledger",
                    "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "no image"}},
                }
            ],
        },
    }
    ready = {
        "metadata": {"namespace": "mercy", "name": "nats-0"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    assert pods.unready([waiting, ready]) == [
        "mercy/ledger-0 (Pending): ledger waiting: ErrImageNeverPull no image; containers not ready"
    ]


def test_the_account_counts_what_was_proved() -> None:
    stream = io.StringIO()
    account = Account(stream=stream)
    account.step("A step")
    account.proved("this")
    account.failed("that")
    assert account.proofs == 1
    assert "s    ✓  this" in stream.getvalue()
    assert "✗  that" in stream.getvalue()
