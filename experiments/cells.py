"""Arms and cells of a table, and what it takes to run a cell to its end.

A cell is one arm with one seed. What becomes of it is noted in its folder (`records.py`).
"""

import contextlib
import dataclasses
import json
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import load
import records
from interrupts import Interrupts

PACKAGE = "gan_seg_jax"
DIVERGED, PREEMPTED = 3, 75  # exit codes of the command, see ARCHITECTURE.md
NOT_STARTED = None  # in place of the exit code of a cell that starts from one that failed
INTERVALS = ("eval_every", "checkpoint_every", "samples_every")


class TableError(Exception):
    """The script or its flags cannot be used as they are; a sentence for people."""


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
        published: (value, source) of the figure that was published for it in the first score of the table, such as
            `(0.601, "Author et al. 2017, table 4")`; it stands beside ours.
    """

    name: str
    config: str
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)
    then: tuple[tuple[str, ...], ...] = ()
    reference: str = dataclasses.field(kw_only=True)
    acts: str = dataclasses.field(default="segmenter", kw_only=True)
    varies: tuple[str, ...] = dataclasses.field(default=(), kw_only=True)
    published: tuple[float, str] | None = dataclasses.field(default=None, kw_only=True)


def steps(number: int, validations: int = 3) -> tuple[str, ...]:
    """Return the flags of a run of so many steps with evenly spaced validations."""
    every = -(-number // validations)
    return (f"--config.steps={number}", *(f"--config.{field}={every}" for field in INTERVALS))


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
        return [*filled(self.arguments, self.places), f"--workdir={self.workdir}"]


def filled(arguments: Sequence[str], places: Mapping[str, Path | str]) -> list[str]:
    """Return arguments with folders of this machine in place of their placeholders."""
    for mark, folder in places.items():
        arguments = [argument.replace(mark, str(folder)) for argument in arguments]
    return list(arguments)


def say(text: str, stream: TextIO | None = None) -> None:
    """Print, unless nobody listens any more: that must not end a table."""
    with contextlib.suppress(OSError):
        print(text, file=stream or sys.stdout, flush=True)


def run_cell(cell: Cell, config: Mapping[str, Any], command: Sequence[str], interrupts: Interrupts, label: str) -> int:
    """Run a cell, and what follows it, unless it is over.

    Args:
        cell: the cell.
        config: what its arguments ask for, as `--show_config` prints it, placeholders in place.
        command: what runs a module of ours.
        interrupts: through which it is run.
        label: for what is said of it.

    Returns:
        Its exit code, 75 if a signal, or the end of the time, asked to end.
    """
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
        say(f"{label}: {name}")
        before = load.snapshot()
        words = [*command, f"{PACKAGE}.{module}", *flags, f"--workdir={cell.workdir}"]
        code, message, own = interrupts.run(words, cell.name)
        after = load.snapshot()
        if code != 0:
            if not interrupts.noted:
                records.write_outcome(cell.workdir, code, f"{name}: {message}")
            return PREEMPTED if interrupts.noted else code
        stretch = load.between(before, after, own, interrupts.jobs)
        done = [*done[:number], records.finished_command(name, after.time - before.time, stretch)]
        records.write_then(cell.workdir, done)
    if len(done) > len(names) or records.read_start(cell.workdir)["exit_code"]:  # of commands that it had before
        records.write_then(cell.workdir, done[: len(names)])
    return code


def _twin(cell: Cell, config: Mapping[str, Any]) -> Path | None:
    """Return the folder of a finished run of the same config and data, of another table beside this one, if any."""
    if "{workdir}" in json.dumps(config):  # a run that this table has made: another table's may be another
        return None
    if cell.workdir.exists() and any(cell.workdir.iterdir()):
        return None
    for path in sorted(cell.workdir.parent.parent.glob(f"*/*/{records.START_FILE}")):
        folder, start = path.parent, records.read_json(path)
        if folder.parent == cell.workdir.parent or start is None or records.read_summary(folder) is None:
            continue
        data_dir = (records.read_json(folder / "config.json") or {}).get("data_dir", "")
        same_data = records.without_places(data_dir, cell.places) == config["data_dir"]
        if same_data and start["seed"] == cell.seed and start.get("config") == config:
            return folder
    return None


def _take(twin: Path, cell: Cell) -> None:
    """Copy a finished run into the folder of a cell, in one move, without what commands have left in it."""
    part = cell.workdir.with_name(f"{cell.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(twin, part, ignore=shutil.ignore_patterns(*records.OF_COMMANDS, ".*"))
    own = {"arm": cell.arm, "arguments": list(cell.arguments), "exit_code": 0, "message": "", "then": []}
    records.write_json(part / records.START_FILE, {**records.read_start(twin), **own})
    with contextlib.suppress(FileNotFoundError):
        cell.workdir.rmdir()
    part.rename(cell.workdir)


def _train(cell: Cell, config: Mapping[str, Any], command: Sequence[str], interrupts: Interrupts, label: str) -> int:
    start = records.read_start(cell.workdir)
    if start is not None and records.read_summary(cell.workdir) is not None:
        say(f"{label}: finished already.")
        return 0
    if start is not None and start["exit_code"] == DIVERGED:  # it would diverge again at the same step
        say(f"{label}: diverged earlier; remove {cell.workdir} to try again.")
        return DIVERGED
    if interrupts.noted:
        return PREEMPTED
    twin = _twin(cell, config) if start is None else None
    if twin is not None:
        say(f"{label}: the same run as {twin}, which is taken.")
        _take(twin, cell)
        return 0
    say(f"{label}: {'resuming' if start else 'starting'}: {' '.join(cell.arguments)}")
    records.write_start(cell.workdir, arm=cell.arm, seed=cell.seed, arguments=cell.arguments, config=config)
    before = load.snapshot()
    code, message, own = interrupts.run([*command, f"{PACKAGE}.main", *cell.filled()], cell.name)
    records.write_load(cell.workdir, load.between(before, load.snapshot(), own, interrupts.jobs))
    if code == 0 and records.read_summary(cell.workdir) is None:
        code, message = 1, "The command ended with exit code 0 but left no summary.json."
    if code != 0 and (interrupts.noted or code == PREEMPTED):
        return PREEMPTED
    records.write_outcome(cell.workdir, code, "" if code == 0 else message)
    return code
