"""Read classes.txt, the names and colours of the classes of a folder set."""

import os
import unicodedata

from gan_seg_jax.data.catalog import DatasetInfo
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE, MAX_CLASSES
from gan_seg_jax.system import files

_FORM = "a line `id name R G B` for each class, with ids from 0 on, such as `0 background 0 0 0`"
Color = tuple[int, int, int]
_MAX_BYTES = 1 << 20
_LONGEST_NAME = 100


def read_classes(path: str | os.PathLike, *, name: str = "folder") -> tuple[DatasetInfo, Color | None]:
    """Read classes.txt: lines `id name R G B`, `#` starts a comment, a line for id 255 names the ignore label.

    Args:
        path: The file, UTF-8. A name may contain spaces.
        name: Name of the set.

    Returns:
        The facts, and the colour of the line for id 255; None where there is no such line.

    Raises:
        InputError: The file is missing, or a line (named) has another form, or the ids are not 0..k-1 with k >= 2.
    """
    rows: dict[int, tuple[str, Color]] = {}
    for number, line in enumerate(_read_lines(path), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        numbers = [int(word) if word.isascii() and word.isdigit() else -1 for word in (words[0], *words[-3:])]
        where = f"{files.shown(path)}, line {number} ({_shortened(line.strip())!r})"
        if len(words) < 5 or not all(0 <= value <= 255 for value in numbers):
            raise InputError(f"{where}: expected `id name R G B` with whole numbers from 0 to 255.")
        class_id, red, green, blue = numbers
        # Tables and messages show it, so no control characters; and two that look the same are the same.
        class_name = files.shown(unicodedata.normalize("NFC", " ".join(words[1:-3])))
        if len(class_name) > _LONGEST_NAME:
            raise InputError(f"{where}: the name has more than {_LONGEST_NAME} letters; shorten it.")
        if class_id in rows or class_name in [other for other, _ in rows.values()]:
            raise InputError(f"{where}: the id or the name is there twice; every class has its own.")
        rows[class_id] = (class_name, (red, green, blue))
    _, void_color = rows.pop(IGNORE, ("", None))
    missing = sorted(set(range(max(rows, default=0) + 1)) - set(rows))
    if missing or len(rows) < 2 or len(rows) > MAX_CLASSES:
        found = f"found ids {', '.join(map(str, sorted(rows)))}" if rows else "found no class"
        raise InputError(
            f"{files.shown(path)}: {found}; expected ids 0, 1, 2, ... without gaps, at least two classes "
            f"(background counts as one): {_FORM}."
        )
    ordered = [rows[class_id] for class_id in sorted(rows)]
    return DatasetInfo(name, tuple(row[0] for row in ordered), tuple(row[1] for row in ordered)), void_color


def _read_lines(path) -> list[str]:
    try:
        text = files.read_bytes(path, limit=_MAX_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{files.shown(path)} does not exist; write it: {_FORM}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{files.shown(path)} is not UTF-8 text; expected {_FORM}.") from None
    except OSError as error:
        raise InputError(f"{files.shown(path)} cannot be read ({error.strerror}); expected {_FORM}.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def _shortened(line: str) -> str:
    return line if len(line) <= _LONGEST_NAME else f"{line[:_LONGEST_NAME]}..."
