"""How a program that was started here is ended."""

from __future__ import annotations

import asyncio

_SECONDS = 10.0


async def end(process: asyncio.subprocess.Process | None) -> None:
    """Ask it to end, and kill it when it has not after 10 s; nothing for one that never began or is over."""
    if process is None or process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
