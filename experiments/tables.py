"""The Markdown of a table: rows from records, nothing read and nothing written."""

import json
import shlex
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import load
import records
from comparison import ABSENT
from intervals import bootstrap_difference, class_iou, mean_interval, paired_differences, same_images, stopped_rising

SCORES = {
    "miou": "mIoU",
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "boundary_f1": "boundary F1",
}
GENERATION_SCORES = {  # of tables whose runs make images
    "frechet": "Frechet distance",
    "frechet_real": "of real images",
    "kernel": "kernel distance",
    "precision": "precision",
    "recall": "recall",
    "diversity": "diversity",
    "judge_miou": "mIoU of masks found",
    "judge_miou_real": "in real images",
}
RARE = 0.02  # of the labelled pixels: classes that have less are rare
MARKS = {True: "*", False: "", None: "?"}  # by whether a cell ran beside other work
Record = dict[str, Any]
Rows = Mapping[str, Mapping[int, Record]]  # arm or baseline -> seed -> scores


def columns(rows: Rows) -> dict[str, str]:
    """Return the scores that the runs have, and their headers."""
    names = {name for seeds in rows.values() for one in seeds.values() for name in one}
    if "frechet" in names:
        return GENERATION_SCORES
    return {"rare_miou": "mIoU of rare classes", **SCORES} if "rare_miou" in names else SCORES


def shown_columns(rows: Rows) -> dict[str, str]:
    """Return the `columns`, and the F1 of edges and the mIoU where any run has them."""
    edges = any(one.get("edge_f1") is not None for seeds in rows.values() for one in seeds.values())
    shown = columns(rows) | ({"edge_f1": "edge F1"} if edges else {})
    labels = any("miou" in one for seeds in rows.values() for one in seeds.values())
    return shown | ({"miou": "mIoU"} if labels else {})  # of the segmenter in a table of generators


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column left and the others right; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join(["---"] + ["---:"] * (len(rows[0]) - 1)) + "|", *lines[1:]])


def text(value: float | None, spec: str) -> str:
    """Return a number as text, "-" for None."""
    return "-" if value is None else format(value, spec)


def mean_text(values: Sequence[float | None], spec: str) -> str:
    """Return "mean ± half width"; says on how many seeds it rests if some are undefined."""
    mean, half = mean_interval(values)
    known = sum(value is not None for value in values)
    partly = f" (n={known})" if 0 < known < len(values) else ""
    return text(mean, spec) + ("" if half is None else f" ± {format(half, spec.lstrip('+'))}") + partly


def ending_text(finished: Sequence[Record], cells: str) -> str:
    """Return in how many runs the best step was the last, and by how much the last validations still differed.

    Args:
        finished: records.
        cells: what they are called.

    Returns:
        "" where none was trained in steps.
    """
    ended = [stopped for record in finished if (stopped := stopped_rising(record)) is not None]
    if not ended:
        return ""
    text = f"in {ended.count(False)} of {len(ended)} {cells} the best step was the last"
    pairs = (record.get("validations", ())[-2:] for record in finished)
    changes = [pair[1][1] - pair[0][1] for pair in pairs if len(pair) == 2 and None not in (pair[0][1], pair[1][1])]
    if not changes:
        return text
    return f"{text}, the last validation {statistics.median(changes):+.3f} from the one before in the median"


def difference_text(first: Mapping[int, float | None], other: Mapping[int, float | None]) -> tuple[int, str]:
    """Return (pairs, "mean ± half width" of the difference)."""
    pairs, mean, half = paired_differences(first, other)
    return pairs, text(mean, "+.4f") + ("" if half is None else f" ± {half:.4f}")


def load_mark(found: Sequence[Record]) -> str:
    """Return "*" if any of the cells ran beside other work, "?" if that of any is not known, else ""."""
    return _worst(load.beside_other_work(record.get("load"), 1 + len(record["resumed"])) for record in found)


def _worst(beside: Iterable[bool | None]) -> str:
    marks = [MARKS[one] for one in beside]
    return "*" if "*" in marks else "?" if "?" in marks else ""


def scores_table(rows: Rows, arms: Mapping[str, Sequence[Record]]) -> str:
    """Return the mean scores of every arm and baseline; speeds are marked by `load_mark`."""
    shown = shown_columns(rows)
    lines = [["", "n", *shown.values(), "images/s", "minutes"]]
    for name, seeds in rows.items():
        scores = [mean_text([one.get(score) for one in seeds.values()], ".4f") for score in shown]
        found = arms.get(name, ())
        minutes = [None if record["seconds"] is None else record["seconds"] / 60 for record in found]
        times = [mean_text([record["images_per_second"] for record in found], ".1f"), mean_text(minutes, ".1f")]
        marked = (value if value == "-" else value + load_mark(found) for value in times)
        lines.append([name, str(len(seeds)), *scores, *marked])
    return markdown(lines)


def image_bounds(
    arm: Sequence[Record], reference: Sequence[Record], score: str = "miou"
) -> tuple[tuple[float, float] | None, int]:
    """Return the interval of the paired bootstrap over test images, and the number of seeds on which it rests.

    Seeds count for which both records hold counts, of the same images; without any the interval is None, and so it is
    of scores other than the mean IoU, of all classes or of the rare ones.
    """
    if score not in ("miou", "rare_miou"):
        return None, 0
    first, other = (
        {r["seed"]: records.unpack_counts(r["image_counts"]) for r in found if r.get("image_counts")}
        for found in (reference, arm)
    )
    seeds = sum(same_images(first[seed], other[seed]) for seed in first.keys() & other.keys())
    if score == "miou" or not seeds:
        return bootstrap_difference(first, other), seeds
    truth = sum(counts[..., 0].sum(0) + counts[..., 2].sum(0) for counts in first.values())
    rare = (truth > 0) & (truth < RARE * truth.sum())
    return bootstrap_difference(first, other, score=lambda pooled: class_iou(pooled)[..., rare].mean(-1)), seeds


def bounds_text(bounds: tuple[float, float] | None, seeds: int, pairs: int) -> str:
    """Return an interval of differences as "[low, high]", "-" for None; says on how many seeds it rests if not on all.

    Args:
        bounds: the interval.
        seeds: on which it rests.
        pairs: seeds on which the difference rests.
    """
    partly = f" (n={seeds})" if seeds < pairs else ""
    return "-" if bounds is None else f"[{bounds[0]:+.4f}, {bounds[1]:+.4f}]{partly}"


def p_text(p: float | None) -> str:
    """Return a p-value as text, "-" for None."""
    return "-" if p is None else "<0.001" if p < 0.001 else f"{p:.3f}"


def differences_table(rows: Rows, found: Sequence[Any]) -> str:
    """Return each arm's difference to its reference, paired by seed.

    Args:
        rows: arm -> seed -> scores.
        found: the table's `claims.Claim`s; where any has a p-value, there are columns of them.
    """
    shown = columns(rows)
    lines = [["", "reference", "pairs", *shown.values()]]
    more = {}
    if "miou" in shown:
        more[f"{next(iter(shown.values()))} over images"] = lambda claim: bounds_text(
            claim.images, claim.image_seeds, claim.pairs
        )
    if any(claim.p is not None for claim in found):
        more |= {"p": lambda claim: p_text(claim.p), "p (Holm)": lambda claim: p_text(claim.adjusted)}
    lines[0][4:4] = more
    for claim in found:
        line, pairs = [], []
        for score in shown:
            of = (claim.reference, claim.arm)
            count, difference = difference_text(*({seed: one.get(score) for seed, one in rows[a].items()} for a in of))
            pairs.append(count)
            line.append(difference)
        line[1:1] = [write(claim) for write in more.values()]
        lines.append([claim.arm, claim.reference, str(max(pairs)), *line])
    return markdown(lines)


def published_table(rows: Rows, published: Mapping[str, Record]) -> str:
    """Return the first score of the arms for which a figure was published, beside it and its source."""
    score, title = next(iter(columns(rows).items()))
    lines = [["", "n", title, "published", "source"]]
    for name, figure in published.items():
        ours = mean_text([one.get(score) for one in rows[name].values()], ".4f")
        lines.append([name, str(len(rows[name])), ours, f"{figure['value']:g}", figure["source"]])
    return markdown(lines)


def compute_table(arms: Mapping[str, Sequence[Record]], references: Mapping[str, str]) -> str:
    """Return what each arm was trained with: labels, steps and operations; "" where no record holds operations."""
    flops = {name: mean_interval([record.get("flops") for record in found])[0] for name, found in arms.items() if found}
    if all(value is None for value in flops.values()):
        return ""
    lines = [["", "labelled images", "steps", "PFLOP", "times its reference's"]]
    for name, value in flops.items():
        of_reference = flops.get(references.get(name, ""))
        times = value / of_reference if value is not None and of_reference else None
        labelled = dict.fromkeys(str((record.get("labelled") or {}).get("images", "-")) for record in arms[name])
        steps = dict.fromkeys(str(record["steps"]) for record in arms[name])
        petaflops = None if value is None else value / 1e15
        lines.append([name, " or ".join(labelled), " or ".join(steps), text(petaflops, ".3g"), text(times, ".2f")])
    return markdown(lines)


def last_scores(found: Sequence[Record]) -> dict[int, Record]:
    """Return seed -> scores of the last step, of the records that have them."""
    return {r["seed"]: of["test"] or of["val"] or {} for r in found if (of := r["scores"].get("last"))}


def last_table(rows: Rows, arms: Mapping[str, Sequence[Record]], references: Mapping[str, str]) -> str:
    """Return the scores of the last step, and how they differ from the reference's."""
    shown = {score: header for score, header in columns(rows).items() if score != "rare_miou"}  # no confusion there
    last = {name: last_scores(found) for name, found in arms.items()}
    score, header = next(iter(shown.items()))
    lines = [["", "n", *shown.values(), "reference", f"difference in {header}"]]
    for name, seeds in last.items():
        values = [mean_text([one.get(s) for one in seeds.values()], ".4f") for s in shown]
        reference, difference = references.get(name, ""), "-"
        if reference:
            pair = ({seed: one.get(score) for seed, one in last[arm].items()} for arm in (reference, name))
            _, difference = difference_text(*pair)
        lines.append([name, str(len(seeds)), *values, reference or "-", difference])
    return markdown(lines)


def evaluations_table(arms: Mapping[str, Sequence[Record]]) -> str:
    """Return a row for each arm and each `evaluation-NAME.json` that its runs left; "" without other inference."""
    lines = [["", "n", "mIoU", "difference", "boundary F1", "difference", "seconds an image"]]
    for arm, found in arms.items():
        names = dict.fromkeys(name for record in found for name in record.get("evaluations", {}))
        if all(name in ("val", "test") for name in names):
            continue
        for name in names:
            line = []
            evaluated = {r["seed"]: r["evaluations"][name] for r in found if name in r["evaluations"]}
            for score in ("miou", "boundary_f1"):
                plain = {
                    r["seed"]: (r["scores"][evaluated[r["seed"]]["split"]] or {}).get(score)
                    for r in found
                    if r["seed"] in evaluated
                }
                other = {seed: values.get(score) for seed, values in evaluated.items()}
                line += [mean_text(list(other.values()), ".4f"), difference_text(plain, other)[1]]
            images = {r["seed"]: r["image_counts"]["shape"][0] for r in found if r.get("image_counts")}
            seconds = [
                values["seconds"] / images[seed]
                for seed, values in evaluated.items()
                if values["split"] == "test" and "seconds" in values and seed in images
            ]
            mark = _worst(load.beside_other_work(e.get("load")) for record in found for e in record.get("then", ()))
            lines.append([f"{arm}, {name}", str(len(evaluated)), *line, mean_text(seconds, ".2f") + mark])
    return markdown(lines) if len(lines) > 1 else ""


def per_image_table(arms: Mapping[str, Sequence[Record]], references: Mapping[str, str]) -> str:
    """Return Dice and HD95 of each class, means over test images, with the differences to the reference; "" without."""
    found = {
        arm: {
            r["seed"]: one["per_image"] for r in of if "per_image" in (one := r.get("evaluations", {}).get("test", {}))
        }
        for arm, of in arms.items()
    }
    found = {arm: seeds for arm, seeds in found.items() if seeds}
    if not found:
        return ""
    one = next(iter(next(iter(found.values())).values()))
    lines = [["", "n"]]
    for name in one["dice_per_class"]:
        lines[0] += [f"Dice, {name}", "difference", f"HD95 ({one['unit']}), {name}", "difference"]
    for arm, seeds in found.items():
        lines.append([arm, str(len(seeds))])
        for name in one["dice_per_class"]:
            for score, spec in (("dice_per_class", ".4f"), ("hd95_per_class", ".2f")):
                own, first = (
                    {seed: values[score][name] for seed, values in found.get(of, {}).items()}
                    for of in (arm, references.get(arm, ""))
                )
                difference = difference_text(first, own)[1] if first else ""
                lines[-1] += [mean_text(list(own.values()), spec), difference]
    return markdown(lines)


def game_table(arms: Mapping[str, Sequence[Record]]) -> str:
    """Return what the last steps say of the game and of learning without labels; "" where there is neither."""
    names = dict.fromkeys(name for found in arms.values() for record in found for name in record.get("game") or {})
    if not names:
        return ""
    lines = [["", "n", *(name.replace("_", " ") for name in names)]]
    for arm, found in arms.items():
        values = [record["game"] for record in found if record.get("game")]
        if values:
            lines.append(
                [arm, str(len(values)), *(mean_text([one.get(name) for one in values], ".3f") for name in names)]
            )
    return markdown(lines)


def judgings_table(arms: Mapping[str, Sequence[Record]], split: str) -> str:
    """Return how well each score of `judge` finds wrong pixels: a row for each arm.

    The areas are those under precision over recall; `chance` is the share of wrong pixels, which a score without any
    knowledge has. The discriminator's differences to the others are paired by seed.
    """
    judged = {
        arm: [r["judgings"][split] for r in found if split in r.get("judgings", {})] for arm, found in arms.items()
    }
    shown = dict.fromkeys(name for found in judged.values() for one in found for name in one["errors_found"])
    others = [name for name in shown if name != "discriminator"] if "discriminator" in shown else []
    more = [f"discriminator - {name}" for name in others]
    lines = [["AUPR of wrong pixels", "n", *shown, *more, "chance", "ECE", "AUC of the discriminator, real or fake"]]
    for arm, found in judged.items():
        if not found:
            continue
        errors = [one["errors_found"] for one in found]
        area = lambda one, name: one.get(name, {}).get("aupr")
        values = [[area(one, name) for one in errors] for name in shown]
        pairs = [[(area(one, "discriminator"), area(one, name)) for one in errors] for name in others]
        values += [[None if None in pair else pair[0] - pair[1] for pair in of] for of in pairs]
        values.append([one["entropy"]["wrong_share"] for one in errors])
        values.append([one["calibration"]["before"]["ece"] for one in found])
        values.append([((one["real_fake"] or {}).get("by_patch", {}).get("soft") or {}).get("auc") for one in found])
        lines.append([arm, str(len(found)), *(mean_text(column, ".3f") for column in values)])
    return markdown(lines)


def inference_table(rows: Rows, arms: Mapping[str, Sequence[Record]]) -> str:
    """Return the mIoU on test with a row for each arm and a column for each way of inference."""
    names = [name for found in arms.values() for record in found for name in record.get("evaluations", {})]
    names = [name for name in dict.fromkeys(names) if name.startswith("test-")]
    lines = [["mIoU by inference", "plain", *(name.removeprefix("test-") for name in names)]]
    for arm, found in arms.items():
        if any(record.get("evaluations") for record in found):
            values = [[one.get("miou") for one in rows[arm].values()]]
            values += [[r["evaluations"].get(name, {}).get("miou") for r in found] for name in names]
            lines.append([arm, *(mean_text(of, ".3f") for of in values)])
    return markdown(lines)


def class_table(rows: Rows) -> str:
    """Return the IoU with a row for each class and a column for each arm and baseline."""
    classes = [name for seeds in rows.values() for one in seeds.values() for name in one.get("iou_per_class", {})]
    lines = [["class", *rows]]
    for name in dict.fromkeys(classes):
        values = ([one.get("iou_per_class", {}).get(name) for one in seeds.values()] for seeds in rows.values())
        lines.append([name, *(mean_text(list(column), ".4f") for column in values)])
    return markdown(lines)


def then_lines(finished: Sequence[Record]) -> str:
    """Return the commands that made the further scores, with their wall time."""
    return "\n".join(
        f"- {record['arm']}, seed {record['seed']}: "
        + ", ".join(f"`{entry['command']}` ({entry['seconds'] / 60:.1f} minutes)" for entry in record["then"])
        for record in finished
        if record.get("then")
    )


def differing_lines(table: Record) -> str:
    """Return what each arm's config has other than its reference's; groups that one of them lacks in one word."""
    lines = []
    for arm in table["arms"]:
        if not arm["reference"]:
            lines.append(f"- `{arm['name']}`: compared with none.")
            continue
        shown = [
            f"`{field}` {json.dumps(own)} for {json.dumps(first)}"
            for field, (first, own) in arm["differs"].items()
            if ABSENT not in (first, own)
        ]
        for side, word in enumerate(("added", "not there")):
            groups: dict[str, list[str]] = {}
            for field, pair in arm["differs"].items():
                if pair[side] == ABSENT:
                    groups.setdefault(".".join(field.split(".")[:2]), []).append(field)
            shown += [f"`{fields[0] if len(fields) == 1 else group + '.*'}` {word}" for group, fields in groups.items()]
        lines.append(f"- `{arm['name']}` from `{arm['reference']}`: {', '.join(shown) or 'nothing'}.")
    return "\n".join(lines)


def run_lines(table: Record) -> str:
    """Return the flags of each arm's first seed."""
    return "\n".join(
        f"- `{arm['name']}`: `{shlex.join(arm['cells'][0]['arguments'])}`" for arm in table["arms"] if arm["cells"]
    )
