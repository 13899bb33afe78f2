"""People and events of the notify tests."""

from cryptography.hazmat.primitives.asymmetric import ec

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import events_pb2, ledger_pb2
from cbmdhi.protocol import command, signature
from services.notify.notices import Identity, ReviewRule
from tests.support.channel import CHANNEL as SIGNED_FOR

CHANNEL = "cbmdhi"

# By the letter that stands for each in ids: keys that are the same in each run.
_KEYS = {
    letter: command.KeySigner(ec.derive_private_key(number, ec.SECP256R1()))
    for number, letter in enumerate("pcdmlo", start=1)
}
PATIENT, CLINICIAN, DEVICE, MERCY_ADMIN, LAKESIDE_ADMIN, MERCY_OFFICER = (
    signer.address for signer in _KEYS.values()
)
SIGNERS = {signer.address: signer for signer in _KEYS.values()}
_LETTERS = {signer.address: letter for letter, signer in _KEYS.items()}

RULES = [
    ReviewRule(command_pb2.ROLE_PATIENT, 2, home_only=False),
    ReviewRule(command_pb2.ROLE_CLINICIAN, 1, home_only=True),
    ReviewRule(command_pb2.ROLE_ADMINISTRATOR, 0, home_only=False),
]

_ROLES = {
    PATIENT: (command_pb2.ROLE_PATIENT, "MercyMSP"),
    CLINICIAN: (command_pb2.ROLE_CLINICIAN, "LakesideMSP"),
    DEVICE: (command_pb2.ROLE_DEVICE, "MercyMSP"),
    MERCY_ADMIN: (command_pb2.ROLE_ADMINISTRATOR, "MercyMSP"),
    LAKESIDE_ADMIN: (command_pb2.ROLE_ADMINISTRATOR, "LakesideMSP"),
    MERCY_OFFICER: (command_pb2.ROLE_PRIVACY_OFFICER, "MercyMSP"),
}


def identity(address: str, status: int = state_pb2.IDENTITY_STATUS_ACTIVE, version: int = 1) -> Identity:
    role, msp = _ROLES[address]
    return Identity(address, role, msp, status, version)


def document(
    address: str,
    status: int = state_pb2.IDENTITY_STATUS_ACTIVE,
    version: int = 1,
    voted: tuple[str, ...] = (),
) -> state_pb2.IdentityDocument:
    role, msp = _ROLES[address]
    return state_pb2.IdentityDocument(
        address=address,
        role=role,
        home_msp=msp,
        status=status,
        version=version,
        registration_id=f"registration-of-{_LETTERS[address]}",
        reviews=[state_pb2.Review(msp=one) for one in voted],
    )


def registered(address: str) -> ledger_pb2.GetIdentityResponse:
    """What the ledger service says of somebody: the document, and the registration that certifies it."""
    body = command_pb2.RegisterIdentity(
        address=address,
        role=_ROLES[address][0],
        home_msp=_ROLES[address][1],
        signing_public_key=signature.spki(SIGNERS[address].private_key.public_key()),
    )
    found = document(address)
    found.signing_public_key = body.signing_public_key
    raw = command.make(body, channel=SIGNED_FOR)
    return ledger_pb2.GetIdentityResponse(identity=found, registration=SIGNERS[address].sign_command(raw))


def entry(action: str, signer: str, *, code: int = code_pb2.CODE_OK, **more: object) -> state_pb2.AuditEntry:
    return state_pb2.AuditEntry(
        **{
            "command_id": f"{action}-by-{_LETTERS[signer]}",
            "signer": signer,
            "signer_msp": _ROLES[signer][1],
            "action": action,
            "code": code,
            **more,
        }
    )


def event(
    *entries: state_pb2.AuditEntry,
    identities: tuple[state_pb2.IdentityDocument, ...] = (),
    tx_id: str = "tx1",
    block: int = 7,
) -> events_pb2.TransactionCommitted:
    return events_pb2.TransactionCommitted(
        channel=CHANNEL, tx_id=tx_id, block=block, at_ms=1_000, entries=entries, identities=identities
    )
