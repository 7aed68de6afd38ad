"""What trainings take on slices of Cloud TPUs, as a Markdown table of what `gan-seg plan --json=FILE` has written."""

import json
from pathlib import Path
from typing import Any

import tables

HEAD = ("config", "libtpu", "slice", "batch", "GiB of a chip", "TFLOP a chip", "GB moved", "messages")
HEAD += ("step at best, ms", "bound by", "images/s at best", "images/s a host must read", "of peak")
EMPTY = [""] * 7


def summary(folder: Path) -> str:
    """Return the table of a folder of plans, a row for each config and slice; the head names what they share.

    Args:
        folder: Of JSON files.
    """
    plans = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    if not plans:
        return "Not run yet: `gan-seg plan --json=FILE`."
    lines = [list(HEAD), *(_row(plan, found) for plan in plans for found in plan["slices"])]
    compilers = sorted({f"jax {plan['versions']['jax']} and libtpu {plan['versions']['libtpu']}" for plan in plans})
    kinds = {
        f"{plan['crop_size'][0]}x{plan['crop_size'][1]}, {plan['dtype']}, {plan['classes']} classes" for plan in plans
    }
    return f"By {', '.join(compilers)}; {', '.join(sorted(kinds))}:\n\n{tables.markdown(lines)}"


def _row(plan: dict[str, Any], found: dict[str, Any]) -> list[str]:
    row = [plan["config"], plan["versions"]["libtpu"], found["slice"], str(found["batch"])]
    if "crashed" in found:
        return [*row, "compiler crashed", *EMPTY, ""]
    used, seconds = found["memory"], found.get("seconds")
    row.append(f"{used['total'] / 2**30:.1f} of {used['hbm'] / 2**30:.1f}")
    if seconds is None:
        return [*row, "does not fit", *EMPTY]
    sent = (f"{each['count']} {kind} of {each['bytes'] / 1e6:.1f} MB" for kind, each in found["collectives"].items())
    speed, share = found["images_per_second"], found["share_of_peak"]
    return [
        *row,
        f"{found['flops_per_chip'] / 1e12:.3f}",
        f"{found['bytes_moved_per_chip'] / 1e9:.1f}",
        ", ".join(sent) or "none",
        f"{seconds['step'] * 1e3:.1f}",
        found["bound"],
        f"{speed:,.0f}",
        f"{found['images_read_per_second_of_a_host']:,.0f}",
        f"{share:.0%}",
    ]
