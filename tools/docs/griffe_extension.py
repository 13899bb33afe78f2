"""Given to griffe, which reads the SDK for the site: this project's docstrings become Markdown."""

from __future__ import annotations

from typing import Any

import griffe  # pyright: ignore[reportMissingImports] - in the site's environment alone

from tools.docs.docstrings import as_markdown


class HouseDocstrings(griffe.Extension):  # pyright: ignore
    """Changes each docstring when it was read."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Of a module, class, function or attribute."""
        if obj.docstring:
            obj.docstring.value = as_markdown(obj.docstring.value)
