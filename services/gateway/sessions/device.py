"""The gateway's own identity: a device of the member, which signs inside delegations and never for itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from google.protobuf.message import Message

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1.command_pb2 import (
    CommandGroup,
    RegisterIdentity,
    Role,
    SignedCommand,
    SignedDelegation,
)
from cbmdhi.command.v1.state_pb2 import BatchItem, IdentityDocument, IdentityStatus
from cbmdhi.ledger.v1.ledger_pb2 import GroupReceipt, SealedGroup
from cbmdhi.protocol import address as addresses
from cbmdhi.protocol import command, hpke, signature
from cbmdhi.protocol.channel import Channel
from services.runtime.errors import MeshError, code_name
from services.runtime.retry import backoff_seconds

_log = structlog.get_logger()

_FIRST_DELAY_SECONDS = 0.5
_LONGEST_DELAY_SECONDS = 15.0
_LOOK_EVERY_SECONDS = 30.0


class Ledger(Protocol):
    """The ledger (services.gateway.backends.ledger), or a fake."""

    async def identity(self, address: str) -> IdentityDocument | None: ...

    async def submit(self, groups: list[SealedGroup]) -> list[GroupReceipt]: ...


@dataclass(frozen=True)
class Device:
    """Keys and certificate, as they lie in `device_key_directory`."""

    signing_key: ec.EllipticCurvePrivateKey = field(repr=False)
    hpke_private: bytes = field(repr=False)
    certificate_der: bytes = field(repr=False)
    address: str

    @classmethod
    def load(cls, folder: Path) -> Device:
        """Read `signing.key`, `hpke.key`, `certificate.pem`. Raises OSError with a sentence."""
        try:
            signing_key = signature.load_private_key((folder / "signing.key").read_bytes())
            hpke_private = (folder / "hpke.key").read_bytes()
            hpke.public_of(hpke_private)
            certificate = x509.load_pem_x509_certificate((folder / "certificate.pem").read_bytes())
        except ValueError as error:
            raise OSError(
                f"a key or certificate in {folder} cannot be read: enrol the device anew"
            ) from error
        address = addresses.of_public_key(signing_key.public_key())
        return cls(signing_key, hpke_private, certificate.public_bytes(Encoding.DER), address)

    @property
    def secret(self) -> bytes:
        """What only this member's gateways know, to derive keys from that never leave them."""
        return self.signing_key.private_numbers().private_value.to_bytes(32, "big")

    def sign(
        self, body: Message, channel: Channel, delegation: SignedDelegation | None = None
    ) -> SignedCommand:
        """A command of the device's; with a delegation, on behalf of who signed that."""
        signer = command.KeySigner(self.signing_key, delegation)
        return signer.sign_command(command.make(body, channel=channel, delegation=delegation))

    def sign_group(
        self, bodies: Sequence[Message], channel: Channel, delegation: SignedDelegation
    ) -> CommandGroup:
        """Commands of the device's that take effect together or not at all, on behalf of who signed that."""
        signer = command.KeySigner(self.signing_key, delegation)
        return command.make_group([(signer, body) for body in bodies], channel=channel)

    def registration(self, msp_id: str) -> RegisterIdentity:
        """What registers it."""
        return RegisterIdentity(
            address=self.address,
            role=Role.ROLE_DEVICE,
            home_msp=msp_id,
            signing_public_key=signature.spki(self.signing_key.public_key()),
            hpke_public_key=hpke.public_of(self.hpke_private),
            enrolment_certificate=self.certificate_der,
        )


class Registrar:
    """Sees to it that the device is registered on the channel."""

    def __init__(self, device: Device, ledger: Ledger, *, channel: Channel, msp_id: str) -> None:
        self._device = device
        self._ledger = ledger
        self._channel = channel
        self._msp_id = msp_id
        self._signed: SignedCommand | None = None
        self.is_active = False
        """As of the last look."""

    async def run(self) -> None:
        """Register as soon as the ledger takes it, and look again from time to time."""
        attempt = 0
        while True:
            try:
                self.is_active = await self._ensure()
            except MeshError as err:
                _log.info(
                    "device.not_registered", code=code_name(err.code), reason=err.reason, attempt=attempt
                )
            if self.is_active:
                attempt = 0
                await asyncio.sleep(_LOOK_EVERY_SECONDS)
            else:
                await asyncio.sleep(
                    backoff_seconds(attempt, first=_FIRST_DELAY_SECONDS, longest=_LONGEST_DELAY_SECONDS)
                )
                attempt += 1

    async def _ensure(self) -> bool:
        document = await self._ledger.identity(self._device.address)
        if document is None:
            await self._register()
            document = await self._ledger.identity(self._device.address)
        return document is not None and document.status == IdentityStatus.IDENTITY_STATUS_ACTIVE

    async def _register(self) -> None:
        # The same command again after a lost answer: its id makes that harmless.
        signed = self._signed or self._device.sign(self._device.registration(self._msp_id), self._channel)
        self._signed = signed
        item = BatchItem(group=CommandGroup(commands=[signed]))
        receipt = (await self._ledger.submit([SealedGroup(item=item)]))[0].receipts[0]
        if receipt.code == code_pb2.CODE_UNKNOWN_OUTCOME:
            raise MeshError(receipt.code, receipt.reason)
        self._signed = None
        if receipt.code not in (code_pb2.CODE_OK, code_pb2.CODE_CONFLICT):
            raise MeshError(receipt.code, receipt.reason, receipt.path)
        _log.info("device.registered", code=code_name(receipt.code))
