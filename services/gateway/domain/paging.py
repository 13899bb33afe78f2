"""Page tokens that tell nothing: where a list goes on, sealed for one caller and one question."""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cbmdhi.command.v1 import code_pb2
from cbmdhi.protocol.binding import bind
from services.runtime.refusal import Refused

_NONCE_BYTES = 12
_PADDED_BYTES = 192


@dataclass(frozen=True, slots=True)
class PagePosition:
    """In the unfiltered list: the ledger's page, and how many entries of it are behind us."""

    ledger_token: str
    skip: int


START = PagePosition("", 0)


class PageTokens:
    """Seals and opens positions. How much lies between two of them is what must not be seen."""

    def __init__(self, secret: bytes) -> None:
        key = HKDF(hashes.SHA256(), 32, salt=None, info=b"cbmdhi/page-token/v1").derive(secret)
        self._cipher = AESGCM(key)

    def seal(self, position: PagePosition, *question: str) -> str:
        """A token for this question alone; all tokens have one length."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        plain = orjson.dumps([position.ledger_token, position.skip]).ljust(_PADDED_BYTES)
        sealed = nonce + self._cipher.encrypt(nonce, plain, bind(*question))
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    def open(self, token: str, *question: str) -> PagePosition:
        """The position; an empty token is the start. Raises Refused INVALID."""
        if not token:
            return START
        try:
            sealed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            plain = self._cipher.decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bind(*question))
        except (binascii.Error, InvalidTag, ValueError) as error:
            raise Refused(
                code_pb2.CODE_INVALID,
                "not a page token of this gateway for this question: start again without one",
                "page_token",
            ) from error
        ledger_token, skip = orjson.loads(plain)
        return PagePosition(str(ledger_token), int(skip))
