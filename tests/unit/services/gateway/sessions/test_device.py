"""The gateway's device registers itself, once, however long the ledger takes to come up."""

import asyncio
from pathlib import Path

import pytest
from cryptography import x509

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import Role
from cbmdhi.protocol import command, hpke
from services.gateway.sessions import device as module
from services.gateway.sessions.device import Device, Registrar
from services.runtime.errors import MeshError
from tests.contract.gateway_member import IdentityCa, pem_of_key
from tests.support.fakes.gateway_neighbours import FakeLedger
from tests.support.fakes.gateway_people import CHANNEL, Person
from tests.support.waiting import until


@pytest.fixture
def device(tmp_path: Path) -> Device:
    person = Person(role=Role.ROLE_DEVICE)
    certificate: x509.Certificate = IdentityCa(tmp_path, "mercy").issue(person)
    (tmp_path / "signing.key").write_bytes(pem_of_key(person))
    (tmp_path / "hpke.key").write_bytes(person.hpke_keys[0])
    (tmp_path / "certificate.pem").write_bytes(certificate.public_bytes(module.Encoding.PEM))
    return Device.load(tmp_path)


async def registered(device: Device, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(module, "_LONGEST_DELAY_SECONDS", 0.02)
    registrar = Registrar(device, ledger, channel=CHANNEL, msp_id="MercyMSP")
    running = asyncio.create_task(registrar.run())
    try:
        await until(lambda: registrar.is_active, "the device is active")
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_it_registers_with_its_own_keys_as_a_device_of_the_member(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = FakeLedger()

    await registered(device, ledger, monkeypatch)

    ((submission,),) = ledger.submitted
    (signed,) = submission.item.group.commands
    asked = command.parse(signed)[1].register_identity
    command.verify(signed, asked.signing_public_key)
    assert (asked.address, asked.role, asked.home_msp) == (device.address, Role.ROLE_DEVICE, "MercyMSP")
    assert asked.hpke_public_key == hpke.public_of(device.hpke_private)
    assert x509.load_der_x509_certificate(asked.enrolment_certificate)


async def test_what_is_registered_already_is_not_registered_again(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = FakeLedger()
    await registered(device, ledger, monkeypatch)

    await registered(device, ledger, monkeypatch)

    assert len(ledger.submitted) == 1


async def test_it_waits_for_the_ledger(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = FakeLedger()
    ledger.away = True
    waiting = asyncio.create_task(registered(device, ledger, monkeypatch))
    await until(lambda: len(ledger.asked_for) > 3, "it keeps asking")
    ledger.failure, ledger.away = MeshError(code_pb2.CODE_UNAVAILABLE, "starting"), False
    await until(lambda: len(ledger.submitted) > 1, "it keeps sending")
    ledger.failure = None

    await asyncio.wait_for(waiting, 10)


async def test_after_a_lost_answer_the_same_command_is_sent_again(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = FakeLedger()
    submit = ledger.submit
    sent: list[bytes] = []

    async def lossy(submissions):  # type: ignore[no-untyped-def]
        sent.append(submissions[0].item.group.commands[0].command)
        if len(sent) < 3:
            receipt = module.GroupReceipt()
            receipt.receipts.add(code=code_pb2.CODE_UNKNOWN_OUTCOME, reason="lost")
            return [receipt]
        return await submit(submissions)

    ledger.submit = lossy  # type: ignore[method-assign]

    await registered(device, ledger, monkeypatch)

    assert len(sent) == 3
    assert len(set(sent)) == 1


def test_keys_that_cannot_be_read_are_said_with_the_folder(tmp_path: Path) -> None:
    (tmp_path / "signing.key").write_bytes(b"x")
    with pytest.raises(OSError, match="enrol the device anew"):
        Device.load(tmp_path)


def test_nothing_secret_shows_in_a_devices_text(device: Device) -> None:
    assert "key" not in repr(device)
    assert device.address in repr(device)
