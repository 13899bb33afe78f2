"""Who speaks to whom, read from the table of docs/architecture.md."""

from dataclasses import dataclass

from ops.devnet.layout import ROOT

DOCUMENT = ROOT / "docs" / "architecture.md"
HEADING = "## Who speaks to whom"
COLUMNS = ("from", "to", "listener", "where")
OWN, MEMBERS, ORDERING = "own", "members", "ordering"
ANYONE, MONITORING, COLLECTOR = "anyone", "monitoring", "collector"
# Where they are is another matter in each cluster.
ANYWHERE = ("apiserver", "store")


@dataclass(frozen=True, order=True)
class Arrow:
    """`source` opens connections to the `listener` of `target`; `where`: own, members or ordering."""

    source: str
    target: str
    listener: str
    where: str


def read() -> list[Arrow]:
    """Every arrow of the document, one for each source, target and listener.

    Raises:
        ValueError: the table is not there, or a line of it is not right.
    """
    return parse(DOCUMENT.read_text(encoding="utf-8"))


def parse(text: str) -> list[Arrow]:
    """See `read`."""
    _, found, after = text.partition(f"{HEADING}\n")
    lines = [line for line in after.partition("\n## ")[0].splitlines() if line.startswith("|")]
    if not found or len(lines) < 3 or tuple(_cells(lines[0])) != COLUMNS:
        raise ValueError(f"no table {' | '.join(COLUMNS)} under {HEADING!r} in {DOCUMENT.name}")
    arrows: list[Arrow] = []
    for line in lines[2:]:
        sources, targets, listeners, where = _cells(line)
        if where not in (OWN, MEMBERS, ORDERING):
            raise ValueError(f"{where!r} is not own, members or ordering: {line}")
        arrows += [
            Arrow(source, target, listener, where)
            for source in _names(sources)
            for target in _names(targets)
            for listener in _names(listeners)
        ]
    if len(set(arrows)) != len(arrows):
        raise ValueError(f"an arrow is there twice in {DOCUMENT.name}")
    return arrows


def _cells(line: str) -> list[str]:
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    if len(cells) != len(COLUMNS):
        raise ValueError(f"not {len(COLUMNS)} columns: {line}")
    return cells


def _names(cell: str) -> list[str]:
    return [name.strip() for name in cell.split(",")]
