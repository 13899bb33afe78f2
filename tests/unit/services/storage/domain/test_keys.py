"""Which writer key, for whom, and who is asked to open it."""

from services.storage.domain.keys import Make, Use, WriterKeyRef, choose_writer_key, holders, releasers


def ref(key_id: str, epoch: int) -> WriterKeyRef:
    return WriterKeyRef(key_id, epoch, b"")


def test_a_new_patient_gets_a_key_of_the_first_epoch() -> None:
    assert choose_writer_key([], None) == Make(1)


def test_a_key_that_was_never_committed_is_used_again() -> None:
    assert choose_writer_key([ref("a", 1)], None) == Use("a", on_channel=False)


def test_a_key_that_the_channel_knows_is_used_and_not_sent_again() -> None:
    assert choose_writer_key([ref("a", 1)], ref("a", 1)) == Use("a", on_channel=True)


def test_of_several_keys_that_the_channel_does_not_have_the_newest_is_used() -> None:
    held = [ref("c", 5), ref("d", 4), ref("b", 6), ref("a", 3)]
    assert choose_writer_key(held, None) == Use("b", on_channel=False)
    assert choose_writer_key(held, ref("d", 4)) == Use("b", on_channel=False)
    assert choose_writer_key(held, ref("b", 6)) == Use("b", on_channel=True)


def test_a_lost_vault_goes_on_with_the_next_epoch() -> None:
    assert choose_writer_key([], ref("a", 3)) == Make(4)


def test_after_a_lost_vault_the_new_key_is_kept_until_it_is_committed() -> None:
    assert choose_writer_key([ref("b", 4)], ref("a", 3)) == Use("b", on_channel=False)


def test_a_key_that_lost_its_epoch_to_another_is_not_used() -> None:
    assert choose_writer_key([ref("b", 1)], ref("a", 1)) == Make(2)


def test_a_writer_key_goes_to_the_writer_and_each_custodian_once() -> None:
    assert holders("A", ["B", "A", "C"]) == ("A", "B", "C")


def test_the_own_member_is_asked_first_when_it_is_a_custodian() -> None:
    assert releasers("C", "A", ["B", "C"]) == ("C", "A", "B")


def test_a_member_that_holds_no_key_asks_the_writer_and_then_the_custodians() -> None:
    assert releasers("D", "A", ["B", "A", "C"]) == ("A", "B", "C")
