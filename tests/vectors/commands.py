"""commands.json: signed commands, groups, a command within a delegation, and what is not valid."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol import address, command, envelope, signature
from cbmdhi.protocol.channel import Channel
from tests.vectors.fixed import AT_MS, CHANNEL, Vectors, key, same, sign, uuid

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
AUTHOR, PATIENT, DEVICE = key(1001), key(1002), key(1003)
SALT, CONTENT = bytes(range(32)), b'{"resourceType":"Observation"}'


def vectors(_: Vectors) -> Vectors:
    """All vectors."""
    patient_address = address.of_public_key(PATIENT.public_key())
    record = put_record(uuid(1))
    consent = pb.Consent(
        consent_id=uuid(2),
        patient=patient_address,
        provisions=[
            pb.Provision(
                effect=pb.EFFECT_PERMIT,
                grantees=[pb.Grantee(role=pb.ROLE_CLINICIAN, msp="LakesideMSP")],
                purposes=["TREAT"],
                categories=["observations"],
            )
        ],
    )
    meant = [
        (command.body_bytes(record), address.of_public_key(AUTHOR.public_key())),
        (command.body_bytes(consent), patient_address),
    ]
    digest = command.members_sha256(meant)
    members = [
        pb.GroupMembership(group_id=uuid(3), size=2, index=index, members_sha256=digest) for index in (0, 1)
    ]
    lone = command.make(record, channel=CHANNEL, now_ms=AT_MS, command_id=uuid(4))
    first = command.make(record, channel=CHANNEL, now_ms=AT_MS, command_id=uuid(5), group=members[0])
    second = command.make(consent, channel=CHANNEL, now_ms=AT_MS, command_id=uuid(6), group=members[1])
    access = pb.Access(patient=patient_address, record_id=uuid(1), version=1, purpose="TREAT", action="read")
    within = delegation(AUTHOR, DEVICE)
    asked = command.make(access, channel=CHANNEL, now_ms=AT_MS, command_id=uuid(7), delegation=within)
    good = _vector("a lone PutRecord", AUTHOR, lone)
    high_s = bytes.fromhex(str(good["signature_hex"]))
    emergency = pb.EmergencyAccess(
        glass=pb.BreakGlass(patient=patient_address, record_id=uuid(1), version=1),
        newest_epoch=AT_MS // 60_000,
    )
    clinician = address.of_public_key(AUTHOR.public_key())
    opened = command.make_emergency(emergency, clinician, channel=CHANNEL, now_ms=AT_MS + 180_000)
    return {
        "channel": CHANNEL.name,
        "genesis_sha256_hex": CHANNEL.genesis_sha256.hex(),
        "commitment": {
            "salt_hex": SALT.hex(),
            "content_hex": CONTENT.hex(),
            "commitment_hex": record.content_commitment.hex(),
        },
        "emergency": {
            "signer": clinician,
            "command_hex": opened.hex(),
            "command_id": pb.Command.FromString(opened).command_id,
        },
        "commands": [
            good,
            _vector("first of a group of two", AUTHOR, first, members_sha256_hex=digest.hex()),
            _vector("second of a group of two", PATIENT, second, members_sha256_hex=digest.hex()),
            _vector(
                "an Access that a device signs within a delegation",
                DEVICE,
                asked,
                delegation={
                    "delegation_hex": within.delegation.hex(),
                    "signature_hex": within.signature.hex(),
                    "delegator_spki_hex": signature.spki(AUTHOR.public_key()).hex(),
                },
            ),
            {
                **good,
                "name": "changed by one bit",
                "command_hex": (lone[:-1] + bytes([lone[-1] ^ 1])).hex(),
                "valid": False,
            },
            {**good, "name": "signature with high s", "signature_hex": _flip_s(high_s).hex(), "valid": False},
            {
                **good,
                "name": "signed under another label",
                "signature_hex": sign(AUTHOR, signature.LOGIN, lone).hex(),
                "valid": False,
            },
        ],
    }


def put_record(record_id: str) -> pb.PutRecord:
    """The first version of a record of the patient's."""
    return pb.PutRecord(
        record_id=record_id,
        version=1,
        patient=address.of_public_key(PATIENT.public_key()),
        category="observations",
        content_commitment=envelope.commitment(SALT, CONTENT),
        content_bytes=len(CONTENT),
    )


def delegation(
    by: ec.EllipticCurvePrivateKey,
    to: ec.EllipticCurvePrivateKey,
    *,
    channel: Channel = CHANNEL,
    number: int = 20,
    signed_by: ec.EllipticCurvePrivateKey | None = None,
) -> pb.SignedDelegation:
    """A delegation of ten minutes to a device, for one patient. signed_by: by another than who delegates."""
    raw = same(
        pb.Delegation(
            delegation_id=uuid(number),
            channel=channel.name,
            genesis_sha256=channel.genesis_sha256,
            delegator=address.of_public_key(by.public_key()),
            delegate=address.of_public_key(to.public_key()),
            actions=["read", "write"],
            purposes=["TREAT"],
            patients=[address.of_public_key(PATIENT.public_key())],
            issued_at_ms=AT_MS,
            expires_at_ms=AT_MS + 600_000,
        )
    )
    return pb.SignedDelegation(delegation=raw, signature=sign(signed_by or by, signature.DELEGATION, raw))


def _vector(name: str, who: ec.EllipticCurvePrivateKey, raw: bytes, **more: object) -> Vectors:
    spki = signature.spki(who.public_key())
    return {
        "name": name,
        "public_key_spki_hex": spki.hex(),
        "address": address.of_spki(spki),
        "command_hex": raw.hex(),
        "signature_hex": sign(who, signature.COMMAND, raw).hex(),
        "valid": True,
        **more,
    }


def _flip_s(der: bytes) -> bytes:
    """The other signature that plain ECDSA would accept."""
    r, s = decode_dss_signature(der)
    return encode_dss_signature(r, _ORDER - s)
