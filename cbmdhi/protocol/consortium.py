"""The consortium as a wallet pins it: who the members are, and the roots that vouch for them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cbmdhi.protocol.channel import Channel


@dataclass(frozen=True, slots=True)
class GatewayAddresses:
    """Where a member's gateway listens."""

    grpc: str
    first_contact: str
    rest: str


@dataclass(frozen=True, slots=True)
class Member:
    """A member organisation: MSP id, name, and its roots in PEM."""

    msp_id: str
    name: str
    ca_pem: str
    tls_ca_pem: str
    # HPKE public key of the member's vault: pinned, since a patient's record key is sealed to it.
    vault_public_key: bytes
    gateway: GatewayAddresses
    # DER SubjectPublicKeyInfo by which its storage's receipts are checked: the Genesis has the same, and its
    # hash is pinned. Empty in files from before it was there.
    storage_signing_key: bytes = b""


@dataclass(frozen=True, slots=True)
class Orderer:
    """An organisation that runs orderers."""

    msp_id: str
    ca_pem: str
    tls_ca_pem: str


@dataclass(frozen=True, slots=True)
class Consortium:
    """All that is needed to reach the members and to check what they say."""

    channel: str
    # SHA-256 of the chaincode's Genesis: signed for this channel, not for another of its name.
    genesis_sha256: bytes
    chaincode: str
    members: dict[str, Member]
    orderers: tuple[Orderer, ...]

    @property
    def signed_channel(self) -> Channel:
        """The channel, as commands and delegations name it."""
        return Channel(self.channel, self.genesis_sha256)

    def member_named(self, name: str) -> Member:
        """The member of that name or MSP id. Raises KeyError with those that there are."""
        for member in self.members.values():
            if name in (member.name, member.msp_id):
                return member
        known = ", ".join(sorted(member.name for member in self.members.values()))
        raise KeyError(f"no member {name!r}; there are: {known}")


def load(path: Path) -> Consortium:
    """Read consortium.json. Raises OSError, or ValueError when it is not one."""
    try:
        return parse(json.loads(path.read_text()))
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path.name} is not a consortium file: {error}") from error


def parse(document: dict[str, Any]) -> Consortium:
    """Parse the document of version 1."""
    if document["version"] != 1:
        raise ValueError("a consortium file of a version that this program does not know")
    members = {
        entry["msp_id"]: Member(
            entry["msp_id"],
            entry["name"],
            entry["ca_pem"],
            entry["tls_ca_pem"],
            bytes.fromhex(entry["vault_public_key"]),
            GatewayAddresses(**entry["gateway"]),
            bytes.fromhex(entry.get("storage_signing_key", "")),
        )
        for entry in document["members"]
    }
    return Consortium(
        channel=document["channel"],
        genesis_sha256=bytes.fromhex(document["genesis_sha256"]),
        chaincode=document["chaincode"],
        members=members,
        orderers=tuple(Orderer(**entry) for entry in document["orderers"]),
    )
