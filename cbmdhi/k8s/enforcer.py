"""Enforces the NetworkPolicies of a cluster of one node: asks the API server twice a second, and sets the packet filter.

As small as it may be for that: no watching, no other node, policies as this repository writes them (reach.py).
"""

import json
import shutil
import ssl
import subprocess
import threading
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cbmdhi.k8s import packet_filter
from cbmdhi.k8s.control_plane import ControlPlaneError

_EVERY_SECONDS = 0.5
_SECONDS = 5.0
_PATHS = {
    "pods": "/api/v1/pods",
    "namespaces": "/api/v1/namespaces",
    "policies": "/apis/networking.k8s.io/v1/networkpolicies",
}


class Enforcer:
    """Works while the block lasts. What it cannot do is told by `check`.

    kubeconfig  of the API server; `roots`: by which its certificate is believed
    addresses   the range of all pods
    """

    def __init__(self, kubeconfig: Path, roots: Path, addresses: str) -> None:
        document = json.loads(kubeconfig.read_text())
        self._server: str = document["clusters"][0]["cluster"]["server"]
        self._token: str = document["users"][0]["user"]["token"]
        self._context = ssl.create_default_context(cafile=str(roots))
        self._addresses = addresses
        self._nft = shutil.which("nft") or "/usr/sbin/nft"
        self._set = ""
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
            except (ControlPlaneError, OSError, ValueError) as exc:
                self._problem = str(exc)
            else:
                self._problem = ""

    def _enforce(self) -> None:
        found = {name: self._items(path) for name, path in _PATHS.items()}
        known = packet_filter.pods(found["pods"], found["namespaces"])
        wanted = packet_filter.ruleset(known, found["policies"], self._addresses)
        if wanted == self._set:
            return
        ended = subprocess.run(
            [self._nft, "-f", "-"], input=wanted, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
        if ended.returncode:
            raise ControlPlaneError(f"nft: {ended.stderr.strip()}")
        self._set = wanted

    def _items(self, path: str) -> list[dict[str, Any]]:
        request = urllib.request.Request(  # noqa: S310 - the API server's own https address
            f"{self._server}{path}", headers={"Authorization": f"Bearer {self._token}"}
        )
        with urllib.request.urlopen(request, timeout=_SECONDS, context=self._context) as response:  # noqa: S310
            return json.load(response)["items"]
