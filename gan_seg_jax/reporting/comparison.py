"""Runs beside each other: whether they can be compared, their scores, differences with intervals, the same images."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gan_seg_jax.config import flat, to_json
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import load_run, open_split
from gan_seg_jax.judging import bootstrap
from gan_seg_jax.reporting import looks
from gan_seg_jax.reporting.run_files import RunFiles, number, score_names, title_of, value_text
from gan_seg_jax.runs import tables
from gan_seg_jax.system import files


class Options(NamedTuple):
    """What is compared: the split, where the data are now (None: where they were), how many images, and whether any."""

    split: str
    data_dir: str | None
    count: int
    images: bool


class Difference(NamedTuple):
    """What a run has more than the first, with 95% intervals over images.

    Attributes:
        miou: (difference, low, high).
        classes: float64 [3, k], difference, low and high of each class; nan where it is not there.
    """

    miou: tuple[float, float, float]
    classes: np.ndarray


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        runs: by their names.
        split: whose scores these are.
        scores: name -> scores, as in summary.json.
        differences: name of a run but the first -> its differences to the first; those that have counts.
        images: (title, heading -> address of a picture) of the images on which they differ most.
        fields: (field, value in each run) where configs differ.
        notes: sentences that say what is missing, and why.
    """

    runs: dict[str, RunFiles]
    split: str
    scores: dict[str, dict[str, Any]]
    differences: dict[str, Difference]
    images: list[tuple[str, dict[str, str]]]
    fields: list[tuple[str, list[Any]]]
    notes: list[str]


def named(runs: Sequence[RunFiles]) -> dict[str, RunFiles]:
    """Return the runs by the shortest ends of their paths that tell them apart.

    Raises:
        InputError: a folder is named twice.
    """
    paths = [run.workdir.resolve() for run in runs]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{files.shown(path)} is named twice; expected different runs.")
    for length in range(1, max(len(path.parts) for path in paths) + 1):
        names = [str(Path(*path.parts[-length:])) for path in paths]
        if len({*names}) == len(names):
            break
    return dict(zip(names, runs, strict=True))


def check(runs: Mapping[str, RunFiles], split: str) -> None:
    """Check that runs were scored alike: by task, classes and the data of the split.

    Raises:
        InputError: they were not; the first pair that differs is named.
    """
    (first_name, first), *others = runs.items()
    for name, run in runs.items():
        if run.summary is not None and run.summary[split] is None:
            raise InputError(f"{name} has no scores of {split}; compare with --split={run.scored_split}.")
    for name, run in others:
        pairs = [("tasks", first.task.name, run.task.name)]
        pairs.append(("classes", tuple(first.config.class_names), tuple(run.config.class_names)))
        pairs.append(("data sets", _data(first), _data(run)))
        for what, one, other in pairs:
            if one != other:
                pair = f"{_short(one)} and {_short(other)}"
                raise InputError(f"{first_name} and {name} cannot be compared: the {what} differ, {pair}.")
        if None not in (one := first.data.get(split), other := run.data.get(split)) and one != other:
            raise InputError(
                f"{first_name} and {name} cannot be compared: the images or labels of {split} differ; evaluate both on "
                "the same."
            )


def _data(run: RunFiles) -> tuple:
    """Return what makes the images of a data set; for those that lie in a folder, the digests say more."""
    config = run.config
    if config.dataset != "scenes":
        return (config.dataset,)
    scenes = config.scenes
    return ("scenes", *scenes.size, *scenes.counts, scenes.seed, scenes.look)


def _short(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return files.shown(text if len(text) < 120 else f"{text[:120]} ...")


def compare(runs: Mapping[str, RunFiles], options: Options) -> Comparison:
    """Compare runs that `check` has taken.

    Raises:
        InputError: a run has no scores, its data cannot be read, or it was scored on other images.
    """
    notes: list[str] = []
    scores, counts = {}, {}
    for name, run in runs.items():
        scores[name], counts[name] = _scored(name, run, options)
    first = next(iter(runs))
    differences, missing = {}, [name for name, found in counts.items() if found is None]
    if next(iter(runs.values())).task.has_image_counts:
        if missing:
            notes.append(f"No intervals: {', '.join(missing)} keeps no counts of single images of {options.split}.")
        for name in runs if not missing else ():
            if not bootstrap.same_images(counts[first], counts[name]):
                raise InputError(
                    f"{first} and {name} cannot be compared: they were scored on other images of {options.split}."
                )
            if name != first:
                differences[name] = _difference(counts[first], counts[name])
    images = []
    if options.images and not missing:
        images = _images(runs, counts, options)
    elif options.images:
        notes.append("Only runs that keep their network and counts of single images are shown on the same images.")
    return Comparison(dict(runs), options.split, scores, differences, images, _fields(runs), notes)


def _scored(name: str, run: RunFiles, options: Options) -> tuple[dict[str, Any], np.ndarray | None]:
    """Return a run's scores, and its counts of single images where there are any.

    Raises:
        InputError: it has none.
    """
    kept = run.counts if options.split == "test" else None
    can_label = run.task.has_image_counts and run.step is not None
    if run.summary is not None and (kept is not None or not can_label or not options.images):
        return run.summary[options.split], kept
    if not can_label or not options.images:
        hint = "leave out --noimages, so that its network is scored" if can_label else "let it come to its end"
        raise InputError(f"{name} is not finished, so it has no scores of {options.split}; {hint}.")
    loaded = load_run(run.workdir, "best", options.data_dir)
    with looks.data_needed():
        split, mesh = open_split(loaded, options.split)
    found = looks.look(loaded, split, mesh, shown=1)
    return run.summary[options.split] if run.summary is not None else found.scores, found.counts


def _difference(first: np.ndarray, other: np.ndarray) -> Difference:
    pooled = [counts.sum(axis=0) for counts in (first, other)]
    low, high = bootstrap.bootstrap_difference({0: first}, {0: other})
    miou = bootstrap.mean_iou(pooled[1]) - bootstrap.mean_iou(pooled[0])
    classes = bootstrap.class_iou(pooled[1]) - bootstrap.class_iou(pooled[0])
    bounds = bootstrap.bootstrap_difference({0: first}, {0: other}, score=bootstrap.class_iou)
    return Difference((float(miou), low, high), np.stack([classes, *bounds]))


def _images(
    runs: Mapping[str, RunFiles], counts: Mapping[str, np.ndarray | None], options: Options
) -> list[tuple[str, dict[str, str]]]:
    """Return pictures of the images on which the mean IoU of the runs differs most.

    Raises:
        InputError: the data or a network cannot be read.
    """
    by_image = {name: bootstrap.mean_iou(found) for name, found in counts.items() if found is not None}
    spread = np.ptp(np.stack(list(by_image.values())), axis=0)  # nan without labels
    places = [int(place) for place in np.argsort(-spread, kind="stable") if spread[place] >= 0][: options.count]
    shown: dict[int, dict[str, str]] = {place: {} for place in places}
    titles: dict[int, str] = {}
    for name, run in runs.items():
        loaded = load_run(run.workdir, "best", options.data_dir)
        with looks.data_needed():
            split, mesh = open_split(loaded, options.split)
        for found, label in looks.labelled(loaded, split, places, mesh):
            pictures = looks.pictures(found, label, loaded.config.class_colors)
            titles[found.name] = split.ids[found.name]
            shown[found.name] = {key: pictures[key] for key in ("image", "truth")} | shown[found.name]
            shown[found.name][f"{name}: {by_image[name][found.name]:.3f}"] = pictures["prediction"]
    return [(titles[place], shown[place]) for place in places if place in titles]


def _fields(runs: Mapping[str, RunFiles]) -> list[tuple[str, list[Any]]]:
    """Return the fields in which configs differ, with the value of each."""
    configs = [flat(to_json(run.config)) for run in runs.values()]
    names = sorted(set().union(*configs))
    rows = [(name, [config.get(name, "(absent)") for config in configs]) for name in names]
    return [(name, values) for name, values in rows if any(value != values[0] for value in values)]


def score_rows(found: Comparison) -> list[list[str]]:
    """Return a row of headings and one for each score; beside it what each run has more than the first."""
    first, *others = found.scores
    rows = [["", *found.scores, *(f"{name} - {first}" for name in others)]]
    for score in score_names(list(found.scores.values())):
        values = {name: scores.get(score) for name, scores in found.scores.items()}
        cells = [title_of(score), *map(value_text, values.values())]
        for name in others:
            pair = (values[first], values[name])
            cell = "-" if None in pair else number(pair[1] - pair[0], "+.4f" if abs(pair[0]) < 10 else "+.5g")
            if score == "miou" and name in found.differences:
                cell = with_interval(*found.differences[name].miou)
            cells.append(cell)
        rows.append(cells)
    return rows


def with_interval(difference: float, low: float, high: float) -> str:
    """Return a difference with its interval; "-" where it is not defined."""
    return "-" if not np.isfinite([difference, low, high]).all() else f"{difference:+.4f} [{low:+.4f}, {high:+.4f}]"


def table(found: Comparison) -> str:
    """Return the scores as text, and the notes."""
    return "\n".join([tables.table([[*map(files.shown, row)] for row in score_rows(found)]), *found.notes])
