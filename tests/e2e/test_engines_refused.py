"""Engines whose records are not taken: what a script that runs them learns, and what their user reads."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cbmdhi.command.v1 import code_pb2
from cbmdhi.gateway.v1 import gateway_pb2, gateway_pb2_grpc
from cbmdhi.protocol.mesh_error import MeshError
from services.runtime.errors import to_status
from tests.e2e.test_engines import PROGRAMS, ROOT, Engine
from tests.support.fakes.removed_streams import removing_streams
from tests.support.pki import MemberCa

pytestmark = pytest.mark.timeout(240)
each_language = pytest.mark.parametrize("language", list(PROGRAMS))
ENHANCE_YOUR_CALM = 0xB
_PATIENT = "cb1" + "a" * 32
_LARGEST_BYTES = 4_000
DONE, REFUSED, UNANSWERED = 0, 1, 3


@dataclass
class Ended:
    """What a program left."""

    status: int
    out: list[str]
    err: str

    @property
    def sent(self) -> list[str]:
        """The ids, once for each time."""
        return [line.split()[1] for line in self.out if line.startswith("sent ")]


class Gateway(gateway_pb2_grpc.IngestServiceServicer, gateway_pb2_grpc.RecordServiceServicer):
    """Refuses each submission before anything was done, so no peer holds anything of it."""

    async def Ingest(
        self,
        request_iterator: AsyncIterator[gateway_pb2.IngestRequest],
        context: grpc.aio.ServicerContext[gateway_pb2.IngestRequest, gateway_pb2.IngestResponse],
    ) -> AsyncIterator[gateway_pb2.IngestResponse]:
        async for request in request_iterator:
            why = code_pb2.ErrorDetail(
                code=code_pb2.CODE_INVALID,
                reason="of another patient",
                outcome=code_pb2.OUTCOME_NOT_DONE,
            )
            results = [
                gateway_pb2.IngestResult(submission_id=item.submission_id, error=why)
                for item in request.items
            ]
            yield gateway_pb2.IngestResponse(results=results)

    async def GetProof(
        self,
        request: gateway_pb2.GetProofRequest,
        context: grpc.aio.ServicerContext[gateway_pb2.GetProofRequest, gateway_pb2.GetProofResponse],
    ) -> gateway_pb2.GetProofResponse:
        status = to_status(MeshError(code_pb2.CODE_NOT_FOUND, "not committed"))
        await context.abort(status.code, status.details, status.trailing_metadata)


@pytest.fixture
def mercy(tmp_path: Path) -> MemberCa:
    """The member's TLS CA."""
    return MemberCa(tmp_path / "pki", "mercy")


@asynccontextmanager
async def refusing(mercy: MemberCa) -> AsyncIterator[str]:
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", _LARGEST_BYTES)])
    gateway = Gateway()
    gateway_pb2_grpc.add_IngestServiceServicer_to_server(gateway, server)
    gateway_pb2_grpc.add_RecordServiceServicer_to_server(gateway, server)
    issued = mercy.issue("gateway")
    pair = (issued.key_file.read_bytes(), issued.certificate_file.read_bytes())
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)


@asynccontextmanager
async def calming(mercy: MemberCa) -> AsyncIterator[str]:
    issued = mercy.issue("gateway")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(issued.certificate_file, issued.key_file)
    tls.set_alpn_protocols(["h2"])
    async with removing_streams(ENHANCE_YOUR_CALM, tls=tls) as address:
        yield address


async def joined(language: str, mercy: MemberCa, gateway: str, tmp_path: Path) -> Engine:
    """An engine with keys, a certificate and a token that lasts."""
    member = {
        "name": "mercy",
        "msp_id": mercy.msp_id,
        "ca_pem": mercy.ca_file.read_text(),
        "tls_ca_pem": mercy.ca_file.read_text(),
        "gateway": {"grpc": gateway, "first_contact": gateway},
    }
    consortium = tmp_path / "consortium.json"
    pinned: Mapping[str, object] = {
        "channel": "mesh",
        "chaincode": "cbmdhi",
        "genesis_sha256": "00" * 32,
        "members": [member],
    }
    consortium.write_text(json.dumps(pinned))
    engine = Engine(PROGRAMS[language], tmp_path / "state")
    await engine.run("keys", engine.state, consortium, "mercy")
    private = serialization.load_pem_private_key((engine.state / "key.pem").read_bytes(), None)
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    root = x509.load_pem_x509_certificate(mercy.ca_file.read_bytes())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "engine")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(root.not_valid_before_utc)
        .not_valid_after(root.not_valid_after_utc)
        .sign(private, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    (engine.state / "certificate.pem").write_bytes(pem)
    ends_ms = int(root.not_valid_after_utc.timestamp() * 1000)
    (engine.state / "session.json").write_text(json.dumps({"token": "lasting", "ends_ms": ends_ms}))
    return engine


async def send(engine: Engine, *files: Path) -> Ended:
    async with engine.start("send", engine.state, _PATIENT, "observations", *files) as process:
        out, err = await process.communicate()
        assert process.returncode is not None
        return Ended(process.returncode, out.decode().splitlines(), err.decode())


def observations(folder: Path, *sizes: int) -> list[Path]:
    files = [folder / f"observation-{number}.json" for number, _ in enumerate(sizes)]
    for file, size in zip(files, sizes, strict=True):
        file.write_text(json.dumps({"resourceType": "Observation", "note": [{"text": "x" * size}]}))
    return files


@each_language
async def test_a_refused_record_is_no_success_and_its_user_is_told_the_code_and_what_to_do(
    language: str, mercy: MemberCa, tmp_path: Path
) -> None:
    async with refusing(mercy) as gateway:
        engine = await joined(language, mercy, gateway, tmp_path)
        ended = await send(engine, *observations(tmp_path, 10, 20))

    assert ended.status == REFUSED, ended
    assert len(set(ended.sent)) == 2, "the second record is sent, whatever became of the first"
    assert [line.split()[:3] for line in ended.out if line.startswith("refused")] == [
        ["refused", command_id, "CODE_INVALID"] for command_id in ended.sent
    ]
    assert ended.err.count("refused: CODE_INVALID of another patient") == 2
    assert "docs/integrate/error-codes.md" in ended.err
    assert (ROOT / "docs/integrate/error-codes.md").exists()
    assert str(engine.state / "refused") in ended.err
    assert {path.name for path in (engine.state / "refused").iterdir()} == set(ended.sent)


@each_language
async def test_what_is_over_the_transports_limit_is_called_too_large_and_is_sent_once(
    language: str, mercy: MemberCa, tmp_path: Path
) -> None:
    async with refusing(mercy) as gateway:
        engine = await joined(language, mercy, gateway, tmp_path)
        ended = await send(engine, *observations(tmp_path, 2 * _LARGEST_BYTES))

    assert (ended.status, len(ended.sent)) == (UNANSWERED, 1), ended
    assert "CODE_TOO_LARGE" in ended.err


@each_language
async def test_a_stream_cut_off_to_calm_its_sender_is_a_lost_answer_and_the_same_is_sent_again(
    language: str, mercy: MemberCa, tmp_path: Path
) -> None:
    async with calming(mercy) as gateway:
        engine = await joined(language, mercy, gateway, tmp_path)
        [file] = observations(tmp_path, 10)
        async with engine.start("send", engine.state, _PATIENT, "observations", file) as process:
            assert process.stdout is not None
            sent = [(await process.stdout.readline()).decode() for _ in range(2)]

    assert sent[0].startswith("sent ")
    assert sent[0] == sent[1], "the same command"
    assert [f"sent {path.name}\n" for path in engine.outbox()] == sent[:1]
