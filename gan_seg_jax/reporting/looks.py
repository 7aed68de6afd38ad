"""A pass of a run's network over a split: what is counted of it, and which images are the best and the worst."""

import contextlib
import dataclasses
import heapq
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh

from gan_seg_jax import metrics
from gan_seg_jax.data.catalog import Split
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import explaining
from gan_seg_jax.inference.labelling import ImageLabeller, Labelled
from gan_seg_jax.inference.load import Run
from gan_seg_jax.judging.calibration import Reliability
from gan_seg_jax.judging.counts import Counts
from gan_seg_jax.pictures import pages, panels
from gan_seg_jax.system.progress import track

SIDE = 360  # pixels that are kept of a picture's longer side
SMALL = 160  # fewer are shown larger
Row = dict[str, str]  # heading -> address of a picture


class Seen(NamedTuple):
    """An image that is shown: its name, its mean IoU, and its pictures."""

    id: str
    miou: float
    pictures: Row


@dataclasses.dataclass(frozen=True)
class Look:
    """What was found of a split.

    Attributes:
        split: its name.
        step: of the checkpoint.
        scores: as in summary.json.
        confusion: int64 [k, k], true class by predicted class.
        counts: of each image, int64 [n, k, 3] (`metrics.class_counts`).
        reliability: confidence against accuracy of all labelled pixels.
        best: images of the highest mean IoU over their classes, the best first.
        worst: of the lowest, the worst first; none of them is among the best.
        explained: name of an image and the address of its explanation, where one is wanted: of the worst one; a
            sentence and "" where there can be none.
    """

    split: str
    step: int
    scores: dict[str, Any]
    confusion: np.ndarray
    counts: np.ndarray
    reliability: Reliability
    best: list[Seen]
    worst: list[Seen]
    explained: list[tuple[str, str]] = dataclasses.field(default_factory=list)


def labelled(run: Run, split: Split, places: Sequence[int], mesh: Mesh) -> Iterator[tuple[Labelled, np.ndarray]]:
    """Yield what the network finds of some images of a split, each named by its place, and its label, in no order.

    Where the run has a discriminator that scores places of a label map, its doubt is among the maps.
    """
    labels = {}

    def read(place: int) -> np.ndarray:
        example = split[place]
        labels[place] = example["label"]
        return example["image"]

    label = ImageLabeller(run, mesh=mesh, maps=() if run.method.score_map is None else ("doubt",))
    for found in label([(place, place) for place in places], read):
        yield found, labels.pop(found.name)


def look(run: Run, split: Split, mesh: Mesh, *, shown: int, explain: bool = False) -> Look:
    """Label a whole split and count.

    Args:
        run: the run.
        split: the split.
        mesh: the devices.
        shown: how many of the best and of the worst images are kept, at most.
        explain: whether to explain the worst image.
    """
    config, k = run.config, run.config.num_classes
    counts, reliability, by_image = Counts(k), Reliability(), np.zeros((len(split), k, 3), np.int64)
    best: list = []
    worst: list = []
    for found, label in track(labelled(run, split, range(len(split)), mesh), len(split)):
        confusion = counts.add(label, found.labels)
        by_image[found.name] = metrics.class_counts(confusion)
        reliability.add(np.clip(found.confidence, 0, 1), found.labels == label, label < k)
        miou = metrics.scores(confusion, config.class_names)["miou"]
        if miou is not None:  # of an image with labels
            for heap, value in ((best, miou), (worst, -miou)):
                if len(heap) < shown or (value, -found.name) > heap[0][:2]:
                    heapq.heappush(heap, (value, -found.name, pictures(found, label, config.class_colors)))
                if len(heap) > shown:
                    heapq.heappop(heap)
    top, bottom = sorted(best, key=_order, reverse=True), sorted(worst, key=_order, reverse=True)
    known = len({entry[1] for entry in (*top, *bottom)})
    bottom = bottom[: min(shown, known // 2)]
    top = [entry for entry in top if entry[1] not in {other[1] for other in bottom}]
    seen = lambda entry: Seen(split.ids[-entry[1]], abs(entry[0]), entry[2])
    return Look(
        split=split.name,
        step=run.step,
        scores=counts.scores(config.class_names),
        confusion=counts.confusion,
        counts=by_image,
        reliability=reliability,
        best=list(map(seen, top)),
        worst=list(map(seen, bottom)),
        explained=[_explained(run, split, -entry[1]) for entry in bottom[:1] if explain],
    )


def _explained(run: Run, split: Split, place: int) -> tuple[str, str]:
    """Return the name of an image and the address of its explanation; a sentence and "" where it has none."""
    try:
        image = explaining.shown(split[place]["image"], run.config, split.ids[place])
    except InputError as error:
        return str(error), ""
    sheet = explaining.sheet(image, explaining.Explainer(run)(image), run.config)
    return split.ids[place], pages.address(sheet, max(sheet.shape))


def _order(entry: tuple) -> tuple[float, int]:
    return entry[:2]


def pictures(found: Labelled, label: np.ndarray, colors: Sequence[Sequence[int]]) -> Row:
    """Return the image, its truth, what was found, where that is wrong, and where the discriminator doubts it."""
    shown = {
        "image": found.image,
        "truth": panels.colorize(label, colors),
        "prediction": panels.colorize(found.labels, colors),
        "wrong in red": panels.error_map(found.image, label, found.labels, num_classes=len(colors)),
    }
    if "doubt" in found.maps:
        shown["discriminator's doubt"] = panels.map_colors(found.maps["doubt"])
    return {name: picture(values) for name, values in shown.items()}


def picture(values: np.ndarray) -> str:
    """Return the address of a picture uint8 [h, w, 3], a small one enlarged by a whole factor."""
    factor = max(1, SMALL // max(values.shape[:2]))
    return pages.address(values.repeat(factor, axis=0).repeat(factor, axis=1), SIDE)


def rows_of(seen: Sequence[Seen]) -> str:
    """Return rows of pictures, a row an image."""
    return "".join(
        row(f"{one.id}: mean IoU {one.miou:.3f}", one.pictures, f"of {one.id}, mean IoU {one.miou:.3f}") for one in seen
    )


def row(title: str, shown: Mapping[str, Any], about: str) -> str:
    """Return a heading of the third level with pictures side by side, each described as "HEADING ABOUT"."""
    figures = "".join(pages.figure(address, name, alt=f"{name} {about}") for name, address in shown.items())
    return f'<h3>{pages.escaped(title)}</h3><div class="cells">{figures}</div>'


@contextlib.contextmanager
def data_needed() -> Iterator[None]:
    """Say what to do, too, where the data cannot be read.

    Raises:
        InputError: they cannot.
    """
    try:
        yield
    except InputError as error:
        hint = "Name the data with --data_dir, or do without with --noimages"
        raise InputError(f"{str(error).rstrip('.')}. {hint}.") from error
