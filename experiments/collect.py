"""Make the Markdown table of a folder of records, from the records alone.

python experiments/collect.py experiments/results/first_table
"""

import argparse
import json
import math
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

SCORES = {
    "miou": "mIoU", "pixel_accuracy": "pixel accuracy", "mean_accuracy": "mean accuracy", "boundary_f1": "boundary F1",
}  # fmt: skip
GENERATION_SCORES = {  # of tables whose runs make images
    "frechet": "Frechet distance", "frechet_real": "of real images", "kernel": "kernel distance",
    "precision": "precision", "recall": "recall", "diversity": "diversity",
    "judge_miou": "judge's mIoU", "judge_miou_real": "on real pairs",
}  # fmt: skip
CONFIDENCE = 0.95
Record = dict[str, Any]


class RecordsError(Exception):
    """The folder holds no table; a sentence for people."""


def mean_interval(values: Sequence[float | None]) -> tuple[float | None, float | None]:
    """Return the mean and half the 95% t-interval of the values that are defined.

    m +- t(0.975, n - 1) s / sqrt(n), with s the standard deviation of the sample (n - 1 below).

    Args:
        values: one per seed; None is undefined.

    Returns:
        (mean, None if no value is defined; half width, None for fewer than two).
    """
    known = [value for value in values if value is not None]
    if not known:
        return None, None
    mean = math.fsum(known) / len(known)
    if len(known) < 2:
        return mean, None
    variance = math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(known) - 1))
    return mean, quantile * math.sqrt(variance / len(known))


def paired_differences(
    first: Mapping[int, float | None], other: Mapping[int, float | None]
) -> tuple[int, float | None, float | None]:
    """Return (pairs, mean, half the t-interval) of `other - first` over the seeds that both have.

    Args:
        first: seed -> value.
        other: seed -> value.
    """
    seeds = [seed for seed in other if other[seed] is not None and first.get(seed) is not None]
    return len(seeds), *mean_interval([other[seed] - first[seed] for seed in seeds])


def collect(folder: Path) -> str:
    """Return the table of the records in `folder` as Markdown, and write it there as README.md.

    Raises:
        RecordsError: the folder holds no table, or its runs are of several data sets.
    """
    try:
        table = json.loads((folder / "table.json").read_text())
    except OSError as error:
        raise RecordsError(f"{folder} holds no table.json; expected a folder that a table script wrote.") from error
    arms, notes = _read(folder, table)
    finished = [record for records in arms.values() for record in records]
    sets = sorted({record["config"]["dataset"] for record in finished})
    if len(sets) > 1:
        raise RecordsError(
            f"{folder} holds runs on {', '.join(sets)}; a table is about one data set: make one for each."
        )
    rows = {name: {record["seed"]: _reported(record) for record in records} for name, records in arms.items()}
    rows |= _baselines(finished)
    parts = [
        f"# {table['title']}",
        f"Made from the records in this folder by `python experiments/{table['script']}`; not edited by hand.",
        "\n".join(f"- {line}" for line in _header(finished, sets, rows)),
        "## Scores\n\n" + _scores_table(rows, arms),
    ]
    if len(arms) > 1:
        parts.append(
            f"## Differences to `{next(iter(arms))}`, paired by seed\n\n" + _differences_table(rows, list(arms))
        )
    if any(record.get("evaluations") for record in finished):
        parts.append(
            "## The same runs with other inference\n\nDifferences to the plain scores of the same split, paired by "
            "seed; minutes of reading, labelling and scoring.\n\n"
            f"{_evaluations_table(arms)}\n\n{_then_lines(finished)}"
        )
    if any("iou_per_class" in one for seeds in rows.values() for one in seeds.values()):
        parts.append("## IoU per class\n\n" + _class_table(rows))
    parts += [
        "## Flags of `python -m gan_seg_jax.main`\n\n" + "\n".join(_run_lines(table)),
    ]
    if notes:
        parts.insert(3, "**Not in the table:**\n\n" + "\n".join(f"- {note}" for note in notes))
    pictures = [f"{name}:\n\n![{name}]({name}.png)" for name in _pictures(folder, table)]
    if pictures:
        parts.append("## Pictures\n\n" + "\n\n".join(pictures))
    text = "\n\n".join(parts) + "\n"
    (folder / "README.md").write_text(text)
    return text


def _read(folder: Path, table: Record) -> tuple[dict[str, list[Record]], list[str]]:
    """Return arm -> its finished records by seed, and a note for everything that is missing from them."""
    arms: dict[str, list[Record]] = {}
    notes, known = [], {"table.json"}
    for arm in table["arms"]:
        arms[arm["name"]] = []
        for cell in arm["cells"]:
            file = folder / f"{arm['name']}-seed{cell['seed']}.json"
            known.add(file.name)
            name = f"`{arm['name']}`, seed {cell['seed']}"
            if not file.exists():
                notes.append(f"{name}: not run yet.")
                continue
            record = json.loads(file.read_text())
            if record["arguments"] != cell["arguments"]:
                notes.append(f"{name}: its record is of other arguments ({' '.join(record['arguments'])}).")
            elif record["status"] != "finished":
                notes.append(f"{name}: **failed** with exit code {record['exit_code']}: {record['message'] or '-'}")
            else:
                arms[arm["name"]].append(record)
                if record.get("exit_code"):
                    notes.append(f"{name}: a command after the run **failed**: {record['message'] or '-'}")
    notes += [f"`{file.name}`: of no arm." for file in sorted(folder.glob("*.json")) if file.name not in known]
    return arms, notes


def _reported(record: Record) -> Record:
    """Return the scores that count: test's, or val's where there is no test split; a run without scores has none."""
    return record["scores"]["test"] or record["scores"]["val"] or {}


def _baselines(finished: Sequence[Record]) -> dict[str, dict[int, Record]]:
    """Return baseline -> seed -> scores; runs of one seed have the same baselines, the first one's are taken."""
    found: dict[str, dict[int, Record]] = {}
    for record in finished:
        for name, scores in (record["scores"]["baselines"] or {}).items():
            found.setdefault(name, {}).setdefault(record["seed"], scores)
    return found


def _columns(rows: Mapping[str, Mapping[int, Record]]) -> dict[str, str]:
    """Return the scores that the runs have, and their headers."""
    generated = any("frechet" in one for seeds in rows.values() for one in seeds.values())
    return GENERATION_SCORES if generated else SCORES


def _header(finished: Sequence[Record], sets: Sequence[str], rows: Mapping[str, Mapping[int, Record]]) -> list[str]:
    """Return what holds for the whole table, each line naming every value that occurs."""
    if not finished:
        return ["No run is finished."]
    configs = [record["config"] for record in finished]
    trained = [record for record in finished if record["steps"]]  # canvas and batch are nothing to a classical method
    splits = _distinct("test" if record["scores"]["test"] else "val (no test split)" for record in finished)
    drawn = [config["scenes"] for config in configs if "scenes" in config]
    made = _distinct(f"; {_size(s['size'])}, {'/'.join(map(str, s['counts']))} images, seed {s['seed']}" for s in drawn)
    interval = all(len({record["seed"] for record in finished if record["arm"] == arm}) < 2 for arm in _arms(finished))
    machines = _distinct(_machine(record["hardware"]) for record in finished)
    commits = _distinct(
        f"{(at['commit'] or 'unknown')[:12]}{' with uncommitted changes' if at['dirty'] else ''}"
        for record in finished
        for at in (record, *record["resumed"])
    )
    chosen, meaning = (
        "mIoU",
        "Scores are fractions 0..1 from one confusion matrix over the split, at the labels' own size. Void: pixels "
        "labelled 255 are dropped; a class absent from truth and prediction is left out of the mean (-).",
    )
    if _columns(rows) is GENERATION_SCORES:
        chosen, meaning = (
            "Frechet distance",
            "As many images are made as the split has; distances are in the features of the judge, a segmenter trained "
            "on real pairs, and mean nothing beside those of another judge. Judge's mIoU: how well it finds the mask "
            "in the made image.",
        )
    return [
        f"Data: `{sets[0]}`{made}; scores of the {splits} split, with the checkpoint that is best on val by {chosen}.",
        meaning,
        f"Training: canvas {_distinct(_size(r['config']['canvas_size']) for r in trained)}, crop "
        f"{_distinct(_size(r['config']['crop_size']) for r in trained)} "
        f"(resize {_distinct(r['config']['resize'] for r in trained)}), "
        f"batch {_distinct(r['config']['batch_size'] for r in trained)}, "
        f"{_distinct(r['steps'] for r in trained)} steps.",
        "Means over seeds; one seed: no interval."
        if interval
        else "Means over n seeds ± half of the 95% t-interval; one seed: no interval.",
        f"Hardware: {machines}. Minutes are wall time, compilation and scoring included.",
        f"Versions: {_distinct(', '.join(f'{n} {v}' for n, v in r['versions'].items()) for r in finished)}.",
        f"Commit: {commits}; run {_distinct(record['date'][:10] for record in finished)}.",
    ]


def _machine(hardware: Record) -> str:
    devices = ", ".join(hardware["devices"] or ["-"])
    return f"{hardware['cpu']}, {hardware['cores']} cores, {_text(hardware['memory_gib'], '.1f')} GiB ({devices})"


def _arms(records: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(record["arm"] for record in records))


def _distinct(values) -> str:
    """Return the different values, in order of appearance."""
    return " | ".join(dict.fromkeys(str(value) for value in values))


def _size(size: Sequence[int]) -> str:
    return f"{size[0]} x {size[1]}"


def _text(value: float | None, spec: str) -> str:
    return "-" if value is None else format(value, spec)


def _mean_text(values: Sequence[float | None], spec: str) -> str:
    """Return "mean ± half width"; says on how many seeds it rests if some are undefined."""
    mean, half = mean_interval(values)
    known = sum(value is not None for value in values)
    partly = f" (n={known})" if 0 < known < len(values) else ""
    return _text(mean, spec) + ("" if half is None else f" ± {format(half, spec.lstrip('+'))}") + partly


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table, the first column left and the others right; the first row is its head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join(["---"] + ["---:"] * (len(rows[0]) - 1)) + "|", *lines[1:]])


def _scores_table(rows: Mapping[str, Mapping[int, Record]], arms: Mapping[str, Sequence[Record]]) -> str:
    edges = any(one.get("edge_f1") is not None for seeds in rows.values() for one in seeds.values())
    shown = _columns(rows) | ({"edge_f1": "edge F1"} if edges else {})
    lines = [["", "n", *shown.values(), "images/s", "minutes"]]
    for name, seeds in rows.items():
        scores = [_mean_text([one.get(score) for one in seeds.values()], ".4f") for score in shown]
        speeds = [record["images_per_second"] for record in arms.get(name, ())]
        minutes = [None if record["seconds"] is None else record["seconds"] / 60 for record in arms.get(name, ())]
        lines.append([name, str(len(seeds)), *scores, _mean_text(speeds, ".1f"), _mean_text(minutes, ".1f")])
    return _markdown(lines)


def _differences_table(rows: Mapping[str, Mapping[int, Record]], arms: Sequence[str]) -> str:
    shown = _columns(rows)
    lines = [["", "pairs", *shown.values()]]
    for name in arms[1:]:
        line, pairs = [], []
        for score in shown:
            first, other = ({seed: one.get(score) for seed, one in rows[arm].items()} for arm in (arms[0], name))
            count, mean, half = paired_differences(first, other)
            pairs.append(count)
            line.append(_text(mean, "+.4f") + ("" if half is None else f" ± {half:.4f}"))
        lines.append([name, str(max(pairs)), *line])
    return _markdown(lines)


def _evaluations_table(arms: Mapping[str, Sequence[Record]]) -> str:
    """Return a row for each arm and each `evaluation-NAME.json` that its runs left."""
    lines = [["", "n", "mIoU", "difference", "boundary F1", "difference", "minutes"]]
    for arm, found in arms.items():
        for name in dict.fromkeys(name for record in found for name in record.get("evaluations", {})):
            line = []
            evaluated = {r["seed"]: r["evaluations"][name] for r in found if name in r["evaluations"]}
            for score in ("miou", "boundary_f1"):
                plain = {
                    r["seed"]: (r["scores"][evaluated[r["seed"]]["split"]] or {}).get(score)
                    for r in found
                    if r["seed"] in evaluated
                }
                other = {seed: values.get(score) for seed, values in evaluated.items()}
                _, mean, half = paired_differences(plain, other)
                line += [_mean_text(list(other.values()), ".4f")]
                line += [_text(mean, "+.4f") + ("" if half is None else f" ± {half:.4f}")]
            seconds = [values.get("seconds") for values in evaluated.values()]
            minutes = [None if s is None else s / 60 for s in seconds]
            lines.append([f"{arm}, {name}", str(len(evaluated)), *line, _mean_text(minutes, ".1f")])
    return _markdown(lines)


def _then_lines(finished: Sequence[Record]) -> str:
    """Return the commands that made these scores, with their wall time."""
    return "\n".join(
        f"- {record['arm']}, seed {record['seed']}: "
        + ", ".join(f"`{entry['command']}` ({entry['seconds'] / 60:.1f} minutes)" for entry in record["then"])
        for record in finished
        if record.get("then")
    )


def _class_table(rows: Mapping[str, Mapping[int, Record]]) -> str:
    """Return the IoU with a row for each class and a column for each arm and baseline."""
    classes = [name for seeds in rows.values() for one in seeds.values() for name in one.get("iou_per_class", {})]
    lines = [["class", *rows]]
    for name in dict.fromkeys(classes):
        values = ([one.get("iou_per_class", {}).get(name) for one in seeds.values()] for seeds in rows.values())
        lines.append([name, *(_mean_text(list(column), ".4f") for column in values)])
    return _markdown(lines)


def _run_lines(table: Record) -> list[str]:
    """Return the flags of each arm's first seed."""
    return [f"- `{arm['name']}`: `{shlex.join(arm['cells'][0]['arguments'])}`" for arm in table["arms"] if arm["cells"]]


def _pictures(folder: Path, table: Record) -> list[str]:
    names = [f"{arm['name']}-seed{cell['seed']}" for arm in table["arms"] for cell in arm["cells"]]
    return [name for name in names if (folder / f"{name}.png").exists()]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables of the folders named; return the exit code."""
    parser = argparse.ArgumentParser(
        description="Markdown table of a folder of records; also written there as README.md."
    )
    parser.add_argument(
        "folders", nargs="+", type=Path, metavar="FOLDER", help="such as experiments/results/first_table"
    )
    try:
        for folder in parser.parse_args(argv).folders:
            print(collect(folder))
    except RecordsError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
