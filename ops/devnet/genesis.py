"""The chaincode's Genesis: members and first policy. Each member's chaincode endorses this one only."""

import hashlib

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from cbmdhi.command.v1 import command_pb2, state_pb2
from cbmdhi.protocol import hpke
from ops.devnet.errors import ToolMissing
from ops.devnet.layout import DEFAULT_POLICY, Home
from ops.devnet.templates import write
from ops.devnet.topology import CHANNEL, msp_id

# role: members that must approve a registration, and whether only the home member may review it. Of
# clinicians, administrators and privacy officers another member approves at least; one is enough for an
# administrator, so that a member that lost its only one gets another.
_REVIEWS = {
    command_pb2.ROLE_PATIENT: (2, False),
    command_pb2.ROLE_CLINICIAN: (2, False),
    command_pb2.ROLE_ADMINISTRATOR: (1, False),
    command_pb2.ROLE_ENGINE: (1, True),
    command_pb2.ROLE_DEVICE: (0, False),
    command_pb2.ROLE_RESEARCHER: (2, False),
    command_pb2.ROLE_PRIVACY_OFFICER: (2, False),
}
# Of one clinician: the charts of a busy night, and no more than somebody can look through afterwards.
_BREAK_GLASS = command_pb2.BreakGlassLimits(window_hours=12, patients=5, records=100, unreviewed=100)
MIN_REPLICAS = 2


def make(home: Home) -> None:
    """Write the serialized Genesis. Run once: afterwards these bytes are what the members agreed to.

    Raises:
        ToolMissing: the default policy is not in this checkout.
    """
    if not DEFAULT_POLICY.exists():
        raise ToolMissing(f"The default policy {DEFAULT_POLICY} is missing.", "Is this a whole checkout?")
    policy = command_pb2.PolicyDocument(
        version=1,
        cedar=DEFAULT_POLICY.read_text(),
        review_rules=[
            command_pb2.ReviewRule(role=role, quorum=quorum, home_only=home_only)
            for role, (quorum, home_only) in _REVIEWS.items()
        ],
        min_replicas=MIN_REPLICAS,
        break_glass=_BREAK_GLASS,
    )
    genesis = state_pb2.Genesis(
        channel=CHANNEL, members=[_member(home, organisation) for organisation in home.members], policy=policy
    )
    write(home.chaincode_genesis, genesis.SerializeToString(deterministic=True))


def sha256(home: Home) -> str:
    """Hex SHA-256 of the agreed Genesis: what a member's operator tells its chaincode server."""
    return hashlib.sha256(home.chaincode_genesis.read_bytes()).hexdigest()


def vault_public_key(home: Home, organisation: str) -> bytes:
    """To what patients seal their record private key: on the channel, and pinned by wallets."""
    return hpke.public_of((home.organisation(organisation).service("storage") / "vault.key").read_bytes())


def storage_signing_key(home: Home, organisation: str) -> bytes:
    """By what a member's receipts for what it holds are checked: on the channel, and pinned by wallets."""
    folder = home.organisation(organisation).service("storage")
    signing = load_pem_private_key((folder / "signing.key").read_bytes(), password=None)
    return signing.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _member(home: Home, organisation: str) -> state_pb2.MemberDocument:
    folders = home.organisation(organisation)
    return state_pb2.MemberDocument(
        msp=msp_id(organisation),
        name=organisation,
        ca_certificates_pem=folders.ca_certificate.read_text(),
        vault_public_key=vault_public_key(home, organisation),
        storage_signing_key=storage_signing_key(home, organisation),
    )
