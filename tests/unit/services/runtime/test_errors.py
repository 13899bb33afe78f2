import grpc
import pytest
from grpc.aio import AioRpcError, Metadata

from cbmdhi.command.v1 import code_pb2
from services.runtime.errors import (
    MeshError,
    code_name,
    from_rpc_error,
    grpc_status_of,
    guarded,
    http_status_of,
    to_http,
    to_status,
)

REFUSALS = [number for number in code_pb2.Code.values() if number not in (0, code_pb2.CODE_OK)]


def over_the_wire(err: MeshError) -> AioRpcError:
    status = to_status(err)
    return AioRpcError(status.code, Metadata(), Metadata(*status.trailing_metadata), details=status.details)


@pytest.mark.parametrize("code", REFUSALS, ids=code_name)
def test_every_code_crosses_grpc_whole_and_has_a_status_that_is_no_success(code: int) -> None:
    err = MeshError(code, "do that", "body.put_record.patient", 250)

    back = from_rpc_error(over_the_wire(err))

    assert (back.code, back.reason, back.path, back.retry_after_ms) == (
        code,
        "do that",
        "body.put_record.patient",
        250,
    )
    assert grpc_status_of(code) is not grpc.StatusCode.OK
    assert 200 <= http_status_of(code) < 600


def test_no_code_of_the_closed_list_is_forgotten_in_the_table() -> None:
    from services.runtime import errors

    assert set(errors._STATUS) == set(code_pb2.Code.values())


def test_a_status_of_another_server_becomes_a_code_of_ours() -> None:
    def foreign(status: grpc.StatusCode) -> int:
        return from_rpc_error(AioRpcError(status, Metadata(), Metadata(), details="Socket closed")).code

    assert foreign(grpc.StatusCode.UNAVAILABLE) == code_pb2.CODE_UNAVAILABLE
    assert foreign(grpc.StatusCode.DEADLINE_EXCEEDED) == code_pb2.CODE_DEADLINE_EXCEEDED
    assert foreign(grpc.StatusCode.RESOURCE_EXHAUSTED) == code_pb2.CODE_TOO_LARGE
    assert foreign(grpc.StatusCode.UNKNOWN) == code_pb2.CODE_INTERNAL


def test_a_foreign_message_is_not_passed_on() -> None:
    foreign = AioRpcError(
        grpc.StatusCode.UNKNOWN, Metadata(), Metadata(), details="patient Jane Doe not in table"
    )

    assert "Jane" not in from_rpc_error(foreign).reason


def test_a_reason_that_is_far_too_long_is_cut_so_that_the_error_itself_is_not_lost() -> None:
    back = from_rpc_error(over_the_wire(MeshError(code_pb2.CODE_INVALID, "ü" * 10_000, "p" * 10_000)))

    assert back.code == code_pb2.CODE_INVALID
    assert len(back.reason) + len(back.path) < 1_000


def test_http_tells_code_reason_path_and_delay() -> None:
    status, body = to_http(MeshError(code_pb2.CODE_RESOURCE_EXHAUSTED, "wait", "items", 100))

    assert status == 429
    assert body == {"code": "RESOURCE_EXHAUSTED", "reason": "wait", "path": "items", "retry_after_ms": 100}


async def test_an_unexpected_exception_becomes_internal_without_its_text() -> None:
    async def work() -> None:
        raise KeyError("Jane Doe, born 1970-01-01")

    with pytest.raises(MeshError) as caught:
        await guarded(work())

    assert caught.value.code == code_pb2.CODE_INTERNAL
    assert "Jane" not in caught.value.reason


async def test_an_unexpected_exception_is_logged_with_its_place_but_without_its_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from services.runtime import telemetry

    telemetry.configure("ledger")

    async def work() -> None:
        raise KeyError("Jane Doe, born 1970-01-01")

    with pytest.raises(MeshError):
        await guarded(work(), "rpc.crashed")

    line = capsys.readouterr().out
    assert "rpc.crashed" in line
    assert "test_errors.py" in line
    assert "KeyError" in line
    assert "Jane" not in line
