"""Whether the folders of a table's cells can be used: free, or with the run that the table asks for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matching
import records
from cells import Cell, TableError


def lacks_picture(cell: Cell, folder: Path) -> bool:
    """Return whether the picture of a cell is still to be taken from its finished run."""
    missing = cell.picture and not (folder / f"{cell.name}.png").exists()
    return missing and records.read_summary(cell.workdir) is not None


def check_all(
    cells: Sequence[Cell],
    due: Sequence[Cell],
    pictured: Sequence[Cell],
    configs: Mapping[str, Mapping[str, Any]],
    counting: Mapping[str, Mapping[str, Any]],
) -> None:
    """Check the folders of all cells that run, that one of these starts from, or of which a picture is taken.

    Args:
        cells: all cells of the table.
        due: those to run.
        pictured: those of which a picture is taken.
        configs: name of each -> the config that its arguments ask for.
        counting: name -> record of those whose record counts.

    Raises:
        TableError: one of the folders holds another run, or one from before the run that its cell starts from.
    """
    used = {name for cell in due for name in (cell.name, *cell.starts_from())} | {cell.name for cell in pictured}
    for cell in cells:
        if cell.name in used:
            _check(cell, configs[cell.name])
    named = {cell.name: cell for cell in cells}
    for cell in due:
        for name in cell.starts_from() & named.keys():
            _check_order(cell, named[name], counting.get(name))


def _check(cell: Cell, config: Mapping[str, Any]) -> None:
    """Check that the cell's folder is free or holds a run with the same arguments and config.

    Raises:
        TableError: it holds another run.
    """
    if not _has_begun(cell):
        return
    start = records.read_start(cell.workdir)
    if start is None:
        raise TableError(f"{cell.workdir} holds a run that no table started; remove it, or name another --workdir.")
    if records.present(start["arguments"]) != records.present(cell.arguments):
        raise TableError(
            f"{cell.workdir} was run with other arguments: {' '.join(start['arguments'])}; now they are "
            f"{' '.join(cell.arguments)}. Remove it, or name another --workdir."
        )
    recorded = start.get("config") or records.make_record(cell.workdir, cell.places)["config"]  # older runs note less
    changed = matching.difference(recorded, config)
    if changed:
        raise TableError(
            f"{cell.workdir} was run with another config: {changed}. Remove it, or name another --workdir."
        )


def _has_begun(cell: Cell) -> bool:
    """Return whether there is a run in the cell's folder; one that ended before it began left no config there."""
    return (cell.workdir / "config.json").exists()


def _check_order(cell: Cell, other: Cell, record: Mapping[str, Any] | None) -> None:
    """Check that the run in a cell's folder, if there is one, began after the run of the cell that it starts from.

    Args:
        cell: the cell.
        other: what it starts from.
        record: that one's, if it counts; else its folder says when it began.

    Raises:
        TableError: it began before, so it started from another run.
    """
    if not _has_begun(cell):
        return
    start = record or (records.read_start(other.workdir) if _has_begun(other) else None)
    if start is None or start["date"] > records.read_start(cell.workdir)["date"]:
        raise TableError(
            f"{cell.workdir} started from an earlier run of {other.name} than the one that counts. Remove it, or name "
            "another --workdir."
        )
