"""Make the Markdown table of a folder of records, and the result tables of the project's pages, from the records alone.

    python experiments/collect.py experiments/results/question_camvid
    python experiments/collect.py --readme

The pages are those of `pages.PAGES`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import exports
import matching
import pages
import tables
from claims import Claim
from intervals import RESAMPLES
from reading import RecordsError, Table
from tables import Record

CSV, LATEX, PLOT = "table.csv", "table.tex", "differences.png"


def collect(folder: Path) -> str:
    """Write the table of the records in `folder` there; return it as Markdown.

    It is written as README.md and, once a run is finished, as table.csv, table.tex and, of differences with intervals,
    differences.png.

    Raises:
        RecordsError: the folder holds no table, or its runs are of several data sets.
    """
    table = Table(folder)
    compared = _compared(table)
    if compared:
        exports.plot(compared, next(iter(tables.columns(table.rows).values())), folder / PLOT)
    else:
        (folder / PLOT).unlink(missing_ok=True)
    files = made(table)
    for name in {CSV, LATEX} - files.keys():
        (folder / name).unlink(missing_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    return files["README.md"]


def _compared(table: Table) -> list[Claim]:
    """Return the differences that have an interval, of either kind."""
    return [claim for claim in table.claims if claim.half is not None or claim.images is not None]


def made(table: Table) -> dict[str, str]:
    """Return the text files of a table by their names; nothing is written."""
    header = _header(table)
    parts = [
        f"# {table.listed['title']}",
        f"Made from the records in this folder by `python experiments/{table.listed['script']}`; not edited by hand."
        + (f" The scores as [CSV]({CSV}) and, in short, as [LaTeX]({LATEX})." if table.finished else ""),
        "\n".join(f"- {line}" for line in header),
    ]
    if table.notes:
        parts.append("**Not in the table:**\n\n" + "\n".join(f"- {note}" for note in table.notes))
    if table.unfair:
        parts.append("**Not a fair comparison:**\n\n" + "\n".join(f"- {note}" for note in table.unfair))
    parts.append("## Scores\n\n" + tables.scores_table(table.rows, table.arms))
    if table.published:
        parts.append("## Published figures\n\n" + tables.published_table(table.rows, table.published))
    if table.references:
        parts.append(f"## Differences to the reference\n\n{_differences(table)}")
    parts += _further_parts(table)
    parts += [
        "## What differs between an arm and its reference\n\n" + tables.differing_lines(table.listed),
        "## Flags of `python -m gan_seg_jax.main`\n\n" + tables.run_lines(table.listed),
    ]
    pictures = [f"{name}:\n\n![{name}]({name}.png)" for name in _pictures(table.folder, table.listed)]
    if pictures:
        parts.append("## Pictures\n\n" + "\n\n".join(pictures))
    texts = {"README.md": "\n\n".join(parts) + "\n"}
    if table.finished:
        texts |= {CSV: exports.csv_text(table), LATEX: exports.latex(table, header)}
    return texts


def _further_parts(table: Table) -> list[str]:
    """Return what only some tables have: compute, the last step, other inference, classes."""
    parts = []
    compute = tables.compute_table(table.arms, table.references)
    if compute:
        parts.append(
            "## Compute\n\nFloating-point operations of all training steps, as XLA counts them in the compiled ones "
            "(the body of a loop once), with those of the runs that a run trains before itself and without those of "
            "cells that it starts from; validation and scoring are not in them. Equal compute is a quotient of 1.\n\n"
            + compute
        )
    if table.shows_last:
        parts.append("## Scores of the last step\n\n" + tables.last_table(table.rows, table.arms, table.references))
    game = tables.game_table(table.arms)
    if game:
        parts.append(
            "## What the game did\n\nMeans over the last steps of training: how often the discriminator was right (0.5 "
            "knows nothing, 1 is never wrong), for how real it took the unlabelled images' masks, and the share of "
            f"their pixels that were learned from.\n\n{game}"
        )
    evaluations = tables.evaluations_table(table.arms)
    if evaluations:
        parts.append(
            "## The same runs with other inference\n\nDifferences to the plain scores of the same split, paired by "
            "seed; seconds of reading, labelling and scoring, compilation included.\n\n"
            f"{evaluations}\n\n{tables.then_lines(table.finished)}"
        )
    per_image = tables.per_image_table(table.arms, table.references)
    if per_image:
        parts.append(f"## Means over test images\n\nPaired by seed.\n\n{per_image}")
    splits = sorted({split for record in table.finished for split in record.get("judgings", {})})
    for split in splits:
        parts.append(
            f"## Wrong pixels found, {split}\n\nEach score says of a pixel how likely it is wrong; the discriminator's "
            f"is 1 - D. The higher the area, the better.\n\n{tables.judgings_table(table.arms, split)}"
        )
    if any("iou_per_class" in one for seeds in table.rows.values() for one in seeds.values()):
        parts.append("## IoU per class\n\n" + tables.class_table(table.rows))
    return parts


def _header(table: Table) -> list[str]:
    """Return what holds for the whole table, each line naming every value that occurs."""
    finished = table.finished
    if not finished:
        return ["No run is finished."]
    trained = [record for record in finished if record["steps"]]  # canvas and batch are nothing to a classical method
    machines = _distinct(_machine(record["hardware"]) for record in finished)
    commits = _distinct(
        f"{(at['commit'] or 'unknown')[:12]}{' with uncommitted changes' if at['dirty'] else ''}"
        for record in finished
        for at in (record, *record["resumed"])
    )
    lines = [
        *_scoring_lines(table),
        f"Training: canvas {_distinct(_size(r['config']['canvas_size']) for r in trained)}, crop "
        f"{_distinct(_size(r['config']['crop_size']) for r in trained)} "
        f"(resize {_distinct(r['config']['resize'] for r in trained)}), "
        f"batch {_distinct(r['config']['batch_size'] for r in trained)}, "
        f"{_distinct(r['steps'] for r in trained)} steps.",
        *_certainty_lines(table),
        f"Hardware: {machines}. Minutes are wall time, compilation and scoring included.{_load_words(table)}",
        f"Versions: {_distinct(', '.join(f'{n} {v}' for n, v in r['versions'].items()) for r in finished)}.",
        f"Commit: {commits}; run {_distinct(record['date'][:10] for record in finished)}.",
        matching.RULE,
    ]
    return lines


def _scoring_lines(table: Table) -> list[str]:
    """Return what is scored, by which score the step was chosen, and what the scores mean."""
    configs = [record["config"] for record in table.finished]
    splits = _distinct("test" if record["scores"]["test"] else "val (no test split)" for record in table.finished)
    of_scenes = [c for c in configs if "scenes" in (c["dataset"], c.get("source", {}).get("dataset"))]
    drawn = [config["scenes"] for config in of_scenes if "scenes" in config]
    made = _distinct(f"{_size(s['size'])}, {'/'.join(map(str, s['counts']))} images, seed {s['seed']}" for s in drawn)
    few = _distinct(
        f"{config['labelled']['fraction']:g} of the labels, drawn by seed {config['labelled']['seed']}"
        for config in configs
        if config.get("labelled", {}).get("fraction", 1) < 1
    )
    data = "; ".join(part for part in (f"`{table.sets[0]}`", made, few) if part)
    chosen, meaning = (
        "mIoU",
        "Scores are fractions 0..1 from one confusion matrix over the split, at the labels' own size. Void: pixels "
        "labelled 255 are dropped; a class absent from truth and prediction is left out of the mean (-).",
    )
    if "rare_miou" in tables.columns(table.rows):
        meaning += f" Rare classes have less than {tables.RARE:.0%} of the split's labelled pixels."
    if tables.columns(table.rows) is tables.GENERATION_SCORES:
        chosen, meaning = (
            "Frechet distance",
            "As many images are generated as the split has; distances are in the features of a segmenter trained on "
            "real pairs, and mean nothing beside those in other features. mIoU of masks found: how well it finds the "
            "mask in the generated image.",
        )
    lines = [
        f"Data: {data}; scores of the {splits} split, with the checkpoint that is best on val by {chosen}.",
        meaning,
    ]
    if table.adapts:
        lines.append(
            "**The step was chosen by labels of the target's val split, which adaptation is to do without**; where the "
            "last step, which needs none, was scored, it has a table below."
        )
    return lines


def _certainty_lines(table: Table) -> list[str]:
    """Return what the intervals mean, what is held fixed in them, and whether the runs had come to their end."""
    lines = [
        "Means over seeds; one seed: no interval."
        if table.single
        else "Means over n seeds ± half of the 95% t-interval; one seed: no interval."
    ]
    if table.listed["fixed"]:
        lines.append(f"The same for all seeds, so no interval is over other draws: {_words(table.listed['fixed'])}.")
    ending = tables.ending_text(table.finished, "cells")
    if ending:
        lines.append(f"{ending[0].upper()}{ending[1:]}; more steps might have changed the order.")
    return lines


def _words(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _load_words(table: Table) -> str:
    """Return what the marks behind speeds mean, where there are any."""
    found = {tables.load_mark(records) for records in table.arms.values()}
    words = {
        "*": " \\*: measured beside other cells of the table, or work that took more than a tenth of the CPU time.",
        "?": " ?: other work beside it was not noted.",
    }
    return "".join(sentence for mark, sentence in words.items() if mark in found)


def _differences(table: Table) -> str:
    """Return the table of differences and what its intervals mean."""
    meaning = "Paired by seed."
    if not table.single:
        meaning = "Paired by seed; ± half of the 95% t-interval over seeds, none where all differences are the same."
    if "miou" in tables.columns(table.rows):
        meaning += (
            f" Over images: the 95% interval of the paired bootstrap over test images ({RESAMPLES} resamples) of the "
            "mean over the seeds, or over n of them where only so many counted the same images; it is about other test "
            "images, not about other trainings, and too narrow where images are not independent, as frames of a video "
            "are."
        )
    if any(claim.p is not None for claim in table.claims):
        score = next(iter(tables.columns(table.rows).values()))
        meaning += (
            f" p: two-sided paired t-test over seeds of the difference in {score}; p (Holm): adjusted for the "
            f"{len(table.claims)} of this table, run or not, so that the chance of any false one stays below the level."
        )
    picture = f"\n\n![Differences with both intervals]({PLOT})" if _compared(table) else ""
    return f"{meaning}\n\n{tables.differences_table(table.rows, table.claims)}{picture}"


def _machine(hardware: Record) -> str:
    devices = ", ".join(hardware["devices"] or ["-"])
    return f"{hardware['cpu']}, {hardware['cores']} cores, {tables.text(hardware['memory_gib'], '.1f')} GiB ({devices})"


def _distinct(values) -> str:
    """Return the different values, in order of appearance."""
    return " | ".join(dict.fromkeys(str(value) for value in values))


def _size(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"


def _pictures(folder: Path, table: Record) -> list[str]:
    names = [f"{arm['name']}-seed{cell['seed']}" for arm in table["arms"] for cell in arm["cells"]]
    return [name for name in names if (folder / f"{name}.png").exists()]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables of the folders named; return the exit code."""
    parser = argparse.ArgumentParser(
        description="Markdown table of a folder of records; also written there as README.md."
    )
    parser.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="such as experiments/results/question_camvid"
    )
    parser.add_argument("--readme", action="store_true", help="also make the tables of README.md and docs anew")
    options = parser.parse_args(argv)
    try:
        for folder in options.folders:
            print(collect(folder))
        if options.readme:
            pages.write()
    except RecordsError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
