"""What a machine can do to a command at any point, as sentences: full disks, too little memory, lost processes."""

import errno
import re
from collections.abc import Iterator
from typing import Any

from gan_seg_jax.errors import InputError, LostPeerError

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM, errno.ESTALE, errno.EFBIG)
_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|Input/output error|File too large"
)
_LIMITS = (errno.EMFILE, errno.ENFILE, errno.EAGAIN)  # EAGAIN: no process can be started
_PEERS = re.compile(
    r"gloo|nccl|connection (reset|closed|refused)|socket closed|UNAVAILABLE|heartbeat|DEADLINE_EXCEEDED", re.IGNORECASE
)
_WORKER = re.compile(r"Worker process was terminated unexpectedly with exit code (-?\d+)")


def known(error: BaseException, config: Any = None, *, processes: int = 1) -> InputError | LostPeerError | None:
    """Return the error that says in one sentence what the machine did; None if this looks like a fault of ours.

    Args:
        error: what has ended the command; what it was raised from is looked at, too.
        config: the run's, whose sizes the sentence names; None where there is none.
        processes: how many processes the run has.
    """
    for each in _chain(error):
        text, jax_error = str(each), type(each).__name__ in ("JaxRuntimeError", "XlaRuntimeError")
        if processes > 1 and jax_error and _PEERS.search(text):
            return LostPeerError()
        if isinstance(each, MemoryError) or (jax_error and "RESOURCE_EXHAUSTED" in text):
            return InputError(_memory(text, config))
        if match := _WORKER.search(text):
            return InputError(
                f"A worker process was ended from outside (exit code {match[1]}; -7 means too little shared memory, -9 "
                "too little memory). What was saved stays; --config.num_workers=0 does without them."
            )
        if isinstance(each, OSError) and each.errno in _DISK:
            where = each.filename or "A file"
            return InputError(f"{where} cannot be read or written: {each.strerror}. What was saved stays.")
        if isinstance(each, OSError) and each.errno in _LIMITS:
            return InputError(f"The system's limits are too low ({each.strerror}); see ulimit -n and -u.")
        if said := said_by_disk(each):
            return InputError(f"A file cannot be written: {said}. What was saved stays.")
    return None


def said_by_disk(error: BaseException) -> str | None:
    """Return why nothing could be written, in the system's words, where a library's message quotes them somewhere."""
    match = _FULL.search(str(error))
    return match[0] if match else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what it was raised from, each once."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def _memory(text: str, config: Any) -> str:
    wanted = re.search(r"allocat\w+ ([\d.]+ ?\w*)", text)
    what = f"Out of memory{f' (allocating {wanted[1]})' if wanted else ''}"
    if config is None:
        return f"{what}. Label by smaller windows (--window), or train with a smaller batch_size and crop_size."
    return (
        f"{what}: config.batch_size is {config.batch_size} and config.crop_size {tuple(config.crop_size)}; lower one "
        "of them. What was saved stays."
    )
