"""What a wallet pins is read as it stands, or refused with a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cbmdhi.protocol import consortium
from cbmdhi.protocol.channel import Channel
from cbmdhi.protocol.consortium import GatewayAddresses, Member, Orderer

GATEWAY = {"grpc": "mercy:443", "first_contact": "mercy:444", "rest": "https://mercy.example"}
MERCY = {
    "msp_id": "MercyMSP",
    "name": "mercy",
    "ca_pem": "its CA",
    "tls_ca_pem": "its CA of TLS",
    "vault_public_key": "0a0b",
    "gateway": GATEWAY,
    "storage_signing_key": "0c",
}
ORDERER = {"msp_id": "OrderingMSP", "ca_pem": "an orderer's CA", "tls_ca_pem": "its CA of TLS"}
DOCUMENT: dict[str, Any] = {
    "version": 1,
    "channel": "mesh",
    "genesis_sha256": "0d" * 32,
    "chaincode": "rules",
    "members": [MERCY],
    "orderers": [ORDERER],
}


def test_a_file_says_who_the_members_are_and_what_vouches_for_them(tmp_path: Path) -> None:
    file = tmp_path / "consortium.json"
    file.write_text(json.dumps(DOCUMENT))

    found = consortium.load(file)
    assert found.signed_channel == Channel("mesh", b"\r" * 32)
    assert (found.chaincode, found.orderers) == (
        "rules",
        (Orderer("OrderingMSP", "an orderer's CA", "its CA of TLS"),),
    )
    assert found.members == {
        "MercyMSP": Member(
            "MercyMSP", "mercy", "its CA", "its CA of TLS", b"\n\x0b", GatewayAddresses(**GATEWAY), b"\x0c"
        )
    }


def test_a_file_from_before_storages_signed_names_no_key_of_theirs() -> None:
    before = {name: value for name, value in MERCY.items() if name != "storage_signing_key"}
    found = consortium.parse({**DOCUMENT, "members": [before]})
    assert found.members["MercyMSP"].storage_signing_key == b""


def test_a_member_is_found_by_name_or_msp_id_and_who_is_none_is_told_who_there_are() -> None:
    lakeside = {**MERCY, "msp_id": "LakesideMSP", "name": "lakeside"}
    found = consortium.parse({**DOCUMENT, "members": [MERCY, lakeside]})
    assert found.member_named("lakeside") == found.member_named("LakesideMSP") == found.members["LakesideMSP"]
    with pytest.raises(KeyError, match="no member 'nobody'; there are: lakeside, mercy"):
        found.member_named("nobody")


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        json.dumps({**DOCUMENT, "version": 2}),
        json.dumps({**DOCUMENT, "members": ["mercy"]}),
        json.dumps({**DOCUMENT, "members": [{**MERCY, "gateway": {}}]}),
        json.dumps({**DOCUMENT, "members": [{**MERCY, "vault_public_key": "no hex"}]}),
        json.dumps({**DOCUMENT, "genesis_sha256": 7}),
        json.dumps({**DOCUMENT, "orderers": [{}]}),
    ],
)
def test_what_is_no_consortium_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "consortium.json"
    file.write_text(text)
    with pytest.raises(ValueError):  # noqa: PT011 - of several places
        consortium.load(file)
