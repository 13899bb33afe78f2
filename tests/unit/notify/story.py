"""People and events of the notify tests."""

from cbmdhi.command.v1 import code_pb2, command_pb2, state_pb2
from cbmdhi.ledger.v1 import events_pb2
from services.notify.domain import Identity, ReviewRule

CHANNEL = "cbmdhi"

PATIENT = "cb1" + "p" * 32
CLINICIAN = "cb1" + "c" * 32
DEVICE = "cb1" + "d" * 32
MERCY_ADMIN = "cb1" + "m" * 32
LAKESIDE_ADMIN = "cb1" + "l" * 32
MERCY_OFFICER = "cb1" + "o" * 32

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
        registration_id=f"registration-of-{address[3]}",
        reviews=[state_pb2.Review(msp=one) for one in voted],
    )


def entry(action: str, signer: str, *, code: int = code_pb2.CODE_OK, **more: object) -> state_pb2.AuditEntry:
    return state_pb2.AuditEntry(
        **{
            "command_id": f"{action}-by-{signer[3]}",
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
