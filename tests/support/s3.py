"""A real S3-compatible server: Versity's gateway over a folder."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from ops.devnet.layout import tool
from tests.support.waiting import free_port, until


@asynccontextmanager
async def s3_server(folder: Path, bucket: str) -> AsyncIterator[dict[str, str]]:
    """A server with one bucket, while the block lasts; the variables by which a program finds it.

    An object BUCKET/NAME is the file of that path in the folder.
    """
    (folder / bucket).mkdir(parents=True)
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(str(tool("versitygw")), "--port", f"127.0.0.1:{port}", "posix", str(folder)),
        env={"PATH": os.environ["PATH"], "ROOT_ACCESS_KEY": "access", "ROOT_SECRET_KEY": "secret"},
        stdout=asyncio.subprocess.DEVNULL,
    )

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        await until(listens, "the S3 server listens")
        yield {
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "access",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
