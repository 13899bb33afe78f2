"""What only the operator of a member can do: whoever holds the registrar's key of its Fabric CA."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from cbmdhi.command.v1 import code_pb2
from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.errors import MeshError
from cbmdhi.protocol import certificates
from ops.devnet.layout import command_for

_DEADLINE_SECONDS = 30
# ErrRevokeIDNotFound of fabric-ca, `lib/caerrors/servererror.go`.
_NOBODY = re.compile(r"Error Code: 10\b")
# ErrDupIdentityReg, ibid.
_IS_TAKEN = re.compile(r"Error Code: 74\b")
# As `fabric-ca-client identity list` prints an attribute.
_ROLE = re.compile(r"\{Name:cbmdhi\.role Value:(\w+) ")


def endpoints(home: Path) -> dict[str, Any]:
    """The network's endpoints.json. Raises MeshError when there is no network in `home`."""
    try:
        return json.loads((home / "endpoints.json").read_text())
    except OSError as error:
        raise MeshError(
            code_pb2.CODE_UNAVAILABLE, f"no network in {home}: start one with `{command_for(home, 'up')}`"
        ) from error


def invite(registrar: dict[str, str], fabric_ca_client: Path, address: str, role: pb.Role) -> str:
    """Register an address at the Fabric CA with a role. Gives the enrolment secret.

    For the first administrator of a member; everybody after is invited by an administrator. The secret of an
    address that was invited before takes the place of the earlier one. Raises MeshError CONFLICT where the CA
    knows it in another role.
    `registrar`: `fabric_ca_url`, `certificate_file`, `key_file`, `tls_file`, `ca_name`.
    """
    secret = secrets.token_urlsafe(24)
    role_name = pb.Role.Name(role).removeprefix("ROLE_").lower()
    try:
        _as_registrar(
            registrar,
            fabric_ca_client,
            "register",
            *("--id.name", address, "--id.secret", secret, "--id.type", certificates.SIGNER),
            *("--id.maxenrollments", "-1", "--id.attrs", f"cbmdhi.role={role_name}:ecert"),
        )
    except _Taken as error:
        known = _ROLE.search(_as_registrar(registrar, fabric_ca_client, "identity", "list", "--id", address))
        if known is None or known[1] != role_name:
            reason = "this member's Fabric CA knows this address in another role: use a new key"
            raise MeshError(code_pb2.CODE_CONFLICT, reason) from error
        new = ("modify", address, "--secret", secret, "--maxenrollments", "-1")
        _as_registrar(registrar, fabric_ca_client, "identity", *new)
    return secret


def revoke(registrar: dict[str, str], fabric_ca_client: Path, name: str, reason: str) -> None:
    """Revoke every certificate of an address at the Fabric CA, and let it enrol no more.

    `reason`: one of RFC 5280's, such as `keycompromise`. Login and gateways learn of it by themselves.
    Raises MeshError NOT_FOUND for who is not known there.
    """
    _as_registrar(registrar, fabric_ca_client, "revoke", "--revoke.name", name, "--revoke.reason", reason)


def revocation_list(registrar: dict[str, str], fabric_ca_client: Path) -> bytes:
    """Whom the Fabric CA has revoked, as an X.509 CRL (PEM) that it signs now."""
    with tempfile.TemporaryDirectory() as folder:
        _run(registrar, fabric_ca_client, folder, "gencrl")
        return (Path(folder) / "msp" / "crls" / "crl.pem").read_bytes()


class _Taken(MeshError):
    """The CA knows an id of that name."""


def _as_registrar(registrar: dict[str, str], fabric_ca_client: Path, command: str, *arguments: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return _run(registrar, fabric_ca_client, folder, command, *arguments)


def _run(
    registrar: dict[str, str], fabric_ca_client: Path, folder: str, command: str, *arguments: str
) -> str:
    msp = Path(folder) / "msp"
    for target, source in (("signcerts/cert.pem", "certificate_file"), ("keystore/key_sk", "key_file")):
        (msp / target).parent.mkdir(parents=True)
        shutil.copy(registrar[source], msp / target)
    argv = [
        str(fabric_ca_client),
        command,
        *("--home", folder, "--mspdir", str(msp), "--url", registrar["fabric_ca_url"]),
        *("--caname", registrar["ca_name"], "--tls.certfiles", registrar["tls_file"]),
        *arguments,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_DEADLINE_SECONDS, check=False)
    if done.returncode != 0:
        if command == "revoke" and is_unknown(done.stderr):
            raise unknown()
        if command == "register" and _IS_TAKEN.search(done.stderr):
            raise _Taken(code_pb2.CODE_CONFLICT, "this member's Fabric CA knows this address already")
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise MeshError(code_pb2.CODE_UNAVAILABLE, f"the Fabric CA did not {command}: {last}")
    return done.stdout


def is_unknown(told: str) -> bool:
    """Whether fabric-ca-client's output to `revoke` says that nobody of that name is known."""
    return _NOBODY.search(told) is not None


def unknown() -> MeshError:
    """Of a name that the Fabric CA does not know."""
    return MeshError(
        code_pb2.CODE_NOT_FOUND, "this member's Fabric CA knows nobody of that name: check it, and the member"
    )
