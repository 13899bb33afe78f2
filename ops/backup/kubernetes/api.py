"""The API server, as a pod reaches it with the rights of its service account."""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from ops.backup.errors import BackupError
from ops.backup.kubernetes import execution
from ops.backup.kubernetes.execution import Execution

Document = dict[str, Any]

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_SECONDS = 30.0
_APPS = ("statefulsets", "deployments")
_RIGHTS = "Compare the Role of this pod's service account with deploy/k8s/components/backup."


class Api:
    """Objects of the pod's own namespace, and commands in its pods."""

    def __init__(self, session: aiohttp.ClientSession, account: Path) -> None:
        """`session`: with the server's address; `account`: the folder of the service account's token."""
        self._session = session
        self._account = account
        self.namespace = (account / "namespace").read_text().strip()

    async def every(self, kind: str) -> list[Document]:
        """All objects of a kind, such as `statefulsets`. Raises BackupError."""
        return (await self._asked("GET", self._path(kind)))["items"]

    async def find(self, kind: str, name: str) -> Document | None:
        """An object; None when there is none of this name. Raises BackupError."""
        return await self._asked("GET", f"{self._path(kind)}/{name}", lacks=404) or None

    async def create(self, kind: str, document: Document) -> bool:
        """Make an object; False when there is one of this name, which stays as it is. Raises BackupError."""
        return bool(await self._asked("POST", self._path(kind), document, lacks=409))

    @asynccontextmanager
    async def execute(self, pod: str, container: str, command: Sequence[str]) -> AsyncIterator[Execution]:
        """Run a command in a pod for as long as the block lasts.

        Raises:
            BackupError: the API server does not let us, or does not reach the pod.
        """
        streams = [(name, "true") for name in ("stdin", "stdout", "stderr")]
        query = [("container", container), *streams, *(("command", part) for part in command)]
        try:
            socket = await self._session.ws_connect(
                f"{self._path('pods')}/{pod}/exec",
                params=query,
                protocols=[execution.PROTOCOL],
                headers=self._headers(),
            )
        except aiohttp.WSServerHandshakeError as exc:
            raise BackupError(
                f"No command can be run in {pod}: {exc.status} {exc.message}.", _RIGHTS
            ) from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise _unreached(exc) from exc
        async with execution.running(socket, pod) as found:
            yield found

    async def _asked(
        self, method: str, path: str, document: Document | None = None, *, lacks: int = 0
    ) -> Document:
        """The answer; an empty one for the status `lacks`."""
        try:
            async with self._session.request(
                method,
                path,
                json=document,
                headers=self._headers(),
                timeout=aiohttp.ClientTimeout(_SECONDS),
                # The service account's token goes to the API server, and nowhere else.
                allow_redirects=False,
            ) as response:
                answer = await response.json()
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise _unreached(exc) from exc
        if response.status == lacks:
            return {}
        if response.status >= 300:
            raise BackupError(f"The API server refuses: {answer.get('message', response.status)}.", _RIGHTS)
        return answer

    def _headers(self) -> dict[str, str]:
        # Read each time: the kubelet renews it.
        return {"Authorization": f"Bearer {(self._account / 'token').read_text().strip()}"}

    def _path(self, kind: str) -> str:
        group = "/apis/apps/v1" if kind in _APPS else "/api/v1"
        return f"{group}/namespaces/{self.namespace}/{kind}"


@asynccontextmanager
async def inside() -> AsyncIterator[Api]:
    """The API server of the cluster that this pod runs in. Raises BackupError."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    try:
        context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    except OSError as exc:
        raise BackupError(f"This pod has no service account: {exc}.", _RIGHTS) from exc
    # Clusters' own authorities lack an extension that later Pythons ask for; `kubectl` does not.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    address = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    async with aiohttp.ClientSession(address, connector=aiohttp.TCPConnector(ssl=context)) as session:
        yield Api(session, ACCOUNT)


def _unreached(exc: Exception) -> BackupError:
    told = str(exc) or type(exc).__name__
    return BackupError(f"The API server is not reached: {told}.", "Look at the NetworkPolicy `backup`.")
