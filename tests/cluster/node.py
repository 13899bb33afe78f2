"""A real Kubernetes node, with its control plane, for as long as a `with` block lasts.

It changes the network, the mounts and the host name that it finds: only for a process in namespaces of its
own (enclosure.py).
"""

import json
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ops.manifests.listeners import PORTS
from tests.cluster import front_proxy, node_config
from tests.cluster.control_plane import ControlPlane, ControlPlaneError, write_private

# Where distributions put the programs of the pod network.
PLUGIN_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"), Path("/usr/libexec/cni"))
PLUGINS = ("ptp", "host-local", "loopback")
# What containerd, runc and the kubelet write to wherever they run: empty for us, and gone afterwards.
HIDDEN = (Path("/run"), Path("/var/log"), Path("/var/lib"))
_RESOLVER = Path("/etc/resolv.conf")
_READY_SECONDS = 60.0
_IMPORT_SECONDS = 240.0
_FORWARDED = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+) ")


class Node(ControlPlane):
    """A cluster of one node. `cgroup`: the name under which pods live, in every hierarchy."""

    def __init__(self, folder: Path, cgroup: str) -> None:
        super().__init__(folder, node_config.ADDRESS, PORTS["apiserver"]["https"])
        self._cgroup = cgroup

    def import_image(self, archive: Path) -> None:
        """Give containerd an image. Raises ControlPlaneError."""
        self._ctr("images", "import", str(archive), seconds=_IMPORT_SECONDS)

    def images(self) -> list[str]:
        """Names of the images that there are."""
        return self._ctr("images", "list", "--quiet").split()

    def execute(self, namespace: str, pod: str, *command: str) -> str:
        """What a command in a pod printed. Raises ControlPlaneError."""
        return self.kubectl("exec", f"--namespace={namespace}", pod, "--", *command, may_warn=True)

    @contextmanager
    def forwarded(self, namespace: str, pod: str, port: int) -> Iterator[str]:
        """`kubectl port-forward`: the address on loopback at which a pod's port is, for the block.

        Raises:
            ControlPlaneError: it does not forward.
        """
        with subprocess.Popen(
            self._kubectl("port-forward", f"--namespace={namespace}", pod, f":{port}", "--address=127.0.0.1"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self._environment(),
        ) as process:
            try:
                said = process.stdout.readline() if process.stdout else ""
                found = _FORWARDED.match(said)
                if not found:
                    raise ControlPlaneError(f"kubectl port-forward {pod}: {said.strip() or 'nothing said'}")
                yield f"127.0.0.1:{found[1]}"
            finally:
                process.terminate()

    def _start(self) -> None:
        self._prepare()
        super()._start()
        self._start_containerd()
        self._run(
            "kube-scheduler",
            [
                f"--kubeconfig={self.kubeconfig}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--cert-dir={self._folder / 'scheduler-certificates'}",
            ],
        )
        self._run(
            "kubelet",
            [
                f"--config={self._document('kubelet.json', node_config.kubelet(self._cgroup))}",
                f"--kubeconfig={self.kubeconfig}",
                f"--root-dir={self._folder / 'kubelet'}",
                f"--cert-dir={self._folder / 'kubelet-certificates'}",
                f"--hostname-override={node_config.NAME}",
                f"--node-ip={node_config.ADDRESS}",
            ],
        )
        self._run(
            "kube-proxy",
            [f"--config={self._document('proxy.json', node_config.proxy(self.kubeconfig))}"],
        )
        self.wait(self._node_is_ready, "the node's readiness", _READY_SECONDS)

    def _server_options(self) -> list[str]:
        return ["--kubelet-preferred-address-types=InternalIP", *front_proxy.options(self._folder)]

    def _controller_options(self) -> list[str]:
        # Seconds instead of minutes, so that an autoscaler can be watched at work.
        return [
            "--horizontal-pod-autoscaler-sync-period=5s",
            "--horizontal-pod-autoscaler-cpu-initialization-period=15s",
            "--horizontal-pod-autoscaler-initial-readiness-delay=1s",
        ]

    def _prepare(self) -> None:
        """The machine as this node sees it."""
        socket.sethostname(node_config.NAME)
        _command("mount", "--make-rshared", "/")
        # A symbolic link into a folder that is about to be hidden leads nowhere afterwards.
        resolver = _RESOLVER.resolve()
        for folder in HIDDEN:
            _command("mount", "-t", "tmpfs", "tmpfs", str(folder))
        ours = self._folder / "resolv.conf"
        ours.write_text(node_config.resolver())
        if resolver.exists():
            _command("mount", "--bind", str(ours), str(resolver))
        else:
            resolver.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ours, resolver)
        _command("ip", "link", "set", "lo", "up")
        _command("ip", "link", "add", "node0", "type", "bridge")
        _command("ip", "address", "add", f"{node_config.ADDRESS}/24", "dev", "node0")
        _command("ip", "link", "set", "node0", "up")
        # Nothing is there: without a way out, a Service's address would not be looked at.
        _command("ip", "route", "add", "default", "via", node_config.GATEWAY, "dev", "node0")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")

    def _start_containerd(self) -> None:
        plugins = plugin_folder()
        if plugins is None:
            raise ControlPlaneError(f"no folder holds {', '.join(PLUGINS)}")
        cni = self._folder / "cni"
        cni.mkdir()
        (cni / "10-pods.conflist").write_text(json.dumps(node_config.pod_network()))
        config = self._folder / "containerd.toml"
        config.write_text(node_config.containerd(self._folder, plugins))
        process = self._run("containerd", ["--config", str(config)], path=shutil.which("containerd"))

        def answers() -> bool:
            if process.poll() is not None:
                raise ControlPlaneError(f"containerd ended:\n{self._tail('containerd')}")
            try:
                return bool(self._ctr("version"))
            except ControlPlaneError:
                return False

        self.wait(answers, "containerd's answer", _READY_SECONDS)

    def _ctr(self, *arguments: str, seconds: float = 30.0) -> str:
        command = ["ctr", f"--address={node_config.SOCKET}", "--namespace=k8s.io", *arguments]
        return _command(*command, seconds=seconds)

    def _document(self, name: str, document: dict[str, Any]) -> Path:
        path = self._folder / name
        write_private(path, json.dumps(document).encode())
        return path

    def _node_is_ready(self) -> bool:
        return any(is_ready(node) for node in self.get("nodes"))


def plugin_folder() -> Path | None:
    """Where this machine has the programs of the pod network."""
    return next((folder for folder in PLUGIN_FOLDERS if has_plugins(folder)), None)


def has_plugins(folder: Path) -> bool:
    """True when all that are needed are there."""
    return all((folder / name).exists() for name in PLUGINS)


def is_ready(document: dict[str, Any]) -> bool:
    """Does a node or a pod say that it is ready?"""
    conditions: Sequence[dict[str, Any]] = document.get("status", {}).get("conditions", [])
    return any(found["type"] == "Ready" and found["status"] == "True" for found in conditions)


def _command(*command: str, seconds: float = 30.0) -> str:
    ended = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    if ended.returncode:
        told = ended.stderr.strip()
        raise ControlPlaneError(f"`{' '.join(command)}` ended with {ended.returncode}: {told}")
    return ended.stdout
