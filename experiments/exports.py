"""A table for other programs: CSV, LaTeX, and a plot of its differences."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import tables
from claims import Claim
from intervals import mean_interval
from reading import Table
from tables import text

MARKED = {"*": "yes", "": "no", "?": "unknown"}  # by the marks behind speeds
LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
LATEX |= {letter: f"\\{letter}" for letter in "&%$#_{}"}


def csv_text(table: Table) -> str:
    """Return a row for each arm and baseline: means and half 95% t-intervals, the claim, the published figure.

    `beside_other_work` says whether images/s and minutes are the machine's: yes, no or unknown.
    """
    shown = tables.shown_columns(table.rows)
    of = {claim.arm: claim for claim in table.claims}
    names = [half for score in shown for half in (score, f"{score}_half")]
    head = ["arm", "n", *names, "images_per_second", "minutes", "beside_other_work", "flops", "reference", "pairs"]
    head += ["difference", "difference_half", "images_low", "images_high", "images_seeds", "p", "p_holm"]
    head += ["published", "source"]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(head)
    for name, seeds in table.rows.items():
        found = table.arms.get(name, ())
        values = [value for score in shown for value in mean_interval([one.get(score) for one in seeds.values()])]
        minutes = [None if record["seconds"] is None else record["seconds"] / 60 for record in found]
        values += [mean_interval(measure)[0] for measure in ([r["images_per_second"] for r in found], minutes)]
        values += [MARKED[tables.load_mark(found)] if found else None]
        values += [mean_interval([r.get("flops") for r in found])[0]]
        claim = of.get(name)
        if claim is None:
            values += [None] * 9
        else:
            low, high = claim.images or (None, None)
            values += [claim.reference, claim.pairs, claim.mean, claim.half, low, high]
            values += [claim.image_seeds, claim.p, claim.adjusted]
        published = table.published.get(name, {})
        values += [published.get("value"), published.get("source")]
        plain = (f"{value:.6g}" if isinstance(value, float) else "" if value is None else value for value in values)
        writer.writerow([name, len(seeds), *plain])
    return buffer.getvalue()


def latex(table: Table, header: Sequence[str]) -> str:
    """Return a tabular of booktabs: the first score of each arm, its difference, both intervals, Holm's p.

    Args:
        table: the table.
        header: what holds for all of it; stands above as comments.
    """
    score, title = next(iter(tables.columns(table.rows).items()))
    of = {claim.arm: claim for claim in table.claims}
    lines = [f"% {line}" for line in header]
    lines += [r"\begin{tabular}{lrrlrrr}", r"\toprule"]
    heads = ["", "$n$", title, "against", "difference", "over test images", "$p$ (Holm)"]
    lines += [" & ".join(heads) + r" \\", r"\midrule"]
    for name, seeds in table.rows.items():
        cells = [_escaped(name), str(len(seeds)), _interval(*mean_interval([one.get(score) for one in seeds.values()]))]
        claim = of.get(name)
        if claim is None:
            cells += [""] * 4
        else:
            bounds = tables.bounds_text(claim.images, claim.image_seeds, claim.pairs)
            images = "--" if claim.images is None else f"${bounds}$"
            p = "--" if claim.adjusted is None else f"${tables.p_text(claim.adjusted)}$"
            cells += [_escaped(claim.reference), _interval(claim.mean, claim.half, "+.4f"), images, p]
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _interval(mean: float | None, half: float | None, spec: str = ".4f") -> str:
    if mean is None:
        return "--"
    around = "" if half is None else rf" \pm {half:.4f}"
    return f"${text(mean, spec)}{around}$"


def _escaped(words: str) -> str:
    return re.sub(r"[\\~^&%$#_{}]", lambda letter: LATEX[letter[0]], words)


def plot(found: Sequence[Claim], title: str, path: Path) -> None:
    """Draw the difference of each arm with its interval over seeds (thick) and over test images (thin).

    Args:
        found: the claims that have pairs, and any interval.
        title: of the score.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 0.9 + 0.35 * len(found)), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvline(0, color="0.6", linewidth=1)
    for row, claim in enumerate(found):
        if claim.half is not None:
            bounds = [claim.mean - claim.half, claim.mean + claim.half]
            axes.plot(bounds, [row - 0.12] * 2, color="C0", linewidth=4, solid_capstyle="butt", alpha=0.5)
        if claim.images is not None:
            axes.plot(claim.images, [row + 0.12] * 2, color="C1", linewidth=1.5)
        axes.plot([claim.mean], [row], "o", color="black", markersize=4)
    if any(claim.half is not None for claim in found):
        axes.plot([], [], color="C0", linewidth=4, alpha=0.5, label="95%, over seeds")
    if any(claim.images is not None for claim in found):
        axes.plot([], [], color="C1", linewidth=1.5, label="95%, over test images")
    axes.set_yticks(range(len(found)), [f"{claim.arm} - {claim.reference}" for claim in found], fontsize=8)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel(f"difference in {title}")
    figure.legend(loc="outside upper right", ncols=2, frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Software": None})
