"""All tables in a line each: how much of them is run, what a cell takes, and what came out.

experiments/README.md shows it (`<!-- results: overview -->`, `python experiments/collect.py --readme`).
"""

import statistics
from pathlib import Path

import tables
from answer import LEVEL, SEEDS
from reading import Table

HEAD = ("table", "script", "cells run", "minutes each", "control", "largest difference", "sure", "published")


def summary(results: Path) -> str:
    """Return a row for each table, those of the question first.

    Args:
        results: folder of the tables.

    Raises:
        RecordsError: as of `reading.Table`.
    """
    folders = [path.parent for path in results.glob("*/table.json")]
    folders.sort(key=lambda folder: (not folder.name.startswith("question"), folder.name))
    return tables.markdown([HEAD, *(_row(Table(folder)) for folder in folders)])


def _row(table: Table) -> list[str]:
    name = table.folder.name
    cells = sum(len(arm["cells"]) for arm in table.listed["arms"])
    row = [f"[{table.listed['title']}](results/{name}/README.md)", f"`{table.listed['script']}`"]
    row.append(f"{len(table.finished)} of {cells}")
    if not table.finished:
        return [*row, *("" for _ in HEAD[3:])]
    minutes = [record["seconds"] / 60 for record in table.finished if record["seconds"] is not None]
    row.append(f"{statistics.median(minutes):.1f}{tables.load_mark(table.finished)}" if minutes else "-")
    score, title = next(iter(tables.columns(table.rows).items()))
    run = [arm for arm, found in table.arms.items() if found]
    control = next((arm for arm in run if arm in table.references.values()), run[0])
    row.append(f"{control}: {title} {_mean(table, control, score)}")
    claims = [claim for claim in table.claims if claim.half is not None and claim.pairs >= SEEDS]
    largest = max(claims, key=lambda claim: abs(claim.mean), default=None)
    row.append("" if largest is None else f"{largest.arm}: {largest.mean:+.3f} ± {largest.half:.3f}")
    row.append(f"{sum(claim.adjusted < LEVEL for claim in claims)} of {len(claims)}" if claims else "")
    compared = [f"{arm}: {_mean(table, arm, score)}, {figure['value']:g}" for arm, figure in table.published.items()]
    return [*row, "; ".join(compared)]


def _mean(table: Table, arm: str, score: str) -> str:
    return tables.mean_text([one.get(score) for one in table.rows[arm].values()], ".3f")
