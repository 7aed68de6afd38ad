"""The answer to the question behind all tables: `question_camvid.py` and `question_nuclei.py` in short, and one plot.

README.md and docs/results.md show both (`<!-- results: answer -->`, `python experiments/collect.py --readme`); every
word and number here follows from the records.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tables
from claims import Claim
from reading import Table

TABLES = {"question_camvid": "CamVid", "question_nuclei": "nuclei"}
PLOT = "answer.png"
LABELS = {"all": "all labels", "eighth": "1/8 of the labels", "twentieth": "1/20 of the labels"}
STARTS = {"scratch": "from scratch", "lite0": "over ImageNet's weights"}
LEVEL = 0.05
SEEDS = 3  # of a difference, at least
GAN, RIVAL, LONGER, PATH = "GANs", "rivals without a GAN", "more steps", "GANs' paths without the game"
METHODS = {  # last part of an arm's name -> what it is, and of which kind
    "cgan": ("conditional GAN", GAN),
    "luc": ("a discriminator of masks", GAN),
    "refinement": ("refinement by a GAN", GAN),
    "advsemiseg": ("AdvSemiSeg", GAN),
    "s4gan": ("S4GAN", GAN),
    "spade": ("pairs made by SPADE", GAN),
    "mean_teacher": ("mean teacher", RIVAL),
    "fixmatch": ("FixMatch", RIVAL),
    "unimatch": ("UniMatch", RIVAL),
    "longer": ("longer training", LONGER),
    "cgan-lambda0": ("conditional GAN without its game", PATH),
    "refinement-lambda0": ("refinement without its game", PATH),
}
KINDS = {GAN: "C3", RIVAL: "C0", LONGER: "C2", PATH: "0.5"}  # kind -> its colour


class Found(NamedTuple):
    """A difference of the question's tables.

    Attributes:
        data: value of TABLES.
        setting: labels and start, in words.
        method: key of METHODS.
        claim: the difference.
    """

    data: str
    setting: str
    method: str
    claim: Claim

    @property
    def enough(self) -> bool:
        """Whether it rests on as many seeds as are asked for."""
        return self.claim.pairs >= SEEDS


def found(results: Path) -> list[Found]:
    """Return all differences by table and setting, those of too few seeds included."""
    return [
        _named(data, claim)
        for name, data in TABLES.items()
        if (results / name / "table.json").exists()
        for claim in Table(results / name).claims
    ]


def _named(data: str, claim: Claim) -> Found:
    labels, start, method = claim.arm.split("-", 2)
    return Found(data, f"{LABELS[labels]}, {STARTS[start]}", method, claim)


def summary(results: Path) -> str:
    """Return what each kind of methods came to, in a sentence, and a table: methods by settings.

    Args:
        results: folder of the tables.
    """
    wanted = found(results)
    every = [one for one in wanted if one.enough]
    if not every:
        return "Not run yet: `python experiments/question_camvid.py`, `python experiments/question_nuclei.py`."
    lines = [f"- {_sentence(kind, chosen)}" for kind in KINDS if (chosen := _of(every, kind))]
    if len(every) < len(wanted):
        lines.append(
            f"- Not run yet, or in fewer than {SEEDS} seeds: {len(wanted) - len(every)} of {len(wanted)} differences."
        )
    parts = ["\n".join(lines)]
    for data in dict.fromkeys(one.data for one in every):
        cells = {(one.method, one.setting): _cell(one.claim) for one in every if one.data == data}
        settings = list(dict.fromkeys(setting for _, setting in cells))
        rows = [
            [name, *(cells.get((method, setting), "") for setting in settings)]
            for method, (name, _) in METHODS.items()
            if any((method, setting) in cells for setting in settings)
        ]
        parts.append(tables.markdown([[data, *settings], *rows]))
    return "\n\n".join(parts)


def _of(every: Sequence[Found], kind: str) -> list[Found]:
    return [one for one in every if METHODS[one.method][1] == kind]


def _cell(claim: Claim) -> str:
    """Return a difference; bold where it is sure."""
    text = _signed(claim.mean) + ("" if claim.half is None else f" ± {claim.half:.3f}")
    return f"**{text}**" if _sure(claim) else text


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return text if float(text) else "0.000"


def _sure(claim: Claim) -> bool:
    return claim.adjusted is not None and claim.adjusted < LEVEL


def _sentence(kind: str, chosen: Sequence[Found]) -> str:
    better = sum(_sure(one.claim) and one.claim.mean > 0 for one in chosen)
    worse = sum(_sure(one.claim) and one.claim.mean < 0 for one in chosen)
    name = f"**{kind[0].upper()}{kind[1:]}**"
    ends = [one.claim.mean + one.claim.half for one in chosen if one.claim.half is not None]
    most = f"; no interval ends above {_signed(max(ends))}" if ends else ""
    sure = f"{better} of {len(chosen)} surely above zero, {worse} surely below{most}"
    if len(chosen) == 1:
        return f"{name}: {_told(chosen[0])}; {sure}."
    low, high = (pick(chosen, key=lambda one: one.claim.mean) for pick in (min, max))
    mean = sum(one.claim.mean for one in chosen) / len(chosen)
    return f"{name}: {sure}; {_signed(mean)} in the mean, {_told(low)} at the lowest, {_told(high)} at the highest."


def _told(one: Found) -> str:
    return f"{_signed(one.claim.mean)} ({METHODS[one.method][0]}; {one.data}, {one.setting})"


def plot(results: Path, path: Path) -> None:
    """Draw all differences on one axis, grouped by setting, coloured by kind; nothing where there are none.

    Args:
        results: folder of the tables.
        path: of the PNG.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    every = [one for one in found(results) if one.enough]
    if not every:
        path.unlink(missing_ok=True)
        return
    settings = dict.fromkeys((one.data, one.setting) for one in every)
    count = len(every) + len(settings)
    figure = Figure(figsize=(8.0, 1.1 + 0.21 * count), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvline(0, color="0.6", linewidth=1)
    order, labels, row = list(METHODS), [], 0
    for setting in settings:
        labels.append((row, ", ".join(setting)))
        for one in sorted((o for o in every if (o.data, o.setting) == setting), key=lambda o: order.index(o.method)):
            row += 1
            claim, (name, kind) = one.claim, METHODS[one.method]
            bounds = [claim.mean - claim.half, claim.mean + claim.half]
            axes.plot(bounds, [row, row], color=KINDS[kind], linewidth=3.5, solid_capstyle="butt", alpha=0.6)
            if claim.images is not None:
                axes.plot(claim.images, [row + 0.3] * 2, color="black", linewidth=1)
            axes.plot([claim.mean], [row], "o", color=KINDS[kind], markersize=4)
            labels.append((row, name))
        row += 1
    for kind, colour in KINDS.items():
        if _of(every, kind):
            axes.plot([], [], color=colour, linewidth=3.5, alpha=0.6, label=kind)
    axes.plot([], [], color="black", linewidth=1, label="over test images")
    axes.set_yticks([position for position, _ in labels], [text for _, text in labels], fontsize=8)
    names = {name for name, _ in METHODS.values()}
    for tick, (_, text) in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_fontweight("normal" if text in names else "bold")
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(row, -1)
    axes.set_xlabel("difference in mIoU, 95% intervals over seeds")
    axes.grid(axis="x", color="0.9", linewidth=0.5)
    figure.legend(loc="outside upper center", ncols=5, frameon=False, fontsize=8)
    figure.savefig(path, metadata={"Software": None})
