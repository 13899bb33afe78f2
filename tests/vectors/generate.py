"""Write commands.json: test vectors by which an implementation in another language checks itself.

Run `python tests/vectors/generate.py`; keys and signatures are deterministic (RFC 6979), so the file
changes only when the protocol does.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cbmdhi.command.v1 import command_pb2 as pb
from cbmdhi.protocol import address, command, envelope, signature
from cbmdhi.protocol.channel import Channel

CHANNEL = Channel("cbmdhi", hashlib.sha256(b"an agreed beginning").digest())
AT_MS = 1_790_000_000_000
ID = "0199c82c-c000-7000-8000-{:012x}"


def key(number: int) -> ec.EllipticCurvePrivateKey:
    """A key that anybody can derive: the private value is the number."""
    return ec.derive_private_key(number, ec.SECP256R1())


def sign(private: ec.EllipticCurvePrivateKey, label: str, message: bytes) -> bytes:
    """A deterministic signature with low s."""
    algorithm = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    return signature.low_s(private.sign(label.encode() + b"\x00" + message, algorithm))


def vectors() -> dict[str, object]:
    """All vectors."""
    author, patient = key(1001), key(1002)
    patient_address = address.of_public_key(patient.public_key())
    salt, content = bytes(range(32)), b'{"resourceType":"Observation"}'
    record = pb.PutRecord(
        record_id=ID.format(1),
        version=1,
        patient=patient_address,
        category="observations",
        content_commitment=envelope.commitment(salt, content),
        content_bytes=len(content),
    )
    consent = pb.Consent(
        consent_id=ID.format(2),
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
    digest = command.members_sha256(
        [
            (command.body_bytes(record), address.of_public_key(author.public_key())),
            (command.body_bytes(consent), patient_address),
        ]
    )
    members = [
        pb.GroupMembership(group_id=ID.format(3), size=2, index=index, members_sha256=digest)
        for index in (0, 1)
    ]
    lone = command.make(record, channel=CHANNEL, now_ms=AT_MS, command_id=ID.format(4))
    first = command.make(record, channel=CHANNEL, now_ms=AT_MS, command_id=ID.format(5), group=members[0])
    second = command.make(consent, channel=CHANNEL, now_ms=AT_MS, command_id=ID.format(6), group=members[1])

    def vector(name: str, who: ec.EllipticCurvePrivateKey, raw: bytes, **more: object) -> dict[str, object]:
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

    good = vector("a lone PutRecord", author, lone)
    high_s = bytes.fromhex(str(good["signature_hex"]))
    return {
        "channel": CHANNEL.name,
        "genesis_sha256_hex": CHANNEL.genesis_sha256.hex(),
        "commitment": {
            "salt_hex": salt.hex(),
            "content_hex": content.hex(),
            "commitment_hex": record.content_commitment.hex(),
        },
        "commands": [
            good,
            vector("first of a group of two", author, first, members_sha256_hex=digest.hex()),
            vector("second of a group of two", patient, second, members_sha256_hex=digest.hex()),
            {
                **good,
                "name": "changed by one bit",
                "command_hex": (lone[:-1] + bytes([lone[-1] ^ 1])).hex(),
                "valid": False,
            },
            {**good, "name": "signature with high s", "signature_hex": flip_s(high_s).hex(), "valid": False},
            {
                **good,
                "name": "signed under another label",
                "signature_hex": sign(author, signature.LOGIN, lone).hex(),
                "valid": False,
            },
        ],
    }


def flip_s(der: bytes) -> bytes:
    """The other signature that plain ECDSA would accept."""
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = decode_dss_signature(der)
    return encode_dss_signature(r, order - s)


if __name__ == "__main__":
    target = Path(__file__).with_name("commands.json")
    target.write_text(json.dumps(vectors(), indent=1) + "\n")
    print(f"wrote {target.name}")
