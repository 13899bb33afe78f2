"""A wallet without a folder, with keys of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol import command, hpke, signature
from tests.support.channel import CHANNEL


@dataclass
class SigningWallet:
    """As much of a wallet as reading and writing need. It signs in person."""

    signer: command.KeySigner = field(default_factory=lambda: command.KeySigner(signature.new_private_key()))
    keys: tuple[bytes, bytes] = field(default_factory=hpke.generate)
    consortium: Any = field(default_factory=lambda: SimpleNamespace(signed_channel=CHANNEL))

    delegation: None = None

    @property
    def address(self) -> str:
        return self.signer.address

    @property
    def hpke_private(self) -> bytes:
        return self.keys[0]

    def sign_command(self, raw: bytes) -> pb.SignedCommand:
        return self.signer.sign_command(raw)
