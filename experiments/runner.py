"""Run the cells of a table through the command line and keep a record of each.

A table script lists its arms and calls `main`; a cell is one arm with one seed. The same command again skips what is
finished and resumes what was killed. Exit codes: 0 all cells finished, 1 some failed (the table shows them), 2 the
script or its flags are wrong, 75 interrupted; the same command continues.
"""

import argparse
import collections
import dataclasses
import difflib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import collect
import records

COMMAND = (sys.executable, "-m")
PACKAGE = "gan_seg_jax"
DIVERGED, PREEMPTED = 3, 75  # exit codes of the command, see ARCHITECTURE.md
SIGNALS = (signal.SIGINT, signal.SIGTERM)
MESSAGE_LINES = 20  # of a cell's last words that are searched for its error


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
    """

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    then: tuple[tuple[str, ...], ...] = ()


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

    def filled(self) -> list[str]:
        """Return the arguments as the command gets them."""
        filled = list(self.arguments)
        for mark, folder in self.places.items():
            filled = [argument.replace(mark, str(folder)) for argument in filled]
        return [*filled, f"--workdir={self.workdir}"]


class TableError(Exception):
    """The script or its flags cannot be used as they are; a sentence for people."""


class Interrupts:
    """Context that passes SIGINT and SIGTERM on to the running cell and remembers them.

    The cell runs in a process group of its own, so that Ctrl-C reaches it once, through here: its first signal makes
    it save, a second one ends it.
    """

    def __init__(self):
        """Start without a signal."""
        self.noted = False
        self._child: subprocess.Popen | None = None
        self._pending: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        self._previous = {number: signal.signal(number, self._pass_on) for number in SIGNALS}
        return self

    def __exit__(self, *error) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _pass_on(self, number, frame) -> None:
        del frame
        self.noted = True
        if self._child is None:
            self._pending = number
        else:
            self._child.send_signal(number)

    def run(self, command: Sequence[str]) -> tuple[int, str]:
        """Run a command from the root of the repository; return its exit code and the error it printed."""
        process = subprocess.Popen(
            command, cwd=records.ROOT, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace",
            process_group=0,
        )  # fmt: skip
        self._child = process
        pending, self._pending = self._pending, None
        if pending is not None:  # it came while the process was being started
            process.send_signal(pending)
        tail: collections.deque[str] = collections.deque(maxlen=MESSAGE_LINES)
        reader = threading.Thread(target=_forward, args=(process.stderr, tail), daemon=True)
        reader.start()
        code = process.wait()
        self._child = None
        reader.join(timeout=5.0)  # processes that the cell left behind may still hold the pipe
        errors = [line.removeprefix("error: ") for line in tail if line.startswith("error: ")]
        return code, (errors or list(tail) or [""])[-1]


def _forward(stream, tail: collections.deque[str]) -> None:
    """Copy a cell's stderr to ours and keep its last lines."""
    for line in stream:
        sys.stderr.write(line)
        sys.stderr.flush()
        if line.strip():
            tail.append(line.strip())


def main(
    script: str, title: str, arms: Sequence[Arm], argv: Sequence[str] | None = None, command: Sequence[str] = COMMAND
) -> int:
    """Run a table: every cell that is not finished, then the records and the Markdown table.

    Args:
        script: `__file__` of the table script; its stem names the table.
        title: heading of the table.
        arms: the rows in their order; differences are taken against the first.
        argv: flags, those of the process by default.
        command: what runs a module of ours (replaced in tests).

    Returns:
        The exit code.
    """
    table = Path(script).stem
    options = _parse(table, title, argv)
    try:
        cells = _cells(arms, options)
        chosen = [cell for cell in cells if not options.only or cell.arm in options.only]
        for cell in chosen:
            _check_folder(cell)
        options.workdir.mkdir(parents=True, exist_ok=True)
        folder = (
            options.results
            or (options.workdir if options.override else records.ROOT / "experiments") / "results" / table
        )
        _write_table(folder, Path(script).name, title, arms, cells)
    except (TableError, OSError) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    failed = []
    with Interrupts() as interrupts:
        for number, cell in enumerate(chosen, start=1):
            code = _run_cell(cell, command, interrupts, f"[{number}/{len(chosen)}] {cell.name}")
            if code == PREEMPTED:
                print("Interrupted; the same command continues.", file=sys.stderr, flush=True)
                return PREEMPTED
            records.write_json(folder / f"{cell.name}.json", records.make_record(cell.workdir, cell.places))
            if code != 0:
                failed.append(f"{cell.name} (exit code {code})")
            elif options.keep_pictures and cell.picture:
                records.keep_picture(cell.workdir, folder / f"{cell.name}.png")
    try:
        print("\n" + collect.collect(folder), flush=True)
    except collect.RecordsError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    if failed:
        print(f"error: failed: {', '.join(failed)}.", file=sys.stderr, flush=True)
    return 1 if failed else 0


def _parse(table: str, title: str, argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--workdir", type=Path, default=records.ROOT / "runs" / table, help="folder of the runs")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="run this arm only; may be repeated"
    )
    parser.add_argument(
        "--data_dir", type=Path,
        default=Path(os.environ.get("GAN_SEG_DATA") or records.ROOT.parent / "shared" / "data"),
        help="folder that holds the data sets, a folder each; default: the environment variable GAN_SEG_DATA",
    )  # fmt: skip
    parser.add_argument(
        "--override", action="append", default=[], metavar="FLAG",
        help="a flag for every cell, such as --override=--config.steps=10; records then go to WORKDIR/results",
    )  # fmt: skip
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
        TableError: names are not usable as file names or not unique, or --only names no arm.
    """
    names = [arm.name for arm in arms]
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) or names.count(name) > 1:
            raise TableError(f"The arm {name!r} needs a name of its own, of letters, digits, '.', '_' and '-'.")
    for name in options.only:
        if name not in names:
            near = "".join(f" Did you mean {other!r}?" for other in difflib.get_close_matches(name, names, n=1))
            raise TableError(f"--only={name}: no such arm.{near} Known: {', '.join(names)}.")
    places = {"{workdir}": options.workdir, "{data_dir}": options.data_dir}
    cells = []
    for arm in arms:
        for seed in arm.seeds:
            flags = [flag.replace("{seed}", str(seed)) for flag in (*arm.overrides, *options.override)]
            arguments = (f"--config={arm.config}", *flags, f"--config.seed={seed}")
            cells.append(Cell(arm.name, seed, arguments, places, picture=seed == arm.seeds[0], then=arm.then))
    return cells


def _check_folder(cell: Cell) -> None:
    """Check that the cell's folder is free or holds a run with the same arguments.

    Raises:
        TableError: it holds another run.
    """
    if not (cell.workdir / "config.json").exists():  # nothing ran there, or it ended before it began
        return
    start = records.read_start(cell.workdir)
    if start is None:
        raise TableError(f"{cell.workdir} holds a run that no table started; remove it, or name another --workdir.")
    if start["arguments"] != list(cell.arguments):
        raise TableError(
            f"{cell.workdir} was run with other arguments: {' '.join(start['arguments'])}; now they are "
            f"{' '.join(cell.arguments)}. Remove it, or name another --workdir."
        )


def _write_table(folder: Path, script: str, title: str, arms: Sequence[Arm], cells: Sequence[Cell]) -> None:
    """Write what the table consists of, so that the records alone tell which cells are missing."""
    listed = [
        {
            "name": arm.name,
            "cells": [{"seed": c.seed, "arguments": list(c.arguments)} for c in cells if c.arm == arm.name],
        }
        for arm in arms
    ]
    records.write_json(folder / "table.json", {"title": title, "script": script, "arms": listed})


def _run_cell(cell: Cell, command: Sequence[str], interrupts: Interrupts, label: str) -> int:
    """Run a cell, and what follows it, unless it is over; return its exit code, 75 if a signal asked to end."""
    code = _train(cell, command, interrupts, label)
    if code != 0:
        return code
    names = [" ".join(words) for words in cell.then]
    done = records.read_start(cell.workdir).get("then") or []
    for number, (name, (module, *flags)) in enumerate(zip(names, cell.then, strict=True)):
        # A command may use what those before it left, so it is done only if these are the same.
        if [entry["command"] for entry in done[: number + 1]] == names[: number + 1]:
            continue
        if interrupts.noted:
            return PREEMPTED
        print(f"{label}: {name}", flush=True)
        began = time.monotonic()
        code, message = interrupts.run([*command, f"{PACKAGE}.{module}", *flags, f"--workdir={cell.workdir}"])
        if code != 0:
            if not interrupts.noted:
                records.write_outcome(cell.workdir, code, f"{name}: {message}")
            return PREEMPTED if interrupts.noted else code
        done = [*done[:number], records.finished_command(name, time.monotonic() - began)]
        records.write_then(cell.workdir, done)
    return code


def _train(cell: Cell, command: Sequence[str], interrupts: Interrupts, label: str) -> int:
    start = records.read_start(cell.workdir)
    if start is not None and records.read_summary(cell.workdir) is not None:
        print(f"{label}: finished already.", flush=True)
        return 0
    if start is not None and start["exit_code"] == DIVERGED:  # it would diverge again at the same step
        print(f"{label}: diverged earlier; remove {cell.workdir} to try again.", flush=True)
        return DIVERGED
    if interrupts.noted:
        return PREEMPTED
    print(f"{label}: {'resuming' if start else 'starting'}: {' '.join(cell.arguments)}", flush=True)
    records.write_start(cell.workdir, arm=cell.arm, seed=cell.seed, arguments=cell.arguments)
    code, message = interrupts.run([*command, f"{PACKAGE}.main", *cell.filled()])
    if code == 0 and records.read_summary(cell.workdir) is None:
        code, message = 1, "The command ended with exit code 0 but left no summary.json."
    if code != 0 and (interrupts.noted or code == PREEMPTED):
        return PREEMPTED
    records.write_outcome(cell.workdir, code, "" if code == 0 else message)
    return code
