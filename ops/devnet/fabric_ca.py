"""An organisation's Fabric CA: its configuration, and enrolment with the real `fabric-ca-client`."""

import base64
import json
import secrets
import shutil
import ssl
import tempfile
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from ops.devnet.commands import run
from ops.devnet.errors import CommandFailed
from ops.devnet.layout import Home, Organisation, tool
from ops.devnet.supervision import Program
from ops.devnet.templates import fill, write, write_secret
from ops.devnet.topology import Ports, program_name

IDENTITIES = "ca"
TLS = "tlsca"
TLS_ORGANISATION = "cbmdhi"


@dataclass(frozen=True)
class Identity:
    """What is registered with a CA. `kind`, the unit: an MSP knows client, peer, orderer and admin."""

    name: str
    kind: str = "client"
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Enrolled:
    """A certificate and its private key, both PEM."""

    certificate: bytes
    key: bytes


def program(home: Home, organisation: str) -> Program:
    """The server of an organisation: one process, both CAs."""
    folder = home.organisation(organisation).ca / TLS
    return Program(
        name=program_name(organisation, "ca"),
        argv=[tool("fabric-ca-server"), "start"],
        directory=folder,
        env={"FABRIC_CA_SERVER_HOME": str(folder)},
        stop_seconds=5,
    )


def configure(home: Home, organisation: str, ports: Ports) -> None:
    """Write the configuration of both CAs; the bootstrap secret is made once and kept."""
    folders = home.organisation(organisation)
    if not folders.bootstrap_secret.exists():
        write_secret(folders.bootstrap_secret, secrets.token_urlsafe(32))
    texts = configurations(
        organisation,
        folders.bootstrap_secret.read_text(),
        port=ports.of(organisation, "ca"),
        identity_ca_file=_configuration(folders, IDENTITIES),
        operations_address=ports.address(organisation, "ca_operations"),
    )
    for name, text in texts.items():
        write_secret(_configuration(folders, name), text)


def configurations(
    organisation: str, secret: str, *, port: int, identity_ca_file: Path, operations_address: str
) -> dict[str, str]:
    """fabric-ca-server-config.yaml of each of the two CAs; `secret`: of the bootstrap identity.

    identity_ca_file  where the server finds the configuration of the CA for identities
    """
    texts = {
        name: fill(
            "fabric-ca/ca.yaml",
            name=name,
            secret=secret,
            common_name=f"{name}.{organisation}",
            organisation=organisation,
            host=f"ca.{organisation}",
        )
        for name in (IDENTITIES, TLS)
    }
    server = fill(
        "fabric-ca/server.yaml",
        port=port,
        identity_ca_file=identity_ca_file,
        operations_address=operations_address,
    )
    return {IDENTITIES: texts[IDENTITIES], TLS: texts[TLS] + server}


def _configuration(folders: Organisation, name: str) -> Path:
    return folders.ca / name / "fabric-ca-server-config.yaml"


class FabricCa:
    """A running Fabric CA, spoken to as its bootstrap identity."""

    def __init__(self, home: Home, organisation: str, ports: Ports) -> None:
        self._home = home
        self._folders = home.organisation(organisation)
        self._address = ports.address(organisation, "ca")
        self._client_home = self._folders.ca / "bootstrap-client"

    @property
    def url(self) -> str:
        """Where the CA answers."""
        return f"https://{self._address}"

    def begin(self) -> None:
        """Enrol the bootstrap identity with both CAs, so that it can register others."""
        for name in (IDENTITIES, TLS):
            self._client(
                ["enroll", "--caname", name, "--mspdir", name],
                self._client_home,
                FABRIC_CA_CLIENT_URL=self._url_as("bootstrap", self._folders.bootstrap_secret.read_text()),
            )

    def identity(self, identity: Identity) -> Enrolled:
        """Register and enrol with the CA for identities, by a secret that works once and is forgotten."""
        secret = self._register(IDENTITIES, identity)
        return self._enrol(IDENTITIES, identity.name, secret, [])

    def tls(self, name: str, *hosts: str) -> Enrolled:
        """Register and enrol with the CA for TLS: a certificate for server and client with these names."""
        secret = self._register(TLS, Identity(name))
        names = ",".join(["localhost", "127.0.0.1", *hosts])
        return self._enrol(TLS, name, secret, ["--enrollment.profile", "tls", "--csr.hosts", names])

    def revoke(self, name: str, reason: str) -> None:
        """Revoke every certificate of a program or an administrator, with the CA for identities.

        For an address there is `ops.devnet.first_administrator.revoke`: here arguments are logged.
        """
        self._client(
            [
                *("revoke", "--caname", IDENTITIES, "--mspdir", IDENTITIES),
                *("--revoke.name", name, "--revoke.reason", reason),
            ],
            self._client_home,
            FABRIC_CA_CLIENT_URL=self.url,
        )

    def identity_for_key(self, identity: Identity, key: ec.EllipticCurvePrivateKey) -> bytes:
        """Register and enrol a key that is already there; the certificate (PEM).

        `fabric-ca-client` always makes the key itself, so this speaks the CA's REST API.

        Raises:
            CommandFailed: the CA refused.
        """
        secret = self._register(IDENTITIES, identity)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, identity.name)])
        request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
        body = {"certificate_request": request.public_bytes(Encoding.PEM).decode(), "caname": IDENTITIES}
        credentials = base64.b64encode(f"{identity.name}:{secret}".encode()).decode()
        call = urllib.request.Request(  # noqa: S310 - our own https address
            f"{self.url}/api/v1/enroll",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"},
        )
        context = ssl.create_default_context(cafile=str(self._folders.tls_ca_certificate))
        try:
            with urllib.request.urlopen(call, timeout=20, context=context) as response:  # noqa: S310
                answer = json.load(response)
        except (urllib.error.URLError, ValueError) as exc:
            raise CommandFailed(
                f"The Fabric CA of {self._folders.name} did not enrol its device: {exc}"
            ) from exc
        return base64.b64decode(answer["result"]["Cert"])

    def _register(self, ca: str, identity: Identity) -> str:
        secret = secrets.token_urlsafe(24)
        attributes = ",".join(f'"{name}={value}"' for name, value in identity.attributes.items())
        self._client(
            [
                *("register", "--caname", ca, "--mspdir", ca),
                *("--id.name", identity.name, "--id.type", identity.kind, "--id.maxenrollments", "1"),
                *(["--id.attrs", attributes] if attributes else []),
            ],
            self._client_home,
            FABRIC_CA_CLIENT_ID_SECRET=secret,
            FABRIC_CA_CLIENT_URL=self.url,
        )
        return secret

    def _enrol(self, ca: str, name: str, secret: str, options: list[str]) -> Enrolled:
        with tempfile.TemporaryDirectory(dir=self._folders.ca, prefix=".enrol-") as folder:
            self._client(
                [
                    *("enroll", "--caname", ca, "--mspdir", "msp"),
                    # NATS tells services apart by the whole subject: that of TLS is the same at every member.
                    *("--csr.names", f"O={TLS_ORGANISATION if ca == TLS else self._folders.name}"),
                    *options,
                ],
                Path(folder),
                FABRIC_CA_CLIENT_URL=self._url_as(name, secret),
            )
            msp = Path(folder) / "msp"
            (key,) = (msp / "keystore").iterdir()
            return Enrolled((msp / "signcerts" / "cert.pem").read_bytes(), key.read_bytes())

    def _client(self, arguments: list[str], home: Path, **env: str) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        run(
            self._home,
            [tool("fabric-ca-client"), *arguments],
            {
                "FABRIC_CA_CLIENT_HOME": str(home),
                "FABRIC_CA_CLIENT_TLS_CERTFILES": str(self._folders.tls_ca_certificate),
                **env,
            },
        )

    def _url_as(self, name: str, secret: str) -> str:
        return f"https://{name}:{secret}@{self._address}"


def write_tls(folder: Path, enrolled: Enrolled, root: Path) -> None:
    """`server.crt`, `server.key` and `ca.crt` of a program."""
    write(folder / "server.crt", enrolled.certificate)
    write_secret(folder / "server.key", enrolled.key)
    write(folder / "ca.crt", root.read_bytes())


def write_msp(folder: Path, folders: Organisation, enrolled: Enrolled | None = None) -> None:
    """A Fabric MSP folder: the organisation's roots, and a signer's certificate and key if there is one."""
    write(folder / "config.yaml", fill("fabric/msp-config.yaml"))
    write(folder / "cacerts" / "ca.pem", folders.ca_certificate.read_bytes())
    write(folder / "tlscacerts" / "tlsca.pem", folders.tls_ca_certificate.read_bytes())
    if enrolled:
        write(folder / "signcerts" / "cert.pem", enrolled.certificate)
        (folder / "keystore").mkdir(mode=0o700, exist_ok=True)
        write_secret(folder / "keystore" / "key.pem", enrolled.key)


def forget_client(home: Home, organisation: str) -> None:
    """Forget the bootstrap identity's enrolment: afterwards the registrar acts."""
    shutil.rmtree(home.organisation(organisation).ca / "bootstrap-client", ignore_errors=True)
