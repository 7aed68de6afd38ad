"""Judge a finished segmentation run: are its probabilities honest, and what does its discriminator know?

    python -m gan_seg_jax.judge --workdir=DIR [--split=test] [--checkpoint=best|latest|STEP] [--data_dir=..]

Prints tables and writes DIR/judging-SPLIT.json and DIR/judging-SPLIT.png:

- calibration: expected calibration error, Brier score and likelihood of all labelled pixels at the label's own size, as
  trained and with one temperature fitted on val (`judging.calibration`);
- errors found: how well 1 - max softmax, the entropy, the distance of the probabilities of the image and of its mirror
  image and, where there is a discriminator, 1 - D tell wrong pixels from right ones
  (`judging.detection.ErrorDetection`);
- real or fake: how well the discriminator tells held-out truth from prediction, given as in training (one-hot and
  softmax, unless the truth was softened or the maps were colours), and again one-hot truth from arg max, as crisp as
  each other: what it loses from the one to the other it knew by crispness. By image (mean of the map,
  `judging.detection.real_fake`) and by patch (`judging.patches`);
- the discriminator's map taken as the probability that a pixel is right, as AdvSemiSeg's threshold takes it: its
  calibration error and reliability diagram, where the game makes it a probability (cross-entropy and least squares);
- images: the correlation of the discriminator's mean score of a fake with the image's mIoU.

D is the method's `score_map` in 0..1 on the canvas; pixels without a label are zero in every map alike, as in training,
and patches that show none with one do not count. With losses that have no threshold (Wasserstein, relativistic) a score
is relative to the mean of its batch of real and fake, so their AUC and accuracy hold for this batch size. Scores of
least squares beyond its targets are ties, for they are cut to 0..1.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.stats
from absl import flags
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gan_seg_jax import metrics, parallel, tasks
from gan_seg_jax.cli import commands
from gan_seg_jax.data import pipeline
from gan_seg_jax.data.catalog import Split
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import Run, load_run, open_split
from gan_seg_jax.inference.scoring import make_scorer
from gan_seg_jax.judging import DETECTORS, FAKES
from gan_seg_jax.judging.calibration import Calibration, Reliability, TemperatureScaling
from gan_seg_jax.judging.detection import ErrorDetection, real_fake, uncertainty
from gan_seg_jax.judging.patches import PatchScores
from gan_seg_jax.judging.views import make_step, rows_of
from gan_seg_jax.losses import adversarial
from gan_seg_jax.pictures import panels
from gan_seg_jax.pictures.judgement import Map, judging_sheet
from gan_seg_jax.runs.tables import table
from gan_seg_jax.system.files import write_json
from gan_seg_jax.system.progress import track

STATES = {"before": "as trained", "after": "with temperature"}


def fit_temperature(run: Run, split: Split, mesh: Mesh) -> float:
    """Return the temperature that makes the labels of a split most likely.

    Raises:
        InputError: none of its pixels has a label.
    """
    score = make_scorer(run.method, run.config)

    def step(state, stream):
        found = {name: stream[name] for name in ("label", "size", "valid")}
        return {**found, "logits": score(state, stream, stream["label"].shape[1:])}

    scaling = TemperatureScaling(run.config.num_classes)
    rows = rows_of(step, run, split, mesh)
    for row in track(rows, len(split), active=parallel.is_first_process()):
        scaling.add(row["label"], row["logits"])
    return scaling.fit()


class Judgement:
    """What is counted of a split, image by image, and the scores that follow."""

    def __init__(self, config: ConfigDict, *, discriminator: bool):
        """Start from nothing; `discriminator` says whether there is one to judge, by `config.losses.adversarial`."""
        k = config.num_classes
        self._names = tuple(config.class_names)
        self.calibration = {name: Calibration(k) for name in STATES}
        self.errors = {name: ErrorDetection(k) for name in DETECTORS if discriminator or name != "discriminator"}
        self.patches = {name: PatchScores() for name in FAKES} if discriminator else {}
        # Of the discriminator's map, as a claim that a pixel is right; None where its game makes it none.
        claims = discriminator and adversarial.create(config.losses.adversarial).probability is not None
        self.confidence = Reliability() if claims else None
        self.images = []

    def add(self, row: dict[str, np.ndarray]) -> None:
        """Count one image, as `make_step` found it."""
        label, k = row["label"], len(self._names)
        predicted = row["before"].argmax(axis=-1)
        for name, calibration in self.calibration.items():
            calibration.add(label, row[name])
        doubts = {**uncertainty(row["before"]), "mirror": row["mirror"], "discriminator": row.get("doubt")}
        for name, errors in self.errors.items():
            errors.add(label, predicted, doubts[name])
        if self.confidence is not None:
            self.confidence.add(1 - row["doubt"], label == predicted, label < k)
        cells = label[label < k].astype(np.int64) * k + predicted[label < k]
        confusion = np.bincount(cells, minlength=k * k).reshape(k, k)
        image = {"id": int(row["id"]), "miou": metrics.scores(confusion, self._names)["miou"]}
        if self.patches and row["counted"].any():
            for name, patches in self.patches.items():
                real, fake = row[f"real_{name}"][row["counted"]], row[name][row["counted"]]
                patches.add(real, fake)
                image |= {f"real_{name}": float(real.mean()), name: float(fake.mean())}
        self.images.append(image)

    def scores(self) -> dict[str, Any]:
        """Return the scores of all images so far: `calibration`, `errors_found`, `real_fake`, `image_scores`, `images`.

        Raises:
            InputError: there is no labelled pixel, or a discriminator and fewer than two labelled images.
        """
        found = {name: calibration.scores() for name, calibration in self.calibration.items()}
        if found["before"]["nll"] is None:
            raise InputError("None of the images has a labelled pixel: nothing can be judged; choose another split.")
        judged = [image for image in self.images if "soft" in image]
        of = lambda name: np.array([image[name] for image in judged], np.float64)
        by_image = {name: real_fake(of(f"real_{name}"), of(name), threshold=0.5)._asdict() for name in self.patches}
        by_patch = {name: patches.scores() for name, patches in self.patches.items()}
        return {
            "calibration": found,
            "discriminator_ece": None if self.confidence is None else self.confidence.ece(),
            "errors_found": {name: errors.scores() for name, errors in self.errors.items()},
            "real_fake": {"by_image": by_image, "by_patch": by_patch} if self.patches else None,
            "image_scores": correlation(of("soft"), of("miou")) if self.patches else None,
            "images": sorted(self.images, key=lambda image: image["id"]),
        }


def correlation(first: np.ndarray, second: np.ndarray) -> dict[str, float | None]:
    """Return the correlation of two float [n]: "pearson" and "spearman", None where it is not defined."""
    if len(first) < 3 or not (np.ptp(first) and np.ptp(second)):
        return {"pearson": None, "spearman": None}
    return {
        "pearson": float(scipy.stats.pearsonr(first, second).statistic),
        "spearman": float(scipy.stats.spearmanr(first, second).statistic),
    }


def tables(found: dict[str, Any]) -> str:
    """Return what the command prints of the scores."""
    show = lambda value: "-" if value is None else f"{value:.4f}"
    rows = [["calibration of pixels", "ECE", "Brier", "NLL", "accuracy"]]
    for name, scores in found["calibration"].items():
        text = STATES[name] + (f" {found['temperature']:.3f}" if name == "after" else "")
        rows.append([text, *(show(scores[key]) for key in ("ece", "brier", "nll", "accuracy"))])
    parts = [table(rows)]
    errors = found["errors_found"]
    rows = [["wrong pixels found by", "AUPR", "AUC"]]
    rows += [[DETECTORS[name], show(scores["aupr"]), show(scores["auc"])] for name, scores in errors.items()]
    parts.append(table([*rows, ["chance", show(errors["entropy"]["wrong_share"]), show(0.5)]]))
    if found["real_fake"]:
        rows = [["discriminator: truth against", "AUC", "95% interval", "accuracy", "of real", "of fake"]]
        for kind, fakes in found["real_fake"].items():
            for name, scores in fakes.items():
                interval = f"{scores['auc_low']:.4f}-{scores['auc_high']:.4f}"
                right = [show(scores[key]) for key in ("accuracy", "real_accuracy", "fake_accuracy")]
                rows.append([f"{FAKES[name]}, {kind.replace('_', ' ')}", show(scores["auc"]), interval, *right])
        of = found["image_scores"]
        text = f"pearson {show(of['pearson'])}, spearman {show(of['spearman'])}"
        parts += [table(rows), f"Its mean score of an image's fake and the image's mIoU: {text}."]
        if found["discriminator_ece"] is not None:
            ece = show(found["discriminator_ece"])
            parts[-1] += f" As the probability that a pixel is right, its map has an ECE of {ece}."
    return "\n\n".join(parts)


def draw(path: Path, judgement: Judgement, row: dict[str, np.ndarray], image: np.ndarray, *, title: str) -> None:
    """Write the sheet: reliability, scores of patches, and the maps of one image uint8 [h, w, 3]."""
    k = row["before"].shape[-1]
    wrong = panels.error_map(image, row["label"], row["before"].argmax(axis=-1), num_classes=k)
    maps = [Map("image", image), Map("wrong pixels (red)", wrong)]
    if "doubt" in row:
        maps.append(Map("1 - D (1 is fake)", row["doubt"], 1.0))
    entropy = uncertainty(row["before"])["entropy"]
    maps.append(Map("entropy of the softmax (nats)", entropy, float(np.log(k))))
    histograms, edges = {}, None
    for name, patches in judgement.patches.items():
        edges, real, fake = patches.histogram()
        histograms.setdefault("truth", real)  # as training showed it
        histograms[FAKES[name]] = fake
    diagrams = {
        f"{STATES[name]}: ECE {calibration.reliability.ece():.4f}": calibration.reliability.diagram()
        for name, calibration in judgement.calibration.items()
    }
    if judgement.confidence is not None:
        diagrams[f"discriminator: ECE {judgement.confidence.ece():.4f}"] = judgement.confidence.diagram()
    parts = {"diagrams": diagrams, "histograms": histograms, "edges": edges, "maps": maps}
    judging_sheet(path, title=title, **parts)


def main() -> None:
    """Run the command."""
    values, start = flags.FLAGS, time.monotonic()
    workdir = Path(commands.required("workdir"))
    run = load_run(workdir, values.checkpoint, values.data_dir)
    tasks.of(run.method).require("judge", workdir, run.config.method)
    name, note = values.split, ""
    if name == "test" and "test" not in pipeline.open_dataset(run.config).splits:
        name, note = "val", "This data set has no test split: val is judged, by which the best step was chosen.\n"
    if name == "val":
        note += "The temperature was fitted on these images too, so its gain is too large.\n"
    fitted, mesh = open_split(run, "val")
    split = open_split(run, name)[0]
    temperature = fit_temperature(run, fitted, mesh)
    judgement = Judgement(run.config, discriminator=run.method.score_map is not None)
    shown, step = None, make_step(run)
    rows = rows_of(step, run, split, mesh, np.float32(temperature))
    for row in track(rows, len(split), active=parallel.is_first_process()):
        judgement.add(row)
        shown = row if row["id"] == len(split) // 2 else shown
    found = {"step": run.step, "split": name, "temperature": temperature, **judgement.scores()}
    title = f"{run.config.method} on {run.config.dataset}, {name} split, {len(split)} images, step {run.step}"
    if parallel.is_first_process():
        write_json(workdir / f"judging-{name}.json", {**found, "seconds": time.monotonic() - start})
        draw(workdir / f"judging-{name}.png", judgement, shown, split[len(split) // 2]["image"], title=title)
        print(f"{note}{title}:\n\n{tables(found)}")


if __name__ == "__main__":
    commands.define_run_flags("workdir", "split", "checkpoint", "data_dir")
    commands.run(main, __doc__)
