"""A real Kubernetes API server with its controllers, for as long as a `with` block lasts.

No node: what the controllers make of the manifests is seen, and nothing runs. With one: node.py.
"""

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from ops.devnet.layout import tool

SERVICES_RANGE = "10.96.0.0/16"
_START_SECONDS = 120.0
_STOP_SECONDS = 10.0


class ControlPlaneError(Exception):
    """A program of the control plane, or `kubectl`, did not do what was asked; its words."""


class ControlPlane:
    """etcd, kube-apiserver and kube-controller-manager, with their state in `folder`.

    address  of the API server, on which it listens alone; port: 0 for one that is free
    """

    def __init__(self, folder: Path, address: str = "127.0.0.1", port: int = 0) -> None:
        self._folder = folder
        self._address = address
        self._port = port
        self._stack = ExitStack()
        self.kubeconfig = folder / "kubeconfig"
        # It makes its certificate itself, and puts its own authority behind it in the file.
        self.roots = folder / "certificates" / "apiserver.crt"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._stack.close()

    def kubectl(
        self, *arguments: str, given: str | None = None, seconds: float = 120.0, may_warn: bool = False
    ) -> str:
        """What `kubectl` printed. `may_warn`: of documents that are not ours.

        Raises:
            ControlPlaneError: it ended with an error, or warned of something.
        """
        try:
            ended = subprocess.run(
                self._kubectl(*arguments),
                input=given,
                capture_output=True,
                text=True,
                timeout=seconds,
                check=False,
                env=self._environment(),
            )
        except subprocess.TimeoutExpired as exc:
            raise ControlPlaneError(f"kubectl {arguments[0]} did not end within {seconds:g} s") from exc
        if ended.returncode or ("Warning:" in ended.stderr and not may_warn):
            raise ControlPlaneError(ended.stderr.strip())
        return ended.stdout

    def get(self, kinds: str, namespace: str | None = None) -> list[dict[str, Any]]:
        """The objects of some kinds, of one namespace or of all."""
        where = ["--namespace", namespace] if namespace else ["--all-namespaces"]
        return json.loads(self.kubectl("get", kinds, *where, "--output=json"))["items"]

    def apply(self, documents: Sequence[dict[str, Any]], manager: str) -> None:
        """Apply documents server-side, strictly, as `manager`. Raises as `kubectl` does."""
        self.kubectl(
            "apply",
            "--server-side",
            "--validate=strict",
            f"--field-manager={manager}",
            "--filename=-",
            given=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(documents)}),
        )

    def _start(self) -> None:
        etcd, etcd_peer, free = (_free_port() for _ in range(3))
        port = self._port or free
        token = secrets.token_urlsafe(16)
        key = rsa.generate_private_key(65537, 2048)
        write_private(
            self._folder / "sa.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        )
        write_private(
            self._folder / "sa.pub",
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        )
        write_private(self._folder / "tokens.csv", f"{token},admin,admin,system:masters\n".encode())
        write_private(self.kubeconfig, json.dumps(_kubeconfig(self._address, port, token)).encode())
        self._run(
            "etcd",
            [
                f"--data-dir={self._folder / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{etcd}",
                f"--advertise-client-urls=http://127.0.0.1:{etcd}",
                f"--listen-peer-urls=http://127.0.0.1:{etcd_peer}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{etcd_peer}",
                f"--initial-cluster=default=http://127.0.0.1:{etcd_peer}",
                "--unsafe-no-fsync",
                "--log-level=warn",
            ],
        )
        server = self._run(
            "kube-apiserver",
            [
                f"--etcd-servers=http://127.0.0.1:{etcd}",
                f"--secure-port={port}",
                f"--bind-address={self._address}",
                f"--advertise-address={self._address}",
                f"--service-cluster-ip-range={SERVICES_RANGE}",
                f"--cert-dir={self._folder / 'certificates'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={self._folder / 'sa.key'}",
                f"--service-account-key-file={self._folder / 'sa.pub'}",
                f"--token-auth-file={self._folder / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                *self._server_options(),
            ],
        )
        self.wait(lambda: self._ready(server), "the API server's readiness", _START_SECONDS)
        self._run(
            "kube-controller-manager",
            [
                f"--kubeconfig={self.kubeconfig}",
                f"--service-account-private-key-file={self._folder / 'sa.key'}",
                f"--root-ca-file={self.roots}",
                "--use-service-account-credentials=false",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={_free_port()}",
                f"--cert-dir={self._folder / 'controller-certificates'}",
                # It makes the folder when it is not there.
                f"--flex-volume-plugin-dir={self._folder / 'volume-plugins'}",
                *self._controller_options(),
            ],
        )

    def _server_options(self) -> list[str]:
        # Nobody but `kubectl` shall find it.
        return ["--endpoint-reconciler-type=none"]

    def _controller_options(self) -> list[str]:
        return []

    def wait(self, holds: Callable[[], object], what: str, seconds: float) -> None:
        """Return once `holds`.

        Raises:
            ControlPlaneError: not within the time.
        """
        ends_at = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > ends_at:
                raise ControlPlaneError(f"not within {seconds:g} s: {what}")
            time.sleep(0.2)

    def _ready(self, server: subprocess.Popen[bytes]) -> bool:
        if server.poll() is not None:
            raise ControlPlaneError(f"kube-apiserver ended:\n{self._tail('kube-apiserver')}")
        try:
            return self.kubectl("get", "--raw", "/readyz") == "ok"
        except ControlPlaneError:
            return False

    def _run(
        self, program: str, arguments: Sequence[str], path: str | None = None
    ) -> subprocess.Popen[bytes]:
        """Start a program, which ends with the block; `path` when it is not one that we build."""
        log = self._stack.enter_context((self._folder / f"{program}.log").open("wb"))
        process = subprocess.Popen(
            [path or str(tool(program)), *arguments],
            cwd=self._folder,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._stack.callback(_end, process)
        return process

    def _kubectl(self, *arguments: str) -> list[str]:
        return [str(tool("kubectl")), f"--kubeconfig={self.kubeconfig}", *arguments]

    def _environment(self) -> dict[str, str]:
        """Nothing of a person's own settings: a proxy, or another cluster's configuration."""
        return {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": str(self._folder)}

    def _tail(self, program: str) -> str:
        return "\n".join((self._folder / f"{program}.log").read_text(errors="replace").splitlines()[-15:])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_private(path: Path, content: bytes) -> None:
    """Write a file that its owner alone reads, from the first moment."""
    path.touch(mode=0o600)
    path.write_bytes(content)


def _kubeconfig(address: str, port: int, token: str) -> dict[str, Any]:
    # The server makes its certificate itself at the start; the token, and an address that nobody else
    # reaches, are what this rests on.
    cluster = {"server": f"https://{address}:{port}", "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "trial",
        "clusters": [{"name": "trial", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "trial", "context": {"cluster": "trial", "user": "admin"}}],
    }
