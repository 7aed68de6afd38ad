"""Search the widths and weights of the fully connected CRF for a run, on images that it is not tested on.

    python -m gan_seg_jax.crf_search --workdir=DIR [--split=val|train] [--images=32] [--checkpoint=best|latest|STEP]

As in DeepLab (Chen et al. 2018, arXiv:1606.00915, section 4), a coarse grid first and finer steps around the best then;
unlike there, the steps also move the two values of the Gaussian kernel, and the grid is seen by a quarter of the images
only. The network runs once. Writes DIR/crf.json, which `--crf` of `evaluate` and `predict` uses.
"""

import dataclasses
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jax.sharding import Mesh

from gan_seg_jax import metrics, parallel, tasks
from gan_seg_jax.cli import commands
from gan_seg_jax.data import pipeline
from gan_seg_jax.data.catalog import DatasetInfo, Example, Split
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import Run, load_run, open_split
from gan_seg_jax.inference.options import CRF_FILE
from gan_seg_jax.inference.scoring import apply_crf, make_scorer
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.postprocess.crf import CRFParameters
from gan_seg_jax.system.files import write_json

SPLITS = ("val", "train")
SHARE = 4  # the coarse grid sees one in so many images
GRID = {"bilateral_weight": (1.0, 3.0, 9.0), "bilateral_xy": (10.0, 30.0, 90.0), "bilateral_rgb": (3.0, 8.0, 20.0)}
KEPT = 3  # of the grid that are scored on all images
FACTORS = (1.7, 1.3)  # of the finer steps, one value at a time, up or down

Kept = list[dict[str, jax.Array]]  # batches: `scores`, `original`, `label` and `size`
Scorer = Callable[[CRFParameters | None, Kept], float]


@dataclasses.dataclass(frozen=True)
class Part:
    """Some images of a split, in this order."""

    split: Split
    rows: tuple[int, ...]

    @property
    def info(self) -> DatasetInfo:
        """The data set."""
        return self.split.info

    @property
    def name(self) -> str:
        """Name of the split."""
        return self.split.name

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def __getitem__(self, index: int) -> Example:
        """Return an example."""
        return self.split[self.rows[index]]

    def sizes(self) -> np.ndarray:
        """Return int32 [n, 2], height and width of each."""
        return self.split.sizes()[list(self.rows)]

    def class_pixels(self) -> np.ndarray:
        """Return int32 [n, k], the pixels of each class of each."""
        return self.split.class_pixels()[list(self.rows)]


def spread(split: Split, count: int) -> Part:
    """Return `count` images spread evenly over a split, ordered so that the first of them are spread over it too."""
    rows = np.linspace(0, len(split) - 1, min(count, len(split))).astype(int).tolist()
    return Part(split, tuple(row for start in range(SHARE) for row in rows[start::SHARE]))


def network_scores(run: Run, split: Split, mesh: Mesh) -> Kept:
    """Return what the CRF needs of every batch of a split, on the devices: the network runs once."""
    whole, sharded = parallel.replicated(mesh), parallel.batch_sharding(mesh)
    scorer = make_scorer(run.method, run.config)
    score = lambda state, stream: scorer(state, stream, stream["label"].shape[1:])
    score = jax.jit(score, in_shardings=(whole, sharded), out_shardings=sharded)
    state, kept = parallel.place(run.state, whole), []
    process = (jax.process_index(), jax.process_count())
    for batch in pipeline.eval_batches(split, run.config, process=process, original=True):
        batch["label"] = np.where(batch["valid"][:, None, None], batch["label"], IGNORE)
        placed = parallel.place(batch, sharded)
        kept.append({"scores": score(state, placed), **{name: placed[name] for name in ("original", "label", "size")}})
    return kept


def check_labelled(kept: Kept, num_classes: int) -> None:
    """Raise InputError if no pixel of the batches has a class."""
    if not any(bool((batch["label"] < num_classes).any()) for batch in kept):
        raise InputError("None of the images has a labelled pixel; choose more with --images.")


def make_miou(num_classes: int, mesh: Mesh) -> Scorer:
    """Return a function from (parameters, or None for no CRF, and batches) to the mIoU; compiled once for each."""
    whole, sharded = parallel.replicated(mesh), parallel.batch_sharding(mesh)

    def count(batch, parameters):
        scores = batch["scores"]
        if parameters is not None:
            scores = apply_crf(scores, batch["original"], batch["size"], parameters, mesh)
        label, found = batch["label"].astype(jnp.int32), jnp.argmax(scores, axis=-1)
        return metrics.confusion_matrix(label, found, num_classes=num_classes)

    count = jax.jit(count, in_shardings=(sharded, whole), out_shardings=whole)

    def miou(parameters: CRFParameters | None, kept: Kept) -> float:
        # From the host, as one kind of number for every candidate: nothing compiles again.
        traced = None if parameters is None else CRFParameters(*map(np.float32, parameters))
        confusion = sum(np.asarray(count(batch, traced), np.int64) for batch in kept)
        return metrics.scores(confusion, [str(number) for number in range(num_classes)])["miou"] or 0.0

    return miou


def search(score: Scorer, kept: Kept, report: Callable[[dict[str, Any]], None]) -> CRFParameters:
    """Return the best parameters: the coarse grid on a quarter of the batches, finer steps from its best on all.

    Args:
        score: gives the score, the higher the better; ties go to what was tried first.
        kept: batches of all images.
        report: called with each candidate: `parameters`, `batches` that it was scored on, `miou`.
    """

    def tried(parameters, batches):
        value = score(parameters, batches)
        report({"parameters": parameters._asdict(), "batches": len(batches), "miou": value})
        return value

    first = kept[: max(1, len(kept) // SHARE)]
    grid = [CRFParameters(**dict(zip(GRID, values, strict=True))) for values in itertools.product(*GRID.values())]
    coarse = sorted(grid, key=lambda parameters: -tried(parameters, first))  # stable
    finalists = [CRFParameters(), *coarse[:KEPT]]
    scores = [tried(parameters, kept) for parameters in finalists]
    best_score = max(scores)
    best = finalists[scores.index(best_score)]
    for factor, name in itertools.product(FACTORS, CRFParameters._fields):
        for step in (factor, 1.0 / factor):
            candidate = best._replace(**{name: getattr(best, name) * step})
            value = tried(candidate, kept)
            if value > best_score:
                best, best_score = candidate, value
                break
    return best


def main() -> None:
    """Run the command."""
    values, start = flags.FLAGS, time.monotonic()
    workdir = Path(commands.required("workdir"))
    if values.split not in SPLITS:
        raise InputError(
            f"--split is {values.split!r}; the CRF is searched on {' or '.join(SPLITS)}, never on what is tested."
        )
    if values.images < 1:
        raise InputError(f"--images is {values.images}; expected a positive number of images.")
    run = load_run(workdir, values.checkpoint, values.data_dir)
    tasks.of(run.method).require("crf_search", workdir, run.config.method)
    split, mesh = open_split(run, values.split)
    run.config.batch_size = mesh.size  # the CRF takes images one by one; small batches share out finely
    part = spread(split, values.images)
    say = print if parallel.is_first_process() else lambda *_, **__: None
    candidates = []

    def report(candidate):
        candidates.append(candidate)
        shown = "  ".join(f"{value:>{len(name)}.4g}" for name, value in candidate["parameters"].items())
        say(f"{candidate['miou']:.4f}  {candidate['batches']:>7}  {shown}", flush=True)

    say(f"{'mIoU':6}  batches  {'  '.join(CRFParameters._fields)}", flush=True)
    kept, miou = network_scores(run, part, mesh), make_miou(run.config.num_classes, mesh)
    check_labelled(kept, run.config.num_classes)
    best = search(miou, kept, report)
    whole = [candidate for candidate in candidates if candidate["batches"] == len(kept)]
    after = next(candidate["miou"] for candidate in whole if candidate["parameters"] == best._asdict())
    deeplab = next(c["miou"] for c in whole if c["parameters"] == CRFParameters()._asdict())
    before = miou(None, kept)
    if parallel.is_first_process():
        found = {
            "parameters": best._asdict(),
            "miou_before": before,
            "miou_deeplab": deeplab,
            "miou": after,
            "split": values.split,
            "images": len(part),
            "step": run.step,
            "seconds": time.monotonic() - start,
            "candidates": candidates,
        }
        write_json(workdir / CRF_FILE, found)
    say(
        f"\n{values.split}, {len(part)} images: mIoU {before:.4f} without CRF, {deeplab:.4f} with DeepLab's settings, "
        f"{after:.4f} with the best of {len(candidates)}:\n"
        + "\n".join(f"  {name} {value:.4g}" for name, value in best._asdict().items())
    )


if __name__ == "__main__":
    commands.define_run_flags("workdir", "split", "checkpoint", "data_dir", split="val")
    flags.DEFINE_integer("images", 32, "How many of its images, spread over it.")
    commands.run(main, __doc__)
