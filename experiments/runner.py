"""Run the cells of a table through the command line and keep a record of each.

A table script lists its arms and calls `main`; a cell is one arm with one seed. Before the first cell every arm is
compared with its reference (`comparison.py`). A cell is skipped where its record counts (`matching.py`), whichever
machine made it; what was killed here is resumed. Exit codes: 0 all cells finished, 1 some failed (the table shows
them), 2 the script or its flags are wrong or its arms differ in more than it says, 75 interrupted; the same command
continues.
"""

import argparse
import contextlib
import dataclasses
import difflib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import collect
import comparison
import load
import matching
import records
from interrupts import Interrupts

COMMAND = (sys.executable, "-m")
PACKAGE = "gan_seg_jax"
DIVERGED, PREEMPTED = 3, 75  # exit codes of the command, see ARCHITECTURE.md


@dataclasses.dataclass(frozen=True)
class Arm:
    """One row of a table.

    Attributes:
        name: its name in the table and in file names.
        config: config file, relative to the repository, with words behind a colon.
        overrides: further flags; `{data_dir}`, `{workdir}` (of the table) and `{seed}` are filled in.
        seeds: one cell is run for each.
        then: commands on the finished run, each a module and its flags without `--workdir`, in their order: such as
            `("evaluate", "--flip")`. The `evaluation-*.json` they leave become rows of a second table.
        reference: name of the arm that it is compared with, seed by seed; "" is a control, compared with none.
        acts: role of the network that labels the images, or makes them.
        varies: fields in which it, besides what the whole table varies, may differ from its reference.
    """

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    then: tuple[tuple[str, ...], ...] = ()
    reference: str = dataclasses.field(kw_only=True)
    acts: str = dataclasses.field(default="segmenter", kw_only=True)
    varies: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)


@dataclasses.dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        arm: name of its arm.
        seed: the seed.
        arguments: flags of the command without `--workdir`, placeholders of folders not filled in.
        places: placeholder -> folder on this machine.
        picture: whether its sample panel stands for the arm.
        then: commands on the finished run.
    """

    arm: str
    seed: int
    arguments: tuple[str, ...]
    places: dict[str, Path]
    picture: bool
    then: tuple[tuple[str, ...], ...] = ()

    @property
    def name(self) -> str:
        """Name of its folder and its record."""
        return f"{self.arm}-seed{self.seed}"

    @property
    def workdir(self) -> Path:
        """Folder of the run."""
        return self.places["{workdir}"] / self.name

    @property
    def commands(self) -> list[str]:
        """What runs on the finished run, as records name it."""
        return [" ".join(words) for words in self.then]

    def starts_from(self) -> set[str]:
        """Return the names of the cells of this table whose folders its arguments name."""
        return {name for flag in self.arguments for name in re.findall(r"\{workdir\}/([A-Za-z0-9._-]+)", flag)}

    def filled(self) -> list[str]:
        """Return the arguments as the command gets them."""
        return [*_filled(self.arguments, self.places), f"--workdir={self.workdir}"]


def _filled(arguments: Sequence[str], places: Mapping[str, Path]) -> list[str]:
    for mark, folder in places.items():
        arguments = [argument.replace(mark, str(folder)) for argument in arguments]
    return list(arguments)


class TableError(Exception):
    """The script or its flags cannot be used as they are; a sentence for people."""


def main(
    script: str,
    title: str,
    arms: Sequence[Arm],
    argv: Sequence[str] | None = None,
    command: Sequence[str] = COMMAND,
    *,
    varies: Sequence[str] = (),
    fixed: Sequence[str] = (),
) -> int:
    """Run a table: every cell that is not finished, then the records and the Markdown table.

    Args:
        script: `__file__` of the table script; its stem names the table.
        title: heading of the table.
        arms: the rows in their order.
        varies: fields in which arms may differ from their references, with `*` for any letters: what the table is
            about (`comparison.GAME` are those of a game). The acting role is called ACTING.
        fixed: seeds of data (such as scenes.seed) that are the same in all cells; the table says so.
        argv: flags, those of the process by default.
        command: what runs a module of ours (replaced in tests).

    Returns:
        The exit code.
    """
    table = Path(script).stem
    options = _parse(table, title, argv)
    try:
        cells = _cells(arms, options)
        configs = {arm.name: _show_config(arm, options, command) for arm in arms}
        differing = comparison.compare(arms, configs, varies, fixed)
        folder = (
            options.results
            or (options.workdir if options.override else records.ROOT / "experiments") / "results" / table
        )
        reasons = {cell.name: _why_not(cell, folder, configs) for cell in cells}
        chosen = [cell for cell in cells if not options.only or cell.arm in options.only]
        due = _due(chosen, reasons)
        _say_due(chosen, due, reasons)
        due = [] if options.check else due
        for cell in due:
            _check_folder(cell, _config_of(cell, configs))
        if due:
            options.workdir.mkdir(parents=True, exist_ok=True)
        _write_table(folder, Path(script).name, title, arms, cells, configs, differing, fixed)
    except (TableError, comparison.ComparisonError, OSError) as error:
        _say(f"error: {error}", sys.stderr)
        return 2
    except KeyboardInterrupt:
        _say("Interrupted before the first cell.", sys.stderr)
        return PREEMPTED
    failed = []
    with Interrupts() as interrupts:
        for number, cell in enumerate(due, start=1):
            label, config = f"[{number}/{len(due)}] {cell.name}", _config_of(cell, configs)
            code = _run_cell(cell, config, command, interrupts, label)
            if code == PREEMPTED:
                _say("Interrupted; the same command continues.", sys.stderr)
                return PREEMPTED
            records.write_json(folder / f"{cell.name}.json", records.make_record(cell.workdir, cell.places))
            if code != 0:
                failed.append(f"{cell.name} (exit code {code})")
            elif options.keep_pictures and cell.picture:
                records.keep_picture(cell.workdir, folder / f"{cell.name}.png")
    try:
        _say("\n" + collect.collect(folder))
    except collect.RecordsError as error:
        _say(f"error: {error}", sys.stderr)
        return 2
    if failed:
        _say(f"error: failed: {', '.join(failed)}.", sys.stderr)
    return 1 if failed else 0


def _say(text: str, stream: TextIO | None = None) -> None:
    """Print, unless nobody listens any more: that must not end a table."""
    with contextlib.suppress(OSError):
        print(text, file=stream or sys.stdout, flush=True)


def _parse(table: str, title: str, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--workdir", type=Path, default=records.ROOT / "runs" / table, help="folder of the runs")
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
    arguments = _filled(_arguments(arm, comparison.PROBE, options), _places(options))
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
    return json.loads(records.without_places(done.stdout, _places(options)))


def _config_of(cell: Cell, configs: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the whole config of a cell, from its arm's for the seed `comparison.PROBE`."""
    return json.loads(json.dumps(configs[cell.arm]).replace(str(comparison.PROBE), str(cell.seed)))


def _why_not(cell: Cell, folder: Path, configs: Mapping[str, Mapping[str, Any]]) -> str:
    """Return why the record in the table's folder does not stand for a cell, "" if it does."""
    record = records.read_record(folder / f"{cell.name}.json")
    return matching.why_not(record, cell.arguments, cell.commands, _config_of(cell, configs))


def _due(chosen: Sequence[Cell], reasons: Mapping[str, str]) -> list[Cell]:
    """Return the cells that have to run here, in their order.

    They are those whose record does not count, and those that one of these starts from (`{workdir}/CELL` in its
    arguments) and whose run is not in its folder here.
    """
    due = {cell.name for cell in chosen if reasons[cell.name]}
    while True:
        used = {name for cell in chosen if cell.name in due for name in cell.starts_from()}
        more = {c.name for c in chosen if c.name in used - due and records.read_summary(c.workdir) is None}
        if not more:
            return [cell for cell in chosen if cell.name in due]
        due |= more


def _say_due(chosen: Sequence[Cell], due: Sequence[Cell], reasons: Mapping[str, str]) -> None:
    """Say how many cells are skipped, and why others are not although they have a record."""
    _say(f"{len(chosen) - len(due)} of {len(chosen)} cells have a record that counts; {len(due)} to run.")
    for cell in due:
        if reasons[cell.name] != matching.MISSING:
            _say(f"{cell.name}: {reasons[cell.name] or 'others start from its run, which is not here'}.")


def _check_folder(cell: Cell, config: Mapping[str, Any]) -> None:
    """Check that the cell's folder is free or holds a run with the same arguments and config.

    Raises:
        TableError: it holds another run.
    """
    if not (cell.workdir / "config.json").exists():  # nothing ran there, or it ended before it began
        return
    start = records.read_start(cell.workdir)
    if start is None:
        raise TableError(f"{cell.workdir} holds a run that no table started; remove it, or name another --workdir.")
    if records.present(start["arguments"]) != records.present(cell.arguments):
        raise TableError(
            f"{cell.workdir} was run with other arguments: {' '.join(start['arguments'])}; now they are "
            f"{' '.join(cell.arguments)}. Remove it, or name another --workdir."
        )
    changed = matching.difference(start.get("config"), config)
    if changed:
        raise TableError(
            f"{cell.workdir} was run with another config: {changed}. Remove it, or name another --workdir."
        )


def _write_table(
    folder: Path,
    script: str,
    title: str,
    arms: Sequence[Arm],
    cells: Sequence[Cell],
    configs: Mapping[str, Mapping[str, Any]],
    differing: Mapping[str, Mapping[str, Any]],
    fixed: Sequence[str],
) -> None:
    """Write what the table consists of, so that the records alone tell which cells are missing.

    A record of another config is named by its date: the one that takes its place has another.
    """

    def listing(cell: Cell) -> dict[str, Any]:
        values = {"seed": cell.seed, "arguments": list(cell.arguments)}
        record = records.read_record(folder / f"{cell.name}.json")
        changed = record and matching.difference(record["config"], _config_of(cell, configs))
        return values | ({"outdated": {"date": record["date"], "changed": changed}} if changed else {})

    listed = [
        {
            "name": arm.name,
            "reference": arm.reference,
            "differs": differing[arm.name],
            "source": configs[arm.name]["source"]["dataset"],
            "cells": [listing(cell) for cell in cells if cell.arm == arm.name],
        }
        for arm in arms
    ]
    values = {"title": title, "script": script, "fixed": list(fixed), "arms": listed}
    records.write_json(folder / "table.json", values)


def _run_cell(cell: Cell, config: Mapping[str, Any], command: Sequence[str], interrupts: Interrupts, label: str) -> int:
    """Run a cell, and what follows it, unless it is over; return its exit code, 75 if a signal asked to end."""
    code = _train(cell, config, command, interrupts, label)
    if code != 0:
        return code
    names = cell.commands
    done = records.read_start(cell.workdir).get("then") or []
    for number, (name, (module, *flags)) in enumerate(zip(names, cell.then, strict=True)):
        # A command may use what those before it left, so it is done only if these are the same.
        if [entry["command"] for entry in done[: number + 1]] == names[: number + 1]:
            continue
        if interrupts.noted:
            return PREEMPTED
        _say(f"{label}: {name}")
        before = load.snapshot()
        code, message = interrupts.run([*command, f"{PACKAGE}.{module}", *flags, f"--workdir={cell.workdir}"])
        after = load.snapshot()
        if code != 0:
            if not interrupts.noted:
                records.write_outcome(cell.workdir, code, f"{name}: {message}")
            return PREEMPTED if interrupts.noted else code
        done = [*done[:number], records.finished_command(name, after.time - before.time, load.between(before, after))]
        records.write_then(cell.workdir, done)
    return code


def _train(cell: Cell, config: Mapping[str, Any], command: Sequence[str], interrupts: Interrupts, label: str) -> int:
    start = records.read_start(cell.workdir)
    if start is not None and records.read_summary(cell.workdir) is not None:
        _say(f"{label}: finished already.")
        return 0
    if start is not None and start["exit_code"] == DIVERGED:  # it would diverge again at the same step
        _say(f"{label}: diverged earlier; remove {cell.workdir} to try again.")
        return DIVERGED
    if interrupts.noted:
        return PREEMPTED
    _say(f"{label}: {'resuming' if start else 'starting'}: {' '.join(cell.arguments)}")
    records.write_start(cell.workdir, arm=cell.arm, seed=cell.seed, arguments=cell.arguments, config=config)
    before = load.snapshot()
    code, message = interrupts.run([*command, f"{PACKAGE}.main", *cell.filled()])
    records.write_load(cell.workdir, load.between(before, load.snapshot()))
    if code == 0 and records.read_summary(cell.workdir) is None:
        code, message = 1, "The command ended with exit code 0 but left no summary.json."
    if code != 0 and (interrupts.noted or code == PREEMPTED):
        return PREEMPTED
    records.write_outcome(cell.workdir, code, "" if code == 0 else message)
    return code
