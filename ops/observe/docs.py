"""`make observe-docs`: what is made from the code, written into the checkout."""

from __future__ import annotations

from pathlib import Path

from ops.observe import alerts, catalogue, grafana, slo

ROOT = Path(__file__).resolve().parents[2]


def made() -> dict[Path, str]:
    """Every file that is made from the code, and what it shall hold."""
    pages = {catalogue.PAGE: catalogue.page(), alerts.PAGE: alerts.page()}
    return {**pages, slo.RULES: slo.rules(), **grafana.files()}


def main() -> None:
    """Write those that differ."""
    wanted = made()
    for stray in set((ROOT / grafana.FOLDER).glob("*.json")) - {ROOT / path for path in wanted}:
        stray.unlink()
    for path, text in wanted.items():
        file = ROOT / path
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
