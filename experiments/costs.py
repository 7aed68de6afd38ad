"""What the tables of `--profile=full` cost: all their steps on a TPU chip, by its compiler, and on an H200.

    python experiments/costs.py [TABLE ...]

For each table the control and the dearest arm are compiled for one v5e chip, as `gan-seg plan` does, without data and
without a TPU (pip install "jax[tpu]<0.12"; minutes each). experiments/README.md shows the figures after
`python experiments/collect.py --readme`. Hours are those of one chip; the cells of a table are independent of each
other, so that many chips take as many times less. Validation and scoring are not in them.
"""

import importlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import records
import tables
from cells import Arm, filled

RESULTS = records.ROOT / "experiments" / "results" / "costs"
CHIP = "v5e-1"
H200, SHARE = 989e12, 0.25  # operations a second at bfloat16 (data sheet, dense), and what of it a training may reach
# Table -> classes, and its dearest arm; tables of the same network, size and batch share the plans of one.
TABLES = {
    "question_camvid": (11, "eighth-lite0-unimatch"),
    "question_nuclei": (2, "twentieth-lite0-unimatch"),
    "semi_supervised": (21, "half-unimatch"),
    "pix2pix_losses": (12, "l1-cgan"),
    "deeplab": (21, "stride-8"),
    "imbalance": (19, "cross-entropy"),
}
LIKE = {
    "question_camvid": ("question_camvid", "discriminator"),
    "question_nuclei": (
        "question_nuclei",
        "medical_nuclei",
        "medical_em",
        "medical_isic",
        "augmentation",
        "adversary",
    ),
}


def main(names: list[str]) -> int:
    """Plan and keep; return the exit code."""
    for name in names or TABLES:
        classes, dearest = TABLES[name]
        arms = {arm.name: arm for arm in importlib.import_module(name).FULL}
        record = {each: _plan(arms[each], classes) for each in dict.fromkeys((next(iter(arms)), dearest))}
        RESULTS.mkdir(parents=True, exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
        print(*_rows(name, record), sep="\n", flush=True)
    return 0


def _flags(arm: Arm) -> list[str]:
    return [f"--config={arm.config}", *filled(arm.overrides, {"{seed}": "0", "{data_dir}": ".", "{workdir}": "."})]


def _steps(arm: Arm) -> int:
    return int(next(flag.partition("=")[2] for flag in reversed(arm.overrides) if flag.startswith("--config.steps=")))


def _plan(arm: Arm, classes: int) -> dict[str, Any]:
    """Return what the compiler says of an arm's step on one chip."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "plan.json"
        more = (f"--config.num_classes={classes}", f"--slice={CHIP}", f"--json={output}")
        command = [sys.executable, "-m", "gan_seg_jax.plan", *_flags(arm), *more]
        subprocess.run(command, cwd=records.ROOT, check=True, stdout=subprocess.DEVNULL)
        plan = json.loads(output.read_text())
    return {key: plan[key] for key in ("config", "dtype", "versions")} | plan["slices"][0]


def _rows(name: str, plans: dict[str, Any]) -> list[list[str]]:
    """Return a row for each table that shares the plans: what all its steps take, were they those of one or another."""
    chip = [plan["seconds"]["step"] if plan.get("seconds") else None for plan in plans.values()]
    gpu = [plan["flops"] / (H200 * SHARE) if "flops" in plan else None for plan in plans.values()]
    rows = []
    for table in LIKE.get(name, (name,)):
        arms = importlib.import_module(table).FULL
        cells = sum(len(arm.seeds) for arm in arms)
        steps = sum(len(arm.seeds) * _steps(arm) for arm in arms)
        hours = [
            " to ".join("does not fit" if one is None else f"{steps * one / 3600:,.0f}" for one in seconds)
            for seconds in (chip, gpu)
        ]
        rows.append([f"`python experiments/{table}.py --profile=full`", str(cells), f"{steps:,}", *hours])
    return rows


def summary(folder: Path = RESULTS) -> str:
    """Return the table of all that was planned; empty folders have none."""
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    if not found:
        return "Not run yet: `python experiments/costs.py`."
    head = ["command", "cells", "steps", "hours of a v5e chip, at best", f"of an H200 at {SHARE:.0%} of its peak"]
    return tables.markdown([head, *(row for name in TABLES if name in found for row in _rows(name, found[name]))])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
