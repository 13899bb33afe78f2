"""Several processes of one storage over one folder.

A lock belongs to who opened the file: two `SharedFolder`s here stand against one another as two processes do.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import cid
from cbmdhi.protocol.ids import uuid7
from services.runtime.clock import now_ms
from services.runtime.errors import MeshError
from services.runtime.sqlite import Database
from services.storage.domain import batch
from services.storage.domain.lease import Content, Lease
from services.storage.schema import MIGRATIONS
from services.storage.store.block_cache import BlockCache
from services.storage.store.folder_lock import SharedFolder
from services.storage.store.leases import Leases
from services.storage.store.pins import Pins
from tests.support.fakes.committed_channel import AUTHOR, LAKESIDE, MERCY
from tests.support.fakes.storage_member import FakeKubo
from tests.support.waiting import until

_HOLDS_UNTIL_KILLED = """
import asyncio, pathlib, sys
from services.storage.store.folder_lock import SharedFolder
async def main():
    async with SharedFolder(pathlib.Path(sys.argv[1])) as folder:
        folder.admit()
        async with folder.locks("roots").hold("a"):
            print("held", flush=True)
            await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_the_first_is_alone_and_the_second_waits_until_it_lets_others_in(tmp_path: Path) -> None:
    second = SharedFolder(tmp_path)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(SharedFolder(tmp_path))
        joining = asyncio.create_task(stack.enter_async_context(second))
        await asyncio.wait([joining], timeout=0.3)
        assert first.alone
        assert not joining.done(), "it came in while the first was tidying"

        first.admit()
        await joining

        assert not second.alone


async def test_whoever_comes_when_all_have_gone_is_alone_again(tmp_path: Path) -> None:
    async with SharedFolder(tmp_path) as first:
        first.admit()
    async with SharedFolder(tmp_path) as next_one:
        assert next_one.alone


async def test_a_start_that_never_ends_is_said_to_who_waits_for_it(tmp_path: Path) -> None:
    async with SharedFolder(tmp_path):
        with pytest.raises(MeshError, match="was not free of a process that starts in it") as caught:
            async with SharedFolder(tmp_path, join_seconds=0.1):
                pass
    assert caught.value.code == code_pb2.CODE_UNAVAILABLE


@pytest.fixture
async def folders(tmp_path: Path) -> AsyncIterator[tuple[SharedFolder, SharedFolder]]:
    """Of two processes."""
    async with SharedFolder(tmp_path) as first:
        first.admit()
        async with SharedFolder(tmp_path) as second:
            yield first, second


async def test_a_key_is_kept_from_the_other_process_and_other_keys_are_not(
    folders: tuple[SharedFolder, SharedFolder],
) -> None:
    here, there = folders[0].locks("roots"), folders[1].locks("roots")
    order: list[str] = []

    async def take_a() -> None:
        async with there.hold("a"):
            order.append("there")

    async with here.hold("a"):
        waiting = asyncio.create_task(take_a())
        async with asyncio.timeout(10):
            async with there.hold("b"), here.hold("c"), folders[1].locks("pins").hold("a"):
                order.append("others")
        await asyncio.wait([waiting], timeout=0.2)
        order.append("here")
    await waiting

    assert order == ["others", "here", "there"]


async def test_keys_of_one_process_do_not_let_go_of_one_another(
    folders: tuple[SharedFolder, SharedFolder],
) -> None:
    here, there = folders[0].locks("roots"), folders[1].locks("roots")
    async with here.hold("a"):
        async with here.hold("b"):
            pass
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2), there.hold("a"):
                pass


async def test_what_a_killed_process_held_is_free(tmp_path: Path) -> None:
    killed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _HOLDS_UNTIL_KILLED, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert killed.stdout
    try:
        assert await killed.stdout.readline() == b"held\n"
        async with SharedFolder(tmp_path) as folder:
            assert not folder.alone
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2), folder.locks("roots").hold("a"):
                    pass
            killed.kill()
            async with asyncio.timeout(10), folder.locks("roots").hold("a"):
                pass
    finally:
        if killed.returncode is None:
            killed.kill()
        await killed.wait()
    async with SharedFolder(tmp_path) as folder:
        assert folder.alone


class SlowKubo(FakeKubo):
    """Says when it was asked to unpin, and does it when it may."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.may = asyncio.Event(), asyncio.Event()

    async def unpin(self, root_cids: Sequence[str]) -> None:
        self.asked.set()
        await self.may.wait()
        await super().unpin(root_cids)


async def test_a_root_that_one_process_lets_go_of_while_another_pins_it_stays_pinned(
    tmp_path: Path, folders: tuple[SharedFolder, SharedFolder]
) -> None:
    kubo = SlowKubo()
    packed = batch.pack([(cid.raw(b"one"), b"one")])
    first, second = (
        Lease(packed.root_cid, msp, (Content(cid.raw(b"one"), uuid7(), AUTHOR),), {}, now_ms())
        for msp in (MERCY, LAKESIDE)
    )
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(Database(tmp_path / "storage.db", MIGRATIONS)) for _ in folders
        ]
        here, there = (
            Pins(Leases(database), kubo, BlockCache(0), folder.locks("pins"))
            for database, folder in zip(opened, folders, strict=True)
        )
        await here.lease(packed, first)

        letting_go = asyncio.create_task(here.release({first: frozenset()}, now_ms()))
        await until(kubo.asked.is_set, "the first process asks Kubo to unpin")
        pinning = asyncio.create_task(there.lease(packed, second))
        await asyncio.wait([pinning], timeout=0.2)
        kubo.may.set()
        await asyncio.gather(letting_go, pinning)

    assert packed.root_cid in kubo.pinned
