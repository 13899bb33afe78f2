from services.runtime.used_once import UsedOnce

KEPT = 60


def test_what_was_used_is_known_until_it_could_not_be_used_again() -> None:
    used = UsedOnce(KEPT, most=10)
    used.note("a call", 100)

    assert used.has("a call", 100)
    assert used.has("a call", 159)
    assert not used.has("another", 100)
    assert not used.has("a call", 160)


def test_the_same_of_another_person_is_another() -> None:
    used = UsedOnce(KEPT, most=10)
    used.note("a call", 100, "anna")

    assert used.has("a call", 100, "anna")
    assert not used.has("a call", 100, "ben")


def test_one_person_takes_no_room_of_the_others_and_gets_it_back() -> None:
    used = UsedOnce(KEPT, most=3, most_of_one=2)
    for number, whose in enumerate("aab"):
        assert used.wait(100, whose) == 0
        used.note(number, 100, whose)

    assert [used.wait(100, whose) for whose in "ac"] == [KEPT, KEPT]
    assert used.wait(159, "a") == 1

    for whose, number in (("a", 0), ("a", 1), ("c", 2)):
        assert used.wait(160, whose) == 0
        used.note(number, 160, whose)
