"""Enforces the NetworkPolicies of one node: asks the API server twice a second, and sets the packet filter.

As small as it may be for that: no watch, no other node, policies as this repository writes them (reach.py).
"""

import http.client
import json
import shutil
import ssl
import subprocess
import threading
import urllib.parse
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.cluster import packet_filter
from tests.cluster.control_plane import ControlPlaneError
from tests.cluster.packet_filter import Pod

_EVERY_SECONDS = 0.5
_SECONDS = 5.0
_PODS = "/api/v1/pods"
_NAMESPACES = "/api/v1/namespaces"
_POLICIES = "/apis/networking.k8s.io/v1/networkpolicies"


class Enforcer:
    """Works while the block lasts. What it cannot do is told by `check`.

    kubeconfig  of the API server; `roots`: by which its certificate is believed
    addresses   the range of all pods
    """

    def __init__(self, kubeconfig: Path, roots: Path, addresses: str) -> None:
        document = json.loads(kubeconfig.read_text())
        self._token: str = document["users"][0]["user"]["token"]
        context = ssl.create_default_context(cafile=str(roots))
        # What the API server makes for itself lacks an extension that later Pythons ask for.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        server = urllib.parse.urlsplit(document["clusters"][0]["cluster"]["server"])
        self._api = http.client.HTTPSConnection(
            server.hostname or "", server.port, timeout=_SECONDS, context=context
        )
        self._addresses = addresses
        self._nft = shutil.which("nft") or "/usr/sbin/nft"
        self._enforced: tuple[list[Pod], list[dict[str, Any]]] | None = None
        self._problem = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="enforcer", daemon=True)

    def __enter__(self) -> Self:
        self._enforce()
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._ending.set()
        self._thread.join(_SECONDS * 4)

    def check(self) -> None:
        """Raise ControlPlaneError when the packet filter is not as the policies say."""
        if self._problem:
            raise ControlPlaneError(f"NetworkPolicies are not enforced: {self._problem}")

    def _work(self) -> None:
        while not self._ending.wait(_EVERY_SECONDS):
            try:
                self._enforce()
            except (ControlPlaneError, OSError, http.client.HTTPException, ValueError) as exc:
                self._problem = str(exc)
                # Opened again by the next question.
                self._api.close()
            else:
                self._problem = ""

    def _enforce(self) -> None:
        known = packet_filter.pods(self._items(_PODS), self._items(_NAMESPACES))
        policies = self._items(_POLICIES)
        if (known, policies) == self._enforced:
            return
        ended = subprocess.run(
            [self._nft, "-f", "-"],
            input=packet_filter.ruleset(known, policies, self._addresses),
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if ended.returncode:
            raise ControlPlaneError(f"nft: {ended.stderr.strip()}")
        self._enforced = known, policies

    def _items(self, path: str) -> list[dict[str, Any]]:
        self._api.request("GET", path, headers={"Authorization": f"Bearer {self._token}"})
        response = self._api.getresponse()
        body = response.read()
        if response.status != 200:
            raise ControlPlaneError(f"{path}: {response.status} {body[:200]!r}")
        return json.loads(body)["items"]
