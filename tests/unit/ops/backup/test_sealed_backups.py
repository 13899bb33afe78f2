"""A backup opens whole, with its key, or not at all: and says why."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from cbmdhi.protocol import hpke, signature
from ops.backup import recovery_key
from ops.backup.archive import About, Taken, pack, unpack
from ops.backup.errors import BackupError
from ops.backup.recovery_key import Recipient, Recovery
from ops.backup.sealed import SealedReader, SealedWriter

MIB = 1 << 20
ABOUT = About(1, "mercy", "00ff", "2026-11-22T21:30:00+00:00", "0.1.0")


def pair() -> tuple[Recovery, Recipient]:
    """Keys of one making: the owner's, and those that backups are made with."""
    private, public = hpke.generate()
    signing = signature.new_private_key()
    return Recovery(private, signature.spki(signing.public_key())), Recipient(public, signing)


def sealed(content: bytes, *recipients: Recipient) -> bytes:
    out = io.BytesIO()
    writer = SealedWriter(out, recipients)
    for start in range(0, len(content), 700_000):
        writer.write(content[start : start + 700_000])
    writer.finish()
    return out.getvalue()


def opened(data: bytes, private: Recovery) -> bytes:
    return SealedReader(io.BytesIO(data), private).read()


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + 5])
def test_what_was_sealed_opens_with_each_of_its_keys_at_every_size(size: int) -> None:
    (first, first_public), (second, second_public) = pair(), pair()
    content = bytes(range(256)) * (size // 256 + 1)

    data = sealed(content[:size], first_public, second_public)

    assert opened(data, first) == content[:size]
    assert opened(data, second) == content[:size]


def test_a_backup_cut_anywhere_is_refused_also_between_two_chunks() -> None:
    private, public = pair()
    data = sealed(b"x" * (2 * MIB + 10), public)
    header = len(data) - (2 * MIB + 10 + 3 * 16)
    for end in (len(data) - 1, header + MIB + 16, header + 2 * (MIB + 16), header + 1, header):
        with pytest.raises(BackupError, match="is cut off or was changed"):
            opened(data[:end], private)
    with pytest.raises(BackupError, match=r"not sealed to this|not a backup|did not sign"):
        opened(data[: header - 1], private)


def test_a_changed_byte_is_noticed_wherever_it_is() -> None:
    private, public = pair()
    data = sealed(b"x" * (MIB + 10), public)
    for place in (0, 16, 20, 600, 1185, 1200, 1300, MIB, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        with pytest.raises(BackupError):
            opened(bytes(changed), private)


def test_chunks_cannot_be_exchanged_or_added() -> None:
    private, public = pair()
    data = sealed(b"x" * (3 * MIB), public)
    chunk = MIB + 16
    header = len(data) - 3 * chunk
    swapped = data[:header] + data[header + chunk : header + 2 * chunk] + data[header : header + chunk]
    for wrong in (swapped + data[header + 2 * chunk :], data + data[-chunk:], data + b"\0"):
        with pytest.raises(BackupError, match="changed"):
            opened(wrong, private)


def test_what_a_stranger_sealed_to_the_public_key_is_refused_before_anything_of_it_is_read() -> None:
    private, public = pair()
    _, stranger = pair()
    forged = sealed(b"x" * 10, Recipient(public.public, stranger.signing))

    class Watched(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            assert (size or 0) < MIB, "a chunk is read"
            return super().read(size)

    with pytest.raises(BackupError, match="the member did not sign it"):
        SealedReader(Watched(forged), private)


def test_a_signature_of_one_backup_does_not_serve_another() -> None:
    private, public = pair()
    one, other = sealed(b"a" * 10, public), sealed(b"b" * 10, public)
    start = 17 + 1168
    end = start + 1 + one[start]
    with pytest.raises(BackupError, match="the member did not sign it"):
        opened(other[:start] + one[start:end] + other[start + 1 + other[start] :], private)


def test_each_recovery_key_believes_the_signature_that_was_made_for_it_alone() -> None:
    (first, first_keys), (_, second_keys) = pair(), pair()
    forged = Recipient(first_keys.public, second_keys.signing)

    assert opened(sealed(b"x", second_keys, first_keys), first) == b"x"
    with pytest.raises(BackupError, match="the member did not sign it"):
        opened(sealed(b"x", second_keys, forged), first)


def test_a_foreign_file_and_another_key_are_told_apart() -> None:
    _, public = pair()
    other, _ = pair()
    with pytest.raises(BackupError, match="not a backup") as foreign:
        opened(b"PK\x03\x04 something else" * 100, other)
    assert "cbmdhi backup" in foreign.value.remedy
    with pytest.raises(BackupError, match="not sealed to this recovery key"):
        opened(sealed(b"x", public), other)


def archive(folder: Path, *names: str) -> tuple[bytes, Recovery]:
    """A sealed archive of some files, and the private key that opens it."""
    private, public = pair()
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
    signing_file = recovery_key.signing_file(public_file)
    assert signing_file == tmp_path / "mercy.key.sign"
    assert signing_file.stat().st_mode & 0o777 == 0o600
    owner, member = recovery_key.recovery(file), recovery_key.recipient(public_file)
    assert hpke.public_of(owner.private) == member.public
    assert owner.signer == signature.spki(member.signing.public_key())
    assert owner.fingerprint == member.fingerprint
    with pytest.raises(BackupError, match="there already"):
        recovery_key.make(file)
    with pytest.raises(BackupError, match="is the private recovery key"):
        recovery_key.recipient(file)
    with pytest.raises(BackupError, match="no private recovery key"):
        recovery_key.recovery(public_file)
    with pytest.raises(BackupError, match="cannot be read"):
        recovery_key.recipient(tmp_path / "nowhere")
