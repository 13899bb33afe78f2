"""Logins over gRPC: the token is to be bound to the certificate that the connection shows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from cbmdhi.command.v1 import code_pb2
from cbmdhi.identity.v1.identity_pb2 import LoginRequest
from services.gateway.rpc.admission import Admission
from services.runtime.errors import MeshError


def login_inspector(admission: Admission) -> Callable[[bytes, Any], None]:
    """Looks at a login before it is passed on.

    On the port for first contact there is no certificate to compare; the token is worth nothing then to who
    does not hold the certificate's key, since it is compared with each later call.
    """

    def inspect(raw: bytes, context: Any) -> None:
        try:
            wanted = LoginRequest.FromString(raw).certificate_x5t_s256
        except DecodeError as error:
            raise MeshError(
                code_pb2.CODE_INVALID, "the bytes are not a message of this method: check the protos"
            ) from error
        shown = admission.certificate_of(context)
        if wanted and shown is not None and shown.thumbprint != wanted:
            raise MeshError(
                code_pb2.CODE_UNAUTHENTICATED,
                "certificate_x5t_s256 is not the thumbprint of this connection's certificate",
                "certificate_x5t_s256",
            )

    return inspect
