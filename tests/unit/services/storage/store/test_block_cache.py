"""Recent blocks: bounded in bytes, the least used go first."""

from services.storage.store.block_cache import LARGEST, BlockCache


def test_the_least_used_go_when_there_are_too_many_bytes() -> None:
    recent = BlockCache(30)
    for name in ("a", "b", "c"):
        recent.put(name, bytes(10))
    assert recent.get("a") is not None
    recent.put("d", bytes(15))
    assert [name for name in "abcd" if recent.get(name) is not None] == ["a", "d"]


def test_the_same_block_is_counted_once() -> None:
    recent = BlockCache(30)
    for _ in range(5):
        recent.put("a", bytes(20))
    recent.put("b", bytes(10))
    assert recent.get("a") is not None
    assert recent.get("b") is not None


def test_a_large_block_and_one_that_does_not_fit_are_not_kept() -> None:
    recent = BlockCache(2 * LARGEST)
    recent.put("large", bytes(LARGEST + 1))
    assert recent.get("large") is None
    nothing = BlockCache(0)
    nothing.put("a", b"a")
    assert nothing.get("a") is None
