"""Where compiled programs are kept from one start to the next: what compiles once starts at once from then on.

JAX's persistent compilation cache knows a program by its operations, options and the version of the compiler. It does
not know for which processor, and for how many cores, a program for CPUs was made: they make the name of the folder.
"""

import contextlib
import hashlib
import os
import platform
import re
import stat
from pathlib import Path

from gan_seg_jax.system import files, process

LIMIT = 2**30  # bytes of all programs; above it the oldest go


def folder(limit: int = LIMIT) -> Path | None:
    """Return the folder of this machine's compiled programs, in $XDG_CACHE_HOME or ~/.cache; it is made if missing.

    Who can write there can run code as this user, so it is used only where nobody else can. Programs of all machines
    that share this home count for the limit.

    Args:
        limit: bytes above which the oldest programs are removed.

    Returns:
        The folder; None where it cannot be made, or where others can read or write it.
    """
    with contextlib.suppress(OSError, RuntimeError):  # a home that cannot be written, or none
        root = files.cache_folder() / "programs"
        root.parent.mkdir(parents=True, exist_ok=True)
        path = root / _machine()
        for made in (root, path):
            made.mkdir(exist_ok=True, mode=0o700)
            if not process.is_private(made):
                return None
        _forget(root, limit)
        return path
    return None


def _machine() -> str:
    """Return a name for what programs for CPUs depend on: the kind of processor and the cores that may be used."""
    try:
        text = Path("/proc/cpuinfo").read_text(errors="replace")
        found = re.search(r"^(flags|Features)\s*:.*", text, re.MULTILINE)
    except OSError:  # another system than Linux
        found = None
    processor = found[0] if found else platform.processor()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return hashlib.sha256(f"{platform.machine()} {processor} {cores}".encode()).hexdigest()[:16]


def _forget(root: Path, limit: int) -> None:
    """Remove the oldest files until those that are left have at most `limit` bytes; other processes may do so, too."""
    found = []
    for path in root.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            status = path.lstat()
            if stat.S_ISREG(status.st_mode):
                found.append((status, path))
    total = sum(status.st_size for status, _ in found)
    for status, path in sorted(found, key=lambda entry: entry[0].st_mtime):
        if total <= limit:
            return
        path.unlink(missing_ok=True)
        total -= status.st_size
