"""People with keys, and certificates of a member's Fabric CA, for tests of the channel."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import ledger_pb2
from cbmdhi.protocol import command as commands
from cbmdhi.protocol import consortium, hpke, signature
from cbmdhi.protocol.channel import Channel
from ops.devnet import Network

CHANNEL = "cbmdhi"

Submit = Callable[[ledger_pb2.SealedGroup], Awaitable[ledger_pb2.Receipt]]

_FABRIC_CA_ATTRIBUTES = x509.ObjectIdentifier("1.2.3.4.5.6.7.8.1")


@dataclass(frozen=True)
class IdentityCa:
    """The key of a member's Fabric CA: a test may certify whom it likes."""

    msp_id: str
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    channel: Channel

    @classmethod
    def of(cls, network: Network, organisation: str) -> "IdentityCa":
        described = network.endpoints()["organisations"][organisation]
        certificate = x509.load_pem_x509_certificate(Path(described["ca_file"]).read_bytes())
        for file in sorted((Path(described["ca_file"]).parent / "msp" / "keystore").glob("*_sk")):
            key = serialization.load_pem_private_key(file.read_bytes(), None)
            if key.public_key() == certificate.public_key():
                assert isinstance(key, ec.EllipticCurvePrivateKey)
                pinned = consortium.load(Path(network.endpoints()["consortium_file"]))
                return cls(described["msp_id"], certificate, key, pinned.signed_channel)
        raise AssertionError(f"the key of {organisation}'s Fabric CA was not found")

    def certify(self, person: "Person", role: str) -> bytes:
        """An enrolment certificate, DER."""
        now = datetime.now(UTC)
        attributes = json.dumps({"attrs": {"cbmdhi.role": role}}, separators=(",", ":")).encode()
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, person.address)]))
            .issuer_name(self.certificate.subject)
            .public_key(person.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.UnrecognizedExtension(_FABRIC_CA_ATTRIBUTES, attributes), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.DER)


@dataclass(frozen=True)
class Person:
    """A key pair, and the channel it signs for. Whatever is signed with it is meant."""

    channel: Channel
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def signer(self) -> commands.KeySigner:
        return commands.KeySigner(self.key)

    @property
    def address(self) -> str:
        return self.signer.address

    def registration(
        self, ca: IdentityCa, role: int = command_pb2.ROLE_DEVICE
    ) -> command_pb2.RegisterIdentity:
        """Of a device it takes effect at once: nobody reviews it."""
        name = command_pb2.Role.Name(role).removeprefix("ROLE_").lower().replace("_", "-")  # type: ignore[arg-type]
        return command_pb2.RegisterIdentity(
            address=self.address,
            role=role,  # type: ignore[arg-type]
            home_msp=ca.msp_id,
            signing_public_key=signature.spki(self.key.public_key()),
            hpke_public_key=hpke.generate()[1],
            enrolment_certificate=ca.certify(self, name),
        )

    def means(self, *bodies: object) -> ledger_pb2.SealedGroup:
        """A group of commands of this person."""
        group = commands.make_group([(self.signer, body) for body in bodies], channel=self.channel)  # type: ignore[misc]
        return ledger_pb2.SealedGroup(item=state_pb2.BatchItem(group=group))


class Administrators:
    """Each member's first one, whom its CA's word makes active: once in the life of a network.

    Whoever registers as an administrator before them takes that place.
    """

    def __init__(self, network: Network) -> None:
        self._cas = [IdentityCa.of(network, organisation) for organisation in ("mercy", "lakeside")]
        self._people = [Person(ca.channel) for ca in self._cas]
        self._known = False

    async def known(self, submit: Submit) -> tuple[Person, Person]:
        """mercy's and lakeside's, active on the channel."""
        if not self._known:
            for person, ca in zip(self._people, self._cas, strict=True):
                receipt = await submit(person.means(person.registration(ca, command_pb2.ROLE_ADMINISTRATOR)))
                assert receipt.code == code_pb2.CODE_OK, (receipt.code, receipt.reason, receipt.path)
            self._known = True
        mercy, lakeside = self._people
        return mercy, lakeside


def batch(*submissions: ledger_pb2.SealedGroup) -> bytes:
    """The argument of the chaincode function `process`."""
    return state_pb2.Batch(items=[one.item for one in submissions]).SerializeToString()


def command_id(one: ledger_pb2.SealedGroup) -> str:
    return commands.parse(one.item.group.commands[0])[0].command_id
