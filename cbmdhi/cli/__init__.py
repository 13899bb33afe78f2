"""The command line, `cbmdhi`."""

import os
import sys


def run() -> None:
    """The program. Of the SDK alone, without the extra [cli], it says what to install."""
    for name in ("stdout", "stderr"):
        # Whoever closed one (`>&-`) wants nothing there.
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the program ends
        # A terminal that lacks a sign is shown its number.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    try:
        from cbmdhi.cli.main import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit("The command line needs more than the SDK: pip install 'cbmdhi[cli]'")
    except KeyboardInterrupt:
        # It is loaded for a second, in which people change their minds; nothing was begun.
        sys.stderr.write("INTERRUPTED interrupted\n")
        sys.exit(130)
    app()
