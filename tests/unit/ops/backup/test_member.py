"""What is backed up and given back, and what is refused before anything is touched; of networks at rest."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from pathlib import Path

import pytest

from ops.backup import member, recovery_key
from ops.backup.archive import NAMESPACE, About, Taken, pack
from ops.backup.errors import BackupError
from ops.backup.sealed import SealedWriter
from ops.devnet import Network
from ops.devnet.progress import Silent

FILES = {
    "network.json": json.dumps({"version": 2, "base_port": 17400, "complete": True, "members": 2}),
    "consortium.json": "{}",
    "channel/chaincode-genesis.pb": "genesis",
    "orgs/mercy/ca/ca/ca-key.pem": "key",
    "orgs/mercy/services/storage/data/storage.db": "vault",
    "orgs/lakeside/services/storage/data/storage.db": "the vault of another",
}


def home_with(folder: Path, **changes: str) -> Network:
    for name, content in {**FILES, **changes}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)
    (folder / "orgs" / "mercy" / "ca" / "ca" / "ca-key.pem").chmod(0o600)
    return Network(folder)


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """The private key in its safe, the public one where backups are made."""
    (tmp_path / "safe").mkdir()
    (tmp_path / "here").mkdir()
    private = tmp_path / "safe" / "mercy.key"
    public = recovery_key.make(private)
    recovery_key.signing_file(public).rename(tmp_path / "here" / "mercy.key.sign")
    return private, public.rename(tmp_path / "here" / "mercy.key.pub")


def nothing(_: int) -> None:
    return None


def taken(network: Network, place: Path, public: Path) -> Path:
    return Path(member.take(network, "mercy", str(place), [public], Silent(), nothing).place)


def restored(network: Network, place: Path, private: Path, *, replace: bool = False) -> member.Restored:
    return member.restore(network, str(place), private, Silent(), nothing, replace=replace)


def files_below(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_member_is_given_back_to_an_empty_folder_with_its_network_and_without_others(
    tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    place = taken(home_with(tmp_path / "net"), tmp_path / "mercy.backup", public)

    done = restored(Network(tmp_path / "new"), place, private)

    assert (done.about.organisation, done.replaced, done.started) == ("mercy", None, False)
    found = files_below(tmp_path / "new")
    found.pop(".lock")
    assert found == {name: content for name, content in FILES.items() if "lakeside" not in name}
    key = tmp_path / "new" / "orgs" / "mercy" / "ca" / "ca" / "ca-key.pem"
    assert key.stat().st_mode & 0o777 == 0o600


def test_the_state_that_is_there_is_kept_unless_told_and_then_moved_aside(
    tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    network = home_with(tmp_path / "net")
    place = taken(network, tmp_path / "mercy.backup", public)
    home_with(tmp_path / "net", **{"orgs/mercy/services/storage/data/storage.db": "newer"})

    with pytest.raises(BackupError, match="is there already") as refused:
        restored(network, place, private)
    assert "--replace" in refused.value.remedy
    assert files_below(tmp_path / "net")["orgs/mercy/services/storage/data/storage.db"] == "newer"

    done = restored(network, place, private, replace=True)
    assert done.replaced is not None
    assert files_below(done.replaced)["services/storage/data/storage.db"] == "newer"
    assert files_below(tmp_path / "net")["orgs/mercy/services/storage/data/storage.db"] == "vault"


ORDERER = {
    "orgs/mercy/orderer/orderer.yaml": "General: {}",
    "orgs/mercy/orderer/tls/server.crt": "certificate",
    "orgs/mercy/orderer/data/etcdraft/wal/cbmdhi/0.wal": "voted in term 2",
    "orgs/mercy/orderer/data/chains/chains/cbmdhi/blockfile_000000": "blocks to 40",
}
WAL = "orgs/mercy/orderer/data/etcdraft/wal/cbmdhi/0.wal"


def test_what_an_orderer_voted_for_is_in_no_backup(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    """Whoever lost it is no longer who voted: it comes back with its keys, and knows nothing."""
    private, public = keys
    place = taken(home_with(tmp_path / "net", **ORDERER), tmp_path / "mercy.backup", public)

    done = restored(Network(tmp_path / "new"), place, private)

    assert done.orderer == member.LOST
    found = [name for name in files_below(tmp_path / "new") if "/orderer/" in name]
    assert sorted(found) == ["orgs/mercy/orderer/orderer.yaml", "orgs/mercy/orderer/tls/server.crt"]


def test_an_orderer_that_is_there_is_not_given_back_what_it_was(
    tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    """What was seen: it got its log of the backup's time back, and could vote in a term a second time."""
    private, public = keys
    network = home_with(tmp_path / "net", **ORDERER)
    place = taken(network, tmp_path / "mercy.backup", public)
    newer = {WAL: "voted in term 3", "orgs/mercy/orderer/tls/server.crt": "its certificate of today"}
    home_with(tmp_path / "net", **newer)

    done = restored(network, place, private, replace=True)

    assert done.orderer == member.KEPT
    now = files_below(tmp_path / "net")
    assert {name: now[name] for name in newer} == newer
    assert done.replaced is not None
    assert (done.replaced / "services/storage/data/storage.db").exists()


def test_a_backup_that_holds_an_orderers_votes_does_not_give_them_back(
    tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    network = home_with(tmp_path / "net", **ORDERER)
    place = tmp_path / "mercy.backup"
    genesis = hashlib.sha256(FILES["channel/chaincode-genesis.pb"].encode()).hexdigest()
    about = About(1, "mercy", genesis, "2026-11-23T02:17:00+00:00", "0.1.0")
    with place.open("wb") as stream:
        writer = SealedWriter(stream, [recovery_key.recipient(public)])
        files = [
            Taken(name, network.home / name, 0o600, len(content))
            for name, content in {**FILES, **ORDERER}.items()
            if "lakeside" not in name
        ]
        pack(writer, about, files, nothing)
        writer.finish()

    done = restored(Network(tmp_path / "new"), place, private)

    assert done.orderer == member.LOST
    assert WAL not in files_below(tmp_path / "new")


def test_the_third_member_is_backed_up_and_given_back_as_the_others_are(
    tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    """What was seen: `cbmdhi backup northgate` knew no such organisation."""
    private, public = keys
    three = json.dumps({"version": 2, "base_port": 17400, "complete": True, "members": 3})
    vault = "orgs/northgate/services/storage/data/storage.db"
    home_with(tmp_path / "net", **{"network.json": three, vault: "its vault"})
    place = tmp_path / "northgate.backup"

    member.take(Network(tmp_path / "net"), "northgate", str(place), [public], Silent(), nothing)
    done = restored(Network(tmp_path / "new"), place, private)

    assert (done.about.organisation, done.orderer) == ("northgate", "")
    assert files_below(tmp_path / "new")[vault] == "its vault"


def test_a_backup_of_another_network_changes_nothing(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    private, public = keys
    place = taken(home_with(tmp_path / "net"), tmp_path / "mercy.backup", public)
    other = home_with(tmp_path / "other", **{"channel/chaincode-genesis.pb": "of others"})
    before = files_below(tmp_path / "other")

    with pytest.raises(BackupError, match="of another network"):
        restored(other, place, private, replace=True)

    after = files_below(tmp_path / "other")
    after.pop(".lock")
    assert after == before


def test_a_backup_that_a_stranger_made_with_the_public_key_is_refused_and_nothing_is_moved(
    tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    """What was seen: anybody with the public key made a backup that `restore` accepted."""
    private, public = keys
    network = home_with(tmp_path / "net")
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    recovery_key.make(stranger / "own.key")
    shutil.copy(public, stranger / "mercy.key.pub")
    shutil.copy(stranger / "own.key.sign", stranger / "mercy.key.sign")
    forged = home_with(stranger / "net", **{"orgs/mercy/services/storage/data/storage.db": "forged"})
    place = taken(forged, stranger / "mercy.backup", stranger / "mercy.key.pub")
    before = files_below(tmp_path / "net")

    for work in (
        lambda: restored(network, place, private, replace=True),
        lambda: member.check(str(place), private, Silent(), nothing),
    ):
        with pytest.raises(BackupError, match="the member did not sign it"):
            work()

    after = files_below(tmp_path / "net")
    after.pop(".lock")
    assert after == before


def test_without_the_signing_key_no_backup_is_made(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    _, public = keys
    recovery_key.signing_file(public).unlink()

    with pytest.raises(BackupError, match=r"mercy\.key\.sign cannot be read"):
        taken(home_with(tmp_path / "net"), tmp_path / "mercy.backup", public)
    assert not (tmp_path / "mercy.backup").exists()


def test_a_backup_of_a_member_on_kubernetes_is_not_given_back_here(
    tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    network = home_with(tmp_path / "net")
    place = tmp_path / "mercy.backup"
    about = About(1, "mercy", "00ff", "2026-11-23T02:17:00+00:00", "0.1.0", NAMESPACE)
    with place.open("wb") as stream:
        writer = SealedWriter(stream, [recovery_key.recipient(public)])
        pack(writer, about, [Taken("claims.json", io.BytesIO(b"[]"), 0o600, 2)], nothing)
        writer.finish()
    before = files_below(tmp_path / "net")

    with pytest.raises(BackupError, match="of a member on Kubernetes"):
        restored(network, place, private, replace=True)

    after = files_below(tmp_path / "net")
    after.pop(".lock")
    assert after == before


def test_no_backup_is_made_with_the_private_key_beside_it_or_in_its_place(
    tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    private, public = keys
    network = home_with(tmp_path / "net")
    private.rename(public.with_name("mercy.key"))
    with pytest.raises(BackupError, match="beside backups or the member"):
        taken(network, tmp_path / "mercy.backup", public)
    with pytest.raises(BackupError, match="is the private recovery key"):
        taken(network, tmp_path / "mercy.backup", public.with_name("mercy.key"))
    assert not (tmp_path / "mercy.backup").exists()


def test_a_backup_into_a_folder_is_named_by_member_and_time(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    network = home_with(tmp_path / "net")
    (tmp_path / "tapes").mkdir()

    told = member.take(network, "mercy", f"{tmp_path}/tapes/", [keys[1]], Silent(), nothing)

    [file] = (tmp_path / "tapes").iterdir()
    assert str(file) == told.place
    assert file.name.startswith("mercy-20")
    assert not list((tmp_path / "net").glob(".backup-*"))


def test_who_is_not_there_cannot_be_backed_up(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    network = Network(tmp_path / "nothing")
    for organisation, why in (("nobody", "no organisation 'nobody'"), ("mercy", "There is no mercy")):
        with pytest.raises(BackupError, match=why):
            member.take(network, organisation, str(tmp_path / "x"), [keys[1]], Silent(), nothing)
    assert not os.path.lexists(tmp_path / "x")


def test_what_a_killed_backup_left_is_removed_by_the_next(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    network = home_with(tmp_path / "net")
    left = tmp_path / "net" / ".backup-999999999-abc"
    left.mkdir()
    (left / "vault.key").write_text("key")

    taken(network, tmp_path / "mercy.backup", keys[1])

    assert not left.exists()
