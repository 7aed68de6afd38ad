"""A trained run as a function of images: what `gan_seg_jax.load` returns."""

import dataclasses
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image

from gan_seg_jax import parallel
from gan_seg_jax.data import images as image_files
from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.inference import file_batches
from gan_seg_jax.inference.labelling import ImageLabeller, Labelled
from gan_seg_jax.inference.load import load_run
from gan_seg_jax.inference.options import Options, read_crf
from gan_seg_jax.pictures import panels
from gan_seg_jax.postprocess.areas import class_areas


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What a run makes of one image.

    Attributes:
        image: the image as it was read, uint8 [h, w, 3], RGB, upright.
        labels: class ids, uint8 [h, w]: the mask that `predict` writes.
        confidence: probability of the chosen class, before any clean-up, float32 [h, w], 0 to 1.
        class_names: name of each class id 0..k-1.
        class_colors: RGB, 0..255, of each class id.
    """

    image: np.ndarray = dataclasses.field(repr=False)
    labels: np.ndarray = dataclasses.field(repr=False)
    confidence: np.ndarray = dataclasses.field(repr=False)
    class_names: tuple[str, ...]
    class_colors: tuple[tuple[int, int, int], ...] = dataclasses.field(repr=False)
    _find_probabilities: Callable[[], np.ndarray] = dataclasses.field(repr=False)

    @functools.cached_property
    def probabilities(self) -> np.ndarray:
        """Probability of each class before any clean-up, float32 [h, w, k]; made when it is first asked for.

        It takes 4 k bytes a pixel: a photograph of 24 megapixels and 12 classes 1.2 GB.
        """
        return self._find_probabilities()

    def overlay(self, opacity: float = 0.5) -> Image.Image:
        """Return the image under the colours of its classes.

        Args:
            opacity: of the colours, 0 to 1.
        """
        return Image.fromarray(panels.overlay(self.image, self.labels, self.class_colors, alpha=opacity))

    def areas(self, spacing: tuple[float, float] | None = None) -> dict[str, dict[str, Any]]:
        """Return the area of each class: {name: {"pixels", "share", and with a spacing "mm2"}}.

        Args:
            spacing: millimetres from one row to the next, and from one column to the next.
        """
        return class_areas(self.labels, self.class_names, spacing)


class Segmenter:
    """A trained run as a function of images.

    Labels are those of the command `predict`, to the bit. Threads may share a segmenter: their batches take turns on
    the devices. The network is compiled at the first image (one that keeps its scale, `config.resize="none"`: at the
    first of each canvas), and a small program at the first of each bucket of sizes (`data.canvas.bucket`, four to an
    octave); `warm_up` does it beforehand. All local devices are used, and a batch holds as many images as in
    `predict`: of fewer, the last one is repeated.
    """

    def __init__(
        self, workdir: str | os.PathLike, checkpoint: str = "best", *, batch_size: int | None = None, **options: Any
    ):
        """Load a run; see `gan_seg_jax.load`."""
        run = load_run(workdir, str(checkpoint))
        config = run.config
        if run.method.TASK != "segmentation":
            raise InputError(f"{workdir} is a run of {config.method}, for {run.method.TASK}; expected a segmentation.")
        if batch_size is not None:
            if batch_size < 1:
                raise InputError(f"batch_size is {batch_size}; expected 1 or more.")
            config.batch_size = batch_size
        self.class_names: tuple[str, ...] = tuple(config.class_names)
        self.class_colors = tuple(map(tuple, config.class_colors))
        self.step = run.step
        self._config, self._read_file = config, file_batches.reader(config)
        mesh = parallel.make_mesh(jax.local_devices())
        self._label = ImageLabeller(run, _options(workdir, options), mesh=mesh, keep_views=True)

    def __call__(self, images: Any) -> Any:
        """Label one image or several.

        Args:
            images: an image: uint8 [h, w, 3] in RGB, a path, or a PIL image; or a list of these, of any sizes, or uint8
                [n, h, w, 3].

        Returns:
            A Result, or a list of one for each image in their order. All are in memory at once: of a large folder, give
            a few at a time, or use the command `predict`.

        Raises:
            InputError: an image cannot be used; nothing has been labelled then.
        """
        several = isinstance(images, list | tuple) or (isinstance(images, np.ndarray) and images.ndim == 4)
        pixels = [self._read(image) for image in (images if several else [images])]
        found = self._label([(image, number) for number, image in enumerate(pixels)], lambda image: image)
        results = [self._result(labelled) for labelled in sorted(found, key=lambda labelled: labelled.name)]
        return results if several else results[0]

    def warm_up(self, *sizes: tuple[int, int]) -> None:
        """Compile what images of these sizes (height, width) need, so that the first of them does not wait for it."""
        for height, width in sizes:
            self(np.zeros((height, width, 3), np.uint8))

    def _read(self, image: Any) -> np.ndarray:
        """Return uint8 [h, w, 3] of whatever an image may be."""
        if isinstance(image, str | os.PathLike):
            return self._read_file(Path(image))
        if isinstance(image, Image.Image):
            limits = {"bits": self._config.image_bits, "max_pixels": self._config.max_pixels}
            return image_files.from_pillow(image, **limits)
        array = np.array(image)  # a copy: the caller's may change before probabilities are asked for
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
            found = f"{array.dtype} {list(array.shape)}" if array.dtype != object else type(image).__name__
            raise InputError(f"An image is {found}; expected uint8 [height, width, 3] (RGB), a path or a PIL image.")
        if array.shape[0] * array.shape[1] > self._config.max_pixels:
            most = self._config.max_pixels
            raise InputError(f"An image is {list(array.shape)}; expected at most {most} pixels (config.max_pixels).")
        return array

    def _result(self, labelled: Labelled) -> Result:
        find = lambda: self._label.probabilities(labelled)
        return Result(labelled.image, labelled.labels, labelled.confidence, self.class_names, self.class_colors, find)


def _options(workdir: str | os.PathLike, given: dict[str, Any]) -> Options:
    """Return the options by the names of the flags of `predict`.

    Raises:
        InputError: there is no such option, or its value is out of its range.
    """
    names = [field.name for field in dataclasses.fields(Options)]
    for name in given:
        if name not in names:
            raise unknown("option", name, names)
    if isinstance(given.get("crf"), bool):
        given = {**given, "crf": read_crf(workdir) if given["crf"] else None}
    try:
        return Options(**given)
    except (TypeError, ValueError) as error:
        raise InputError(f"The options {given} cannot be used: {error}.") from error
