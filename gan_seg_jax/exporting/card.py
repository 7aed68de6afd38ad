"""The model card of exported weights: README.md in Markdown, with the header that Hugging Face reads."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from gan_seg_jax.data.catalog import CATALOG
from gan_seg_jax.exporting.program import networks_of
from gan_seg_jax.inference.load import Run
from gan_seg_jax.judging.bootstrap import bootstrap_interval
from gan_seg_jax.models import pip_weights
from gan_seg_jax.runs.tables import SCORE_COLUMNS, text
from gan_seg_jax.state import parameter_counts

_HEADER = """---
library_name: gan_seg_jax
pipeline_tag: image-segmentation
tags: [image-segmentation, jax, flax]
{}---
"""
_PROTOCOL = (
    "Scores are of one confusion matrix over all pixels of a split, at the size of its labels, void (255) left out; "
    "the mean IoU is over the classes that are in the truth or the prediction."
)
_LOADING = """```python
import gan_seg_jax as gs

segmenter = gs.load("FOLDER")  # this folder
result = segmenter("image.jpg")
```

`model.safetensors` holds float32 arrays by ROLE/params/MODULE/..., kernels as [height, width, in, out]; running
averages of the weights where the run has kept them. `config.json` is the config of the training."""


def card(run: Run, summary: Mapping[str, Any] | None, image_counts: np.ndarray | None = None, licence: str = "") -> str:
    """Return the card.

    Args:
        run: the run.
        summary: of its summary.json; None of a run that is not finished.
        image_counts: of its test images, int64 [n, k, 3] (`metrics.class_counts`); None where they are not kept.
        licence: of the weights, as their owner gives it; "" where nothing is said.
    """
    config, counts, networks = run.config, parameter_counts(run.state), networks_of(run)
    named = ", ".join(f"{name} ({role}, {counts[role]:,} parameters)" for role, name in networks.items())
    classes = zip(config.class_names, config.class_colors, strict=True)
    parts = [
        f"# {_cell(config.method)} on {_data_name(config)}",
        f"A segmentation network: {named}, trained by gan_seg_jax with the method `{config.method}`; step {run.step} "
        f"of {config.steps}, seed {config.seed}. It gives each pixel one of {config.num_classes} classes.",
        _table(
            ["id", "class", "colour"],
            [[str(i), _cell(name), " ".join(map(str, color))] for i, (name, color) in enumerate(classes)],
        ),
        "## Data\n\n" + _data(config),
        "## Scores\n\n" + _scores(run, summary, image_counts),
        "## Licence\n\n" + _licence(config, networks, licence),
        "## How to load it\n\n" + _LOADING,
    ]
    header = _HEADER.format(f"license: {licence}\n" if licence else "")
    return header + "\n" + "\n\n".join(parts) + "\n"


def _data_name(config: ConfigDict) -> str:
    """Return what the data set is called: a folder by its own name."""
    own = os.path.basename(config.data_dir.rstrip("/"))
    return _cell(own if config.dataset == "folder" else config.dataset)


def _data(config: ConfigDict) -> str:
    """Return what the network was trained on, and how its images are shown to it."""
    height, width = config.canvas_size
    shown = f"scaled to fit {height}x{width}" if config.resize == "fit" else "at their own scale"
    protocol = CATALOG[config.dataset].protocol if config.dataset in CATALOG else ""
    labelled = config.labelled.fraction
    share = f"A share of {labelled:g} of the training images kept its labels." if labelled != 1 else ""
    parts = [f"`{_data_name(config)}`.", protocol, f"Images are shown {shown} (height x width).", share]
    return " ".join(filter(None, parts))


def _scores(run: Run, summary: Mapping[str, Any] | None, image_counts: np.ndarray | None) -> str:
    """Return the scores that the run's records hold, with the interval of the mean IoU over images."""
    if summary is None:
        return "The folder of the run holds no final scores."
    splits = {split: summary[split] for split in ("val", "test") if summary[split] is not None}
    step = summary["best_step"] if summary["best_step"] is not None else summary["steps"]
    other = "" if step == run.step else f" The scores are of step {step}, the weights of step {run.step}."
    rows = [
        [title, *(text(scores.get(key), ".4f") for scores in splits.values())] for key, title in SCORE_COLUMNS.items()
    ]
    rows += [
        [
            f"IoU {_cell(name)}",
            *(text((scores.get("iou_per_class") or {}).get(name), ".4f") for scores in splits.values()),
        ]
        for name in run.config.class_names
    ]
    chosen = f" The step was chosen by {summary['selected_by']} on val." if summary["selected_by"] else ""
    interval = ""
    if image_counts is not None and image_counts.any():
        low, high = bootstrap_interval(image_counts)
        interval = (
            f" The 95% interval of the mean IoU over draws of the {len(image_counts)} test images is {low:.4f} to "
            f"{high:.4f} (bootstrap); how it varies over other trainings is not in it."
        )
    return f"{_table(['', *splits], rows)}\n\n{_PROTOCOL}{chosen}{interval}{other}"


def _licence(config: ConfigDict, networks: Mapping[str, str], licence: str) -> str:
    """Return the licence that the weights are given, and what is known of the rights of others."""
    own = [f"- The weights are published under {_cell(licence)}."] if licence else []
    lines = []
    for role in networks:
        source = config.pretrained[role] if role in config.pretrained else ""
        if source.startswith(pip_weights.PREFIX):
            lines.append(f"- The {role} started from {pip_weights.describe(source)}")
        elif source:
            name = source if source.startswith("hf:") else "a file of weights"
            lines.append(f"- The {role} started from {_cell(name)}, whose licence the run does not know.")
        if role in config.init and config.init[role] not in ("", "random"):
            lines.append(f"- The {role} started from another run, or was made by it; what holds for that, holds here.")
    lines = lines or ["- No weights from elsewhere: the networks started from random numbers."]
    return "\n".join(
        [*own, *lines, "- The run does not know the licence of its images and labels; look where they are from."]
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: str) -> str:
    """Return text that may be anybody's for Markdown: on one line, and no markup of tables, links or HTML."""
    plain = " ".join(str(value).split())
    return plain.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[").replace("`", "'")
