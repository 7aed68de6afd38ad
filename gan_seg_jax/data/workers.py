"""Worker processes that decode images: what they need, and that nothing of them stays behind."""

import contextlib
import multiprocessing
import os
import secrets
import shutil
import signal
import threading
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path

from gan_seg_jax.errors import InputError

SHARED_MEMORY = Path("/dev/shm")  # through which workers hand over batches
PREFIX = "gan_seg_jax"  # of the names of its segments, before the namespace and the number of the run's process


def prepare(num_workers: int, prefetch: int, batch_bytes: int) -> None:
    """Get ready for worker processes.

    Args:
        num_workers: how many there will be.
        prefetch: batches that each reads ahead.
        batch_bytes: of what one `next` returns.

    Raises:
        InputError: their batches do not fit into /dev/shm; the kernel would kill who writes the last of them.
    """
    _clear_away()
    # A worker and its reader have `prefetch` batches each, one in the making and one on the way; two more are in use.
    needed = batch_bytes * (num_workers * (2 * prefetch + 2) + 2)
    if SHARED_MEMORY.is_dir() and needed > (free := shutil.disk_usage(SHARED_MEMORY).free):
        raise InputError(
            f"The worker processes (config.num_workers is {num_workers}) need up to {-(-needed // 2**20)} MB of shared "
            f"memory, but {SHARED_MEMORY} has {free // 2**20} MB free. Give --config.num_workers=0 or a smaller "
            "--config.prefetch, or enlarge it (docker run --shm-size=1g)."
        )
    # Python notes shared memory in a process that looks after itself with other signals, but not with a terminal that
    # hangs up; it inherits what is blocked here.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})
    resource_tracker.ensure_running()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})


def start(number: int, count: int) -> None:
    """Let this worker process end when the run's process does, however that ended, and leave Ctrl-C to the run."""
    del number, count
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run = multiprocessing.parent_process()

    def follow():
        run.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
    shared_memory._make_filename = lambda: f"/{PREFIX}-{_namespace()}-{run.pid}-{secrets.token_hex(6)}"


def _clear_away() -> None:
    """Remove the shared memory of this user's runs whose processes were all killed at once."""
    for path in SHARED_MEMORY.glob(f"{PREFIX}-{_namespace()}-*"):
        if not Path("/proc", path.name.split("-")[-2]).exists():
            with contextlib.suppress(OSError):  # another user's, or another run was faster
                path.unlink()


def _namespace() -> int:
    """Return the number of the space in which numbers of processes have a meaning; containers may share /dev/shm."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
