"""The session: two connections to the gateway, a login by signature, a token that is renewed in time."""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
import time
from pathlib import Path

import grpc
from google.rpc import status_pb2
from keys import LOGIN, Keys, Refused, member_of, write

from cbmdhi.command.v1 import code_pb2, state_pb2
from cbmdhi.identity.v1 import identity_pb2, identity_pb2_grpc

CALL_SECONDS = 30
_LARGEST_ANSWER = 17 << 20


class Engine:
    """One identity at one member's gateway."""

    def __init__(self, state: Path, renew_before_seconds: int) -> None:
        self.state = state
        self.keys = Keys(state)
        self.consortium = json.loads((state / "consortium.json").read_bytes())
        self.genesis = bytes.fromhex(self.consortium["genesis_sha256"])
        self.member = member_of(self.consortium, (state / "member").read_text())
        self.refusals: list[str] = []
        self._renew_before_seconds = renew_before_seconds
        roots = self.member["tls_ca_pem"].encode()
        self.first_contact = self._channel("first_contact", grpc.ssl_channel_credentials(roots))
        self.gateway = self.first_contact
        if (state / "certificate.pem").exists():
            self.connect()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.first_contact.close()
        self.gateway.close()

    def connect(self) -> None:
        """Show the certificate that the member's Fabric CA gave for the engine's key."""
        roots = self.member["tls_ca_pem"].encode()
        shown = (self.state / "certificate.pem").read_bytes()
        credentials = grpc.ssl_channel_credentials(roots, self.keys.private_pem, shown)
        self.gateway = self._channel("grpc", credentials)

    def _channel(self, port: str, credentials: grpc.ChannelCredentials) -> grpc.Channel:
        """The server's certificate is for `gateway.<member>`, whatever the host is called."""
        options = [
            ("grpc.ssl_target_name_override", f"gateway.{self.member['name']}"),
            ("grpc.max_receive_message_length", _LARGEST_ANSWER),
            ("grpc.enable_retries", 0),
        ]
        return grpc.secure_channel(self.member["gateway"][port], credentials, options)

    def certificate(self) -> bytes:
        """The certificate, DER."""
        path = self.state / "certificate.pem"
        if not path.exists():
            raise Refused("this engine is not enrolled yet: join first")
        return ssl.PEM_cert_to_DER_cert(path.read_text())

    # [start:login]
    def login(self) -> identity_pb2.LoginResponse:
        """Show that the engine holds the registered key. The token is good with its certificate alone."""
        digest = hashlib.sha256(self.certificate()).digest()
        thumbprint = base64.urlsafe_b64encode(digest).rstrip(b"=")
        sessions = identity_pb2_grpc.SessionServiceStub(self.first_contact)
        asked = identity_pb2.ChallengeRequest(address=self.keys.address)
        challenge = sessions.Challenge(asked, timeout=CALL_SECONDS).challenge
        request = identity_pb2.LoginRequest(
            address=self.keys.address,
            challenge=challenge,
            signature=self.keys.sign(LOGIN, challenge, thumbprint),
            certificate_x5t_s256=thumbprint.decode(),
        )
        return sessions.Login(request, timeout=CALL_SECONDS)

    # [end:login]

    # [start:renewal]
    def metadata(self) -> list[tuple[str, str]]:
        """A token with some life left: the one of before, or a new one."""
        path = self.state / "session.json"
        session = json.loads(path.read_bytes()) if path.exists() else {"token": "", "ends_ms": 0}
        if session["ends_ms"] / 1000 - time.time() < self._renew_before_seconds:
            given = self.login()
            session = {"token": given.token, "ends_ms": given.expires_at_ms}
            write(path, json.dumps(session).encode())
            print("session until", given.expires_at_ms, flush=True)
        return [("authorization", f"Bearer {session['token']}")]

    def forget_token(self) -> None:
        """After CODE_UNAUTHENTICATED: the next call logs in."""
        (self.state / "session.json").unlink(missing_ok=True)

    # [end:renewal]


# [start:detail]
def detail_of(error: grpc.RpcError) -> code_pb2.ErrorDetail:
    """What an error of gRPC carries. Without it, it is the transport's: what was sent may have arrived."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                detail = code_pb2.ErrorDetail()
                if packed.Unpack(detail):
                    return detail
    reason = str(error.details())
    # A stream that was cut off with HTTP/2's ENHANCE_YOUR_CALM has this status too, and is no limit of size.
    over_limit = error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than" in reason
    code = code_pb2.CODE_TOO_LARGE if over_limit else code_pb2.CODE_UNAVAILABLE
    return code_pb2.ErrorDetail(code=code, reason=reason, outcome=code_pb2.OUTCOME_UNKNOWN)


# [end:detail]


def said(why: code_pb2.ErrorDetail | state_pb2.AuditEntry) -> str:
    """The code's name and the sentence for people."""
    return f"{code_pb2.Code.Name(why.code)} {why.reason}"
