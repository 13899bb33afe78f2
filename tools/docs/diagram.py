"""The picture of the mesh: one drawing, in the colours of a light and of a dark page.

`python -m tools.docs.diagram` writes both; a test compares them with the drawing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from xml.sax.saxutils import escape

from tools.docs.pages import DOCS

FILES = {"light": DOCS / "mesh-light.svg", "dark": DOCS / "mesh-dark.svg"}
_WIDTH, _HEIGHT = 1044, 520
_COLOURS = {
    "light": {"ink": "#1f2a36", "soft": "#5b6875", "edge": "#9aa7b4", "member": "#f4f7fa", "box": "#ffffff"}
    | {"mesh": "#e3eefa", "mesh_edge": "#3f7fbf", "chain": "#e6f4ea", "chain_edge": "#3c8c57"}
    | {"store": "#fdf0df", "store_edge": "#c98224", "page": "#ffffff"},
    "dark": {"ink": "#e6edf3", "soft": "#a3b1bf", "edge": "#6b7885", "member": "#161d26", "box": "#0f151c"}
    | {"mesh": "#14304d", "mesh_edge": "#5aa0e6", "chain": "#14351f", "chain_edge": "#56b878"}
    | {"store": "#3b2a12", "store_edge": "#e0a04a", "page": "#0d1117"},
}
_TITLE = "A member's five services, its Fabric peer and its Kubo node, beside another member and the orderers"


@dataclass
class Drawing:
    """Shapes in the order in which they are painted."""

    colours: dict[str, str]
    parts: list[str] = field(default_factory=list[str])

    def box(self, x: int, y: int, w: int, h: int, kind: str, title: str, *below: str) -> None:
        """A box with a title and smaller lines below it, centred."""
        fill = self.colours[kind]
        edge = self.colours.get(f"{kind}_edge", self.colours["edge"])
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="7" fill="{fill}" stroke="{edge}" '
            'stroke-width="1.4"/>'
        )
        middle, top = x + w // 2, y + h / 2 - 7.5 * len(below) + 5
        self.text(middle, top, title, size=14, bold=True)
        for number, line in enumerate(below, 1):
            self.text(middle, top + 15 * number + 1, line, soft=True)

    def frame(self, x: int, y: int, w: int, h: int, title: str) -> None:
        """A member: what it runs stands inside."""
        self.parts.append(
            f'<rect x="{x}" y="{y}" width="{w}" height="{h}" rx="12" fill="{self.colours["member"]}" '
            f'stroke="{self.colours["edge"]}" stroke-width="1.2" stroke-dasharray="6 4"/>'
        )
        self.text(x + 16, y + 25, title, size=14, bold=True, anchor="start")

    def text(
        self, x: float, y: float, words: str, *, size: int = 11, bold: bool = False, soft: bool = False,
        anchor: str = "middle",
    ) -> None:  # fmt: skip
        """A line of text."""
        colour = self.colours["soft" if soft else "ink"]
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{colour}"{weight}>'
            f"{escape(words)}</text>"
        )

    def arrow(self, path: str, words: str = "", at: tuple[int, int] = (0, 0), *, both: bool = False) -> None:
        """A line along an SVG path, with what goes over it beside it."""
        start = ' marker-start="url(#head)"' if both else ""
        self.parts.append(
            f'<path d="{path}" fill="none" stroke="{self.colours["edge"]}" stroke-width="1.6" '
            f'marker-end="url(#head)"{start}/>'
        )
        if words:
            self.text(*at, words, soft=True)

    def svg(self) -> str:
        """The file."""
        edge = self.colours["edge"]
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
            f'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">\n'
            f"<title>{_TITLE}</title>\n"
            '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
            f'orient="auto-start-reverse"><path d="M0 0L10 5L0 10z" fill="{edge}"/></marker></defs>\n'
            f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="{self.colours["page"]}"/>\n'
            + "\n".join(self.parts)
            + "\n</svg>\n"
        )


def drawn(theme: str) -> str:
    """The picture as SVG; `theme` is light or dark."""
    made = Drawing(_COLOURS[theme])
    made.frame(226, 20, 496, 408, "mercy, a member")
    made.frame(806, 20, 222, 408, "lakeside, another")
    made.box(12, 96, 158, 56, "box", "Hospital engine", "signs each record")
    made.box(12, 176, 158, 56, "box", "FHIR application", "a device signs for it")
    made.box(12, 256, 158, 56, "box", "Patient, clinician", "wallet: keys stay here")
    made.box(248, 96, 116, 216, "mesh", "gateway", "checks, batches,", "answers")
    made.box(420, 72, 116, 64, "mesh", "storage", "encrypts, opens")
    made.box(586, 72, 116, 64, "store", "Kubo", "private IPFS")
    made.box(420, 192, 116, 64, "mesh", "ledger", "submits, follows")
    made.box(586, 192, 116, 64, "chain", "Fabric peer", "chaincode: rules")
    made.box(248, 350, 116, 58, "mesh", "identity", "login, review")
    made.box(420, 350, 116, 58, "chain", "Fabric CA", "certificates")
    made.box(586, 350, 116, 58, "mesh", "notify", "inbox")
    made.box(826, 72, 182, 64, "store", "storage, Kubo", "the same sealed bytes")
    made.box(826, 192, 182, 64, "chain", "Fabric peer", "checks every signature itself")
    made.box(826, 350, 182, 58, "mesh", "its own services", "any member serves a patient")
    made.box(464, 458, 544, 46, "chain", "three orderers of three organisations", "Raft: any one may be away")
    made.arrow("M170 124H246", "gRPC", (208, 117))
    made.arrow("M170 204H246", "REST", (208, 197))
    made.arrow("M170 284H246", "gRPC", (208, 277))
    made.arrow("M364 112H418", "seal", (391, 105))
    made.arrow("M364 224H418", "submit", (391, 217))
    made.arrow("M306 312V348", "login", (324, 334))
    made.arrow("M536 104H584", "batch", (560, 97))
    made.arrow("M536 224H584", "endorse", (560, 217))
    made.arrow("M500 136L612 190", "own peer's word", (612, 158))
    made.arrow("M364 379H418")
    made.arrow("M500 256L622 348", "events (NATS)", (612, 300))
    made.arrow("M702 104H824", "replicas", (764, 97), both=True)
    made.arrow("M702 224H824", "a majority", (764, 217), both=True)
    made.arrow("M692 256C692 290 712 280 712 310V456", "blocks", (764, 447), both=True)
    made.arrow("M873 256C873 300 816 290 816 330V456", both=True)
    return made.svg()


def main() -> None:
    """Write both files."""
    for theme, file in FILES.items():
        Path(file).write_text(drawn(theme), encoding="utf-8")


if __name__ == "__main__":
    main()
