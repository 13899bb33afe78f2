"""A real Prometheus over a network, and its HTTP interface.

Both programs are built from deploy/toolchain/prometheus; those on PATH will do as well.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import aiohttp

from cbmdhi.waiting import until
from ops.devnet.layout import tool
from ops.observe import scrape
from ops.observe.end_process import end
from ops.observe.panels import RATE

ROOT = Path(__file__).resolve().parents[2]
CONFIGURATION = ROOT / "deploy" / "prometheus"


class QueryFailed(Exception):
    """Prometheus refused a query; it says why."""


@dataclass(frozen=True)
class Sample:
    """A series and its values: one of an instant, several of a range. Times are Unix seconds."""

    labels: Mapping[str, str]
    values: Sequence[tuple[float, float]]


def check_rules(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run `promtool`; what it said."""
    argv = [str(part) for part in (tool("promtool"), *arguments)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, cwd=CONFIGURATION)


def windowed(expr: str, window: str) -> str:
    """A panel's query with Grafana's window filled in."""
    return expr.replace(RATE, window)


class Prometheus:
    """`async with Prometheus(folder, port, endpoints)`: runs until left. Data and log are in the folder.

    `change`: called with the folder that holds the copy of deploy/prometheus, before it is read.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        endpoints: Mapping[str, Any],
        change: Callable[[Path], None] = lambda _: None,
    ) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / "prometheus.log"
        self._folder = folder
        self._port = port
        self._endpoints = endpoints
        self._change = change
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Prometheus:
        configuration = self._folder / "configuration"
        shutil.rmtree(configuration, ignore_errors=True)
        shutil.copytree(CONFIGURATION, configuration)
        self._change(configuration)
        self.targets = scrape.write(self._endpoints, configuration)
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20))
        try:
            with self.log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    str(tool("prometheus")),
                    f"--config.file={configuration / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    "--enable-feature=exemplar-storage",
                    "--log.level=warn",
                    stdout=log,
                    stderr=log,
                )
            await until(self._is_ready, f"Prometheus is ready (see {self.log})", deadline_seconds=30)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._session is not None:
            await self._session.close()
        await end(self._process)

    async def query(self, expr: str) -> list[Sample]:
        """The value of each series now. Raises QueryFailed."""
        found = await self._ask("/api/v1/query", query=expr)
        if found["resultType"] == "scalar":
            return [Sample({}, [_point(found["result"])])]
        return [Sample(one["metric"], [_point(one["value"])]) for one in found["result"]]

    async def query_range(self, expr: str, start: float, end: float, step_seconds: float) -> list[Sample]:
        """The values of each series over a time. Raises QueryFailed."""
        found = await self._ask(
            "/api/v1/query_range", query=expr, start=str(start), end=str(end), step=str(step_seconds)
        )
        return [Sample(one["metric"], [_point(value) for value in one["values"]]) for one in found["result"]]

    async def rules(self) -> list[Mapping[str, Any]]:
        """Every rule as Prometheus has loaded it, with its health and last error."""
        found = await self._ask("/api/v1/rules")
        return [rule for group in found["groups"] for rule in group["rules"]]

    async def alerts(self) -> list[Mapping[str, Any]]:
        """Alerts that are pending or firing now, with labels, annotations and state."""
        return (await self._ask("/api/v1/alerts"))["alerts"]

    async def selectors(self, expr: str) -> list[str]:
        """The selectors of series within an expression, without their ranges. Raises QueryFailed."""
        return list(dict.fromkeys(_selectors(await self._ask("/api/v1/parse_query", query=expr))))

    async def scraped(self) -> list[Mapping[str, Any]]:
        """Every target, with its health and last error."""
        return (await self._ask("/api/v1/targets", state="active"))["activeTargets"]

    async def exemplars(self, metric: str, start: float, end: float) -> list[Mapping[str, str]]:
        """Labels of the exemplars of a series. Raises QueryFailed."""
        found = await self._ask("/api/v1/query_exemplars", query=metric, start=str(start), end=str(end))
        return [exemplar["labels"] for series in found for exemplar in series["exemplars"]]

    async def _is_ready(self) -> bool:
        assert self._session is not None
        assert self._process is not None
        if self._process.returncode is not None:
            raise FileNotFoundError(f"Prometheus ended with {self._process.returncode}; see {self.log}")
        with suppress(aiohttp.ClientError):
            async with self._session.get(f"{self.url}/-/ready", allow_redirects=False) as answer:
                return answer.status == 200
        return False

    async def _ask(self, path: str, **parameters: str) -> Any:
        assert self._session is not None
        async with self._session.get(self.url + path, params=parameters, allow_redirects=False) as answer:
            document = await answer.json()
        if document["status"] != "success":
            raise QueryFailed(document["error"])
        return document["data"]


def _selectors(node: Any) -> Iterator[str]:
    """Of a syntax tree as Prometheus gives it."""
    if isinstance(node, list):
        for one in node:
            yield from _selectors(one)
    elif isinstance(node, dict):
        if node.get("type") in ("vectorSelector", "matrixSelector"):
            matchers = ",".join(
                f"{one['name']}{one['type']}{json.dumps(one['value'])}" for one in node["matchers"]
            )
            yield f"{{{matchers}}}"
        else:
            for one in node.values():
                yield from _selectors(one)


def _point(value: Sequence[Any]) -> tuple[float, float]:
    return float(value[0]), float(value[1])
