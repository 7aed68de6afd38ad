"""Run the cells of a table through the command line and keep a record of each.

A table script lists its arms and calls `main`; a cell is one arm with one seed. Before the first cell every arm is
compared with its reference (`comparison.py`). A cell is skipped where its record counts (`matching.py`), whichever
machine made it; what was killed here is resumed. Exit codes: 0 all cells finished, 1 some failed (the table shows
them), 2 the script or its flags are wrong or its arms differ in more than it says, 75 interrupted; the same command
continues.
"""

import argparse
import difflib
import json
import math
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import collect
import comparison
import folders
import matching
import records
import schedule
from cells import DIVERGED, NOT_STARTED, PACKAGE, PREEMPTED, Arm, Cell, TableError, filled, run_cell, say
from interrupts import Interrupts

COMMAND = (sys.executable, "-m")


def main(
    script: str,
    title: str,
    arms: Sequence[Arm],
    argv: Sequence[str] | None = None,
    command: Sequence[str] = COMMAND,
    *,
    full: Sequence[Arm] = (),
    varies: Sequence[str] = (),
    fixed: Sequence[str] = (),
    rare: bool = False,
) -> int:
    """Run a table: every cell that is not finished, then the records and the Markdown table.

    Args:
        script: `__file__` of the table script; its stem names the table.
        title: heading of the table.
        arms: the rows in their order, each a run for processors (`--profile=cpu`, the default).
        full: those of `--profile=full`, such as for accelerators: a table of its own, called NAME_full; none if empty.
        varies: fields in which arms may differ from their references, with `*` for any letters: what the table is
            about (`comparison.GAME` are those of a game). The acting role is called ACTING.
        fixed: seeds of data (such as scenes.seed) that are the same in all cells; the table says so.
        rare: whether arms are compared by the mean IoU of classes that have less than 2% of the pixels.
        argv: flags, those of the process by default.
        command: what runs a module of ours (replaced in tests).

    Returns:
        The exit code.
    """
    began = time.monotonic()
    table, command_line = Path(script).stem, Path(script).name
    options = _parse(table, title, argv)
    if options.profile == "full":
        table, command_line, arms = f"{table}_full", f"{command_line} --profile=full", full
    options.workdir = options.workdir or records.ROOT / "runs" / table
    try:
        if not arms:
            raise TableError(f"{Path(script).name} has no arms for --profile={options.profile}.")
        cells = _cells(arms, options)
        configs = {arm.name: _show_config(arm, options, command) for arm in arms}
        differing = comparison.compare(arms, configs, varies, fixed)
        folder = (
            options.results
            or (options.workdir if options.override else records.ROOT / "experiments") / "results" / table
        )
        found = {cell.name: records.read_json(folder / f"{cell.name}.json") for cell in cells}
        of_cells = {cell.name: _config_of(cell, configs) for cell in cells}
        reasons = matching.reasons(cells, found, of_cells)
        chosen = [cell for cell in cells if not options.only or cell.arm in options.only]
        due = _due(cells, chosen, reasons)
        _say_due(cells, due, reasons)
        due = [] if options.check else due
        pictured = [cell for cell in chosen if options.keep_pictures]
        counting = {name: record for name, record in found.items() if not reasons[name]}
        lacking = [cell for cell in pictured if folders.lacks_picture(cell, folder)]
        folders.check_all(cells, due, lacking, of_cells, counting)
        if due:
            options.workdir.mkdir(parents=True, exist_ok=True)
        outdated = _outdated(found, matching.reasons(cells, found, of_cells, commands=False))
        heading = {"title": title, "script": command_line, "fixed": list(fixed), **({"rare": True} if rare else {})}
        _write_table(folder, heading, arms, cells, configs, differing, outdated)
    except (TableError, comparison.ComparisonError, OSError) as error:
        say(f"error: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        say("Interrupted before the first cell.", sys.stderr)
        return PREEMPTED
    try:
        diverged = {name for name, reason in reasons.items() if reason == matching.HAS_DIVERGED}
        codes = _run(cells, due, folder, of_cells, options, command, began, counting, diverged)
        for cell in pictured:
            if folders.lacks_picture(cell, folder):
                records.keep_picture(cell.workdir, folder / f"{cell.name}.png")
        text = collect.collect(folder)
    except (OSError, collect.RecordsError) as error:
        say(f"error: {error}", sys.stderr)
        return 2 if isinstance(error, collect.RecordsError) else 1
    if PREEMPTED in codes.values() or len(codes) < len(due):
        say("Interrupted; the same command continues.", sys.stderr)
        return PREEMPTED
    say("\n" + text)
    words = {name: "not started" if code is NOT_STARTED else f"exit code {code}" for name, code in codes.items()}
    failed = [f"{name} ({words[name]})" for name, code in codes.items() if code != 0]
    if failed:
        say(f"error: failed: {', '.join(failed)}.", sys.stderr)
    return 1 if failed else 0


def _run(
    cells: Sequence[Cell],
    due: Sequence[Cell],
    folder: Path,
    configs: Mapping[str, Mapping[str, Any]],
    options: argparse.Namespace,
    command: Sequence[str],
    began: float,
    found: dict[str, Mapping[str, Any]],
    diverged: Collection[str],
) -> dict[str, int | None]:
    """Run the cells that are due and write their records, unless one there counts; return what `schedule.run_all` does.

    Args:
        cells: all cells of the table.
        due: those to run.
        folder: of the records.
        configs: name of each -> the config that its arguments ask for.
        options: the flags.
        command: what runs a module of ours.
        began: `time.monotonic()` when the script was started.
        found: name -> record of the cells whose record counts; those of this call are added.
        diverged: names of those whose record says that they diverged, here or elsewhere; they would again.
    """
    steps = {cell.arm: configs[cell.name].get("steps", 0) for cell in cells}

    def run(cell: Cell) -> int:
        label = f"[{due.index(cell) + 1}/{len(due)}] {cell.name}"
        if cell.name in diverged and records.read_summary(cell.workdir) is None:
            say(f"{label}: diverged earlier; remove its record, and {cell.workdir}, to try again.")
            return DIVERGED
        code = run_cell(cell, configs[cell.name], command, interrupts, label)
        if code != PREEMPTED and cell.name not in found:  # else it ran for those that start from it
            record = records.make_record(cell.workdir, cell.places)
            records.write_json(folder / f"{cell.name}.json", record)
            if record["status"] == "finished":
                found[cell.name] = record
            if code == 0 and options.keep_pictures and cell.picture:
                records.keep_picture(cell.workdir, folder / f"{cell.name}.png")
        return code

    def report(codes: Mapping[str, int | None]) -> None:
        left = schedule.seconds_left(due, codes, dict(found), steps, options.jobs)
        say(
            f"{len(found)} of {len(cells)} cells are finished, {len(due) - len(codes)} to run; "
            f"{schedule.duration(time.monotonic() - began)} so far, "
            f"{'what is left is not known yet' if left is None else f'about {schedule.duration(left)} left'}."
        )

    end = None if options.minutes is None else began + 60 * options.minutes
    with Interrupts(jobs=options.jobs) as interrupts:
        return schedule.run_all(due, run, interrupts, jobs=options.jobs, end=end, report=report)


def _parse(table: str, title: str, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument(
        "--profile",
        choices=("cpu", "full"),
        default="cpu",
        help=f"which arms; full is a table of its own, {table}_full",
    )
    parser.add_argument("--workdir", type=Path, help=f"folder of the runs; default runs/{table}")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="run this arm only; may be repeated"
    )
    parser.add_argument(
        "--data_dir",
        type=Path,
        default=Path(os.environ.get("GAN_SEG_DATA") or records.ROOT.parent / "shared" / "data"),
        help="folder that holds the data sets, a folder each; default: the environment variable GAN_SEG_DATA",
    )
    parser.add_argument(
        "--override",
        action="append",
        default=[],
        metavar="FLAG",
        help="a flag for every cell, such as --override=--config.steps=10; records then go to WORKDIR/results",
    )
    parser.add_argument(
        "--minutes",
        type=_above(float, 0),
        metavar="N",
        help="after so many minutes running cells are saved and the script ends with exit code 75",
    )
    parser.add_argument("--jobs", type=_above(int, 0), default=1, metavar="N", help="cells that run at once; default 1")
    parser.add_argument(
        "--check", action="store_true", help="compare the arms, make the table of the records there are, run nothing"
    )
    parser.add_argument("--results", type=Path, help=f"folder of the records; default experiments/results/{table}")
    parser.add_argument(
        "--keep_pictures", action="store_true", help="keep a sample panel of each arm beside the records"
    )
    options = parser.parse_args(argv)
    for name in ("workdir", "data_dir", "results"):
        folder = getattr(options, name)
        setattr(options, name, folder and folder.absolute())
    return options


def _above(kind: type, bound: float) -> Callable[[str], Any]:
    """Return what reads a finite number above `bound` from a flag."""

    def read(text: str) -> Any:
        value = kind(text)
        if not bound < value < math.inf:
            raise argparse.ArgumentTypeError(f"{text} is not above {bound}")
        return value

    return read


def _cells(arms: Sequence[Arm], options: argparse.Namespace) -> list[Cell]:
    """Return every cell of the table, seeds within arms.

    Raises:
        TableError: names are not usable as file names or not unique, or --only or a reference names no arm.
    """
    names = [arm.name for arm in arms]
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or names.count(name) > 1:
            raise TableError(f"The arm {name!r} needs a name of its own, of letters, digits, '.', '_' and '-'.")
    for name in options.only:
        if name not in names:
            near = "".join(f" Did you mean {other!r}?" for other in difflib.get_close_matches(name, names, n=1))
            raise TableError(f"--only={name}: no such arm.{near} Known: {', '.join(names)}.")
    for arm in arms:
        if arm.reference and (arm.reference not in names or arm.reference == arm.name):
            raise TableError(f"The arm {arm.name!r} has the reference {arm.reference!r}, which is no other arm.")
    cells = []
    for arm in arms:
        for seed in arm.seeds:
            arguments = _arguments(arm, seed, options)
            cells.append(Cell(arm.name, seed, arguments, _places(options), picture=seed == arm.seeds[0], then=arm.then))
    return cells


def _arguments(arm: Arm, seed: int, options: argparse.Namespace) -> tuple[str, ...]:
    flags = [flag.replace("{seed}", str(seed)) for flag in (*arm.overrides, *options.override)]
    return (f"--config={arm.config}", *flags, f"--config.seed={seed}")


def _places(options: argparse.Namespace) -> dict[str, Path]:
    return {"{workdir}": options.workdir, "{data_dir}": options.data_dir}


def _show_config(arm: Arm, options: argparse.Namespace, command: Sequence[str]) -> dict[str, Any]:
    """Return the whole config of an arm, for the seed `comparison.PROBE`.

    Raises:
        TableError: the command refuses it.
    """
    arguments = filled(_arguments(arm, comparison.PROBE, options), _places(options))
    done = subprocess.run(
        [*command, f"{PACKAGE}.main", *arguments, "--show_config"],
        cwd=records.ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise TableError(f"The arm {arm.name!r} cannot run: {reason.removeprefix('error: ')}")
    return records.without_places(json.loads(done.stdout), _places(options))


def _config_of(cell: Cell, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the whole config of a cell, from its arm's for the seed `comparison.PROBE`."""
    return json.loads(json.dumps(configs[cell.arm]).replace(str(comparison.PROBE), str(cell.seed)))


def _due(cells: Sequence[Cell], chosen: Sequence[Cell], reasons: Mapping[str, str]) -> list[Cell]:
    """Return the cells that have to run here, in their order.

    They are the chosen ones whose record does not count, and all that one of these starts from (`{workdir}/CELL` in its
    arguments) and whose run is not in its folder here.
    """
    due = {cell.name for cell in chosen if reasons[cell.name]}
    while True:
        used = {name for cell in cells if cell.name in due for name in cell.starts_from()}
        more = {c.name for c in cells if c.name in used - due and records.read_summary(c.workdir) is None}
        if not more:
            return [cell for cell in cells if cell.name in due]
        due |= more


def _say_due(cells: Sequence[Cell], due: Sequence[Cell], reasons: Mapping[str, str]) -> None:
    """Say how many cells have a record that counts, and why others run although they have one."""
    counting = sum(not reason for reason in reasons.values())
    say(f"{counting} of {len(cells)} cells have a record that counts; {len(due)} to run.")
    for cell in due:
        if reasons[cell.name] != matching.MISSING:
            say(f"{cell.name}: {reasons[cell.name] or 'others start from its run, which is not here'}.")


def _outdated(found: Mapping[str, Mapping[str, Any] | None], reasons: Mapping[str, str]) -> dict[str, Any]:
    """Return name -> {"date", "reason"} of the finished records that do not count, whatever commands they have.

    Such a record is named by its date: the one that takes its place has another.
    """
    finished = {name: record for name, record in found.items() if record and record["status"] == "finished"}
    return {name: {"date": r["date"], "reason": reasons[name]} for name, r in finished.items() if reasons[name]}


def _write_table(
    folder: Path,
    heading: Mapping[str, Any],
    arms: Sequence[Arm],
    cells: Sequence[Cell],
    configs: Mapping[str, Mapping[str, Any]],
    differing: Mapping[str, Mapping[str, Any]],
    outdated: Mapping[str, Any],
) -> None:
    """Write what the table consists of, so that the records alone tell which cells are missing or left out."""

    def listing(cell: Cell) -> dict[str, Any]:
        values = {"seed": cell.seed, "arguments": list(cell.arguments)}
        return values | ({"outdated": outdated[cell.name]} if cell.name in outdated else {})

    listed = [
        {
            "name": arm.name,
            "reference": arm.reference,
            "differs": differing[arm.name],
            "source": configs[arm.name]["source"]["dataset"],
            **({"published": dict(zip(("value", "source"), arm.published, strict=True))} if arm.published else {}),
            "cells": [listing(cell) for cell in cells if cell.arm == arm.name],
        }
        for arm in arms
    ]
    records.write_json(folder / "table.json", {**heading, "arms": listed})
