"""The scores of a run as parts of a page: tables, bars, the confusion matrix, calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gan_seg_jax.judging import DETECTORS, FAKES
from gan_seg_jax.judging.bootstrap import bootstrap_interval
from gan_seg_jax.pictures import pages
from gan_seg_jax.reporting.run_files import IMAGE_MEANS, RunFiles, number, score_names, title_of, value_text

_MATRIX = 25  # classes of a matrix that is shown
_CONFUSIONS = 15


def scores(run: RunFiles) -> str:
    """Return the scores of a finished run: of the best step by split, of the last one, and of the baselines."""
    found = run.summary
    last = found.get("last") or {}
    best = "" if run.classical else ", best step"
    columns = {f"{name}{best}": found[name] for name in ("test", "val") if found[name] is not None}
    if last.get("step") not in (None, found["best_step"]):
        columns |= {f"{name}, last step": last[name] for name in ("test", "val") if last.get(name) is not None}
    columns |= {f"{name} ({run.scored_split})": values for name, values in found["baselines"].items()}
    rows = [["", *columns]]
    for name in score_names(list(columns.values())):
        rows.append([title_of(name), *(value_text(values.get(name)) for values in columns.values())])
    parts = [pages.table(rows)]
    if run.scored_split == "val":
        parts.append(
            pages.paragraph(
                "This data set has no test split: the scores are of val, by which the best step was chosen."
            )
        )
    if run.counts is not None and run.counts.any():
        low, high = bootstrap_interval(run.counts)
        text = f"95% interval of the mIoU over draws of the {len(run.counts)} test images: {low:.4f} to {high:.4f}"
        parts.append(pages.paragraph(f"{text} (bootstrap). How it varies over other trainings is not in it."))
    return "".join(parts)


def by_class(run: RunFiles) -> str:
    """Return the IoU of each class with bars, with what else is known of it; nothing for runs without classes."""
    found = run.summary[run.scored_split]
    iou = found.get("iou_per_class")
    if not iou:
        return ""
    config, others = run.config, run.summary["baselines"]
    colors = dict(zip(config.class_names, config.class_colors, strict=False))
    counted, images = {}, {}
    if run.counts is not None:
        shown_in = (run.counts[..., [0, 2]].sum(axis=-1) > 0).sum(axis=0).tolist()
        counted = dict(zip(config.class_names, run.counts.sum(axis=0).tolist(), strict=True))
        images = dict(zip(config.class_names, shown_in, strict=True))
    more = ["Dice", "precision", "recall", "pixels", "images"] if counted else []
    rows = []
    for name, value in iou.items():
        cells = [pages.swatch(colors.get(name, (128, 128, 128))) + pages.escaped(name)]
        cells += [pages.bar(value or 0), number(value)]
        if counted:
            hits, more_pixels, missed = counted[name]
            cells += [
                _share(2 * hits, 2 * hits + more_pixels + missed),
                _share(hits, hits + more_pixels),
                _share(hits, hits + missed),
                f"{hits + missed:,}",
                str(images[name]),
            ]
        cells += [number((values.get("iou_per_class") or {}).get(name)) for values in others.values()]
        rows.append(cells)
    headings = ["class", "", f"IoU, {run.scored_split}", *more, *(f"IoU of {name}" for name in others)]
    return pages.cells_table(headings, rows)


def single_images(run: RunFiles) -> str:
    """Return the means over images that `evaluate --per_image` has written; nothing where it has not."""
    parts = []
    for split, found in run.per_image.items():
        unit = found["unit"]
        rows = [["class", "Dice", f"HD95, {unit}", f"ASSD, {unit}", "images", "of these one-sided"]]
        specs = (".4f", ".3f", ".3f", "d", "d")
        for name in found["dice_per_class"]:
            values = (found[mean][name] for mean in IMAGE_MEANS)
            rows.append([name, *(number(value, spec) for value, spec in zip(values, specs, strict=True))])
        caption = f"{split}, step {found['step']}: means over the images that have the class in truth or prediction"
        parts.append(pages.table(rows, caption=caption))
    return "".join(parts)


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.4f}" if whole else "-"


def confusion(matrix: np.ndarray, names: Sequence[str]) -> str:
    """Return a confusion matrix in shares of the true class, and the largest confusions.

    Args:
        matrix: int64 [k, k], true class by predicted class.
        names: k names.
    """
    total = matrix.sum(axis=1, keepdims=True)
    shares = np.divide(matrix, total, out=np.zeros(matrix.shape), where=total > 0)
    parts = []
    if len(names) <= _MATRIX:
        rows = []
        for name, row, pixels in zip(names, shares, total[:, 0], strict=True):
            cells = [_cell(share) if pixels else "-" for share in row]
            rows.append([pages.escaped(name), *cells, f"{pixels:,}"])
        caption = "Rows are true classes, columns what was predicted, in percent of the true pixels."
        parts.append(pages.cells_table(["", *names, "pixels"], rows, caption=caption))
    wrong = matrix - np.diag(np.diag(matrix))
    order = [divmod(int(place), len(names)) for place in np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]]
    rows = [
        [names[true], names[found], f"{shares[true, found]:.1%}", f"{wrong[true, found]:,}"]
        for true, found in order
        if wrong[true, found]
    ]
    if rows:
        head = ["true", "predicted", "of the true pixels", "pixels"]
        parts.append("<h3>Largest confusions</h3>" + pages.table([head, *rows]))
    return "".join(parts)


def _cell(share: float) -> str:
    return f'<span class="shade" style="--share:{share:.2f}">{100 * share:.1f}</span>'


def judged(split: str, found: Mapping[str, Any]) -> str:
    """Return what `judge` has found of a split, checked by `run_files`."""
    rows = [["probabilities of pixels", "calibration error", "Brier", "negative log-likelihood", "accuracy"]]
    names = {"before": "as trained", "after": f"with temperature {number(found['temperature'], '.3f')}"}
    for name, values in found["calibration"].items():
        rows.append([names.get(name, name), *(number(values.get(key)) for key in ("ece", "brier", "nll", "accuracy"))])
    parts = [pages.table(rows, caption=f"{split}, step {found['step']}")]
    rows = [["wrong pixels found by", "area under precision and recall", "area under the ROC"]]
    for name, values in found["errors_found"].items():
        rows.append([DETECTORS.get(name, name), number(values.get("aupr")), number(values.get("auc"))])
    parts.append(pages.table(rows))
    if found["real_fake"]:
        rows = [["discriminator: truth against", "area under the ROC", "accuracy"]]
        for kind, fakes in found["real_fake"].items():
            for name, values in fakes.items():
                what = FAKES.get(name, name)
                rows.append(
                    [f"{what}, {kind.replace('_', ' ')}", number(values.get("auc")), number(values.get("accuracy"))]
                )
        parts.append(pages.table(rows))
    return "".join(parts)
