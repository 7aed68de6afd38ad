"""Make class ids of the masks that people have, by what their values mean (`meanings`)."""

import numpy as np

from gan_seg_jax.data import decoding, images
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.preparing.meanings import Meaning
from gan_seg_jax.preparing.source import Options, Unclear

_LOSSY = "is a {}, whose pixels are not the numbers that were saved; "
_SHOWN = 5


def read_label(path: str, meaning: Meaning, options: Options) -> tuple[np.ndarray, int, dict[str, int]]:
    """Read a mask.

    Returns:
        Class ids and 255, uint8 [h, w], upright by the file's own EXIF; that orientation; what was counted.

    Raises:
        Unclear: It cannot be read, or holds what has no meaning.
    """
    stored = decoding.read(path, max_pixels=options.max_pixels or images.MAX_PIXELS)
    if meaning.name in ("binary", "colors"):
        label, notes = classes_of_colors(path, _colors(path, stored), meaning, lossy=is_lossy(stored))
    elif meaning.name == "instances":
        label, notes = _classes_of_objects(_numbers(path, stored), meaning), {}
    else:
        if stored.image.mode in ("RGB", "RGBA") and _is_coloured(stored):
            raise Unclear(path, "is a colour image; --mask_values=colors takes the colours of --classes=FILE.")
        label, notes = classes_of_numbers(path, images.to_label(path, stored), meaning), {}
    return label, stored.orientation, notes


def classes_of_numbers(name: str, found: np.ndarray, meaning: Meaning) -> np.ndarray:
    """Return class ids, uint8 [h, w], of integers [h, w].

    Raises:
        Unclear: A number has no meaning.
    """
    label, unknown = np.empty(found.shape, np.uint8), []
    for value in np.unique(found).tolist():
        known = value in meaning.table if meaning.table else 0 <= value < meaning.num_classes
        if value in meaning.void or not known:
            unknown += [] if value in meaning.void else [value]
            label[found == value] = IGNORE
        else:
            label[found == value] = meaning.table.get(value, value)
    if unknown:
        hint = "--mask_values=binary is for 0/255 masks. " if set(unknown) == {255} or max(unknown) == 255 else ""
        if meaning.table or 0 not in found:
            hint += "Ids that count from 1: --reduce_zero_label. "
        raise Unclear(
            name,
            f"numbers outside of the {meaning.num_classes} classes. {hint}--void=NUMBER,... makes numbers void; or "
            "correct --classes.",
            _listed(unknown),
        )
    return label


def classes_of_colors(
    name: str, colors: np.ndarray, meaning: Meaning, *, lossy: bool = False
) -> tuple[np.ndarray, dict[str, int]]:
    """Return class ids, uint8 [h, w], of colours, uint8 [h, w, 3], and what was counted.

    With unknown="nearest" a pixel takes the class of the nearest colour (Euclidean, in RGB) if that is less than half
    as far as every other one; else it is ambiguous, and void.

    Raises:
        Unclear: A colour has no meaning, too many pixels are ambiguous, or the file was compressed with losses.
    """
    if lossy and meaning.unknown != "nearest":
        raise Unclear(
            name,
            "was compressed with losses, so that its colours are not those that were saved; --unknown=nearest takes "
            "the class of the nearest colour, and void where two are about as near.",
        )
    codes, inverse = np.unique(_codes(colors), return_inverse=True)
    found = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=1)
    known = np.array(meaning.colors)
    distances = np.sqrt(((found[:, None] - known[None]) ** 2).sum(-1))  # [colours found, colours known]
    order = np.sort(distances, axis=1)
    exact, clear = order[:, 0] == 0, 2 * order[:, 0] < order[:, 1]
    taken = exact | (clear & (meaning.unknown == "nearest"))
    labels = np.where(taken, np.array(meaning.ids, np.uint8)[distances.argmin(axis=1)], IGNORE).astype(np.uint8)
    counts = np.bincount(inverse.ravel(), minlength=len(codes))
    notes = {"nearest_color_pixels": int(counts[~exact & taken].sum()), "ambiguous_pixels": int(counts[~taken].sum())}
    if meaning.name == "binary" and set(codes.tolist()) == {0, 0x010101}:
        raise Unclear(name, "holds 0 and 1, not 0 and 255; these are ids: --mask_values=ids.")
    if not exact.all() and not meaning.unknown:
        worst = tuple(found[~exact][counts[~exact].argmax()].tolist())
        raise Unclear(
            name,
            "colours that no class has; correct --classes, or choose --unknown=void, or --unknown=nearest where edges "
            "were smoothed.",
            f"{np.count_nonzero(~exact)}, such as {worst}",
        )
    share = notes["ambiguous_pixels"] / max(1, counts.sum())
    if meaning.unknown == "nearest" and share > meaning.max_ambiguous:
        raise Unclear(
            name,
            f"more pixels between the colours of classes than --max_ambiguous={meaning.max_ambiguous:g} allows; "
            "correct --classes, leave such masks out, or allow more.",
            f"{share:.1%}",
        )
    label = labels[inverse].reshape(colors.shape[:2])
    return label, {key: value for key, value in notes.items() if value}


def _classes_of_objects(found: np.ndarray, meaning: Meaning) -> np.ndarray:
    """Return 0 background, 1 object and, with a width, 2 boundary: object pixels that near to another number."""
    label = (found != 0).astype(np.uint8)
    if meaning.boundary_width:
        from scipy import ndimage

        size = 2 * meaning.boundary_width + 1
        low = ndimage.minimum_filter(found, size, mode="nearest")
        label[(found != 0) & (ndimage.maximum_filter(found, size, mode="nearest") != low)] = 2
    label[np.isin(found, meaning.void)] = IGNORE
    return label


def _numbers(path: str, stored: decoding.Stored) -> np.ndarray:
    """Return one number for each object, integers [h, w], upright; the colours of a colour image are numbers, too."""
    mode = stored.image.mode
    if is_lossy(stored):
        raise Unclear(path, _LOSSY.format(stored.kind) + "instance masks must be PNG or TIFF.")
    if mode in ("1", "L", "P") or mode.startswith("I"):
        return images.upright(stored, np.array(stored.image).astype(np.int64))
    if mode == "RGB" and stored.bits == 8:
        return images.upright(stored, _codes(np.array(stored.image)))
    raise Unclear(path, f"has mode {mode}; expected a number, or a colour, for each object.")


def _colors(path: str, stored: decoding.Stored) -> np.ndarray:
    """Return the colours of a mask, uint8 [h, w, 3], upright."""
    image = stored.image
    if stored.bits > 8 or image.mode not in ("1", "L", "P", "RGB", "RGBA", "LA"):
        raise Unclear(path, f"has mode {image.mode} and {stored.bits} bits; expected grey, colours or a palette.")
    if image.mode in ("RGBA", "LA") and np.asarray(image.getchannel("A")).min() < 255:
        raise Unclear(path, "has transparent pixels, whose class is not clear; save the mask without alpha channel.")
    image.info.pop("transparency", None)
    return images.upright(stored, np.array(image.convert("RGB")))


def _codes(colors: np.ndarray) -> np.ndarray:
    """Return one number for each colour, int64 [h, w]."""
    wide = colors.astype(np.int64)
    return wide[:, :, 0] << 16 | wide[:, :, 1] << 8 | wide[:, :, 2]


def is_lossy(stored: decoding.Stored) -> bool:
    """Tell whether a file was compressed with losses, so that its numbers are not those that were saved."""
    return stored.kind in ("JPEG", "WebP") or stored.image.info.get("compression") in ("jpeg", "tiff_jpeg", "webp")


def _is_coloured(stored: decoding.Stored) -> bool:
    pixels = np.asarray(stored.image)[:, :, :3]
    return bool(np.any(pixels != pixels[:, :, :1]))


def _listed(values: list[int]) -> str:
    shown = ", ".join(map(str, values[:_SHOWN])) + (", ..." if len(values) > _SHOWN else "")
    return f"{'values' if len(values) > 1 else 'value'} {shown}"
