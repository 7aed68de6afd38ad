"""What the records of a processor come to, as Markdown: medians, spreads and ratios.

A record is `results/benchmark/PROCESSOR.json`, of `compare`; everything here follows from it alone.
"""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.benchmark import cases

COMMAND = "python -m experiments.benchmark.compare"
WITHIN = "python -m experiments.benchmark.within"
TITLE = "Speed beside other libraries"
GROUPS = {"ours": "ours", "torch": "PyTorch", "smp": "smp", "kerashub": "KerasHub", "pydensecrf": "pydensecrf"}
WORKS = {
    "step": "training step",
    "inference": "inference",
    "batch": "reading a batch",
    "evaluation": "evaluation of a split",
    "masks": "labelling files",
    "image": "an image",
}
ROUNDS = 7  # at least, for a record that is kept


class Row(NamedTuple):
    """One side at one work.

    Attributes:
        side: which side that is, such as "torch-compile".
        seconds: of one call: the median over rounds, the smallest and the largest.
        ratio: how many times as long as ours it takes, of each round: median, smallest, largest; None for ours.
        flops: of one call; None where there are none to count.
        share: of the peak, the fastest matrix product that any side of the case has measured; None without flops.
        values: what is known of the side.
    """

    side: str
    seconds: tuple[float, float, float]
    ratio: tuple[float, float, float] | None
    flops: float | None
    share: float | None
    values: Mapping[str, Any]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the smallest and the largest."""
    return statistics.median(values), min(values), max(values)


def every_row(case: Mapping[str, Any], work: str) -> list[Row]:
    """Return a row for each side that did a work, ours first, those of a library together."""
    sides = [side for side, values in case["sides"].items() if work in values["seconds"]]
    return [_row(case["sides"], side, work) for group in GROUPS for side in sides if side.split("-")[0] == group]


def rows(case: Mapping[str, Any], work: str) -> list[Row]:
    """Return a row for each library that took part, ours first; of several sides of one the fastest by median."""
    best: dict[str, Row] = {}
    for row in every_row(case, work):
        group = row.side.split("-")[0]
        if group not in best or row.seconds[0] < best[group].seconds[0]:
            best[group] = row
    return list(best.values())


def _row(sides: Mapping[str, Any], side: str, work: str) -> Row:
    values = sides[side]
    seconds, flops, ratio, share = values["seconds"][work], values["flops"].get(work), None, None
    if side != "ours" and work in sides["ours"]["seconds"]:
        pairs = zip(seconds, sides["ours"]["seconds"][work], strict=True)
        ratio = spread([theirs / ours for theirs, ours in pairs])
    if flops and "product" in values["seconds"]:
        products = (each for each in sides.values() if "product" in each["seconds"])
        peak = max(each["flops"]["product"] / min(each["seconds"]["product"]) for each in products)
        share = flops / statistics.median(seconds) / peak
    return Row(side, spread(seconds), ratio, flops, share, values)


def host_share(case: Mapping[str, Any]) -> tuple[float, float, float] | None:
    """Return the share of the training loop's time that is not the compiled step's: median, smallest, largest.

    Of each of the runs that took turns with the step; None where there are none.
    """
    if not case.get("host"):
        return None
    return spread([1 - step / loop for step, loop in zip(case["host"]["step"], case["host"]["loop"], strict=True)])


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table; the first line is its head."""
    head, *body = lines
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *body))


def case_text(case: Mapping[str, Any]) -> str:
    """Return everything that is known of a case."""
    parts = []
    for work, title in WORKS.items():
        found = every_row(case, work)
        if not found:
            continue
        head = ["", "ms", "images/s", "theirs / ours", "GFLOP", "of the peak", "first call, cold / warm, s", "MiB"]
        lines = [head, *(_line(row, case["images"][work], work) for row in found)]
        parts.append(f"{title[0].upper()}{title[1:]}:\n\n{markdown(lines)}")
    counts = {side: values["parameters"] for side, values in case["sides"].items() if values["parameters"]}
    if counts:
        shown = dict.fromkeys(f"{GROUPS[side.split('-')[0]]}: {_counts(roles)}" for side, roles in counts.items())
        parts.append("Parameters: " + "; ".join(shown) + ".")
    share = host_share(case)
    if share is not None:
        loop = f"{1e3 * statistics.median(case['host']['loop']):.0f} ms"
        parts.append(
            f"Host: a step of the training loop takes {loop}, of which {_shares(share)} is not the compiled step's."
        )
    parts += [f"Left out: {side}: {why}" for side, why in case["left_out"].items()]
    peers = next((one.peers for one in cases.ALL.values() if one.title == case["title"]), ())
    absent = [side for side in peers if side not in case["sides"] and side not in case["left_out"]]
    if absent:
        parts.append(f"Not asked for: {', '.join(absent)}.")
    busy = case["load"]["other_cpu_share"]
    beside = "" if busy is None else f"; other work took {busy:.0%} of the CPU time"
    versions = {name: text for values in case["sides"].values() for name, text in values["versions"].items()}
    listed = ", ".join(f"{name} {text}" for name, text in sorted(versions.items()))
    parts.append(
        f"{case['date']}, commit {str(case['commit'])[:8]}{' with changes' if case['dirty'] else ''}, {case['rounds']} "
        f"rounds, {case['threads']} threads, {case['dtype']}, {listed}{beside}. `{case['command']}`"
    )
    return "\n\n".join(parts)


def _line(row: Row, images: int, work: str) -> list[str]:
    median, low, high = (1e3 * value for value in row.seconds)
    first = [row.values.get(name, {}).get(work) for name in ("first_cold", "first_warm")]
    return [
        row.side,
        f"{_ms(median)} ({_ms(low)} to {_ms(high)})",
        f"{1e3 * images / median:.1f}",
        "" if row.ratio is None else "{:.2f} ({:.2f} to {:.2f})".format(*row.ratio),
        "-" if row.flops is None else f"{row.flops / 1e9:.1f}",
        "-" if row.share is None else f"{row.share:.0%}",
        " / ".join("-" if value is None else f"{value:.1f}" for value in first),
        f"{row.values['memory'] / 2**20:.0f}",
    ]


def _ms(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _shares(values: tuple[float, float, float]) -> str:
    return "{:.0%} ({:.0%} to {:.0%})".format(*values)


def _counts(roles: Mapping[str, int]) -> str:
    return ", ".join(f"{role} {count:,}" for role, count in sorted(roles.items()))


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the records of a folder, one for each processor."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def page(folder: Path) -> str:
    """Return the README.md of a folder of records."""
    parts = [f"# {TITLE}", f"Made from the records in this folder by `{COMMAND} --render`; not edited by hand."]
    parts.append("What is compared, and how: [docs/performance.md](../../../docs/performance.md).")
    found = read(folder)
    if not found:
        parts.append(f"Not run yet: `{COMMAND}`.")
    for record in found:
        parts.append(f"## {machine(record)}")
        parts += [f"### {case['title']}\n\n{case_text(case)}" for case in record["cases"].values()]
    return "\n\n".join(parts) + "\n"


def summary(folder: Path) -> str:
    """Return the short form for the docs: how many times as long as ours each library takes."""
    parts = []
    for record in read(folder):
        lines = [["", "work", "ours, ms", "images/s", *list(GROUPS.values())[1:], "of the peak", "host"]]
        for case in record["cases"].values():
            lines += _summary_lines(case)
        parts.append(f"{machine(record)}:\n\n{markdown(lines)}")
        wanted = [name for name, case in cases.CASES.items() if record["device"] in case.devices]
        left = [f"`{name}`" for name in wanted if name not in record["cases"]]
        if left:
            parts.append(f"Not run yet there: {', '.join(left)}.")
        commits: dict[str, list[str]] = {}
        for name, case in record["cases"].items():
            commits.setdefault(str(case["commit"])[:8], []).append(name)
        by_commit = "; ".join(f"{commit}: {', '.join(names)}" for commit, names in commits.items())
        parts.append(f"By commit: {by_commit}.")
        ratios = [ratio for case in record["cases"].values() if (ratio := product_ratio(case)) is not None]
        if ratios:
            shown = "{:.2f} ({:.2f} to {:.2f})".format(*spread(ratios))
            parts.append(
                f"A product of large square matrices alone: PyTorch takes {shown} times as long as XLA, by "
                f"{len(ratios)} cases."
            )
    return "\n\n".join(parts) or f"Not run yet: `{COMMAND}`."


def product_ratio(case: Mapping[str, Any]) -> float | None:
    """Return how many times as long as ours PyTorch takes for a product of matrices, with nothing else.

    The median over all rounds of all of its sides, which do the same.
    """
    mine = case["sides"]["ours"]["seconds"].get("product")
    theirs = [v["seconds"].get("product") for side, v in case["sides"].items() if side.startswith("torch")]
    ratios = [b / a for found in theirs if found and mine for a, b in zip(mine, found, strict=True)]
    return statistics.median(ratios) if ratios else None


def _summary_lines(case: Mapping[str, Any]) -> list[list[str]]:
    lines, share = [], host_share(case)
    for work, title in WORKS.items():
        found = {row.side.split("-")[0]: row for row in rows(case, work)}
        if "ours" not in found:
            continue
        ours = found["ours"]
        median, low, high = (1e3 * value for value in ours.seconds)
        lines.append([case["title"], title, f"{_ms(median)} ({_ms(low)} to {_ms(high)})"])
        lines[-1].append(f"{1e3 * case['images'][work] / median:.1f}")
        for group in list(GROUPS)[1:]:
            row = found.get(group)
            lines[-1].append("-" if row is None else "{:.2f} ({:.2f} to {:.2f})".format(*row.ratio))
        lines[-1].append("-" if ours.share is None else f"{ours.share:.0%}")
        lines[-1].append(_shares(share) if share is not None and work == "step" else "-")
    return lines


def machine(record: Mapping[str, Any]) -> str:
    """Return what a record was made on, and how, in words."""
    hardware, case = record["hardware"], next(iter(record["cases"].values()))
    device = "" if record["device"] == "cpu" else f"{record['processor']}, beside "
    threads = "" if case["threads"] == hardware["cores"] else f", {case['threads']} threads"
    dtype = "" if case["dtype"] == "float32" else f", {case['dtype']}"
    return f"{device}{hardware['cpu']}, {hardware['cores']} cores{threads}{dtype}"


KINDS = {  # of `within`: kind -> what a ratio is of, whether it is that of the second work to the first, must, aim
    "fused": ("a step: two updates compiled apart / fused", False, "at least 1.2, aim 1.45"),
    "adversarial": ("a step: adversarial / supervised, the same segmenter", False, "at most 1.6, aim 1.25"),
    "forms": ("a step: XLA's own convolutions / our forms", False, "-"),
    "options": ("a step: convolutions by YNNPACK / by Eigen, as ours", False, "-"),
    "atrous": ("3x3 convolution with gradients: atrous / plain", False, "at most 1.5, aim 1.15"),
    "kernel": ("gradient of a 3x3 kernel: share of a matrix product's speed", True, "at least 40%, aim 70%"),
    "devices": ("a step of the same batch: several virtual devices / one", False, "at most 1.15, aim 1.05"),
}


def within(folder: Path) -> str:
    """Return the tables of `within`: two works of ours, and how many times as long one takes as the other."""
    parts = []
    for record in read(folder):
        lines = [["", "", "ms", "against, ms", "ratio", "wanted"]]
        for kind in (kind for kind in KINDS if kind in record["kinds"]):
            title, flipped, wanted = KINDS[kind]
            for name, seconds in record["kinds"][kind]["seconds"].items():
                lines += _pairs(title, name, seconds, flipped=flipped, several=kind == "devices", wanted=wanted)
        hardware = record["hardware"]
        parts.append(f"{hardware['cpu']}, {hardware['cores']} cores:\n\n{markdown(lines)}")
    return "\n\n".join(parts) or f"Not run yet: `{WITHIN}`."


def _pairs(
    title: str, name: str, seconds: Mapping[str, Sequence[float]], *, flipped: bool, several: bool, wanted: str
) -> list[list[str]]:
    """Return a line for each pair: two works, or the first and each of the others."""
    names = list(seconds)
    pairs = [(other, names[0]) for other in names[1:]] if several else [(names[0], names[1])]
    lines = []
    for first, second in pairs:
        both = list(zip(seconds[first], seconds[second], strict=True))
        ratio = spread([b / a if flipped else a / b for a, b in both])
        shown = "{:.0%} ({:.0%} to {:.0%})" if flipped else "{:.2f} ({:.2f} to {:.2f})"
        times = [_ms(1e3 * statistics.median(seconds[work])) for work in (first, second)]
        lines.append([title, f"{name}: {first}" if several else name, *times, shown.format(*ratio), wanted])
    return lines


def write(folder: Path) -> None:
    """Write the README.md of a folder of records."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(page(folder))
