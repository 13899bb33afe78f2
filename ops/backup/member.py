"""Backup and restore of one organisation: all below `orgs/<name>`, and the channel's genesis.

But what its orderer has agreed to: the others count on all of it, and one that went on from yesterday's could
vote a second time. It is in no backup, and a restore leaves the one that is there as it is
(docs/adr/0032-a-lost-orderer.md).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

import cbmdhi
from ops.backup import recovery_key, stores
from ops.backup.archive import NETWORK, About, Backup, Counted, pack, unpack
from ops.backup.errors import BackupError
from ops.backup.sealed import SealedReader, SealedWriter
from ops.backup.snapshot import Photograph, photograph
from ops.devnet import orderers, processes, state
from ops.devnet.network import Network
from ops.devnet.progress import Progress
from ops.devnet.topology import POSSIBLE_MEMBERS, organisations

_SCRATCH = ".backup-"
_READY_SECONDS = 120
Told = Callable[[int], None]


@dataclass(frozen=True)
class Restored:
    """What was given back, or only checked. `replaced`: where the state that was there lies now, if any.

    orderer  of an organisation that has one: KEPT, LOST or REJOINED
    """

    about: About
    holds: Counted
    replaced: Path | None
    started: bool
    orderer: str = ""


# It was there and goes on; it was not, and joins the channel anew at the next start, or has done so.
KEPT, LOST, REJOINED = "kept", "lost", "rejoined"


def take(
    network: Network,
    organisation: str,
    place: str,
    recipients: Sequence[Path],
    progress: Progress,
    told: Told,
) -> Backup:
    """Back up an organisation to `place`, sealed to public recovery keys, and signed. `told`: bytes packed.

    Raises:
        BackupError: nothing was left at `place`.
    """
    _known(organisation, network.files.organisations)
    keys = [recovery_key.recipient(file) for file in recipients]
    _keys_lie_elsewhere(network, place, recipients)
    if not network.exists() or not network.files.organisation(organisation).root.is_dir():
        raise BackupError(
            f"There is no {organisation} in a network at {network.home}.", "Name its folder with --home."
        )
    now = datetime.now(UTC)
    place = stores.named(place, organisation, now)
    about = About(1, organisation, _genesis(network.home), now.isoformat(), cbmdhi.__version__)
    with stores.writing(place) as sink, _scratch(network.home) as scratch, ExitStack() as lock:
        lock.enter_context(state.exclusively(network.files))
        photo = _photograph(network, organisation, scratch, progress)
        if photo.seconds:
            # What did not run is read where it lies: nobody may start it meanwhile.
            lock.close()
        with progress.step(f"Packing {len(photo.taken):,} files, sealed, to {place}"):
            sealed = SealedWriter(sink, keys)
            holds = pack(sealed, about, photo.taken, told)
            sealed.finish()
    fingerprints = [key.fingerprint for key in keys]
    return Backup(place, organisation, about.taken, holds, photo.seconds, photo.copied_bytes, fingerprints)


def check(place: str, key: Path, progress: Progress, told: Told) -> Restored:
    """Read a backup to its end and check every byte; changes nothing.

    Raises:
        BackupError: it is not whole, not for this key, or not signed by the member.
    """
    recovery = recovery_key.recovery(key)
    with progress.step("Checking every byte of the backup"), stores.reading(place) as source:
        about, holds = unpack(SealedReader(source, recovery), None, told)
    return Restored(about, holds, None, started=False)


def restore(
    network: Network, place: str, key: Path, progress: Progress, told: Told, *, replace: bool
) -> Restored:
    """Give an organisation back as it was. What is there changes only when all of the backup was checked.

    `replace`: move aside the state of the organisation that is there.

    Raises:
        BackupError: it is not whole, not signed by the member, of another network; or a state is there.
    """
    recovery = recovery_key.recovery(key)
    network.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with state.exclusively(network.files), _scratch(network.home) as scratch:
        with progress.step("Reading the backup, checking every byte"), stores.reading(place) as source:
            about, holds = unpack(SealedReader(source, recovery), scratch, told)
        if about.kind != NETWORK:
            raise BackupError(
                "The backup is of a member on Kubernetes.", "Give it back there: docs/kubernetes.md, Backups."
            )
        _known(about.organisation, organisations(POSSIBLE_MEMBERS))
        target = network.files.organisation(about.organisation).root
        if (network.home / _GENESIS).exists() and _genesis(network.home) != about.network:
            raise BackupError(
                f"The backup is of another network than the one at {network.home}.",
                "Name the right folder with --home, or an empty one.",
            )
        if target.exists() and not replace:
            raise BackupError(
                f"{about.organisation} is there already, at {target}.",
                "Give --replace: it is moved aside first, not deleted.",
            )
        runs = network.supervisor.alive()
        if runs:
            with progress.step(f"Stopping the programs of {about.organisation}"):
                for name in reversed(network.programs(about.organisation)):
                    network.stop(name)
        elif _writers(network, about.organisation):
            down = network.files.command("down")
            raise BackupError(f"Programs of {about.organisation} run unsupervised.", f"Run: {down}")
        replaced, orderer = _put(network, about.organisation, scratch)
        if runs:
            _start(network, about.organisation, progress)
            if about.organisation in orderers.rejoin_lost(network.files, network.ports(), progress):
                orderer = REJOINED
    return Restored(about, holds, replaced, runs, orderer)


_GENESIS = Path("channel") / "chaincode-genesis.pb"
# Of the network, not of one organisation: small, public or remade, and needed where nothing is left.
_COMMON = (Path("network.json"), Path("consortium.json"), Path("channel"))


def _photograph(network: Network, organisation: str, into: Path, progress: Progress) -> Photograph:
    folders = network.files.organisation(organisation)
    sources = [path for path in folders.root.iterdir() if path != folders.orderer]
    if folders.orderer.is_dir():
        sources += [path for path in folders.orderer.iterdir() if path != folders.orderer_data]
    common = [network.home / name for name in _COMMON]
    with progress.step(f"Photographing {organisation} (programs that run stand still for a moment)"):
        return photograph([*sources, *common], network.home, into, lambda: _writers(network, organisation))


def _writers(network: Network, organisation: str) -> list[psutil.Process]:
    wanted = set(network.programs(organisation))
    found = processes.of_network(network.home)
    return [process for name, running in found.items() if name in wanted for process in running]


def _put(network: Network, organisation: str, scratch: Path) -> tuple[Path | None, str]:
    """Move it into place, beside the orderer that is there; where what was replaced lies, KEPT or LOST."""
    folders = network.files.organisation(organisation)
    target = folders.root
    # Whatever a backup holds of it.
    shutil.rmtree(scratch / folders.orderer_data.relative_to(network.home), ignore_errors=True)
    replaced: Path | None = None
    if target.exists():
        replaced = network.home / "replaced" / f"{organisation}-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"
        replaced.parent.mkdir(mode=0o700, exist_ok=True)
        target.rename(replaced)
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    (scratch / "orgs" / organisation).rename(target)
    for name in _COMMON:
        if not (network.home / name).exists():
            (scratch / name).rename(network.home / name)
    if not folders.orderer.is_dir():
        return replaced, ""
    if replaced is None or not (replaced / folders.orderer_data.relative_to(target)).is_dir():
        return replaced, LOST
    # With its keys: they are those that the channel knows. Killed before this, it is lost, and joins anew.
    shutil.rmtree(folders.orderer)
    (replaced / folders.orderer.relative_to(target)).rename(folders.orderer)
    return replaced, KEPT


def _start(network: Network, organisation: str, progress: Progress) -> None:
    names = network.programs(organisation)
    with progress.step(f"Starting the programs of {organisation}, and what it missed is fetched"):
        for name in names:
            network.start(name, wait=False)
        network.wait_ready(*names, seconds=_READY_SECONDS)


@contextmanager
def _scratch(home: Path) -> Iterator[Path]:
    """A folder on the network's own file system, gone afterwards, as are those of killed commands."""
    for left in home.glob(f"{_SCRATCH}[0-9]*-*"):
        if not psutil.pid_exists(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=home, prefix=f"{_SCRATCH}{os.getpid()}-") as folder:
        yield Path(folder)


def _known(organisation: str, there: Sequence[str]) -> None:
    if organisation not in there:
        raise BackupError(f"There is no organisation {organisation!r}.", f"There are: {', '.join(there)}.")


def _keys_lie_elsewhere(network: Network, place: str, recipients: Sequence[Path]) -> None:
    """Refuse when the private key lies beside its backup, the public key or the member."""
    folders = {file.resolve().parent for file in recipients} | {network.home}
    if not place.startswith("s3://"):
        folders.add(Path(place if place.endswith("/") else Path(place).parent).resolve())
    for recipient in recipients:
        for folder in folders:
            beside = folder / recipient.name.removesuffix(".pub")
            if beside.name != recipient.name and beside.exists():
                raise BackupError(
                    f"{beside} looks like the private recovery key, beside backups or the member.",
                    "Move it to another machine or a safe, then try again.",
                )


def _genesis(home: Path) -> str:
    return hashlib.sha256((home / _GENESIS).read_bytes()).hexdigest()
