"""gRPC ignores an option whose name it does not know: each that we set occurs in the library."""

import ast
from collections.abc import Iterator
from inspect import signature
from pathlib import Path

from grpc._cython import cygrpc

import cbmdhi
import services
from services.runtime.server import GrpcServer

_ROOTS = (Path(next(iter(services.__path__))), Path(next(iter(cbmdhi.__path__))))


def options_in(source: str) -> Iterator[str]:
    """Names of options: what begins with `grpc.` and leads a pair."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Tuple(elts=[ast.Constant(value=str() as name), _]) if name.startswith("grpc."):
                yield name


def test_every_option_of_a_server_or_channel_is_one_that_the_library_knows() -> None:
    library = Path(cygrpc.__file__).read_bytes()
    used = {
        name: file
        for root in _ROOTS
        for file in root.rglob("*.py")
        if not file.stem.endswith(("_pb2", "_pb2_grpc"))
        for name in options_in(file.read_text())
    }

    unknown = {name: file.name for name, file in used.items() if name.encode() + b"\0" not in library}

    assert "grpc.max_concurrent_streams" in used
    assert not unknown


def test_who_is_over_what_is_answered_at_a_time_is_refused_by_us_and_not_by_http2() -> None:
    parameters = signature(GrpcServer.__init__).parameters

    # Calls, and streams as many again.
    assert parameters["max_per_connection"].default > 2 * parameters["max_running"].default
