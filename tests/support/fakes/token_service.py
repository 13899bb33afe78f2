"""A token service, and proofs as callers make them."""

import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any

from joserfc import jws, jwt
from joserfc.jwk import ECKey

from cbmdhi.protocol.ids import uuid7
from services.gateway.domain.dpop import access_token_hash


@dataclass
class TokenService:
    """A member's: signs, and gives its keys."""

    msp: str = "MercyMSP"
    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256"))
    fetched: int = 0
    seconds: int = 300
    """For which a token is good, at least."""

    async def token_keys(self) -> str:
        self.fetched += 1
        public = {**self.key.as_dict(private=False), "kid": self.key.thumbprint(), "use": "sig"}
        return json.dumps({"keys": [public]})

    def token(self, subject: str, cnf: dict[str, str], role: str = "engine", **changed: Any) -> str:
        now = int(time.time())
        claims = {
            "iss": self.msp,
            "sub": subject,
            "role": role,
            "msp": "MercyMSP",
            "cnf": cnf,
            "iat": now,
            "exp": now + self.seconds + 1,
            "jti": uuid7(),
            **changed,
        }
        kept = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode({"alg": "ES256", "typ": "JWT", "kid": self.key.thumbprint()}, kept, self.key)


@dataclass
class DpopKey:
    """A caller's key for proofs."""

    key: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256"))

    @property
    def thumbprint(self) -> str:
        return self.key.thumbprint()

    def proof(self, method: str, url: str, token: str | None, **changed: Any) -> str:
        claims: dict[str, Any] = {"htm": method, "htu": url, "iat": int(time.time()), "jti": uuid7()}
        if token is not None:
            claims["ath"] = access_token_hash(token)
        header = {"typ": "dpop+jwt", "alg": "ES256", "jwk": self.key.as_dict(private=False)}
        header.update(changed.pop("header", {}))
        claims.update(changed)
        kept = {name: value for name, value in claims.items() if value is not None}
        return jws.serialize_compact(header, json.dumps(kept), self.key, algorithms=["ES256"])


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
