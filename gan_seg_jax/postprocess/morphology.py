"""Clean-up of label maps by mathematical morphology, on the host.

All functions take class ids uint8 [h, w]; ids from `num_classes` on (255 = ignore) are void: no class, and never
changed but by `dilate`, which is there to fill them. Discs are {(y, x): y^2 + x^2 <= radius^2} (Serra, "Image Analysis
and Mathematical Morphology", 1982). No result depends on the order of the classes: exchange the ids before or after,
the map is the same. What lies outside of the image is unknown, as void is: it never wears a class away.
"""

import math
from collections.abc import Callable

import numpy as np
from scipy import ndimage
from skimage import measure

from gan_seg_jax.labels import IGNORE


def erode(labels: np.ndarray, radius: float, num_classes: int) -> np.ndarray:
    """Take from each class the pixels within `radius` of another class; they become void.

    Args:
        labels: uint8 [h, w], class ids.
        radius: of the disc, in pixels; 0 changes nothing.
        num_classes: k.

    Returns:
        uint8 [h, w]; what is left are the pixels whose disc holds one class (and void).
    """
    return np.where(_one_class(labels, radius, num_classes), labels, np.uint8(IGNORE))


def dilate(labels: np.ndarray, radius: float, num_classes: int) -> np.ndarray:
    """Let each class grow into void pixels within `radius`; where several arrive, the nearest class wins.

    Args:
        labels: uint8 [h, w], class ids.
        radius: of the disc, in pixels; 0 changes nothing.
        num_classes: k.

    Returns:
        uint8 [h, w]; no pixel changes that had a class.
    """
    classed = labels < num_classes
    if not classed.any():
        return labels.copy()
    distance, nearest = ndimage.distance_transform_edt(~classed, return_indices=True)
    return np.where(distance <= radius, labels[tuple(nearest)], labels)


def opening(labels: np.ndarray, radius: float, num_classes: int) -> np.ndarray:
    """Remove from each class the parts into which no disc fits.

    A class keeps the union of the discs around its pixels that hold no other class, its opening (Serra 1982); a pixel
    that its class does not keep takes the label of the nearest pixel that was kept. Taking over such pixels can make
    room for a disc that did not fit before, so this is repeated until nothing changes: what is kept only grows, so it
    ends, and the opening of the result is the result. A map in which no class keeps anything is left as it is.

    Args:
        labels: uint8 [h, w], class ids.
        radius: of the disc, in pixels; 0 changes nothing.
        num_classes: k.

    Returns:
        uint8 [h, w], void as before.
    """
    void = labels >= num_classes
    kept = _solid(labels, radius, num_classes)
    while kept.any() and not (kept | void).all():
        labels = np.where(kept | void, labels, _nearest(labels, kept))
        before, kept = kept, _solid(labels, radius, num_classes)
        if (before == kept).all():
            break
    return labels.copy()


def closing(labels: np.ndarray, radius: float, num_classes: int) -> np.ndarray:
    """Fill the narrow gaps within each class.

    The closing of one class takes in every pixel that no disc free of the class covers. For several classes at once a
    class closes over what its own opening keeps (its solid part: else two sets of thin stripes would swap places), and
    a pixel outside of all solid parts takes the class that closes over it, if there is one and not two: a thin line
    between two classes stays, and so does one along void or along the edge of the image. Repeated until nothing
    changes; a pixel changes at most once, so it ends, and the closing of the result is the result.

    Args:
        labels: uint8 [h, w], class ids.
        radius: of the disc, in pixels; 0 changes nothing.
        num_classes: k.

    Returns:
        uint8 [h, w], void as before.
    """
    void, labels = labels >= num_classes, labels.copy()
    radius = min(radius, math.hypot(*labels.shape))  # a larger disc does no more, and costs memory
    inner = (slice(int(radius), -int(radius) or None),) * 2  # discs may lie partly outside
    while True:
        solid = _solid(labels, radius, num_classes)
        claims, claimant = np.zeros(labels.shape, np.uint8), labels.copy()
        for class_id in np.unique(labels[solid]):
            part = np.pad(solid & (labels == class_id), int(radius))
            closed = ~_over_disc(~_over_disc(part, radius, np.logical_or), radius, np.logical_or)[inner]
            claims += closed
            claimant[closed] = class_id
        changed = ~solid & ~void & (claims == 1) & (claimant != labels)
        if not changed.any():
            return labels
        labels[changed] = claimant[changed]


def remove_small_regions(labels: np.ndarray, min_pixels: int, num_classes: int) -> np.ndarray:
    """Give regions of fewer than `min_pixels` the label of the neighbour with the longest common border.

    Regions are connected pixels of one class, diagonals included. Small regions among small ones follow from outside
    in; one without any neighbour (an island in void) takes the label of the nearest pixel that stays. If all regions
    are small, the largest stays.

    Args:
        labels: uint8 [h, w], class ids.
        min_pixels: smallest size that stays; up to 1 nothing changes.
        num_classes: k.

    Returns:
        uint8 [h, w], void as before.
    """
    void = labels >= num_classes
    if void.all() or min_pixels <= 1:
        return labels.copy()
    regions = measure.label(np.where(void, 0, labels.astype(np.int32) + 1), background=0, connectivity=2)
    sizes = np.bincount(regions.ravel())
    sizes[0] = 0  # void
    names = np.zeros(len(sizes), np.uint8)
    names[regions.ravel()] = labels.ravel()
    settled = sizes >= min_pixels
    settled[sizes.argmax()] = True
    small, other, length = _borders(regions)
    order = np.lexsort((other, -length, small))  # the longest border of each region first
    small, other = small[order], other[order]
    while (usable := ~settled[small] & settled[other]).any():
        found, first = np.unique(small[usable], return_index=True)
        names[found] = names[other[usable][first]]
        settled[found] = True
    result = np.where(void, labels, names[regions])
    kept = settled[regions]
    return result if (kept | void).all() else np.where(kept | void, result, _nearest(result, kept))


def fill_holes(labels: np.ndarray, max_pixels: int, num_classes: int) -> np.ndarray:
    """Fill what one class encloses, whatever it is, up to `max_pixels`.

    A hole of a class is a connected part (without diagonals) of the pixels not of the class that does not reach the
    edge of the image; its pixels take the class, void in it counts as part of it but stays. Of holes in one another
    the outermost of at most `max_pixels` decides.

    Args:
        labels: uint8 [h, w], class ids.
        max_pixels: largest hole that is filled; 0 changes nothing.
        num_classes: k.

    Returns:
        uint8 [h, w], void as before.
    """
    void, result = labels >= num_classes, labels.copy()
    filled = np.zeros(labels.shape, np.int64)  # size of the hole that a pixel has been filled as
    for class_id in np.unique(labels[~void]):
        parts = measure.label(labels != class_id, background=0, connectivity=1)
        sizes = np.bincount(parts.ravel())
        edges = (parts[0], parts[-1], parts[:, 0], parts[:, -1])
        sizes[np.unique(np.concatenate([[0], *edges]))] = 0
        size = np.where(sizes <= max_pixels, sizes, 0)[parts]
        result = np.where((size > filled) & ~void, class_id, result)
        filled = np.maximum(filled, size)
    return result


def clean(
    labels: np.ndarray,
    *,
    opening: float = 0,
    closing: float = 0,
    min_region: int = 0,
    max_hole: int = 0,
    num_classes: int,
) -> np.ndarray:
    """Open, close, remove small regions and fill holes, in this order; what is 0 is left out.

    Args:
        labels: uint8 [h, w], class ids.
        opening: radius in pixels.
        closing: radius in pixels.
        min_region: smallest region that stays, in pixels.
        max_hole: largest hole that is filled, in pixels.
        num_classes: k.

    Returns:
        uint8 [h, w], void as before.
    """
    for operation, amount in zip(_CLEANING, (opening, closing, min_region, max_hole), strict=True):
        if amount:
            labels = operation(labels, amount, num_classes)
    return labels


_CLEANING = (opening, closing, remove_small_regions, fill_holes)


def _over_disc(values: np.ndarray, radius: float, combine: Callable) -> np.ndarray:
    """Return `combine` (or, minimum, maximum) of the values [h, w] over the disc at each pixel, cut at the edge."""
    result, run, half_width = values.copy(), values.copy(), 0
    for row in range(int(radius), -1, -1):  # rows of growing half-width, all made from one run
        wanted = int(np.sqrt(max(0.0, radius * radius - row * row)))
        while half_width < wanted:  # a run of half-width a joined with itself moved by up to 2 a + 1 leaves no gap
            move = min(wanted - half_width, 2 * half_width + 1)
            wider, kept = run.copy(), max(0, run.shape[1] - move)
            combine(wider[:, move:], run[:, :kept], out=wider[:, move:])
            combine(wider[:, :kept], run[:, move:], out=wider[:, :kept])
            run, half_width = wider, half_width + move
        kept = max(0, values.shape[0] - row)
        combine(result[row:], run[:kept], out=result[row:])
        combine(result[:kept], run[row:], out=result[:kept])
    return result


def _one_class(labels: np.ndarray, radius: float, num_classes: int) -> np.ndarray:
    """Return bool [h, w]: the disc around the pixel does not hold two classes."""
    void = labels >= num_classes
    low = _over_disc(np.where(void, np.uint8(IGNORE), labels), radius, np.minimum)
    high = _over_disc(np.where(void, np.int16(-1), labels), radius, np.maximum)
    return high <= low


def _solid(labels: np.ndarray, radius: float, num_classes: int) -> np.ndarray:
    """Return bool [h, w]: the class of the pixel keeps it when it is opened.

    A disc that holds one class keeps all of its pixels that are not void, whichever class it is: no need to ask which.
    Its centre has a class itself, or a disc that lies in void but for one pixel would keep that pixel.
    """
    classed = labels < num_classes
    return _over_disc(_one_class(labels, radius, num_classes) & classed, radius, np.logical_or) & classed


def _nearest(labels: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Return at each pixel the label of the nearest pixel of `kept`, which holds one at least."""
    return labels[tuple(ndimage.distance_transform_edt(~kept, return_distances=False, return_indices=True))]


def _borders(regions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return int64 [n] three times: a region, another, and how many pairs of pixels of the two are 4-neighbours."""
    pairs = [(regions[1:], regions[:-1]), (regions[:, 1:], regions[:, :-1])]
    first, second = (np.concatenate([pair[i].ravel() for pair in pairs]).astype(np.int64) for i in (0, 1))
    border = (first != second) & (first > 0) & (second > 0)
    first, second, count = first[border], second[border], int(regions.max()) + 1
    codes, length = np.unique(np.concatenate([first * count + second, second * count + first]), return_counts=True)
    return codes // count, codes % count, length
