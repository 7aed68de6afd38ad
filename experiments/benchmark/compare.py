"""Time our steps beside equal steps of other libraries: `python -m experiments.benchmark.compare [--only=cgan]`.

Every side of a case is a process of its own that is compiled and kept, and they work in turn, one at a time, the first
one another in each round. So a machine that slows down slows all alike, and a ratio is that of neighbours. (A TPU is
held by one process at a time: there they work one after the other.) All have the same number of threads. Packages
that are not installed are said in a sentence and the others go on: `pip install "gan_seg_jax[benchmark]"`. Each case is
kept as soon as it is done; docs/performance.md shows it after `python experiments/collect.py --readme`.
"""

import argparse
import contextlib
import datetime
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from experiments.benchmark import cases, report
from experiments.benchmark.sides import PLATFORMS, Side, SideError, environment

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as for `python experiments/TABLE.py`

import load
import records

RESULTS = records.ROOT / "experiments" / "results" / "benchmark"
EXCLUSIVE = ("tpu",)  # devices that one process at a time can hold: sides run one after the other, not in turn
STRETCH = 2.0  # seconds that a side works at a time, where one step is shorter
HOST_ROUNDS = 3
LOOP_STEPS, LOOP_LOG = 50, 10  # of the runs through `main`: steps between two checkpoints, and between two lines


def run_case(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the record of a case.

    Raises:
        SideError: our own side cannot run.
    """
    case, before, used = cases.ALL[name], load.snapshot(), load.of_children()
    left_out = {side: "not asked for (--peers)." for side in case.peers if not side.startswith(options.peers)}
    wanted = ["ours", *(side for side in case.peers if side not in left_out)]
    found: dict[str, Any] = {}
    host = None
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for group in [[side] for side in wanted] if options.device in EXCLUSIVE else [wanted]:
            found |= take_turns(group, name, options, folder, found, left_out)
        for side, values in found.items():
            values |= _first_again(side, values.pop("first"), name, options, folder, left_out)
        if case.host and not options.no_host:
            with _leaving("main", left_out):
                host = host_seconds(name, options, folder)
    return {
        "title": case.title,
        "command": _command(name, options),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **records.git_state(records.ROOT),
        **{key: getattr(options, key) for key in ("dtype", "threads", "rounds")},
        "images": found["ours"]["images"],
        "sides": found,
        "left_out": left_out,
        "host": host,
        "load": load.between(before, load.snapshot(), load.of_children() - used),
    }


def _command(name: str, options: argparse.Namespace) -> str:
    """Return the command of a record, with all that decides what is in it."""
    flags = [f"--{key}={getattr(options, key)}" for key in ("device", "dtype", "threads", "rounds")]
    if options.steps:
        flags.append(f"--steps={options.steps}")
    if options.peers != ("",):
        flags.append(" ".join(["--peers", *options.peers]))
    return " ".join([report.COMMAND, f"--only={name}", *flags, *["--no_host"] * options.no_host])


@contextlib.contextmanager
def _leaving(side: str, left_out: dict[str, str]) -> Iterator[None]:
    """Note why a side cannot go on, and go on without it; without ours nothing goes on."""
    try:
        yield
    except SideError as error:
        if side == "ours":
            raise
        left_out[side] = str(error)
        print(f"{side} is left out: {error}", flush=True)


def take_turns(
    names: Sequence[str],
    case: str,
    options: argparse.Namespace,
    folder: Path,
    done: Mapping[str, Any],
    left_out: dict[str, str],
) -> dict[str, Any]:
    """Start sides, let them work in turn, end them; return what is known of each that came to the end.

    Args:
        names: of the sides, ours first where it is not `done`.
        case: its name.
        options: the flags.
        folder: for what is compiled.
        done: sides that have ended before, by name.
        left_out: gets the sides that could not go on, and why.
    """
    sides: dict[str, Side] = {}
    try:
        for name in names:
            with _leaving(name, left_out):
                sides[name] = Side(name, case, options, folder)
                facts = done["ours"] if "ours" in done else sides["ours"].facts
                check_parameters(name, sides[name].facts["parameters"], facts["parameters"])
            if name in left_out and name in sides:
                sides.pop(name).stop()
        seconds = measure(sides, options.rounds, options.steps, left_out)
        found = {}
        for name, side in sides.items():
            with _leaving(name, left_out):
                found[name] = {**side.facts, "seconds": seconds[name], "memory": side.end()}
        return found
    finally:
        for side in sides.values():
            side.stop()


def check_parameters(side: str, theirs: Mapping[str, int], ours: Mapping[str, int]) -> None:
    """Raise SideError if a peer's networks are of another size than ours, by more than `cases` allows."""
    allowed = cases.TWIN if side.startswith("torch") else cases.LIBRARY
    for role, count in ours.items():
        if abs(theirs.get(role, 0) - count) > allowed * count:
            raise SideError(f"its {role} has {theirs.get(role, 0):,} parameters, ours {count:,}: no equal step.")


def _first_again(
    side: str,
    cold: Mapping[str, float],
    case: str,
    options: argparse.Namespace,
    folder: Path,
    left_out: dict[str, str],
) -> dict[str, Mapping[str, float]]:
    """Return the seconds of the first call of each work, cold and in a new process that finds what was compiled.

    Returns:
        {"first_cold": {work: seconds}, "first_warm": likewise}; {} of a side that compiles nothing.
    """
    if "eager" in side or side == "pydensecrf":
        return {}
    found = {"first_cold": cold}
    with _leaving(f"{side}, started again", left_out):
        warm = Side(side, case, options, folder)
        found["first_warm"] = warm.facts["first"]
        warm.end()
    return found


def measure(
    sides: dict[str, Any], rounds: int, steps: int, left_out: dict[str, str] | None = None
) -> dict[str, dict[str, list[float]]]:
    """Let the sides work in turn.

    Args:
        sides: each has `facts["first"]`, with a key for each of its works, `run` and `stop`; one that ends before its
            time is taken out.
        rounds: how often each works.
        steps: how many calls at a time; 0 is as many as take `STRETCH` seconds.
        left_out: gets the sides that were taken out, and why.

    Returns:
        side -> work -> the seconds of one call, in each round.

    Raises:
        SideError: our own side has ended.
    """
    left_out = {} if left_out is None else left_out
    seconds: dict[str, dict[str, list[float]]] = {}
    counts: dict[str, dict[str, int]] = {}

    def work(name: str) -> None:
        if name not in counts:
            once = {work: sides[name].run(work, 1) for work in sides[name].facts["first"]}
            counts[name] = {work: steps or max(1, math.ceil(STRETCH / max(once[work], 1e-6))) for work in once}
            seconds[name] = {work: [] for work in once}
            return
        for work, count in counts[name].items():
            seconds[name][work].append(sides[name].run(work, count))

    order = list(sides)
    for number in range(rounds + 1 if order else 0):  # the first says how many calls to make at a time
        first = max(0, number - 1) % len(order)
        for name in order[first:] + order[:first]:
            if name in sides:
                with _leaving(name, left_out):
                    work(name)
                if name in left_out:
                    sides.pop(name).stop()
    return {name: seconds[name] for name in sides}


def host_seconds(name: str, options: argparse.Namespace, folder: Path) -> dict[str, list[float]]:
    """Return the seconds of a step alone, and of one of the training loop, in turn.

    The loop's are wall time between two checkpoints of a run of `main`: input, logging, and the saving of the first of
    them are in it; compilation and validation are not.

    Returns:
        {"step": [seconds], "loop": [seconds]}, one for each of `HOST_ROUNDS`.

    Raises:
        SideError: a run failed.
    """
    found: dict[str, list[float]] = {"step": [], "loop": []}
    for number in range(HOST_ROUNDS):
        alone = Side("ours", name, options, folder)
        try:
            found["step"] += measure({"ours": alone}, 1, options.steps)["ours"]["step"]
        finally:
            alone.stop()
        found["loop"].append(_loop_seconds(name, options, folder, folder / f"run-{number}"))
    return found


def _loop_seconds(name: str, options: argparse.Namespace, folder: Path, workdir: Path) -> float:
    fields = {
        "steps": 2 * LOOP_STEPS + 1,
        "eval_every": 2 * LOOP_STEPS + 1,
        "checkpoint_every": LOOP_STEPS,
        "keep_checkpoints": 3,
        "log_every": LOOP_LOG,
        "samples_every": 0,
        "tensorboard": False,
        "baselines": (),
        "scenes.counts": (64, 8, 8),
    }
    flags = [*cases.flags(name, options.dtype), *(f"--config.{key}={value}" for key, value in fields.items())]
    command = [sys.executable, "-m", "gan_seg_jax.main", *flags, f"--workdir={workdir}"]
    cache = {**environment(options, folder / "ours-cache"), "XDG_CACHE_HOME": str(folder / "scenes")}
    done = subprocess.run(command, cwd=records.ROOT, env=cache, capture_output=True, text=True)
    if done.returncode != 0:
        raise SideError(f"the run through main failed: {done.stderr.strip().splitlines()[-1]}")
    metas = (workdir / "checkpoints" / str(step) / "meta" / "metadata" for step in (LOOP_STEPS, 2 * LOOP_STEPS))
    began, ended = (json.loads(path.read_text())["seconds"] for path in metas)
    return (ended - began) / LOOP_STEPS


def slug(text: str) -> str:
    """Return the name of a processor as a file's."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def keep(folder: Path, options: argparse.Namespace, name: str, case: Mapping[str, Any]) -> None:
    """Put the record of a case among those of its processor, in place of an earlier one, and render all."""
    hardware = records.hardware()
    processor = hardware["cpu"] if options.device == "cpu" else case["sides"]["ours"]["device"]
    more = f"-{options.dtype}" * (options.dtype != "float32")
    path = folder / f"{slug(processor)}-{options.threads}-threads{more}.json"
    record = json.loads(path.read_text()) if path.exists() else {"cases": {}}
    found = {**record["cases"], name: case}
    order = {key: found[key] for key in cases.ALL if key in found}
    values = {"processor": processor, "device": options.device, "hardware": hardware, "cases": order}
    records.write_json(path, values)
    report.write(folder)


def main() -> int:
    """Run the cases, print and keep their tables; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=cases.ALL, help="a case; may be repeated")
    parser.add_argument("--device", default="cpu", choices=PLATFORMS)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=records.hardware()["cores"], help="of every side")
    parser.add_argument("--rounds", type=int, default=report.ROUNDS)
    parser.add_argument("--steps", type=int, default=0, help=f"calls at a time; 0: as many as take {STRETCH} s")
    parser.add_argument("--peers", nargs="*", default=[""], help="beginnings of the sides that take part beside ours")
    parser.add_argument("--no_host", action="store_true", help="leave out the short runs through main")
    parser.add_argument("--output", type=Path, help=f"folder of the records; with {report.ROUNDS} rounds {RESULTS}")
    parser.add_argument("--render", action="store_true", help="make the tables of the records anew and run nothing")
    options = parser.parse_args()
    options.peers = tuple(options.peers)
    if options.render:
        report.write(options.output or RESULTS)
        return 0
    folder = options.output or (RESULTS if options.rounds >= report.ROUNDS else None)
    if hasattr(os, "sched_setaffinity"):  # and so of every process from here
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    failed = False
    for name in options.only or [name for name, case in cases.CASES.items() if options.device in case.devices]:
        print(f"{name} ...", flush=True)
        try:
            case = run_case(name, options)
        except SideError as error:
            failed = True
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        print(f"## {case['title']}\n\n{report.case_text(case)}\n", flush=True)
        if folder is not None and (options.output or name in cases.CASES):
            keep(folder, options, name, case)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
