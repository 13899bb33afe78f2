"""Start of the build, by the system's Python and before `.venv` exists: `python3 tools/build/run.py`.

Loads its own folder as the package `cbmdhi_build`, so that nothing of `cbmdhi`, which needs what is
about to be installed, is imported. Keep this file readable by Python 3.6: it has to say that the
Python is too old.
"""

import os
import sys

MINIMUM = (3, 11)


def main():
    if sys.version_info < MINIMUM:
        here = "{} is {}.{}".format(sys.executable, sys.version_info[0], sys.version_info[1])
        sys.stderr.write("CBMDHI needs Python {}.{} or newer; {}.\n".format(MINIMUM[0], MINIMUM[1], here))
        sys.stderr.write("  Install a newer one and name it: make PYTHON=python3.11 build\n")
        return 1
    import importlib.util  # absent from Python 2, which is told off above

    here = os.path.dirname(os.path.abspath(__file__))
    spec = importlib.util.spec_from_file_location(
        "cbmdhi_build", os.path.join(here, "__init__.py"), submodule_search_locations=[here]
    )
    if spec is None or spec.loader is None:
        raise SystemExit("tools/build cannot be read: is this a whole checkout?")
    package = importlib.util.module_from_spec(spec)
    sys.modules["cbmdhi_build"] = package
    sys.path.remove(here)
    spec.loader.exec_module(package)
    return importlib.import_module("cbmdhi_build.cli").main(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
