"""What lies in the folder of a run, finished or not, checked: it may be damaged, and anybody's."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax import metrics
from gan_seg_jax.baselines import BASELINES
from gan_seg_jax.errors import InputError
from gan_seg_jax.methods import get_method
from gan_seg_jax.phases import is_complete
from gan_seg_jax.pictures import panels
from gan_seg_jax.runs import checkpoint, samples, weights, workdirs
from gan_seg_jax.runs.tables import SCORE_COLUMNS
from gan_seg_jax.system import files
from gan_seg_jax.tasks import TASKS, Task

IMAGE_MEANS = tuple(f"{name}_per_class" for name in ("dice", "hd95", "assd", "images", "one_sided"))
_BROKEN = (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError)


class RunFiles(NamedTuple):
    """A run as its folder has it.

    Attributes:
        workdir: the folder.
        config: of config.json.
        task: what the run is for.
        classical: whether there is nothing trained in it.
        summary: of summary.json; None of a run that is not finished.
        records: lines of metrics.jsonl.
        counts: of the test images, int64 [n, k, 3] (`metrics.class_counts`); None where they are not kept.
        per_image: split -> what `evaluate --per_image` has written: the means of `judging.per_image`, and the "step".
        judging: split -> what `judge` has written.
        samples: name -> its newest picture.
        step: of the newest checkpoint; None where there is none.
        data: digests of the data set by split, as the newest checkpoint knows them.
    """

    workdir: Path
    config: ConfigDict
    task: Task
    classical: bool
    summary: dict[str, Any] | None
    records: list[dict]
    counts: np.ndarray | None
    per_image: dict[str, dict[str, Any]]
    judging: dict[str, dict[str, Any]]
    samples: dict[str, Path]
    step: int | None
    data: dict[str, str]

    @property
    def scored_split(self) -> str | None:
        """The split whose scores are the result, None where the run is not finished."""
        if self.summary is None:
            return None
        return "val" if self.summary["test"] is None else "test"

    @property
    def longer(self) -> bool:
        """Whether a finished run has been given more steps, or more patience, since."""
        if self.classical or self.summary is None:
            return False
        return not is_complete(self.config, self.summary["steps"], self.summary["unimproved"])

    @property
    def stopped(self) -> bool:
        """Whether a finished run ended before its last step, by `config.patience`."""
        return self.summary is not None and not self.longer and self.summary["steps"] < self.config.steps


def read(workdir: str | Path) -> RunFiles:
    """Return what lies in the folder of a run.

    Raises:
        InputError: it holds none, only its exported weights, or a file in it is damaged.
    """
    workdir = files.local(workdir)
    if weights.are_in(workdir):
        raise InputError(
            f"{files.shown(workdir)} holds exported weights, without the records of their run; name the run's own "
            "folder. The scores are in README.md; `gan-seg evaluate --data_dir=FOLDER` takes them anew."
        )
    config = checkpoint.read_config(workdir)
    classical = config.method in BASELINES
    task = TASKS["segmentation" if classical else get_method(config).TASK]
    meta = None
    if workdirs.has_checkpoints(workdir) and not classical:
        meta = checkpoint.newest_meta(workdir)
        if meta is not None:
            checkpoint.check_config(workdir, config, meta)
    return RunFiles(
        workdir=workdir,
        config=config,
        task=task,
        classical=classical,
        summary=_summary(workdir / "summary.json", task.name, config.class_names),
        records=panels.read_records(workdir / "metrics.jsonl"),
        counts=_counts(workdir / "image_counts-test.json", config.num_classes),
        per_image={
            split: found
            for split in ("val", "test")
            if (found := _per_image(workdir / f"evaluation-{split}.json", config.class_names))
        },
        judging={split: found for split in ("val", "test") if (found := _judging(workdir / f"judging-{split}.json"))},
        samples={name: found[0][1] for name, found in samples.found(workdir / "samples").items()},
        step=None if meta is None else meta["step"],
        data={} if meta is None else meta["data"],
    )


@contextlib.contextmanager
def _damaged(path: Path, mend: str) -> Iterator[None]:
    """Turn what is raised by a file of another form into a sentence that ends in `mend`."""
    try:
        yield
    except _BROKEN as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise InputError(f"{files.shown(path)} is damaged ({reason}); {mend}.") from error


def _json(path: Path, mend: str) -> dict[str, Any] | None:
    """Return the values in a file by their names; None where it is missing."""
    try:
        found = files.read_json(path)
    except FileNotFoundError:
        return None
    except InputError as error:
        raise InputError(f"{str(error).rstrip('.')}; {mend}.") from error
    if not isinstance(found, dict):
        raise InputError(f"{files.shown(path)} holds {type(found).__name__}, expected values by their names; {mend}.")
    return found


def _summary(path: Path, task: str, class_names: Sequence[str]) -> dict[str, Any] | None:
    mend = "remove it, and let the command of the run take the final scores again"
    found = _json(path, mend)
    if found is None:
        return None
    found = {"unimproved": 0, **found}  # which older runs lack
    with _damaged(path, mend):
        if found["task"] != task:
            raise ValueError(f"a run of {found['task']}, where its method is for {task}")
        last = found.get("last") or {}
        for scores in [each.get(name) for each in (found, last) for name in ("test", "val")]:
            _check_scores({} if scores is None else scores, class_names)
        for scores in found["baselines"].values():
            _check_scores(scores, class_names)
        if found["test"] is None and found["val"] is None:
            raise ValueError("no scores")
        numbers = ("best_step", "steps", "unimproved", "seconds", "compile_seconds", "images_per_second")
        numbers += ("skipped_steps",)
        _check_numbers({name: found[name] for name in numbers})
        _check_numbers(found["parameters"])
        if not all(isinstance(text, str) for text in (*found["versions"].values(), *found["devices"])):
            raise TypeError("versions and devices are text")
        if not isinstance(found["selected_by"], str | None):
            raise TypeError("selected_by is text")
        if None in (found["steps"], found["seconds"], found["unimproved"]):
            raise ValueError("no number of steps, seconds or unimproved validations")
    return found


def _check_scores(scores: Mapping[str, Any], class_names: Sequence[str]) -> None:
    _check_numbers(metrics.single_numbers(scores))
    if "iou_per_class" in scores:
        _check_numbers(scores["iou_per_class"])
        if list(scores["iou_per_class"]) != list(class_names):
            raise ValueError("its classes are not those of config.json")
    if "confusion" in scores:
        rows = scores["confusion"]
        if [len(row) for row in rows] != [len(class_names)] * len(class_names):
            raise ValueError("its confusion matrix is not of the classes of config.json")
        for row in rows:
            _check_numbers(dict(enumerate(row)))


def _check_numbers(values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        ok = value is None or (isinstance(value, int | float) and abs(value) < 1e18 and not math.isnan(value))
        if not ok:
            raise TypeError(f"{name} is {str(value)[:40]!r}")


def _counts(path: Path, num_classes: int) -> np.ndarray | None:
    mend = "remove it, or evaluate the run again"
    found = _json(path, mend)
    if found is None:
        return None
    with _damaged(path, mend):
        if found["num_classes"] != num_classes:
            raise ValueError(f"{found['num_classes']} classes, where the run has {num_classes}")
        counts = np.zeros((len(found["images"]), num_classes, 3), np.int64)
        for image, classes in zip(counts, found["images"], strict=True):
            for class_id, values in classes.items():
                image[int(class_id)] = values
        if (counts < 0).any():
            raise ValueError("negative counts")
        return counts if len(counts) else None


def _per_image(path: Path, class_names: Sequence[str]) -> dict[str, Any] | None:
    """Return the means over images, None where the evaluation has none."""
    mend = "remove it, or evaluate the run again"
    found = _json(path, mend)
    if found is None or "per_image" not in found:
        return None
    with _damaged(path, mend):
        means = found["per_image"]
        for name in IMAGE_MEANS:
            _check_numbers(means[name])
            if list(means[name]) != list(class_names):
                raise ValueError("its classes are not those of config.json")
        _check_numbers({"step": found["step"]})
        if means["unit"] not in ("pixels", "mm"):
            raise ValueError("distances are in pixels or mm")
    return {**means, "step": found["step"]}


def _judging(path: Path) -> dict[str, Any] | None:
    mend = "remove it, or judge the run again"
    found = _json(path, mend)
    if found is None:
        return None
    with _damaged(path, mend):
        for scores in (*found["calibration"].values(), *found["errors_found"].values()):
            _check_numbers(scores)
        for fakes in (found["real_fake"] or {}).values():
            for scores in fakes.values():
                _check_numbers(scores)
        _check_numbers({name: found[name] for name in ("step", "temperature", "discriminator_ece")})
        _check_numbers(found["image_scores"] or {})
    return found


def number(value: float | None, spec: str = ".4f") -> str:
    """Return a number for people, "-" for None."""
    return "-" if value is None else format(value, spec)


def score_names(rows: Sequence[Mapping[str, Any] | None]) -> list[str]:
    """Return the names of the scores that are single numbers, in their order."""
    names = (name for scores in rows for name in scores or () if name not in (*metrics.BY_CLASS, "per_image"))
    return list(dict.fromkeys(names))


def title_of(score: str) -> str:
    """Return the name of a score for people."""
    return SCORE_COLUMNS.get(score, score.replace("_", " "))


def value_text(value: float | None) -> str:
    """Return a score for people."""
    return number(value, ".4f" if value is None or abs(value) < 10 else ".5g")
