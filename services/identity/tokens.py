"""Tokens: JWT (RFC 7519) signed ES256, and the key set that verifies them (RFC 7517)."""

from __future__ import annotations

import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from cbmdhi.protocol import signature
from services.runtime.errors import MeshError

_ALGORITHM = "ES256"


class TokenSigner:
    """Signs with the member's token key. All replicas share that key and its derived keys."""

    def __init__(self, key_pem: bytes) -> None:
        """Take a P-256 private key, PEM without a password. Raises MeshError INVALID for anything else."""
        try:
            private = signature.load_private_key(key_pem)
        except ValueError as exc:
            raise MeshError.invalid(
                "token_key_file holds no P-256 private key; make one, PEM without password"
            ) from exc
        key = ECKey.import_key(key_pem)
        key_id = key.thumbprint()
        self._key = key
        self._header = {"alg": _ALGORITHM, "typ": "JWT", "kid": key_id}
        public = {**key.as_dict(private=False), "kid": key_id, "use": "sig", "alg": _ALGORITHM}
        self.jwks_json = json.dumps(KeySet([ECKey.import_key(public)]).as_dict(private=False))
        """The JSON Web Key Set; its `kid` is the key's thumbprint (RFC 7638)."""
        secret = private.private_numbers().private_value.to_bytes(32, "big")
        self.challenge_key = HKDF(hashes.SHA256(), 32, salt=None, info=b"cbmdhi/challenge-key/v1").derive(
            secret
        )
        """The key of the proofs in challenges, so that each replica accepts those of the others."""

    def sign(self, claims: dict[str, Any]) -> str:
        """A token with these claims."""
        return jwt.encode(self._header, claims, self._key)
