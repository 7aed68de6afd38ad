"""How large a pixel is: spacing.csv, millimetres for each image.

    id,row_mm,column_mm                           and for a set of several splits `split`; other columns do not matter
    patient1/slice3,0.5,0.5

`id` is the image's name in its folder without the ending, as in a folder set. The file lies beside the images, or, of a
folder set, beside its splits (SET/spacing.csv for SET/test/images), with the name of the split's folder in `split`.
"""

import csv
import io
import math
import os
from collections.abc import Mapping
from pathlib import Path

from gan_seg_jax.data.catalog import Split
from gan_seg_jax.data.folder import FOLDERS, FolderSplit
from gan_seg_jax.errors import InputError
from gan_seg_jax.system import files

NAME = "spacing.csv"
Spacing = tuple[float, float]
"""Millimetres from one row to the next, and from one column to the next."""
_COLUMNS = ("id", "row_mm", "column_mm")


def of_folder(folder: str | os.PathLike) -> dict[str, Spacing]:
    """Return the spacing of the images of a folder by id, {} where nothing says it.

    Raises:
        InputError: the file cannot be read.
    """
    folder = Path(os.path.abspath(folder))
    if os.path.lexists(folder / NAME):
        return _of_split(read(folder / NAME), "")
    if folder.name == "images" and os.path.lexists(folder.parent.parent / NAME):
        return _of_split(read(folder.parent.parent / NAME), folder.parent.name)
    return {}


def of_split(split: Split) -> list[Spacing] | None:
    """Return the spacing of each image of a split in its order, None where the set has no spacing.csv.

    Raises:
        InputError: the file cannot be read, or says nothing of an image: distances must have one unit.
    """
    if not isinstance(split, FolderSplit) or not os.path.lexists(os.path.join(split.root, NAME)):
        return None
    path = os.path.join(split.root, NAME)
    table, found = read(path), []
    for file, name in zip(split.image_files, split.ids, strict=True):
        key = (Path(file).parts[0], name)  # a validation set may have been taken from train
        if key not in table:
            raise InputError(f"{files.shown(path)} says nothing of {files.shown(file)}; add it, or remove the table.")
        found.append(table[key])
    return found


def _of_split(table: Mapping[tuple[str, str], Spacing], split: str) -> dict[str, Spacing]:
    """Return what a table says of the images of a split's folder."""
    return {name: spacing for (of, name), spacing in table.items() if split == of}


def read(path: str | os.PathLike) -> dict[tuple[str, str], Spacing]:
    """Return (the split's folder or "", id) -> spacing.

    Raises:
        InputError: the file cannot be read, or a line (named) is there twice or holds no sizes.
    """
    name = files.shown(path)
    try:
        text = files.read_bytes(path).decode("utf-8-sig")
        lines = list(csv.DictReader(io.StringIO(text, newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or ("it is not UTF-8" if isinstance(error, ValueError) else error)
        raise InputError(f"{name} cannot be read: {reason}.") from error
    table: dict[tuple[str, str], Spacing] = {}
    for number, line in enumerate(lines, start=2):
        if not set(_COLUMNS) <= set(line):
            raise InputError(f"{name} has no columns {', '.join(_COLUMNS)}; give them in its first line.")
        try:
            spacing = (float(line["row_mm"]), float(line["column_mm"]))
        except (TypeError, ValueError):
            spacing = (math.nan, math.nan)
        if not all(0 < value < math.inf for value in spacing):
            raise InputError(f"{name}, line {number}: row_mm and column_mm must be millimetres, above 0.")
        split = line.get("split") or ""
        key = (FOLDERS.get(split, split), line["id"])
        if key in table:
            raise InputError(f"{name}, line {number}: {files.shown(line['id'])} is there twice; leave one.")
        table[key] = spacing
    return table
