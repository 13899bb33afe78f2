"""The Fabric CA adapter against a real fabric-ca-server 1.5.15."""

from __future__ import annotations

import datetime
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import certificates, signature
from services.identity.domain import certificate
from services.identity.fabric_ca import UNLIMITED, FabricCa
from services.identity.fabric_ca_transport import Registrar, open_transport
from services.runtime.errors import MeshError
from services.runtime.telemetry import Metrics
from tests.contract.fabric_ca_server import CA_NAME, FABRIC_CLIENT, FabricCaServer, registrar_of

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Wallet:
    """A key, its address, and a request for a certificate that it signed."""

    key: ec.EllipticCurvePrivateKey
    address: str

    @property
    def spki(self) -> bytes:
        return signature.spki(self.key.public_key())

    def csr(self, common_name: str = "") -> str:
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name or self.address)])
        request = x509.CertificateSigningRequestBuilder().subject_name(name).sign(self.key, hashes.SHA256())
        return request.public_bytes(Encoding.PEM).decode()


def wallet() -> Wallet:
    key = signature.new_private_key()
    return Wallet(key, addresses.of_public_key(key.public_key()))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FabricCaServer]:
    running = FabricCaServer(tmp_path_factory.mktemp("fabric-ca") / "home")
    try:
        await running.start()
        yield running
    finally:
        await running.remove()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def registrar(server: FabricCaServer) -> Registrar:
    return await registrar_of(server)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ca(server: FabricCaServer, registrar: Registrar) -> AsyncIterator[FabricCa]:
    async with open_transport(server.url, server.root_file, Metrics("test")) as transport:
        yield FabricCa(transport, CA_NAME, registrar)


async def refused(attempt: object) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await attempt  # type: ignore[misc]
    return caught.value


async def test_a_certificate_names_the_address_and_carries_the_role_and_nothing_else(ca: FabricCa) -> None:
    clinician = wallet()
    await ca.register(clinician.address, "clinician", "one secret", 3)

    enrolled = await ca.enrol(clinician.address, "one secret", clinician.csr())

    issued = x509.load_pem_x509_certificate(enrolled.certificate_pem.encode())
    certificate.check(issued, address=clinician.address, spki=clinician.spki, roots_pem=enrolled.chain_pem)
    attributes = issued.extensions.get_extension_for_oid(certificate.ATTRIBUTES_OID).value
    assert isinstance(attributes, x509.UnrecognizedExtension)
    assert attributes.value == b'{"attrs":{"cbmdhi.role":"clinician"}}'
    assert certificate.ATTRIBUTES_OID.dotted_string == "1.2.3.4.5.6.7.8.1"


async def test_a_persons_certificate_is_of_no_unit_that_an_msp_knows(ca: FabricCa) -> None:
    patient = wallet()
    await ca.register(patient.address, "patient", "s", UNLIMITED)
    for _ in ("enrolled", "renewed"):
        issued = x509.load_pem_x509_certificate(
            (await ca.enrol(patient.address, "s", patient.csr())).certificate_pem.encode()
        )
        units = issued.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATIONAL_UNIT_NAME)
        assert [unit.value for unit in units] == [certificates.SIGNER]


@pytest.mark.parametrize(
    ("method", "path", "wanted"),
    [
        ("POST", "register", {"id": "a-client", "type": "client"}),
        ("POST", "register", {"id": "a-peer", "type": "peer"}),
        ("POST", "register", {"id": "an-admin", "type": "admin"}),
        (
            "POST",
            "register",
            {"id": "c", "type": "signer", "attrs": [{"name": "cbmdhi.carrier", "value": "true"}]},
        ),
        ("PUT", f"identities/{FABRIC_CLIENT}", {"secret": "mine now"}),
    ],
)
async def test_with_a_stolen_registrar_nobody_is_made_whom_a_peer_would_hear(
    server: FabricCaServer, registrar: Registrar, method: str, path: str, wanted: dict[str, object]
) -> None:
    async with open_transport(server.url, server.root_file, Metrics("test")) as transport:
        url, body = transport.url(path), json.dumps({**wanted, "caname": CA_NAME}).encode()
        answer = await transport.exchange(
            "attack", method, url, body, registrar.token(method, url.path, body)
        )
    assert answer.errors
    assert answer.status in (401, 403)


async def test_the_chain_of_an_enrolment_is_the_one_that_the_ca_shows_everybody(ca: FabricCa) -> None:
    patient = wallet()
    await ca.register(patient.address, "patient", "s", UNLIMITED)
    enrolled = await ca.enrol(patient.address, "s", patient.csr())

    info = await ca.info()

    assert (info.name, info.chain_pem) == (CA_NAME, enrolled.chain_pem)
    assert info.version


async def test_a_wrong_secret_gets_no_certificate(ca: FabricCa) -> None:
    engine = wallet()
    await ca.register(engine.address, "engine", "right", 3)

    error = await refused(ca.enrol(engine.address, "wrong", engine.csr()))

    assert error.code == code_pb2.CODE_UNAUTHENTICATED
    assert engine.address not in str(error)


async def test_an_address_that_was_never_registered_is_told_the_same_as_a_wrong_secret(ca: FabricCa) -> None:
    known, unknown = wallet(), wallet()
    await ca.register(known.address, "engine", "right", 3)

    for_known = await refused(ca.enrol(known.address, "wrong", known.csr()))
    for_unknown = await refused(ca.enrol(unknown.address, "wrong", unknown.csr()))

    assert for_known.args == for_unknown.args


async def test_enrolling_again_gives_another_certificate_for_the_same_key(ca: FabricCa) -> None:
    patient = wallet()
    await ca.register(patient.address, "patient", "s", UNLIMITED)

    first, second = [await ca.enrol(patient.address, "s", patient.csr()) for _ in range(2)]

    assert first.certificate_pem != second.certificate_pem
    keys = [
        x509.load_pem_x509_certificate(one.certificate_pem.encode()).public_key() for one in (first, second)
    ]
    assert keys[0] == keys[1]


async def test_a_secret_is_used_up_and_a_replaced_one_is_worth_nothing(ca: FabricCa) -> None:
    clinician = wallet()
    await ca.register(clinician.address, "clinician", "first", 1)
    await ca.enrol(clinician.address, "first", clinician.csr())
    used_up = await refused(ca.enrol(clinician.address, "first", clinician.csr()))
    assert used_up.code == code_pb2.CODE_UNAUTHENTICATED

    await ca.replace_secret(clinician.address, "second", 2)

    replaced = await refused(ca.enrol(clinician.address, "first", clinician.csr()))
    assert replaced.code == code_pb2.CODE_UNAUTHENTICATED
    renewed = await ca.enrol(clinician.address, "second", clinician.csr())
    issued = x509.load_pem_x509_certificate(renewed.certificate_pem.encode())
    assert certificate.role_of(issued) == "clinician"


async def test_an_id_is_registered_once_and_found_with_its_role(ca: FabricCa) -> None:
    device = wallet()
    assert await ca.find(device.address) is None
    await ca.register(device.address, "device", "s", 7)

    again = await refused(ca.register(device.address, "administrator", "s", 7))

    assert again.code == code_pb2.CODE_CONFLICT
    found = await ca.find(device.address)
    assert found is not None
    assert (found.role, found.max_enrolments) == ("device", 7)


async def test_a_request_whose_common_name_is_another_address_is_not_signed(ca: FabricCa) -> None:
    mine, other = wallet(), wallet()
    await ca.register(mine.address, "clinician", "s", 3)

    error = await refused(ca.enrol(mine.address, "s", mine.csr(common_name=other.address)))

    assert error.code == code_pb2.CODE_INVALID


async def test_a_registrar_that_the_ca_does_not_know_is_a_fault_of_the_operator(
    server: FabricCaServer, registrar: Registrar
) -> None:
    impostor = Registrar(registrar.certificate_pem, signature.new_private_key())
    async with open_transport(server.url, server.root_file, Metrics("test")) as transport:
        ca = FabricCa(transport, CA_NAME, impostor)
        error = await refused(ca.register(wallet().address, "administrator", "s", 1))
    assert error.code == code_pb2.CODE_INTERNAL
    assert "registrar" in error.reason


async def test_a_wrong_name_of_the_ca_is_a_fault_of_the_operator(
    server: FabricCaServer, registrar: Registrar
) -> None:
    async with open_transport(server.url, server.root_file, Metrics("test")) as transport:
        ca = FabricCa(transport, "nowhere", registrar)
        for attempt in (ca.info(), ca.find(wallet().address)):
            error = await refused(attempt)
            assert error.code == code_pb2.CODE_INTERNAL
            assert "fabric_ca_name" in error.reason


async def test_a_server_that_shows_another_root_is_not_spoken_to(
    server: FabricCaServer, registrar: Registrar, tmp_path: Path
) -> None:
    other_root = tmp_path / "root.pem"
    other_root.write_bytes(_self_signed())
    async with open_transport(server.url, other_root, Metrics("test")) as transport:
        error = await refused(FabricCa(transport, CA_NAME, registrar).info())
    assert error.code == code_pb2.CODE_INTERNAL
    assert "pinned root" in error.reason


async def test_a_ca_that_went_away_is_unavailable_and_is_used_again_when_it_is_back(
    server: FabricCaServer, ca: FabricCa
) -> None:
    patient = wallet()
    await ca.register(patient.address, "patient", "s", UNLIMITED)
    await server.stop()

    error = await refused(ca.enrol(patient.address, "s", patient.csr()))
    assert error.code == code_pb2.CODE_UNAVAILABLE
    assert error.retry_after_ms > 0

    await server.start()
    enrolled = await ca.enrol(patient.address, "s", patient.csr())
    assert "BEGIN CERTIFICATE" in enrolled.certificate_pem


async def test_a_restart_between_two_calls_goes_unnoticed(server: FabricCaServer, ca: FabricCa) -> None:
    patient = wallet()
    await ca.register(patient.address, "patient", "s", UNLIMITED)
    await server.stop()
    await server.start()

    await ca.enrol(patient.address, "s", patient.csr())


def _self_signed() -> bytes:
    key = signature.new_private_key()
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another root")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    return built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
