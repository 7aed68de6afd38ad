"""Read and write single files safely, whatever somebody else has put in their place.

Readers take regular files only, and a bounded number of bytes: a pipe or a device under the name of a file would block
for ever or never end. Writers follow no link: they write a new file of an unpredictable name beside the old one and
move it into its place, so that a reader sees the old file or the new one.
"""

import contextlib
import csv
import io
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gan_seg_jax.errors import InputError

LIMIT = 2**26  # bytes of a file of JSON or text
LOG_LIMIT = 2**32  # of metrics.jsonl
TEMPORARY = f".{'[0-9a-f]' * 32}.tmp"
"""Pattern of the names of files that are not whole yet, which a killed process leaves behind."""


def read_bytes(path: str | os.PathLike, *, limit: int = LIMIT) -> bytes:
    """Return the contents of a regular file; links to one are followed.

    Args:
        path: the file.
        limit: bytes that it may have.

    Raises:
        InputError: it is a pipe, a device or a folder, or larger than `limit`.
        OSError: it is missing (FileNotFoundError) or cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer does not block
    _expect_regular(path, handle)
    with open(handle, "rb") as file:
        size = os.fstat(handle).st_size
        if size > limit:
            raise InputError(f"{shown(path)} has more than {limit} bytes; expected a file of at most so many.")
        return file.read(size)  # `read` sets aside as much as it is asked for


def read_json(path: str | os.PathLike, *, limit: int = LIMIT) -> Any:
    """Return the value in a JSON file.

    Raises:
        InputError: it is no regular file, too large, cannot be read, or is not JSON.
        FileNotFoundError: it is missing.
    """
    try:
        return json.loads(read_bytes(path, limit=limit))
    except (FileNotFoundError, InputError):
        raise
    except RecursionError as error:
        raise InputError(f"{shown(path)} cannot be read: it is nested too deeply.") from error
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be read: {error.strerror}.") from error
    except ValueError as error:  # JSON and UTF-8
        raise InputError(f"{shown(path)} cannot be read: {type(error).__name__}: {error}.") from error


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write a whole file or leave the old one.

    Raises:
        OSError: it cannot be written.
    """
    with replaced(path) as file:
        file.write(data)


@contextlib.contextmanager
def replaced(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Yield a new file, open for writing, that takes the name `path` at the end; after an error it is removed.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{secrets.token_hex(16)}.tmp")  # short: the name may be as long as names get
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o666)
    try:
        with open(handle, "wb") as file:
            yield file
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def write_json(path: str | os.PathLike, values: dict[str, Any]) -> None:
    """Write JSON in one step: a reader sees the old file or the new one.

    Raises:
        InputError: the file cannot be written.
    """
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    with written(path):
        write_bytes(path, text.encode())


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write text in one step, its folder made if it is missing; names of files in it may be any bytes.

    Raises:
        InputError: the file cannot be written.
    """
    with written(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, text.encode("utf-8", "surrogateescape"))


@contextlib.contextmanager
def new_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a folder that takes the name `path` at the end, with all that is in it.

    After an error it is removed, and so are the folders above it that were not there before.

    Raises:
        InputError: there is something of that name, or it cannot be written.
    """
    path = Path(path).absolute()
    if os.path.lexists(path):
        raise InputError(f"{shown(path)} is there already; give another folder.")
    aside = path.with_name(f".{secrets.token_hex(16)}.tmp")
    missing = [folder for folder in path.parents if not os.path.lexists(folder)]  # the innermost first
    try:
        with written(path):
            aside.mkdir(parents=True)
        yield aside
        with written(path):
            os.rename(aside, path)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):  # not empty: somebody else uses it by now
            for folder in missing:
                folder.rmdir()
        raise


@contextlib.contextmanager
def written(path: str | os.PathLike) -> Iterator[None]:
    """Turn an OSError within into the InputError that `path` cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be written: {error.strerror}.") from error


def csv_text(rows: Iterable[Iterable]) -> str:
    """Return rows as CSV; None is empty."""
    table = io.StringIO()
    csv.writer(table, lineterminator="\n").writerows(rows)
    return table.getvalue()


def cache_folder() -> Path:
    """Return this program's folder in the user's cache, $XDG_CACHE_HOME (if that is a whole path) or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "gan_seg_jax"


def open_in_place(path: str | os.PathLike, flags: int) -> int:
    """Return a descriptor of a regular file that is kept, such as a log or a lock; it is made if it is missing.

    Args:
        path: the file.
        flags: of `os.open`, such as os.O_RDWR.

    Raises:
        InputError: a link, a pipe, a device or a folder has its name.
        OSError: it cannot be opened.
    """
    if os.path.islink(path):  # for the sentence: O_NOFOLLOW is what refuses it
        raise InputError(f"{shown(path)} is a link; expected a regular file. Remove it.")
    flags |= os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path, flags, 0o666)
    except IsADirectoryError:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    _expect_regular(path, handle)
    return handle


def local(path: str | os.PathLike) -> Path:
    """Return a path of this machine's file system.

    Raises:
        InputError: it is an address, such as gs://bucket/run, of which a folder `gs:` would be made here, or its name
            is not UTF-8, which the libraries that write checkpoints demand.
    """
    try:
        os.fsdecode(path).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"The name of {shown(path)} is not UTF-8; give a folder of another name.") from error
    if match := re.match("([A-Za-z][A-Za-z0-9+.-]+):/", os.fsdecode(path)):  # pathlib makes one slash of two
        raise InputError(
            f"{shown(path)} is an address of {match[1]}://; expected a folder of this machine. Mount it, or copy it "
            "here and back."
        )
    return Path(path)


def shown(path: str | os.PathLike) -> str:
    """Return a path for a message, control characters and undecodable bytes escaped."""
    return "".join(_escaped(letter) for letter in os.fsdecode(path))


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # a byte that is no UTF-8
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def _expect_regular(path: str | os.PathLike, handle: int) -> None:
    """Close the descriptor and raise InputError unless it is of a regular file."""
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        raise InputError(f"{shown(path)} is {kind}; expected a regular file.")
