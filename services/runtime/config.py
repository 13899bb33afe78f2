"""Typed configuration: a TOML file, overridden by environment variables `CBMDHI_<NAME>_<FIELD>`.

class LedgerConfig(ServiceConfig):
    service_name = "ledger"
    chaincode: str
    nats: Nats

config = LedgerConfig.load()        # reads --config FILE; exits 2 with sentences when it is wrong
"""

import argparse
import os
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NoReturn, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, SettingsError

from cbmdhi.protocol.channel import Channel
from services.runtime import certificates
from services.runtime.errors import MeshError


def _readable(path: Path) -> Path:
    if not path.is_file():
        raise ValueError(f"the file {path} is not there; create it, or correct the path")
    if not os.access(path, os.R_OK):
        raise ValueError(f"the file {path} cannot be read by this user; correct its owner or mode")
    return path


def _with_certificates(path: Path) -> Path:
    certificates.certificates_in(path)
    return path


def _host_and_port(address: str) -> str:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{address!r} is not an address; write host:port, such as 127.0.0.1:7411")
    return address


def _sha256(value: object) -> bytes:
    if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value):
        return bytes.fromhex(value)
    raise ValueError("is not a SHA-256 in lower-case hex, 64 digits")


def _none_when_empty(value: object) -> object:
    return None if value == "" else value


ReadableFile = Annotated[Path, AfterValidator(_readable)]
"""A file that exists and can be read when the configuration is loaded."""

RootsFile = Annotated[Path, AfterValidator(_readable), AfterValidator(_with_certificates)]
"""A file with certificates of a CA (PEM)."""

Sha256 = Annotated[bytes, BeforeValidator(_sha256)]
"""32 bytes, as 64 hex digits."""

Address = Annotated[str, AfterValidator(_host_and_port)]
"""`host:port`."""


class Section(BaseModel):
    """Base of a section of the file: unknown keys are errors, values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Pair(Section):
    """A certificate and its key (PEM), valid now."""

    certificate_file: ReadableFile
    key_file: ReadableFile

    @model_validator(mode="after")
    def _belong_together(self) -> Self:
        certificates.check_pair(self.certificate_file, self.key_file)
        return self


class TlsMember(Section):
    """A member's TLS CA roots (PEM)."""

    msp_id: str
    ca_file: RootsFile


class Tls(Pair):
    """The service's own certificate, and whom it trusts."""

    members: tuple[TlsMember, ...] = Field(min_length=1)


class ClientCa(Section):
    """Roots (PEM) of a member's CA for identities. It issues certificates and signs revocations."""

    msp_id: str
    ca_file: RootsFile


class FabricPeer(Section):
    """The member's own Fabric peer. `tls_server_name`: when its certificate has another name."""

    address: Address
    tls_ca_file: RootsFile
    tls_server_name: str = ""


class FabricIdentity(Pair):
    """An identity of the member's own MSP, enrolled by its Fabric CA for one service."""


class Nats(Pair):
    """The member's NATS server: TLS with a client certificate."""

    url: str
    ca_file: RootsFile


class ServiceConfig(BaseSettings):
    """Settings of every service. A service adds its own fields in a subclass.

    organisation      the member's name, such as mercy
    msp_id            and its id on the channel, such as MercyMSP
    channel           the Fabric channel
    listen_address    gRPC, mutual TLS
    metrics_address   plain HTTP on loopback or the pod network: /metrics, /livez, /readyz
    drain_seconds     how long running calls may take when the service stops
    log_level         records of this level and above are written
    otlp_endpoint     `http://host:port` of an OTLP receiver (gRPC) for traces; empty: none are exported
    trace_ratio       share of the traces that begin here; errors are exported always
    data_directory    for state that can be rebuilt or is named in docs/conventions.md; empty: none
    tls               the service's own certificate, and the TLS roots of every member
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_nested_delimiter="__")

    service_name: ClassVar[str]

    organisation: str
    msp_id: str
    channel: str
    listen_address: Address
    metrics_address: Address
    drain_seconds: float = Field(default=10.0, ge=0, le=300)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    otlp_endpoint: str = ""
    trace_ratio: float = Field(default=0.01, ge=0, le=1)
    data_directory: Annotated[Path | None, BeforeValidator(_none_when_empty)] = None
    tls: Tls

    @model_validator(mode="after")
    def _certificate_is_ours(self) -> Self:
        """Others would refuse a certificate of another member or service, call by call."""
        own = [member.ca_file for member in self.tls.members if member.msp_id == self.msp_id]
        if not own:
            raise ValueError(f"tls.members does not name {self.msp_id}, this member; add its ca_file")
        certificates.check_issued(self.tls.certificate_file, own)
        certificates.check_name(self.tls.certificate_file, self.service_name)
        return self

    @classmethod
    def load(cls, argv: Sequence[str] | None = None) -> Self:
        """Read `--config FILE` and the environment. On a fault print what, where and the remedy; exit 2."""
        parser = argparse.ArgumentParser(prog=f"python -m services.{cls.service_name}")
        parser.add_argument(
            "--config", required=True, type=Path, metavar="FILE", help="TOML, see docs/conventions.md"
        )
        file: Path = parser.parse_args(argv).config
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as exc:
            _give_up([f"{file} cannot be read ({exc.strerror}); give the path of a file that can be read."])
        except tomllib.TOMLDecodeError as exc:
            _give_up([f"{file} is not TOML: {exc}; correct that place."])
        prefix = f"CBMDHI_{cls.service_name.upper()}_"
        stray = _stray_variables(prefix, cls.model_fields)
        if stray:
            _give_up(
                [
                    f"The environment variable {name} names no field of {cls.service_name}; unset it."
                    for name in stray
                ]
            )
        try:
            return cls(_env_prefix=prefix, **values)  # pyright: ignore[reportCallIssue] - of BaseSettings
        except SettingsError as exc:
            _give_up(
                [f"The environment variables {prefix}… are not right: {exc}; a list or section is JSON."]
            )
        except ValidationError as exc:
            _give_up([_sentence(error, file, prefix) for error in exc.errors()])

    def require_data_directory(self) -> Path:
        """The data directory, made if it is not there yet."""
        if self.data_directory is None:
            raise MeshError.invalid("this service keeps data; say where in data_directory", "data_directory")
        self.data_directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self.data_directory

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings


class SignedChannelConfig(ServiceConfig):
    """Of a service that makes or checks what is signed for the channel."""

    genesis_sha256: Sha256
    """SHA-256 of the chaincode's Genesis that the operator agreed to. Unlike a channel's name, unique."""

    @property
    def signed_channel(self) -> Channel:
        """The channel, as commands and delegations name it."""
        return Channel(self.channel, self.genesis_sha256)


def _stray_variables(prefix: str, fields: Mapping[str, object]) -> list[str]:
    known = {name.upper() for name in fields}
    given = (name for name in os.environ if name.upper().startswith(prefix))
    return sorted(name for name in given if name.upper().removeprefix(prefix).split("__")[0] not in known)


def _sentence(error: Any, file: Path, prefix: str) -> str:
    key = ".".join(str(part) for part in error["loc"])
    variable = prefix + "__".join(str(part) for part in error["loc"]).upper()
    match error["type"]:
        case "missing":
            return f"{key} is missing: add it to {file}, or set {variable}."
        case "extra_forbidden":
            return f"{key} in {file} is not a key of this service: remove it, or correct its spelling."
        case "value_error" if not key:
            return f"{file}: {error['ctx']['error']}."
        case "value_error":
            return f"{key} in {file} (or {variable}): {error['ctx']['error']}."
        case _:
            return f"{key} in {file} (or {variable}) is not right: {error['msg']}; correct it."


def _give_up(sentences: list[str]) -> NoReturn:
    for sentence in sentences:
        print(sentence, file=sys.stderr)
    raise SystemExit(2)
