"""Copies go to other members, to as many as there have to be, and not always to the same."""

from services.storage.domain.placement import candidates, copies_elsewhere

MEMBERS = ("AMSP", "BMSP", "CMSP", "DMSP")


def test_every_other_member_is_asked_in_an_order_of_the_batchs_own() -> None:
    asked = [candidates(f"batch-{number}", "AMSP", MEMBERS) for number in range(300)]
    assert {frozenset(order) for order in asked} == {frozenset({"BMSP", "CMSP", "DMSP"})}
    for member in MEMBERS[1:]:
        assert 60 < sum(order[0] == member for order in asked) < 140
    again = [*reversed(MEMBERS), "BMSP"]
    assert candidates("batch-1", "AMSP", MEMBERS) == candidates("batch-1", "AMSP", again)


def test_the_order_is_the_same_for_ever() -> None:
    """Else a copy that is asked for again is made once more, elsewhere."""
    assert candidates("root", "AMSP", MEMBERS) == ("CMSP", "BMSP", "DMSP")


def test_the_writer_is_one_of_those_who_hold_it() -> None:
    assert [copies_elsewhere(number) for number in (0, 1, 2, 3)] == [0, 0, 1, 2]
