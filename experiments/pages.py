"""The result tables of the project's pages, made from the records alone.

On a page a table stands between `<!-- results: NAME -->` and `<!-- end of results -->`: NAME is a folder of
experiments/results, `answer`, all that the question's tables came to, `overview`, all tables in a line each, `gains`,
what the discriminator adds in every table, `benchmark`, `targets` and `within`, speeds, `plan`, what trainings take on
slices of TPUs, or `costs`, what the tables of `--profile=full` take. `<!-- results: NAME ARM ARM -->` has some of its
arms: those, and those whose names begin with one of them and a hyphen.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import answer
import costs
import overview
import plans
import tables
from benchmark import report, targets
from reading import RecordsError, Table

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
PAGES = (
    "README.md",
    "docs/README.zh-CN.md",
    "docs/accelerators.md",
    "docs/faq.md",
    "docs/performance.md",
    "docs/results.md",
    "experiments/README.md",
    *(path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "docs" / "methods").glob("*.md"))),
)
BLOCK = re.compile(r"(<!-- results: (\w+(?: [\w-]+)*) -->\n).*?(\n<!-- end of results -->)", re.DOTALL)


def summary(folder: Path, arms: Sequence[str] = ()) -> str:
    """Return the short form of a table: the first score of each arm, and its difference to the reference.

    Args:
        folder: of the table.
        arms: which of its arms, and of those whose names begin so; none is all, and how inference changes them.

    Raises:
        RecordsError: as of `collect`, or the table has no such arm.
    """
    table = Table(folder)
    command = f"`python experiments/{table.listed['script']}`"
    rows = _chosen(table, arms)
    finished = [record for record in table.finished if record["arm"] in rows]
    if not finished:
        return f"{table.listed['title']} (not run yet: {command})"
    score, header = next(iter(tables.columns(table.rows).items()))
    last = tables.ending_text(finished, "runs")
    lines = [["", "seeds", header]]
    if table.references:
        lines[0] += ["against", "difference", "over test images"]
    if table.adapts:
        lines[0].append("last step")
    for name, seeds in rows.items():
        if not any(score in one for one in seeds.values()):
            continue
        line = [name, str(len(seeds)), tables.mean_text([one.get(score) for one in seeds.values()], ".3f")]
        if table.references:
            line += _against(table, name, score)
        if table.adapts:
            at_last = tables.last_scores(table.arms.get(name, ()))
            line.append(tables.mean_text([one.get(score) for one in at_last.values()], ".3f"))
        lines.append(line)
    missing = [name for name, seeds in rows.items() if not seeds]
    parts = [f"{table.listed['title']} ({command}{f'; {last}' if last else ''}):", tables.markdown(lines)]
    if missing:
        parts.append(f"Not run yet: {', '.join(f'`{name}`' for name in missing)}.")
    tagged = {name for record in finished for name in record.get("evaluations", {}) if name.startswith("test-")}
    if not arms and tagged:
        parts.append(tables.inference_table(table.rows, table.arms))
    if not arms and any("test" in record.get("judgings", {}) for record in finished):
        parts.append(tables.judgings_table(table.arms, "test"))
    if not arms and (per_image := tables.per_image_table(table.arms, table.references)):
        parts.append(per_image)
    return "\n\n".join(parts)


def _chosen(table: Table, arms: Sequence[str]) -> dict[str, Any]:
    """Return the rows of a table that `arms` names."""
    for arm in arms:
        if not any(_is_of(name, arm) for name in table.rows):
            raise RecordsError(f"{table.listed['title']}: there is no arm {arm}; there are {', '.join(table.rows)}.")
    return {name: row for name, row in table.rows.items() if not arms or any(_is_of(name, arm) for arm in arms)}


def _is_of(name: str, arm: str) -> bool:
    return name == arm or name.startswith(f"{arm}-")


def _against(table: Table, name: str, score: str) -> list[str]:
    """Return the reference of an arm, its difference and the interval over images."""
    reference = table.references.get(name)
    if reference is None:
        return ["", "", ""]
    pair = ({seed: one.get(score) for seed, one in table.rows[arm].items()} for arm in (reference, name))
    pairs, difference = tables.difference_text(*pair)
    bounds = tables.image_bounds(table.arms[name], table.arms[reference], score)
    return [reference, difference, tables.bounds_text(*bounds, pairs)]


def gains(results: Path = RESULTS) -> str:
    """Return what the discriminator adds: of all tables, the arms that stand against their own path without it.

    Such a control is called `lambda0`. An arm without a pair of finished runs is counted, not shown.

    Raises:
        RecordsError: as of `reading.Table`.
    """
    lines = [["method (table)", "seeds", "mIoU without", "with", "difference", "over test images"]]
    missing = 0
    for folder in sorted(path.parent for path in results.glob("*/table.json")):
        table = Table(folder)
        for name, reference in table.references.items():
            if not reference.endswith("lambda0"):
                continue
            scores = [{seed: one.get("miou") for seed, one in table.rows[arm].items()} for arm in (reference, name)]
            pairs = tables.difference_text(*scores)[0]
            if not pairs:
                missing += 1
                continue
            shared = [[one[seed] for seed in sorted(set(scores[0]) & set(scores[1]))] for one in scores]
            means = [tables.mean_text(values, ".3f") for values in shared]
            lines.append([f"{name} (`{folder.name}`)", str(pairs), *means, *_against(table, name, "miou")[1:]])
    text = tables.markdown(lines)
    return f"{text}\n\nNot run yet: {missing} of {missing + len(lines) - 1} such pairs." if missing else text


# What is no table of runs.
OTHERS = {
    "answer": answer.summary,
    "overview": overview.summary,
    "gains": gains,
    "benchmark": lambda results: report.summary(results / "benchmark"),
    "targets": lambda results: targets.table(results / "benchmark"),
    "within": lambda results: report.within(results / "benchmark" / "within"),
    "plan": lambda results: plans.summary(results / "plan"),
    "costs": lambda results: costs.summary(results / "costs"),
}


def with_results(text: str, results: Path = RESULTS) -> str:
    """Return a text with every table between its markers made anew from the records.

    Raises:
        RecordsError: a marker names no table, or no arm of it.
    """

    def made(name: str, *arms: str) -> str:
        if name in OTHERS:
            return OTHERS[name](results)
        return summary(results / name, arms)

    return BLOCK.sub(lambda found: f"{found[1]}\n{made(*found[2].split())}\n{found[3]}", text)


def write() -> None:
    """Make the tables of all pages anew.

    Raises:
        RecordsError: a marker names no table.
    """
    for page in PAGES:
        path = ROOT / page
        path.write_text(with_results(path.read_text()))
    answer.plot(RESULTS, RESULTS / answer.PLOT)
