"""Write a source into a new folder, example by example; killed and started again, it goes on.

    TARGET/SPLIT/images/ID.*, masks/ID.png (or targets/ID.*)    as `data/folder.py` and `data/pairs.py` read them
    TARGET/classes.txt, spacing.csv                             spacing.csv: of volumes, in millimetres
    TARGET/PREPARED.json                                        what was done, and whether it is complete
    TARGET/PREPARED.jsonl                                       a line for each example: files, SHA-256, counts

A line is added once the files of its example are in their places, so whatever has no line is made anew. What has one is
made anew where its source has changed or its files are not those of the line.
"""

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gan_seg_jax
from gan_seg_jax.data import listing
from gan_seg_jax.data.folder import FOLDERS
from gan_seg_jax.errors import InputError
from gan_seg_jax.pictures.png import encode_png
from gan_seg_jax.preparing.lines import Line, as_json, read_lines, spacing_table, stamps
from gan_seg_jax.preparing.source import Example, Item, Options
from gan_seg_jax.system import files

RECORD, LINES = listing.PREPARED, "PREPARED.jsonl"
_MAY_BE_ADDED = {"skip_damaged", "skip_duplicates"}  # flags that a refusal names: what is written stays right
_MAY_GROW = {"max_ambiguous": Options.max_ambiguous}  # as those, with what they are where they are not given
_LOCK = ".prepare-lock"


class Target:
    """The folder that is written; make one by `open_target`."""

    def __init__(self, root: Path, lines: dict[tuple[str, str], Line]):
        self.root = root
        self.lines = lines

    def kept(self, item: Item) -> Line | None:
        """Return the line of an example that is there as it should be; None where it has to be made."""
        line = self.lines.get((item.split, item.id))
        if line is None or line.source != stamps(item) or not all(map(self._is_whole, line.files.items())):
            return None
        return line

    def write(self, item: Item, example: Example) -> Line:
        """Write the files of an example.

        Raises:
            InputError: They cannot be written.
        """
        folder = FOLDERS[item.split]
        contents = {f"{folder}/images/{item.id}{example.image.ending}": example.image.content}
        labelled = example.label is not None and item.split != "unlabelled"
        if labelled:
            contents[f"{folder}/masks/{item.id}.png"] = encode_png(example.label)
        if example.target is not None:
            contents[f"{folder}/targets/{item.id}{example.target.ending}"] = example.target.content
        stale = self.lines.get((item.split, item.id))
        for name in set(stale.files if stale else ()) - set(contents):  # the image has another ending now
            with contextlib.suppress(OSError):
                os.unlink(self.root / name)
        for name, content in contents.items():
            with _writing(self.root / name):
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                files.write_bytes(self.root / name, content)
        line = Line(item.split, item.id, stamps(item), digest=example.image.digest, spacing=list(example.spacing))
        line.files = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
        line.notes = dict(example.notes)
        if labelled:
            values, counts = np.unique(example.label, return_counts=True)
            line.classes = dict(zip(map(str, values.tolist()), counts.tolist(), strict=True))
        return line

    def add(self, line: Line) -> None:
        """Add a line to PREPARED.jsonl.

        Raises:
            InputError: It cannot be written.
        """
        self.lines[line.split, line.id] = line
        with _writing(self.root / LINES):
            handle = files.open_in_place(self.root / LINES, os.O_WRONLY | os.O_APPEND)
            with open(handle, "ab") as file:
                file.write(as_json(line))

    def finish(self, record: dict[str, Any], lines: list[Line], classes: str) -> None:
        """Write what is written last; PREPARED.json, complete now, at the very end.

        Raises:
            InputError: It cannot be written.
        """
        with _writing(self.root):
            content = b"".join(map(as_json, lines))
            files.write_bytes(self.root / LINES, content)
            if classes:
                files.write_bytes(self.root / "classes.txt", classes.encode())
            if any(line.spacing for line in lines):
                files.write_bytes(self.root / "spacing.csv", spacing_table(lines).encode())
        digest = hashlib.sha256(content).hexdigest()
        files.write_json(self.root / RECORD, {**record, "complete": True, "lines_sha256": digest})

    def _is_whole(self, entry: tuple[str, str]) -> bool:
        name, digest = entry
        try:
            return hashlib.sha256(files.read_bytes(self.root / name, limit=2**32)).hexdigest() == digest
        except (OSError, InputError):
            return False


@contextlib.contextmanager
def open_target(root: Path, record: dict[str, Any]) -> Iterator[Target]:
    """Make the folder, or go on in one that the same command began, and hold it.

    Args:
        root: The folder.
        record: What PREPARED.json says from the start: `format`, `flags` and `examples`, a digest of what is planned.

    Raises:
        InputError: It holds something else, was begun with other flags or of other files, is being written by another
            process, or cannot be written.
    """
    files.local(root)
    if os.path.lexists(root) and not root.is_dir():
        raise InputError(f"--output {files.shown(root)} is a file; name a new folder.")
    begun = _begun(root)
    if begun is not None:
        _expect_same(root, begun, record)
    with _writing(root):
        root.mkdir(parents=True, exist_ok=True)
        handle = files.open_in_place(root / _LOCK, os.O_RDWR)
    with open(handle, "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"Another process is writing {files.shown(root)}; wait for it.") from None
        for path in (*root.glob(files.TEMPORARY), *root.glob(f"*/*/{files.TEMPORARY}")):  # of a process that was killed
            with _writing(path):
                path.unlink()
        files.write_json(root / RECORD, {**record, "complete": False})
        yield Target(root, read_lines(root / LINES))
    with contextlib.suppress(OSError):
        os.unlink(root / _LOCK)


def plan(items: list[Item]) -> str:
    """Return a digest of which examples are of which split."""
    rows = sorted((item.split, item.id) for item in items)
    return hashlib.sha256(json.dumps(rows).encode(errors="surrogateescape")).hexdigest()


def _begun(root: Path) -> dict[str, Any] | None:
    """Return the record of a folder that was begun; None where there is no folder, or nothing in it."""
    try:
        found = [name for name in os.listdir(root) if name != _LOCK]
        found = [] if found == [RECORD] else found  # whatever it was, it has written nothing
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"--output {files.shown(root)} cannot be listed ({error.strerror}).") from None
    if not found:
        return None
    if RECORD not in found:
        raise InputError(
            f"--output {files.shown(root)} holds {files.shown(sorted(found)[0])} and no {RECORD}, so it was not made "
            "by this command; name a new folder."
        )
    record = files.read_json(root / RECORD)
    flags = record.get("flags") if isinstance(record, dict) else None
    if not isinstance(flags, dict) or not all(isinstance(flags.get(name, 0.0), int | float) for name in _MAY_GROW):
        raise InputError(f"{files.shown(root / RECORD)} has been changed; remove the folder, or name a new one.")
    return record


def _expect_same(root: Path, begun: dict[str, Any], record: dict[str, Any]) -> None:
    old, new = begun["flags"], record["flags"]
    other = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    if not begun.get("complete"):
        other -= _MAY_BE_ADDED - set(old)
        other -= {name for name, usual in _MAY_GROW.items() if new.get(name, usual) > old.get(name, usual)}
    if other:
        listed = ", ".join(f"--{name}={old.get(name, '')} then, {new.get(name, '')} now" for name in sorted(other))
        raise InputError(
            f"--output {files.shown(root)} was begun with other flags ({listed}); name a new folder, or remove this "
            "one."
        )
    if begun.get("version") != record["version"]:
        raise InputError(
            f"--output {files.shown(root)} was begun by version {begun.get('version')}, and this is "
            f"{record['version']}; name a new folder, or remove this one."
        )
    if begun.get("plan") != record["plan"]:
        raise InputError(
            f"--output {files.shown(root)} was begun when the source held other files, so that splits may differ; "
            "name a new folder, or remove this one."
        )


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Say in a sentence that something cannot be written."""
    try:
        yield
    except OSError as error:
        where = error.filename or path
        raise InputError(f"{files.shown(where)} cannot be written: {error.strerror}.") from error


def version() -> str:
    """Return the version that PREPARED.json names."""
    return gan_seg_jax.__version__
