"""A TLS certificate of a service that ends soon, signed by the member's own TLS CA."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from ops.devnet import DevnetError, Network
from ops.devnet.layout import Organisation


def shorten(network: Network, member: str, service: str, hours: float) -> None:
    """The certificate as it is but for its end; the service is started again with it. Raises DevnetError.

    Fabric CA gives every certificate the life of its profile, so this signs with the CA's key.
    """
    folders = network.files.organisation(member)
    file = folders.service(service) / "tls" / "server.crt"
    was = x509.load_pem_x509_certificate(file.read_bytes())
    now = datetime.now(UTC)
    public_key = was.public_key()
    if not isinstance(public_key, ec.EllipticCurvePublicKey):
        raise DevnetError(f"{file} holds no certificate of this network.")
    made = (
        x509.CertificateBuilder()
        .issuer_name(was.issuer)
        .subject_name(was.subject)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=hours))
    )
    for extension in was.extensions:
        made = made.add_extension(extension.value, extension.critical)
    file.write_bytes(made.sign(_key_of_ca(folders), hashes.SHA256()).public_bytes(Encoding.PEM))
    network.restart(f"{member}-{service}")
    print(f"the TLS certificate of {member}'s {service} ends in {hours:g} hours")


def _key_of_ca(folders: Organisation) -> ec.EllipticCurvePrivateKey:
    """The key that fits the CA's certificate, among those that the CA keeps."""
    root = x509.load_pem_x509_certificate(folders.tls_ca_certificate.read_bytes())
    for file in (folders.tls_ca_certificate.parent / "msp" / "keystore").glob("*_sk"):
        key = load_pem_private_key(file.read_bytes(), None)
        if isinstance(key, ec.EllipticCurvePrivateKey) and key.public_key() == root.public_key():
            return key
    raise DevnetError(f"The CA's key is not beside {folders.tls_ca_certificate}.")
