"""A real Kubernetes API server with its controllers, on loopback, for as long as a `with` block lasts.

No node: what the controllers make of the manifests is seen, and nothing runs.
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

from cbmdhi.devnet.layout import tool

_START_SECONDS = 120.0
_STOP_SECONDS = 10.0


class ControlPlaneError(Exception):
    """A program of the control plane, or `kubectl`, did not do what was asked; its words."""


class ControlPlane:
    """etcd, kube-apiserver and kube-controller-manager, with their state in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kubeconfig = folder / "kubeconfig"
        self._stack = ExitStack()

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
        ended = subprocess.run(
            [str(tool("kubectl")), f"--kubeconfig={self._kubeconfig}", *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder)},
        )
        if ended.returncode or ("Warning:" in ended.stderr and not may_warn):
            raise ControlPlaneError(ended.stderr.strip())
        return ended.stdout

    def get(self, kinds: str, namespace: str | None = None) -> list[dict[str, Any]]:
        """The objects of some kinds, of one namespace or of all."""
        where = ["--namespace", namespace] if namespace else ["--all-namespaces"]
        return json.loads(self.kubectl("get", kinds, *where, "--output=json"))["items"]

    def _start(self) -> None:
        etcd, etcd_peer, port = (_free_port() for _ in range(3))
        token = secrets.token_urlsafe(16)
        key = rsa.generate_private_key(65537, 2048)
        _write(self._folder / "sa.key", key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        _write(
            self._folder / "sa.pub",
            key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        )
        _write(self._folder / "tokens.csv", f"{token},admin,admin,system:masters\n".encode())
        _write(self._kubeconfig, json.dumps(_kubeconfig(port, token)).encode())
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
                "--bind-address=127.0.0.1",
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
                "--service-cluster-ip-range=10.96.0.0/16",
                f"--cert-dir={self._folder / 'certificates'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-signing-key-file={self._folder / 'sa.key'}",
                f"--service-account-key-file={self._folder / 'sa.pub'}",
                f"--token-auth-file={self._folder / 'tokens.csv'}",
                "--authorization-mode=RBAC",
            ],
        )
        self.wait(lambda: self._ready(server), "the API server's readiness", _START_SECONDS)
        self._run(
            "kube-controller-manager",
            [
                f"--kubeconfig={self._kubeconfig}",
                f"--service-account-private-key-file={self._folder / 'sa.key'}",
                "--use-service-account-credentials=false",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                f"--secure-port={_free_port()}",
                f"--cert-dir={self._folder / 'controller-certificates'}",
            ],
        )

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

    def _run(self, program: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self._folder / f"{program}.log").open("wb"))
        process = subprocess.Popen(
            [str(tool(program)), *arguments],
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._stack.callback(_end, process)
        return process

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


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)


def _kubeconfig(port: int, token: str) -> dict[str, Any]:
    # The server makes its certificate itself at the start; the token, and loopback, are what this rests on.
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "trial",
        "clusters": [{"name": "trial", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "trial", "context": {"cluster": "trial", "user": "admin"}}],
    }
