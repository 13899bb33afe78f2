"""An API server with one namespace: objects are dictionaries, pods are programs that run here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from ops.backup.kubernetes.api import Api
from ops.backup.kubernetes.execution import PROTOCOL, STATUS, STDERR, STDIN, STDOUT
from ops.backup.kubernetes.photographs import SCRIPT
from tests.support.waiting import until

TOKEN = "a token"
FOLDER = "/var/lib/cbmdhi"


@dataclass
class Pod:
    """Its commands run here, with `script` for the one that photographs and `volume` for the volume's folder.

    sends  after so many bytes of stdout the connection breaks; -1: it does not
    """

    script: str
    volume: Path
    sends: int = -1


@dataclass
class Namespace:
    """What there is, by kind and name; what may not be read; the pods in which commands ran."""

    objects: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    pods: dict[str, Pod] = field(default_factory=dict)
    forbidden: set[str] = field(default_factory=set)
    executed: list[str] = field(default_factory=list)
    commands: set[asyncio.Task[web.StreamResponse]] = field(default_factory=set)

    def add(self, kind: str, name: str, **content: Any) -> None:
        """Have an object."""
        self.objects.setdefault(kind, {})[name] = {"metadata": {"name": name}, **content}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request of a pod's."""
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _refused(401, "who are you")
        _, _, of_namespace = request.path.partition("/namespaces/mercy/")
        kind, _, name = of_namespace.partition("/")
        if name.endswith("/exec"):
            command = asyncio.create_task(self._execute(request, name.removesuffix("/exec")))
            self.commands.add(command)
            # A command outlives its connection.
            return await asyncio.shield(command)
        if name in self.forbidden:
            return _refused(403, f'{kind} "{name}" is forbidden')
        found = self.objects.setdefault(kind, {})
        if request.method == "POST":
            document = await request.json()
            made = document["metadata"]["name"]
            if made in found:
                return _refused(409, "already exists")
            found[made] = document
            return web.json_response(document, status=201)
        if not name:
            return web.json_response({"items": list(found.values())})
        return web.json_response(found[name]) if name in found else _refused(404, "not found")

    async def _execute(self, request: web.Request, name: str) -> web.StreamResponse:
        if name in self.forbidden or name not in self.pods:
            return _refused(403, f'pods "{name}" is forbidden')
        self.executed.append(name)
        pod = self.pods[name]
        changed = {SCRIPT: pod.script, FOLDER: str(pod.volume)}
        command = [changed.get(part, part) for part in request.query.getall("command")]
        socket = web.WebSocketResponse(protocols=[PROTOCOL])
        await socket.prepare(request)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin
        assert process.stdout
        assert process.stderr
        # As the real one does, to say that the connection stands.
        await socket.send_bytes(bytes([STDOUT]))
        listening = asyncio.create_task(_listen(socket, process.stdin))
        telling = [
            asyncio.create_task(_tell(socket, STDOUT, process.stdout, pod.sends)),
            asyncio.create_task(_tell(socket, STDERR, process.stderr)),
        ]
        try:
            await asyncio.gather(*telling)
            code = await process.wait()
            status = {"status": "Failure", "message": f"exit code {code}"} if code else {"status": "Success"}
            await socket.send_bytes(bytes([STATUS]) + json.dumps(status).encode())
        except (_Broken, ConnectionError):
            pass
        finally:
            process.stdin.close()
            await socket.close()
            await listening
            for task in telling:
                task.cancel()
            await asyncio.gather(*telling, return_exceptions=True)
            # Nobody reads what it still says until it has ended; `wait` would want the end of what it says.
            await until(lambda: process.returncode is not None, "the command ends")
            await asyncio.gather(process.stdout.read(), process.stderr.read())
        return socket

    @asynccontextmanager
    async def served(self, account: Path) -> AsyncIterator[Api]:
        """The namespace's API, as a pod sees it. `account`: the folder of its service account."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.answer)
        async with TestServer(app) as server, aiohttp.ClientSession(server.make_url("/")) as session:
            yield Api(session, account)
            # What ran has ended before the loop does.
            await asyncio.gather(*self.commands)


def service_account(folder: Path) -> Path:
    """The folder of a service account of the namespace."""
    folder.mkdir()
    (folder / "namespace").write_text("mercy")
    (folder / "token").write_text(TOKEN)
    return folder


def stateful_set(name: str, **pod: Any) -> dict[str, Any]:
    """The `spec` of a StatefulSet with one volume."""
    container = {"name": name, "volumeMounts": [{"name": "data", "mountPath": FOLDER}]}
    volumes = [{"name": "keys", "secret": {"secretName": f"{name}-keys"}}]
    return {
        "replicas": 1,
        "template": {
            "spec": {"shareProcessNamespace": True, "containers": [container], "volumes": volumes, **pod}
        },
        "volumeClaimTemplates": [{"metadata": {"name": "data"}}],
    }


class _Broken(Exception):
    """The connection broke."""


async def _listen(socket: web.WebSocketResponse, stdin: asyncio.StreamWriter) -> None:
    async for message in socket:
        if message.type is aiohttp.WSMsgType.BINARY and message.data[0] == STDIN:
            stdin.write(message.data[1:])
    stdin.close()


async def _tell(
    socket: web.WebSocketResponse, channel: int, source: asyncio.StreamReader, at_most: int = -1
) -> None:
    sent = 0
    while content := await source.read(32 << 10):
        await socket.send_bytes(bytes([channel]) + content)
        sent += len(content)
        if 0 <= at_most <= sent:
            raise _Broken


def _refused(status: int, message: str) -> web.Response:
    return web.json_response({"message": message}, status=status)
