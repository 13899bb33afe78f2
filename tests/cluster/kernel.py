"""Settings of the kernel that a kubelet changes for the whole machine: put back afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_ROOT = Path("/proc/sys")
# pkg/util/sysctl of Kubernetes: what its container manager insists on.
TUNABLES = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)


@contextmanager
def restored(root: Path = _ROOT) -> Iterator[None]:
    """Whatever the block changes of these is as before when it ends."""
    before = {root / name: (root / name).read_text() for name in TUNABLES if (root / name).exists()}
    try:
        yield
    finally:
        for path, value in before.items():
            with suppress(OSError):
                if path.read_text() != value:
                    path.write_text(value)
