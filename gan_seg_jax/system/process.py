"""The process of a command: its signals from the first moment to the last, and what it prints.

Nothing heavy is imported here: `gan_seg_jax/__init__.py` calls `begin` before anything else is loaded.
"""

import atexit
import contextlib
import errno
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TextIO

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
INTERRUPTED = 75
PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"  # by whom large pages are got
TUNABLES, LARGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"  # of malloc in glibc 2.35 and later
STARTING = "Interrupted; there was nothing new to save. The same command starts again."
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.EINTR)  # what is printed later may get through


def begin() -> None:
    """Answer signals from here on, stand in for standard streams that are closed, and collect garbage seldom.

    Tracing makes many small objects, nearly all of which stay: looking through them again and again took a tenth of the
    processor's time of a short run.
    """
    watch()
    gc.set_threshold(20_000, 20, 100)
    atexit.register(_ignore)  # the last to be called: handlers of Python's do not outlive it
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # the next file that is opened would take its place, and what libraries print would go there
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # it takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))


def restart() -> None:
    """Start the process again where names of files are not in UTF-8, or memory not in large pages.

    Libraries in C++ know UTF-8 only; what is printed stays in the encoding of the terminal. XLA takes the memory of a
    step anew each time on a processor: in pages of 4 KiB, up to a third of a step goes into getting these.
    """
    encoded, large = sys.getfilesystemencoding() == "utf-8", not _lacks_large_pages()
    if (encoded and large) or not sys.executable:
        return
    if not encoded and sys.stdout is not None:
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)
    if not large:
        os.environ[TUNABLES] = LARGE_PAGES
    os.execv(sys.executable, [sys.executable, *(() if encoded else ("-X", "utf8")), *sys.orig_argv[1:]])


def _lacks_large_pages() -> bool:
    """Return whether the system has large pages for those only that ask, and the C library could, but does not."""
    try:
        with open(PAGES) as file:
            asked = "[madvise]" in file.read()
        _, version = os.confstr("CS_GNU_LIBC_VERSION").split()
        return asked and TUNABLES not in os.environ and tuple(map(int, version.split("."))) >= (2, 35)
    except (OSError, ValueError, AttributeError):  # not Linux, or not glibc
        return False


def watch(code: int = INTERRUPTED, sentence: str = STARTING) -> None:
    """End the process on a signal, at once: nothing is there to be saved.

    An exception would be lost wherever a library catches all of them, as in the import of an extension module.

    Args:
        code: exit code then.
        sentence: what is said then, on stderr.
    """
    take(lambda number, frame: leave(code, sentence))


def _ignore() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def leave(code: int, sentence: str = "") -> NoReturn:
    """End the process without another look at anything, after `sentence` on stderr."""
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    with contextlib.suppress(Exception):
        os.write(2, f"{sentence}\n".encode() if sentence else b"")
    os._exit(code)


def take(handler: Callable[[int, Any], None]) -> dict[int, Any]:
    """Give the signals to `handler`, but for those that were ignored from the start (nohup); return the old handlers.

    Returns:
        signal -> what it had before, for `signal.signal`.
    """
    taken = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in taken}


def find_home() -> None:
    """Give a user without a home folder (a container's, without passwd entry) one for the caches of libraries."""
    if os.path.expanduser("~") == "~":
        os.environ["HOME"] = own_folder()
        print(f"There is no home folder, so caches go to {os.environ['HOME']}; set HOME to keep them.", file=sys.stderr)


def own_folder() -> str:
    """Return a temporary folder that is this user's alone, if possible the one of the call before."""
    import tempfile

    folder = os.path.join(tempfile.gettempdir(), f"gan_seg_jax-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, mode=0o700)
    if is_private(folder):
        return folder
    return tempfile.mkdtemp(prefix="gan_seg_jax-")  # somebody else has taken the name


def is_private(folder: str | os.PathLike) -> bool:
    """Return whether this is a folder, and no link to one, that belongs to this user and is closed to all others."""
    import stat

    found = os.lstat(folder)
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Let no print end the command: whatever cannot be written to stdout or stderr is lost, and nothing else.

    A reader that has gone away (`| head`, a closed ssh) is replaced by /dev/null; letters that the terminal does not
    have are shown by their codes.
    """
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = ours = tuple(map(_Stream, before))
    try:
        yield
    finally:
        for stream in ours:
            stream.release()
        sys.stdout, sys.stderr = before


class _Stream:
    """A text stream whose `write` and `flush` never raise OSError or UnicodeEncodeError."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._errors = getattr(stream, "errors", None)
        self._reconfigure(errors="backslashreplace")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with self._swallowed():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with self._swallowed():
            self._stream.flush()

    def release(self) -> None:
        """Write what is left, so that the interpreter, which would complain, has nothing to flush at its end."""
        try:
            self._stream.flush()
        except OSError:
            self._drop()
        self._reconfigure(errors=self._errors)

    def _reconfigure(self, **options) -> None:
        if hasattr(self._stream, "reconfigure"):
            self._stream.reconfigure(**options)

    @contextlib.contextmanager
    def _swallowed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _PASSING:
                self._drop()

    def _drop(self) -> None:
        """Point the stream's file, which libraries print to as well, to where everything can be written."""
        with contextlib.suppress(OSError), open(os.devnull, "w") as nowhere:  # or it has no file
            os.dup2(nowhere.fileno(), self._stream.fileno())
