"""A checkpoint on disk: what was saved is there again, and nothing else is taken for one."""

from pathlib import Path

import pytest

from fabric_gateway import BadCheckpoint, Checkpoint, CheckpointFile


def test_what_was_saved_last_is_where_one_goes_on(tmp_path: Path) -> None:
    kept = CheckpointFile(tmp_path / "place.json")
    assert kept.load() is None

    kept.save(Checkpoint(7))
    kept.save(Checkpoint(8, "ab" * 32))

    assert CheckpointFile(str(tmp_path / "place.json")).load() == Checkpoint(8, "ab" * 32)
    assert [path.name for path in tmp_path.iterdir()] == ["place.json"]


@pytest.mark.parametrize(
    "held",
    [
        "",
        "7",
        "{}",
        '{"block": -1, "transaction": ""}',
        '{"block": true, "transaction": ""}',
        '{"block": 7, "transaction": null}',
        '{"block": 7',
    ],
)
def test_a_file_that_holds_something_else_is_refused_and_not_begun_anew(tmp_path: Path, held: str) -> None:
    file = tmp_path / "place.json"
    file.write_text(held)
    with pytest.raises(BadCheckpoint, match=r"place\.json"):
        CheckpointFile(file).load()
    assert file.read_text() == held


def test_a_program_that_ends_while_it_saves_leaves_the_last_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = CheckpointFile(tmp_path / "place.json")
    kept.save(Checkpoint(7))

    def power_cut(_: int) -> None:
        raise OSError("no power")

    monkeypatch.setattr("os.fsync", power_cut)
    with pytest.raises(OSError, match="no power"):
        kept.save(Checkpoint(8))
    assert kept.load() == Checkpoint(7)
