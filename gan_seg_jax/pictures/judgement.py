"""The picture of a judging: reliability diagrams, scores of real and fake patches, and maps of one image."""

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gan_seg_jax.system import files

WIDTH = 14.0  # inches
TALLEST = 6.0  # inches, of a map
SHARE_COLOR, LINE_COLOR, GAP_COLOR = "#c9d4e0", "#0072b2", "#d55e00"
SCORE_COLORS = ("#009e73", "#d55e00", "#cc79a7")


class Map(NamedTuple):
    """A picture of the lower row.

    title: above it.
    values: uint8 [h, w, 3], or float [h, w] to be drawn in colours from 0 to `limit`.
    limit: value of the last colour; 0 for colours as they are.
    """

    title: str
    values: np.ndarray
    limit: float = 0.0


def judging_sheet(
    out_png: str | os.PathLike,
    *,
    title: str,
    diagrams: Mapping[str, Any],
    histograms: Mapping[str, np.ndarray],
    edges: np.ndarray | None,
    maps: Sequence[Map],
) -> None:
    """Draw the sheet.

    Args:
        out_png: picture to write.
        title: above everything.
        diagrams: title -> reliability diagram (`calibration.Diagram`).
        histograms: name -> share of the patches [m] by score; empty where there is no discriminator.
        edges: logits [m + 1] between the shares; None without histograms.
        maps: pictures of one image, all of one size.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    height, width = maps[0].values.shape[:2]
    lower = min(WIDTH / len(maps) * height / width, TALLEST) + 1.0
    figure = Figure(figsize=(WIDTH, 4.7 + lower), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=12, x=0.01, ha="left")
    top, bottom = figure.subfigures(2, 1, height_ratios=(4.2, lower))
    axes = top.subplots(1, len(diagrams) + bool(histograms), squeeze=False)[0]
    for axis, (name, diagram) in zip(axes, diagrams.items(), strict=False):
        _reliability(axis, name, diagram)
    if histograms:
        _histograms(axes[-1], histograms, edges)
    for axis, shown in zip(bottom.subplots(1, len(maps), squeeze=False)[0], maps, strict=True):
        _map(axis, shown)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    files.write_bytes(out_png, buffer.getvalue())


def reliability(diagrams: Mapping[str, Any]) -> bytes:
    """Return reliability diagrams (`calibration.Diagram`) by their titles, as the bytes of a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.7 * len(diagrams), 4.2), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (title, diagram) in zip(
        figure.subplots(1, len(diagrams), squeeze=False)[0], diagrams.items(), strict=True
    ):
        _reliability(axis, title, diagram)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _reliability(axis, title, diagram):
    """Draw accuracy over confidence, the gap to the diagonal, and the share of pixels in each bin."""
    share = diagram.count / max(1, diagram.count.sum())
    axis.bar(
        diagram.edges[:-1], share, np.diff(diagram.edges), align="edge", color=SHARE_COLOR, label="share of the pixels"
    )
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1, linestyle="--")
    filled = diagram.count > 0
    confidence, accuracy = diagram.confidence[filled], diagram.accuracy[filled]
    axis.vlines(confidence, accuracy, confidence, color=GAP_COLOR, linewidth=1.4, label="gap")
    axis.plot(confidence, accuracy, color=LINE_COLOR, marker="o", markersize=4, linewidth=1.4, label="accuracy")
    axis.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", aspect="equal")
    axis.legend(loc="upper left", fontsize=8, framealpha=0.8, edgecolor="none")
    _finish(axis, title)


def _histograms(axis, histograms, edges):
    """Draw the shares of patches over the logits, within the range that has any."""
    seen = np.flatnonzero(np.max(list(histograms.values()), axis=0) > 0)
    for (name, share), color in zip(histograms.items(), SCORE_COLORS, strict=False):
        axis.stairs(share, edges, color=color, fill=True, alpha=0.22)
        axis.stairs(share, edges, color=color, linewidth=1.5, label=name)
    axis.axvline(0, color="grey", linewidth=1, linestyle="--")
    span = edges[max(0, seen[0] - 1)], edges[min(len(edges) - 1, seen[-1] + 2)]
    axis.set(xlim=(min(span[0], -1), max(span[1], 1)), xlabel="logit of the score, cut at ±16 (fake < 0 < real)")
    axis.set_ylabel("share of the patches", fontsize=9)
    axis.legend(loc="upper left", fontsize=8, framealpha=0.8, edgecolor="none")
    axis.set_ylim(0, 1.3 * axis.get_ylim()[1])  # room for the legend
    _finish(axis, "discriminator's scores of patches")


def _finish(axis, title):
    axis.set_title(title, fontsize=11, loc="left")
    axis.xaxis.label.set_size(9)
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.25, linewidth=0.6)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def _map(axis, shown):
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    axis.set_title(shown.title, fontsize=11, loc="left")
    axis.set_axis_off()
    # Small images as the pixels that they are, larger ones without the grid of a picture shrunk by picking.
    options = {"interpolation": "nearest" if shown.values.shape[1] < 200 else "antialiased"}
    if not shown.limit:
        axis.imshow(shown.values, **options)
        return
    scale = ScalarMappable(Normalize(0, shown.limit), "magma")
    axis.imshow(shown.values, norm=scale.norm, cmap=scale.cmap, **options)
    bar = axis.figure.colorbar(scale, cax=axis.inset_axes((0.0, -0.09, 1.0, 0.035)), orientation="horizontal")
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
