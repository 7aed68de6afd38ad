"""NIfTI volumes and label volumes: slices along an axis, in grey of 8 bits (needs nibabel).

An anatomical axis cuts the volume as its header turns it (closest to RAS+): axial slices have the front of the body
above, coronal and sagittal ones the head; the patient's right is on the left, as radiologists look. --axis=0, 1 or 2
cuts the stored array as it is. Volumes are the groups of a split, so that no patient is in two; --group_pattern joins
several.
"""

import functools
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from gan_seg_jax.data.decoding import ImageError
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.preparing import class_names, intensity, listing, masks, meanings, pairs, pictures
from gan_seg_jax.preparing.extras import need
from gan_seg_jax.preparing.meanings import Meaning
from gan_seg_jax.preparing.source import Example, Item, Options, Source, Unclear
from gan_seg_jax.preparing.words import one_of

FLAGS = pairs.NAMES | intensity.FLAGS | {"void", "reduce_zero_label", "axis", "channel"}
ENDINGS = (".nii", ".nii.gz")
_ACROSS = {"axial": (2, 1, 0), "coronal": (1, 2, 0), "sagittal": (0, 2, 1)}
"""Axis -> those of RAS+ (x to the right, y to the front, z to the head) of slices, rows and columns."""
_ANATOMICAL = tuple(_ACROSS)
_MOST_VALUES = 2**29
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}


class Axis(NamedTuple):
    """An axis of the stored array, and whether it is turned round."""

    number: int
    turned: bool


class Volume(NamedTuple):
    """A volume that was cut.

    Attributes:
        values: float32 [slices, h, w].
        low: The value that is black.
        high: The value that is white.
        spacing: Millimetres of (h, w, slices); () where they are not known.
        axes: The stored axes of slices, h and w.
        image: As nibabel has opened it.
    """

    values: np.ndarray
    low: float
    high: float
    spacing: tuple[float, ...]
    axes: tuple[Axis, Axis, Axis]
    image: Any

    def grey(self, number: int) -> np.ndarray:
        """Return a slice as uint8 [h, w]."""
        return intensity.to_grey(self.values[number], self.low, self.high)


def open_source(options: Options) -> Source:
    """List the slices of all volumes; raises `InputError` as `Format.open_source`."""
    check_flags(options)
    one_of("missing_masks", options.missing_masks, ("", "unlabelled", "skip"))
    info, void_color = class_names.find(options)
    meaning = meanings.meaning_of(options, info, void_color)
    found, items = listing.Listing(options.source), []
    load, load_label = _last(read), _last(_load_label)  # slices come in order
    for split, volumes, labels in pairs.by_split(options, found, ENDINGS):
        for volume_id, path in volumes.items():
            label = labels.pop(volume_id, "")
            side = "unlabelled" if not label and options.missing_masks == "unlabelled" else split
            for number in range(_count(path, options)):
                example = functools.partial(_slice, load, load_label, path, label, number, meaning, options)
                paths = (path, label) if label else (path,)
                items.append(Item(f"{volume_id}_{number:04d}", paths, example, side, volume_id))
        found.left_out["masks without an image"] += [os.path.relpath(path, options.source) for path in labels.values()]
    mapping = meanings.describe(meaning, info) | intensity.describe(options) | {"axis": options.axis}
    return Source(info, items, mapping, found.left_out, void_is_meant=bool(options.void) or options.reduce_zero_label)


def check_flags(options: Options, *, window: str = "window") -> None:
    """Refuse flags that do not say how volumes become slices, and a machine without nibabel.

    Args:
        options: The flags.
        window: What the flag `window` is called.

    Raises:
        InputError: One is missing or wrong, or nibabel is not installed.
    """
    intensity.check_flags(options, window=window)
    one_of("axis", options.axis, (*_ANATOMICAL, "0", "1", "2"), "It says how volumes are cut into slices.")
    need("nibabel", "medical")


def _count(path: str, options: Options) -> int:
    """Return how many slices a volume has; one, whose reading will say why, of one that cannot be read."""
    try:
        image = _open(path)
    except Unclear:
        raise
    except ImageError:
        return 1
    return image.shape[_axes(path, image, options)[0].number]


def _slice(load, load_label, path: str, label: str, number: int, meaning: Meaning, options: Options) -> Example:
    """Read one slice of a volume and of its label; raises `ImageError` and `LeftOut`."""
    if not label and options.missing_masks != "unlabelled":
        pairs.miss(path, options)
    volume = load(path, options)
    picture = pictures.from_pixels(intensity.expect_contrast(volume.grey(number)))
    if not label:
        return Example(picture, spacing=volume.spacing)
    numbers = load_label(label, path, options)[number]
    if not np.all(numbers == np.rint(numbers)):  # of NaN neither
        raise Unclear(label, "holds numbers with a fraction; a label volume has the id of a class in every voxel.")
    classes = masks.classes_of_numbers(label, numbers.astype(np.int64), meaning)
    strange = ~np.isfinite(volume.values[number])
    classes[strange] = IGNORE
    notes = {"void_where_values_are_not_finite": int(strange.sum())} if strange.any() else {}
    return Example(picture, classes, notes=notes, spacing=volume.spacing)


def _last(load: Callable) -> Callable:
    """Return a function that remembers what the last call returned or raised."""
    kept: dict[tuple, Any] = {}

    def again(*args):
        if args not in kept:
            kept.clear()
            try:
                kept[args] = load(*args)
            except ImageError as error:
                kept[args] = error
        if isinstance(kept[args], ImageError):
            raise kept[args]
        return kept[args]

    return again


def read(path: str, options: Options) -> Volume:
    """Read a volume, of its channels the one that is asked for; raises `ImageError`."""
    image = _open(path)
    axes = _axes(path, image, options)
    channels = int(np.prod(image.shape[3:]))
    if options.channel >= channels or (channels > 1 and options.channel < 0):
        raise Unclear(path, f"has {channels} channels or times; --channel=0 to {channels - 1} says which one to take.")
    values = _cut(path, image, axes, max(options.channel, 0))
    return Volume(values, *intensity.limits(values, options), _spacing(image, axes), axes, image)


def _load_label(path: str, volume: str, options: Options) -> np.ndarray:
    """Read the label of a volume, [slices, h, w]; raises `ImageError`."""
    image, other = _open(path), _open(volume)
    if image.shape[:3] != other.shape[:3] or int(np.prod(image.shape[3:])) > 1:
        raise Unclear(
            path, f"is of shape {image.shape}, its image of {other.shape}; expected a label of the same grid."
        )
    if not np.allclose(image.affine, other.affine, atol=1e-3):
        raise Unclear(path, "lies elsewhere in space than its image (another affine); resample it to the image's grid.")
    return _cut(path, image, _axes(volume, other, options), 0)


def _open(path: str) -> Any:
    """Return the image of nibabel, whose values have not been read.

    Raises:
        ImageError: It is damaged, not of numbers, or too large.
    """
    nibabel = need("nibabel", "medical")
    try:
        image = nibabel.load(path)
        shape, dtype = image.shape, image.get_data_dtype()
    except Exception as error:  # nibabel, zlib, gzip and struct raise a dozen kinds
        raise _damaged(path, error) from None
    if dtype.fields or dtype.kind not in "iuf" or len(shape) < 3 or min(shape) < 1:
        raise Unclear(path, f"is of shape {shape} and type {dtype}; expected a volume of numbers.")
    if np.prod(shape, dtype=float) > _MOST_VALUES:
        raise Unclear(path, f"is of shape {shape}; expected at most {_MOST_VALUES} values: cut it.")
    return image


def _axes(path: str, image: Any, options: Options) -> tuple[Axis, Axis, Axis]:
    """Return the stored axes along which slices, rows and columns follow.

    Raises:
        Unclear: Its header does not say how it lies.
    """
    if options.axis not in _ANATOMICAL:
        across = int(options.axis)
        rows, columns = (number for number in range(3) if number != across)
        return Axis(across, False), Axis(rows, False), Axis(columns, False)
    says = (image.header["qform_code"] or image.header["sform_code"]) and np.all(np.isfinite(image.affine))
    # [stored axis] -> axis of RAS+, direction; NaN where the affine has no such axis
    orientation = need("nibabel", "medical").io_orientation(image.affine) if says else np.full((3, 2), np.nan)
    if not np.all(np.isfinite(orientation)):
        raise Unclear(path, "does not say how it lies (no qform or sform); --axis=2 cuts along the third stored axis.")
    stored = {int(axis): Axis(number, direction < 0) for number, (axis, direction) in enumerate(orientation)}
    across, rows, columns = (stored[axis] for axis in _ACROSS[options.axis])
    return across, rows._replace(turned=not rows.turned), columns._replace(turned=not columns.turned)


def _cut(path: str, image: Any, axes: tuple[Axis, Axis, Axis], channel: int) -> np.ndarray:
    """Return the values, float32 [slices, h, w]; raises `ImageError` where they cannot be read."""
    try:
        values = np.asarray(image.dataobj, np.float32)
    except Exception as error:
        raise _damaged(path, error) from None
    values = values.reshape(*values.shape[:3], -1)[..., channel].transpose([axis.number for axis in axes])
    return np.flip(values, _turned(axes))


def uncut(values: np.ndarray, axes: tuple[Axis, Axis, Axis]) -> np.ndarray:
    """Return values [slices, h, w] along the axes of the stored array that they were cut from."""
    return np.flip(values, _turned(axes)).transpose(np.argsort([axis.number for axis in axes]))


def _turned(axes: tuple[Axis, Axis, Axis]) -> list[int]:
    return [place for place, axis in enumerate(axes) if axis.turned]


def _spacing(image: Any, axes: tuple[Axis, Axis, Axis]) -> tuple[float, ...]:
    """Return millimetres of (h, w, slices); () where the header has no lengths."""
    unit = _MILLIMETRES.get(image.header.get_xyzt_units()[0], 1.0)
    across, rows, columns = (float(image.header.get_zooms()[axis.number]) * unit for axis in axes)
    return (rows, columns, across) if all(0 < side < 1e6 for side in (rows, columns, across)) else ()


def _damaged(path: str, error: Exception) -> ImageError:
    line = str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
    return ImageError(path, f"is damaged or cut short ({line}); replace it or remove it.")
