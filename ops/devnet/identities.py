"""Enrols every identity and TLS certificate of an organisation, and makes the keys that no CA knows."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cbmdhi.protocol import address, certificates, hpke
from ops.devnet.fabric_ca import FabricCa, Identity, forget_client, write_msp, write_tls
from ops.devnet.layout import Home
from ops.devnet.templates import write, write_secret
from ops.devnet.topology import ORDERING, SERVICES, Ports

# Registers people and systems, names their role for the chaincode, revokes and publishes revocations. It can
# make nobody whom a peer would hear, itself included: neither its own type nor SIGNER is a unit of the MSP.
REGISTRAR_TYPE = "registrar"
REGISTRAR = {
    "hf.Registrar.Roles": certificates.SIGNER,
    "hf.Registrar.Attributes": "cbmdhi.role",
    "hf.Revoker": "true",
    "hf.GenCRL": "true",
}
# Attributes of what a member's services are to the channel. The chaincode takes commands and questions from a
# carrier alone (chaincode/contract/carrier.go); a reader has blocks from a peer, and nothing else.
CARRIER = "cbmdhi.carrier"
READER = "cbmdhi.reader"
# Of two cores and a CA that keeps its state in SQLite, more would only wait.
_AT_ONCE = 3


def enrol(home: Home, organisation: str, ports: Ports) -> None:
    """Enrol everything an organisation needs, from its own running Fabric CA."""
    ca = FabricCa(home, organisation, ports)
    ca.begin()
    tasks = _of_any(home, organisation, ca)
    if organisation in home.orderers:
        tasks += _of_orderer(home, organisation, ca)
    if organisation != ORDERING:
        tasks += _of_member(home, organisation, ca)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for future in [pool.submit(task) for task in tasks]:
            future.result()
    forget_client(home, organisation)


def _of_orderer(home: Home, organisation: str, ca: FabricCa) -> list[Callable[[], None]]:
    folders = home.organisation(organisation)

    def orderer() -> None:
        write_msp(folders.orderer / "msp", folders, ca.identity(Identity("orderer", "orderer")))

    def orderer_tls() -> None:
        made = ca.tls("orderer", f"orderer.{organisation}")
        write_tls(folders.orderer / "tls", made, folders.tls_ca_certificate)

    return [orderer, orderer_tls]


def _of_member(home: Home, organisation: str, ca: FabricCa) -> list[Callable[[], None]]:
    folders = home.organisation(organisation)
    root = folders.tls_ca_certificate

    def peer() -> None:
        write_msp(folders.peer / "msp", folders, ca.identity(Identity("peer", "peer")))

    def peer_tls() -> None:
        write_tls(folders.peer / "tls", ca.tls("peer", f"peer.{organisation}"), root)

    def chaincode_tls() -> None:
        write_tls(folders.chaincode / "tls", ca.tls("chaincode", f"chaincode.{organisation}"), root)

    def chaincode_client() -> None:
        # With this the peer shows the chaincode server who it is; it travels inside the installed package.
        write_tls(folders.chaincode / "peer-client", ca.tls("peer-of-chaincode"), root)

    def nats_tls() -> None:
        write_tls(folders.nats / "tls", ca.tls("nats", f"nats.{organisation}"), root)

    def registrar() -> None:
        enrolled = ca.identity(Identity("registrar", REGISTRAR_TYPE, REGISTRAR))
        write(folders.registrar / "cert.pem", enrolled.certificate)
        write_secret(folders.registrar / "key.pem", enrolled.key)

    def fabric_identity(service: str, attribute: str) -> Callable[[], None]:
        def enrol() -> None:
            enrolled = ca.identity(Identity(service, "client", {attribute: "true:ecert"}))
            folder = folders.service(service) / "fabric"
            write(folder / "certificate.pem", enrolled.certificate)
            write_secret(folder / "key.pem", enrolled.key)

        return enrol

    def service_tls(name: str) -> Callable[[], None]:
        return lambda: write_tls(folders.service(name) / "tls", ca.tls(name, f"{name}.{organisation}"), root)

    return [
        *(peer, peer_tls, chaincode_tls, chaincode_client, nats_tls, registrar),
        fabric_identity("ledger", CARRIER),
        fabric_identity("storage", READER),
        *(service_tls(name) for name in SERVICES),
        lambda: _device(home, organisation, ca),
        lambda: _storage_keys(home, organisation),
        lambda: _token_key(home, organisation),
    ]


def _of_any(home: Home, organisation: str, ca: FabricCa) -> list[Callable[[], None]]:
    folders = home.organisation(organisation)

    def admin() -> None:
        write_msp(folders.admin / "msp", folders, ca.identity(Identity("admin", "admin")))

    def admin_tls() -> None:
        write_tls(folders.admin / "tls", ca.tls("admin"), folders.tls_ca_certificate)

    def monitoring_tls() -> None:
        write_tls(folders.monitoring / "tls", ca.tls("monitoring"), folders.tls_ca_certificate)

    return [admin, admin_tls, monitoring_tls]


def _device(home: Home, organisation: str, ca: FabricCa) -> None:
    """The gateway's device identity: signing key, certificate, HPKE key, and the address they stand for."""
    folder = home.organisation(organisation).service("gateway") / "device"
    signing = ec.generate_private_key(ec.SECP256R1())
    name = address.of_public_key(signing.public_key())
    device = Identity(name, certificates.SIGNER, {"cbmdhi.role": "device:ecert"})
    write(folder / "certificate.pem", ca.identity_for_key(device, signing))
    write_secret(folder / "signing.key", _pkcs8(signing))
    write_secret(folder / "hpke.key", hpke.generate()[0])
    write(folder / "address", name)


def _storage_keys(home: Home, organisation: str) -> None:
    """The vault: patients seal to it; and the key that signs replica receipts."""
    folder = home.organisation(organisation).service("storage")
    write_secret(folder / "vault.key", hpke.generate()[0])
    write_secret(folder / "signing.key", _pkcs8(ec.generate_private_key(ec.SECP256R1())))


def _token_key(home: Home, organisation: str) -> None:
    """The key that signs the identity service's tokens (ES256)."""
    folder = home.organisation(organisation).service("identity")
    write_secret(folder / "token.key", _pkcs8(ec.generate_private_key(ec.SECP256R1())))


def _pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
