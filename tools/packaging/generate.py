"""Python from protos/: `python tools/packaging/generate.py`, in the folder of a checkout. Needs grpcio-tools.

The one place that says what is generated and where it lies. The build (tools/build/plan.py) runs it, and
whoever installs a clone (backend.py beside this file).
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


class NoProtos(Exception):
    """There is nothing to generate from."""


def sources(root: Path) -> list[Path]:
    """The .proto files of `root`, sorted. Raises NoProtos."""
    found = sorted((root / "protos" / "cbmdhi").rglob("*.proto"))
    if not found:
        raise NoProtos(f"no .proto files under {root}/protos/cbmdhi: is this a whole checkout?")
    return found


def outputs(root: Path) -> list[Path]:
    """Where the generated modules lie: beside the SDK, in the folder of their proto package."""
    relative = [path.relative_to(root / "protos") for path in sources(root)]
    return [root / path.with_name(path.stem + suffix) for path in relative for suffix in SUFFIXES]


def generate(root: Path) -> None:
    """Write them anew; what was generated from protos that are no longer there goes.

    Raises:
        NoProtos: nothing to generate from
        subprocess.CalledProcessError: protoc refused a file; it says why on standard error
    """
    protos = sources(root)
    wanted = set(outputs(root))
    for suffix in SUFFIXES:
        for path in (root / "cbmdhi").glob(f"*/v1/*{suffix}"):
            if path not in wanted:
                path.unlink()
    subprocess.run(
        [
            *(sys.executable, "-m", "grpc_tools.protoc", "-I", "protos"),
            *("--python_out=.", "--pyi_out=.", "--grpc_python_out=."),
            *[str(path.relative_to(root / "protos")) for path in protos],
        ],
        cwd=root,
        check=True,
    )


if __name__ == "__main__":
    generate(ROOT)
