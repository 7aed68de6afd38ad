"""DICOM slices, a file each, with masks of the same names: pictures, or DICOM files of class ids (needs pydicom).

Values are those of the modality (RescaleSlope and -Intercept: Hounsfield units of CT); MONOCHROME1 is turned so that
large values are white. Files of one PatientID stay in one split. No field that names a person is copied or recorded.
"""

import functools
import os
from typing import Any

import numpy as np

from gan_seg_jax.data.decoding import ImageError
from gan_seg_jax.data.images import ENDINGS
from gan_seg_jax.preparing import class_names, intensity, listing, masks, meanings, pairs, pictures
from gan_seg_jax.preparing.extras import need
from gan_seg_jax.preparing.meanings import Meaning
from gan_seg_jax.preparing.source import Example, Item, Options, Source, Unclear
from gan_seg_jax.preparing.words import one_of

FLAGS = pairs.NAMES | meanings.FLAGS | {"window", "level"}
_DICOM = (".dcm", ".dicom", ".ima", "")  # "": many have no ending, or a number for one
_OTHER = "files that are no DICOM"


def open_source(options: Options) -> Source:
    """List the slices and their patients; raises `InputError` as `Format.open_source`."""
    intensity.check_flags(options, measured=True)
    one_of("missing_masks", options.missing_masks, ("", "unlabelled", "skip"))
    need("pydicom", "medical")
    info, void_color = class_names.find(options)
    meaning = meanings.meaning_of(options, info, void_color)
    found, items = listing.Listing(options.source), []
    for split, images, labels in pairs.by_split(options, found, _DICOM, (*ENDINGS, *_DICOM)):
        for image_id, path in images.items():
            if not _is_dicom(path):
                found.left_out[_OTHER].append(os.path.relpath(path, options.source))
                continue
            mask, group = labels.get(image_id, ""), _patient(path, options)
            side = "unlabelled" if not mask and options.missing_masks == "unlabelled" else split
            read = functools.partial(_example, path, mask, meaning, options)
            items.append(Item(image_id, (path, mask) if mask else (path,), read, side, group))
        others = [path for image_id, path in labels.items() if image_id not in images]
        found.left_out["masks without an image"] += [os.path.relpath(path, options.source) for path in others]
    return Source(info, items, meanings.describe(meaning, info) | intensity.describe(options), found.left_out)


def _is_dicom(path: str) -> bool:
    """Tell whether a file is DICOM with pixels: of its directory, DICOMDIR, not."""
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM" and os.path.basename(path) != "DICOMDIR"
    except OSError:
        return False


def _read(path: str, **how) -> Any:
    """Return the data set of a file; raises `ImageError`."""
    try:
        return need("pydicom", "medical").dcmread(path, **how)
    except Exception as error:  # pydicom raises a dozen kinds
        raise ImageError(path, f"is damaged or no DICOM ({_line(error)}); replace it or remove it.") from None


def _patient(path: str, options: Options) -> str:
    """Return what tells patients apart; "" where --group_pattern does.

    Raises:
        Unclear: The file does not say.
    """
    if options.group_pattern:
        return ""
    try:
        found = str(_read(path, stop_before_pixels=True, specific_tags=["PatientID"]).get("PatientID") or "")
    except ImageError:
        return ""  # reading it will say why
    if not found:
        raise Unclear(path, "has no PatientID; --group_pattern says which part of a name is the patient: '^(p\\d+)__'.")
    return f"patient:{found}"


def _example(path: str, mask: str, meaning: Meaning, options: Options) -> Example:
    """Read a slice and its mask; raises `ImageError` and `LeftOut`."""
    if not mask and options.missing_masks != "unlabelled":
        pairs.miss(path, options)
    dataset = _read(path)
    values = _pixels(path, dataset, options).astype(np.float32)
    low, high = intensity.limits(values, options)
    grey = intensity.expect_contrast(intensity.to_grey(values, low, high))
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        grey = 255 - grey
    picture, spacing = pictures.from_pixels(grey), _spacing(dataset)
    if not mask:
        return Example(picture, spacing=spacing)
    if _is_dicom(mask):
        label = masks.classes_of_numbers(mask, _pixels(mask, _read(mask), options).astype(np.int64), meaning)
        notes = {}
    else:
        label, _, notes = masks.read_label(mask, meaning, options)
    if label.shape != grey.shape:
        found = f"{label.shape[0]} x {label.shape[1]}, image {grey.shape[0]} x {grey.shape[1]}"
        raise Unclear(mask, "mask of another size than its image; save it at the size of the image.", found)
    return Example(picture, label, notes=notes, spacing=spacing)


def _pixels(path: str, dataset: Any, options: Options) -> np.ndarray:
    """Return the values of the modality, [h, w].

    Raises:
        ImageError: They cannot be read, are several pictures, or colours.
    """
    frames, samples = int(dataset.get("NumberOfFrames") or 1), int(dataset.get("SamplesPerPixel") or 1)
    if frames > 1 or samples > 1:
        found = f"{frames} pictures" if frames > 1 else "colours"
        raise Unclear(path, f"holds {found}; expected one slice of grey values a file: convert it.")
    height, width = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    if not 0 < height * width <= pictures.pixel_limit(options):
        raise Unclear(path, f"has {height} x {width} pixels; expected 1 to {pictures.pixel_limit(options)}.")
    try:
        return need("pydicom.pixels", "medical").apply_rescale(dataset.pixel_array, dataset)
    except Exception as error:
        hint = "; if it is compressed: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        raise ImageError(path, f"is damaged or cannot be decoded ({_line(error)}){hint}.") from None


def _spacing(dataset: Any) -> tuple[float, ...]:
    """Return millimetres of (h, w, slices); () where the file does not say all of them."""
    sides = [*(dataset.get("PixelSpacing") or ()), dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness")]
    found = tuple(float(side or 0) for side in sides)
    return found if len(found) == 3 and all(0 < side < 1e6 for side in found) else ()


def _line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".") or type(error).__name__
