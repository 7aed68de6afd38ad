"""Time our steps beside equal steps of other libraries: `python -m experiments.benchmark.compare [--only=cgan]`.

Every side of a case is a process of its own that is compiled and kept, and they work in turn, one at a time, the first
one another in each round. So a machine that slows down slows all alike, and a ratio is that of neighbours. All have the
same number of threads. Packages that are not installed are said in a sentence and the others go on:
`pip install "gan_seg_jax[benchmark]"`. Each case is kept as soon as it is done; docs/performance.md shows it after
`python experiments/collect.py --readme`.
"""

import argparse
import contextlib
import datetime
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from experiments.benchmark import cases, report
from gan_seg_jax.system import process

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as for `python experiments/TABLE.py`

import load
import records

RESULTS = records.ROOT / "experiments" / "results" / "benchmark"
MODULES = {  # of a step, and of a part
    "ours": ("ours", "parts"),
    "torch": ("peers.torch_steps", "peers.torch_parts"),
    "smp": ("peers.torch_steps", ""),
    "kerashub": ("peers.keras_steps", ""),
    "pydensecrf": ("", "peers.crf_part"),
}
PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}
STRETCH = 2.0  # seconds that a side works at a time, where one step is shorter
LOOP_STEPS, LOOP_LOG = 50, 10  # of the run through `main`


class SideError(Exception):
    """A side cannot take part; its text says why."""


class Side:
    """A process that waits for what it is told to do (`worker.serve`)."""

    def __init__(self, name: str, case: str, options: argparse.Namespace, folder: Path):
        """Start the process and wait until it has done everything once.

        Raises:
            SideError: it has ended, or says that a package is missing.
        """
        self.name, self._log = name, folder / f"{name}.log"
        part = bool((cases.CASES | cases.OTHERS)[case].part)
        module = f"experiments.benchmark.{MODULES[name.split('-')[0]][part]}"
        flags = {"case": case, "side": name, **{key: getattr(options, key) for key in ("device", "dtype", "threads")}}
        command = [sys.executable, "-m", module, *(f"--{key}={value}" for key, value in flags.items())]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                cwd=records.ROOT,
                env=environment(options, folder / f"{name}-cache", devices_of(name)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            self.facts = self._answer()
            if "missing" in self.facts:
                raise SideError(self.facts["missing"])
        except BaseException:
            self.stop()
            raise

    def run(self, work: str, count: int) -> float:
        """Return the seconds of one call of a work that was done so many times."""
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `_answer` says
            self._process.stdin.write(f"{work} {count}\n")
            self._process.stdin.flush()
        return self._answer()["seconds"] / count

    def end(self) -> int:
        """End the process; return its peak memory in bytes."""
        self._process.stdin.close()
        memory = self._answer()["memory"]
        self._process.wait()
        return memory

    def stop(self) -> None:
        """End the process in any case."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            lines = [text for text in self._log.read_text(errors="replace").splitlines() if text.strip()]
            raise SideError(f"the process of {self.name} ended: {lines[-1].strip() if lines else 'without a word'}")
        return json.loads(line)


def devices_of(side: str) -> int:
    """Return how many devices a side has: those of "ours-4-devices" are virtual ones of the processor."""
    found = re.fullmatch(r"ours-(\d+)-devices", side)
    return int(found[1]) if found else 1


def environment(options: argparse.Namespace, cache: Path, devices: int = 1) -> dict[str, str]:
    """Return the environment of a side; what it compiles lies in `cache`."""
    virtual = f" --xla_force_host_platform_device_count={devices}" if devices > 1 else ""
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {
        **os.environ,
        **threads,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + virtual,
        "JAX_PLATFORMS": PLATFORMS[options.device],
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the device
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
        "KERAS_BACKEND": "jax",
        process.TUNABLES: process.LARGE_PAGES,
        "TMPDIR": str(cache.parent),
        "PYTHONPATH": str(records.ROOT),
    }


def run_case(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the record of a case.

    Raises:
        SideError: our own side cannot run.
    """
    case, before, used = (cases.CASES | cases.OTHERS)[name], load.snapshot(), load.of_children()
    wanted = [side for side in ("ours", *case.peers) if side == "ours" or side.startswith(options.peers)]
    sides: dict[str, Side] = {}
    left_out: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        try:
            for side in wanted:
                try:
                    sides[side] = Side(side, name, options, folder)
                    check_parameters(side, sides[side].facts["parameters"], sides["ours"].facts["parameters"])
                except SideError as error:
                    if side == "ours":
                        raise
                    left_out[side] = str(error)
                    print(f"{name}: {side} is left out: {error}", flush=True)
                    if side in sides:
                        sides.pop(side).stop()
            first = {side: _first(process, name, options, folder) for side, process in sides.items()}
            seconds = measure(sides, options.rounds, options.steps)
            found = {}
            for side, process in sides.items():
                facts = {key: value for key, value in process.facts.items() if key != "first"}
                found[side] = {**facts, **first[side], "seconds": seconds[side], "memory": process.end()}
        finally:
            for process in sides.values():
                process.stop()
        loop = None
        if case.host and not options.no_host:
            try:
                loop = loop_seconds(name, options, folder)
            except SideError as error:
                left_out["main"] = str(error)
    flags = ("device", "dtype", "threads", "rounds")
    return {
        "title": case.title,
        "command": " ".join([report.COMMAND, f"--only={name}", *(f"--{key}={getattr(options, key)}" for key in flags)]),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        **records.git_state(records.ROOT),
        **{key: getattr(options, key) for key in ("dtype", "threads", "rounds")},
        "images": found["ours"]["images"],
        "sides": found,
        "left_out": left_out,
        "loop_seconds": loop,
        "load": load.between(before, load.snapshot(), load.of_children() - used),
    }


def check_parameters(side: str, theirs: Mapping[str, int], ours: Mapping[str, int]) -> None:
    """Raise SideError if a peer's networks are of another size than ours, by more than `cases` allows."""
    allowed = cases.TWIN if side.startswith("torch") else cases.LIBRARY
    for role, count in ours.items():
        if abs(theirs.get(role, 0) - count) > allowed * count:
            raise SideError(f"its {role} has {theirs.get(role, 0):,} parameters, ours {count:,}: no equal step.")


def _first(cold: Side, name: str, options: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Return the seconds of the first call of each work, cold and in a new process that finds what was compiled.

    Returns:
        {"first_cold": {work: seconds}, "first_warm": likewise}; {} of a side that compiles nothing.
    """
    if "eager" in cold.name or cold.name == "pydensecrf":
        return {}
    warm = Side(cold.name, name, options, folder)
    warm.end()
    return {"first_cold": cold.facts["first"], "first_warm": warm.facts["first"]}


def measure(sides: Mapping[str, Any], rounds: int, steps: int) -> dict[str, dict[str, list[float]]]:
    """Let the sides work in turn.

    Args:
        sides: each has `facts["first"]`, with a key for each of its works, and `run`.
        rounds: how often each works.
        steps: how many calls at a time; 0 is as many as take `STRETCH` seconds.

    Returns:
        side -> work -> the seconds of one call, in each round.
    """
    counts = {}
    for name, side in sides.items():
        once = {work: side.run(work, 1) for work in side.facts["first"]}
        counts[name] = {work: steps or max(1, math.ceil(STRETCH / max(once[work], 1e-6))) for work in once}
    seconds = {name: {work: [] for work in works} for name, works in counts.items()}
    order = list(sides)
    for number in range(rounds):
        first = number % len(order)
        for name in order[first:] + order[:first]:
            for work, count in counts[name].items():
                seconds[name][work].append(sides[name].run(work, count))
    return seconds


def loop_seconds(name: str, options: argparse.Namespace, folder: Path) -> float:
    """Return the seconds of a step of the training loop, input included: the median over a short run of `main`.

    Raises:
        SideError: the run failed.
    """
    workdir = folder / "run"
    fields = {
        "steps": LOOP_STEPS,
        "eval_every": LOOP_STEPS,
        "checkpoint_every": LOOP_STEPS,
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
    batch = json.loads((workdir / "config.json").read_text())["batch_size"]
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return batch / statistics.median(line["images_per_second"] for line in lines if line["split"] == "train")


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
    order = {key: found[key] for key in [*cases.CASES, *cases.OTHERS] if key in found}
    values = {"processor": processor, "device": options.device, "hardware": hardware, "cases": order}
    records.write_json(path, values)
    report.write(folder)


def main() -> int:
    """Run the cases, print and keep their tables; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", action="append", choices=[*cases.CASES, *cases.OTHERS], help="a case; may be repeated"
    )
    parser.add_argument("--device", default="cpu", choices=PLATFORMS)
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--threads", type=int, default=records.hardware()["cores"], help="of every side")
    parser.add_argument("--rounds", type=int, default=report.ROUNDS)
    parser.add_argument("--steps", type=int, default=0, help=f"calls at a time; 0: as many as take {STRETCH} s")
    parser.add_argument("--peers", nargs="*", default=[""], help="beginnings of the sides that take part beside ours")
    parser.add_argument("--no_host", action="store_true", help="leave out the short run through main")
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
    for name in options.only or cases.CASES:
        print(f"{name} ...", flush=True)
        try:
            case = run_case(name, options)
        except SideError as error:
            failed = True
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            continue
        print(f"## {case['title']}\n\n{report.case_text(case)}\n", flush=True)
        if folder is not None:
            keep(folder, options, name, case)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
