"""A record's type: the member's own gateways can tell it from another, and nobody else can."""

from __future__ import annotations

from cbmdhi.protocol.ids import uuid7
from services.gateway.domain.type_tag import TypeTags

MERCY, LAKESIDE = TypeTags(b"mercy's device"), TypeTags(b"lakeside's device")
RECORD = uuid7()


def test_each_gateway_of_a_member_makes_the_same_tag() -> None:
    assert MERCY.of(RECORD, "Condition") == TypeTags(b"mercy's device").of(RECORD, "Condition")
    assert len(MERCY.of(RECORD, "Condition")) == 16


def test_another_type_has_another_tag_under_the_same_key() -> None:
    one, other = MERCY.of(RECORD, "Condition"), MERCY.of(RECORD, "ClinicalImpression")
    assert one[:4] == other[:4]
    assert one != other


def test_tags_say_nothing_about_other_records_or_to_other_members() -> None:
    one = MERCY.of(RECORD, "Condition")
    assert one[4:] != MERCY.of(uuid7(), "Condition")[4:]
    assert one[:4] != LAKESIDE.of(RECORD, "Condition")[:4]
