"""A backup opens whole, with its key, or not at all: and says why."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from cbmdhi.backup import recovery_key
from cbmdhi.backup.archive import About, Taken, pack, unpack
from cbmdhi.backup.errors import BackupError
from cbmdhi.backup.sealed import SealedReader, SealedWriter
from cbmdhi.protocol import hpke

MIB = 1 << 20
ABOUT = About(1, "mercy", "00ff", "2026-11-22T21:30:00+00:00", "0.1.0")


def sealed(content: bytes, *recipients: bytes) -> bytes:
    out = io.BytesIO()
    writer = SealedWriter(out, recipients)
    for start in range(0, len(content), 700_000):
        writer.write(content[start : start + 700_000])
    writer.finish()
    return out.getvalue()


def opened(data: bytes, private: bytes) -> bytes:
    return SealedReader(io.BytesIO(data), private).read()


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 5])
def test_what_was_sealed_opens_with_each_of_its_keys_at_every_size(size: int) -> None:
    (first, first_public), (second, second_public) = hpke.generate(), hpke.generate()
    content = bytes(range(256)) * (size // 256 + 1)

    data = sealed(content[:size], first_public, second_public)

    assert opened(data, first) == content[:size]
    assert opened(data, second) == content[:size]


def test_a_backup_cut_anywhere_is_refused_also_between_two_chunks() -> None:
    private, public = hpke.generate()
    data = sealed(b"x" * (2 * MIB + 10), public)
    header = len(data) - (2 * MIB + 10 + 3 * 16)
    for end in (len(data) - 1, header + MIB + 16, header + 2 * (MIB + 16), header + 1, header):
        with pytest.raises(BackupError, match="is cut off or was changed"):
            opened(data[:end], private)
    with pytest.raises(BackupError, match=r"not sealed to this|not a backup"):
        opened(data[: header - 1], private)


def test_a_changed_byte_is_noticed_wherever_it_is() -> None:
    private, public = hpke.generate()
    data = sealed(b"x" * (MIB + 10), public)
    for place in (0, 20, 600, 1185, 1300, MIB, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(BackupError):
            opened(bytes(changed), private)


def test_chunks_cannot_be_exchanged_or_added() -> None:
    private, public = hpke.generate()
    data = sealed(b"x" * (3 * MIB), public)
    chunk = MIB + 16
    header = len(data) - 3 * chunk
    swapped = data[:header] + data[header + chunk : header + 2 * chunk] + data[header : header + chunk]
    for wrong in (swapped + data[header + 2 * chunk :], data + data[-chunk:], data + b"\0"):
        with pytest.raises(BackupError, match="changed"):
            opened(wrong, private)


def test_a_foreign_file_and_another_key_are_told_apart() -> None:
    _, public = hpke.generate()
    other, _ = hpke.generate()
    with pytest.raises(BackupError, match="not a backup") as foreign:
        opened(b"PK\x03\x04 something else" * 100, other)
    assert "cbmdhi backup" in foreign.value.remedy
    with pytest.raises(BackupError, match="not sealed to this recovery key"):
        opened(sealed(b"x", public), other)


def archive(folder: Path, *names: str) -> tuple[bytes, bytes]:
    """A sealed archive of some files, and the private key that opens it."""
    private, public = hpke.generate()
    out = io.BytesIO()
    writer = SealedWriter(out, [public])
    taken = [Taken("empty", folder, 0o750, 0, is_folder=True)]
    for name in names:
        source = folder / name
        source.write_bytes(name.encode() * 1000)
        taken.append(Taken(name, source, 0o640, source.stat().st_size))
    pack(writer, ABOUT, taken, lambda _: None)
    writer.finish()
    return out.getvalue(), private


def test_files_come_back_with_content_and_mode_and_are_counted(tmp_path: Path) -> None:
    data, private = archive(tmp_path, "vault.key", "blockfile_000000")
    target = tmp_path / "back"
    target.mkdir()

    about, counted = unpack(SealedReader(io.BytesIO(data), private), target, lambda _: None)

    assert about == ABOUT
    assert (counted.files, counted.size) == (2, 9000 + 16000)
    assert (target / "vault.key").read_bytes() == b"vault.key" * 1000
    assert (target / "vault.key").stat().st_mode & 0o777 == 0o640
    assert (target / "empty").stat().st_mode & 0o777 == 0o750


def test_only_the_first_bytes_of_a_file_that_grew_meanwhile_are_taken(tmp_path: Path) -> None:
    growing = tmp_path / "blockfile_000000"
    growing.write_bytes(b"then" + b"later")
    out = io.BytesIO()
    pack(out, ABOUT, [Taken("blockfile_000000", growing, 0o600, 4)], lambda _: None)
    (target := tmp_path / "back").mkdir()

    unpack(io.BytesIO(out.getvalue()), target, lambda _: None)

    assert (target / "blockfile_000000").read_bytes() == b"then"


def test_a_file_that_is_not_what_the_manifest_says_is_named(tmp_path: Path) -> None:
    source = tmp_path / "storage.db"
    source.write_bytes(b"a" * 600)
    out = io.BytesIO()
    pack(out, ABOUT, [Taken("storage.db", source, 0o600, 600)], lambda _: None)

    with pytest.raises(BackupError, match=r"storage\.db in the backup is not what"):
        unpack(io.BytesIO(out.getvalue().replace(b"a" * 600, b"b" * 600)), None, lambda _: None)


def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "x"
    source.write_bytes(b"x")
    out = io.BytesIO()
    pack(out, ABOUT, [Taken("../../outside", source, 0o600, 1)], lambda _: None)
    (target := tmp_path / "a" / "b").mkdir(parents=True)

    with pytest.raises(BackupError, match="has no place in a backup"):
        unpack(io.BytesIO(out.getvalue()), target, lambda _: None)
    assert not (tmp_path / "outside").exists()


def test_a_recovery_key_is_never_overwritten_and_never_mistaken(tmp_path: Path) -> None:
    file = tmp_path / "mercy.key"
    public_file = recovery_key.make(file)

    assert file.stat().st_mode & 0o777 == 0o600
    assert hpke.public_of(recovery_key.private(file)) == recovery_key.public(public_file)
    with pytest.raises(BackupError, match="there already"):
        recovery_key.make(file)
    with pytest.raises(BackupError, match="is the private recovery key"):
        recovery_key.public(file)
    with pytest.raises(BackupError, match="no private recovery key"):
        recovery_key.private(public_file)
    with pytest.raises(BackupError, match="cannot be read"):
        recovery_key.public(tmp_path / "nowhere")
