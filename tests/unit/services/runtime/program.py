"""A small service for the tests of the lifecycle: `python -m tests.unit.services.runtime.program`."""

import asyncio
import os
from pathlib import Path

from cbmdhi.notify.v1 import notify_pb2, notify_pb2_grpc
from services.runtime.config import ServiceConfig
from services.runtime.lifecycle import Lifecycle, run
from services.runtime.server import GrpcServer


class ProgramConfig(ServiceConfig):
    service_name = "program"

    behaviour: str = ""
    trail_file: Path


class Inbox(notify_pb2_grpc.InboxServiceServicer):
    async def List(self, request: object, context: object) -> notify_pb2.ListResponse:
        return notify_pb2.ListResponse()


class Resource:
    """Leaves a line when it opens and closes."""

    def __init__(self, name: str, trail: Path) -> None:
        self._name = name
        self._trail = trail

    async def __aenter__(self) -> None:
        self._say("opens")

    async def __aexit__(self, *_: object) -> None:
        self._say("closes")

    def _say(self, what: str) -> None:
        with self._trail.open("a", encoding="utf-8") as file:
            file.write(f"{self._name} {what}\n")


async def worker(trail: Path, *, crash: bool) -> None:
    try:
        if crash:
            raise KeyError("Jane Doe")
        await asyncio.Event().wait()
    finally:
        with trail.open("a", encoding="utf-8") as file:
            file.write("worker ends\n")


async def serve(config: ProgramConfig, life: Lifecycle) -> None:
    await life.enter(Resource("database", config.trail_file))
    if config.behaviour == "unusable":
        raise OSError("the vault key cannot be used; make it anew")
    if config.behaviour == "stuck":
        await asyncio.Event().wait()
    await life.enter(Resource("nats", config.trail_file))
    life.spawn("worker", worker(config.trail_file, crash=config.behaviour == "crash"))

    async def check() -> str | None:
        return "the ledger does not answer" if os.path.exists(f"{config.trail_file}.broken") else None  # noqa: ASYNC240

    life.readiness.add("ledger", check)
    server = GrpcServer(config, life)
    server.add(notify_pb2_grpc.add_InboxServiceServicer_to_server, Inbox())
    await life.serve(server)


if __name__ == "__main__":
    run(serve, ProgramConfig.load())
