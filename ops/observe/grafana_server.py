"""Grafana over a running Prometheus, where grafana-server is installed."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from types import TracebackType

import aiohttp

from cbmdhi.waiting import until
from ops.observe import grafana
from ops.observe.docs import ROOT
from ops.observe.end_process import end


def installed() -> str | None:
    """The program, or None."""
    return shutil.which("grafana-server")


class Grafana:
    """`async with Grafana(program, folder, port, prometheus_url)`: provisioned, readable without a login."""

    def __init__(self, program: str, folder: Path, port: int, prometheus_url: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._program = program
        self._folder = folder
        self._environment = {
            "GF_SERVER_HTTP_ADDR": "127.0.0.1",
            "GF_SERVER_HTTP_PORT": str(port),
            "GF_PATHS_DATA": str(folder / "grafana"),
            "GF_PATHS_LOGS": str(folder / "grafana"),
            "GF_PATHS_PROVISIONING": str(ROOT / "deploy" / "grafana" / "provisioning"),
            "GF_AUTH_ANONYMOUS_ENABLED": "true",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "CBMDHI_PROMETHEUS_URL": prometheus_url,
            "CBMDHI_DASHBOARDS": str(ROOT / grafana.FOLDER),
        }
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Grafana:
        with (self._folder / "grafana.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                self._program,
                f"--homepath={os.environ.get('GF_PATHS_HOME', '/usr/share/grafana')}",
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
            )
        try:
            await until(self._has_dashboards, "Grafana has the dashboards", deadline_seconds=60)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await end(self._process)

    async def _has_dashboards(self) -> bool:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{self.url}/api/search?tag=cbmdhi", allow_redirects=False) as answer,
            ):
                return answer.status == 200 and len(await answer.json()) == len(grafana.files())
        except aiohttp.ClientError:
            return False
