"""The confusion matrix and every segmentation score, pure functions of arrays.

All scores of a split come from one integer confusion matrix over all its pixels, and boundary scores from counts
pooled over all its images, never from a mean over images or batches, which would depend on the batch size. Counts
are int32 on the device for one batch; the caller adds batches up in int64 on the host.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

PIXELS_PER_PRODUCT = 2**16  # far below 2**24, where float32 stops counting exactly
CLASSES_PER_WORD = 64
BY_CLASS = ("iou_per_class", "confusion")  # of the scores of a split, those that are no single numbers


def single_numbers(scores: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scores of a split that are single numbers, or None: all but those of `BY_CLASS`."""
    return {name: value for name, value in scores.items() if name not in BY_CLASS}


def confusion_matrix(label: jax.Array, prediction: jax.Array, *, num_classes: int) -> jax.Array:
    """Count pixels by true and predicted class, exactly.

    On a CPU this is a scatter-add (8 x 360 x 480 pixels and 11 classes: 2.5 ms, products of one-hot maps 4.6 ms and
    more), elsewhere a product of one-hot maps, since accelerators are slow at colliding scatters. Both keep the leading
    axis apart until the end, so it may be sharded over devices.

    Args:
        label: integer [...], true class ids; ids outside 0..num_classes - 1 (such as 255, ignore) are dropped.
        prediction: integer [...], predicted class ids, same shape; pixels with an id outside are dropped too.
        num_classes: k, number of classes (static).

    Returns:
        int32 [k, k], row truth, column prediction; at most 2**31 - 1 pixels in one call.
    """
    chex.assert_equal_shape([label, prediction])
    leading = label.shape[0] if label.ndim > 1 else 1
    label, prediction = (ids.astype(jnp.int32).reshape(leading, -1) for ids in (label, prediction))
    return jax.lax.platform_dependent(
        label,
        prediction,
        cpu=lambda label, prediction: _count_by_scatter(label, prediction, num_classes=num_classes),
        default=lambda label, prediction: _count_by_product(label, prediction, num_classes=num_classes),
    )


def _count_by_scatter(label: jax.Array, prediction: jax.Array, *, num_classes: int) -> jax.Array:
    cells = num_classes * num_classes
    known = (label >= 0) & (label < num_classes) & (prediction >= 0) & (prediction < num_classes)
    cell = jnp.where(known, label * num_classes + prediction, cells)  # the last cell takes what is dropped

    def count(cell):
        # XLA's bounds handling makes the same scatter 7 times slower; `cell` is in bounds by construction.
        return jnp.zeros(cells + 1, jnp.int32).at[cell].add(1, mode="promise_in_bounds")

    counts = jnp.sum(jax.vmap(count)(cell), axis=0, dtype=jnp.int32)
    return counts[:cells].reshape(num_classes, num_classes)


def _count_by_product(label: jax.Array, prediction: jax.Array, *, num_classes: int) -> jax.Array:
    leading, pixels = label.shape
    chunk = max(1, min(pixels, PIXELS_PER_PRODUCT))
    chunks = -(-pixels // chunk)

    def split(ids):  # [leading, pixels] -> [chunks, leading, chunk]
        ids = jnp.pad(ids, ((0, 0), (0, chunks * chunk - pixels)), constant_values=-1)
        return jnp.moveaxis(ids.reshape(leading, chunks, chunk), 1, 0)

    def one_hot(ids):  # [leading, k, chunk], classes before pixels: both products then run along memory
        return (ids[:, None, :] == jnp.arange(num_classes)[:, None]).astype(jnp.bfloat16)

    def add(counts, ids):
        product = jnp.einsum(
            "bin,bjn->bij", one_hot(ids[0]), one_hot(ids[1]), preferred_element_type=jnp.float32
        )  # 0 and 1 are exact in bfloat16, the sums in float32
        return counts + jnp.sum(product.astype(jnp.int32), axis=0, dtype=jnp.int32), None

    counts = jnp.zeros((num_classes, num_classes), jnp.int32)
    return jax.lax.scan(add, counts, (split(label), split(prediction)))[0]


def scores(confusion: np.ndarray, class_names: Sequence[str]) -> dict:
    """Return the scores of one confusion matrix.

    With n_ij pixels of class i predicted as j, t_i = sum_j n_ij, p_i = sum_j n_ji: IoU_i = n_ii / (t_i + p_i - n_ii),
    pixel accuracy = sum n_ii / sum n_ij, mean accuracy = mean of n_ii / t_i (Long et al., "Fully Convolutional Networks
    for Semantic Segmentation", 2015). A class absent from truth and prediction has no IoU and is left out of the mean;
    one that is predicted but absent from the truth has IoU 0. Mean accuracy is over the classes of the truth.

    Args:
        confusion: integer [k, k], row truth, column prediction, summed over the split (int64).
        class_names: k different names.

    Returns:
        {"miou", "pixel_accuracy", "mean_accuracy": float in 0..1 or None, "iou_per_class": {name: float or None}}.

    Raises:
        ValueError: if the shape of `confusion` does not fit the names.
    """
    confusion = np.asarray(confusion, dtype=np.int64)
    if confusion.shape != (len(class_names), len(class_names)):
        raise ValueError(f"confusion matrix has shape {confusion.shape}, expected [k, k] with k = {len(class_names)}")
    hits, truth, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    iou = [_ratio(*pair) for pair in zip(hits, truth + predicted - hits, strict=True)]
    accuracy = [_ratio(*pair) for pair in zip(hits, truth, strict=True)]
    return {
        "miou": _mean(iou),
        "pixel_accuracy": _ratio(hits.sum(), confusion.sum()),
        "mean_accuracy": _mean(accuracy),
        "iou_per_class": dict(zip(class_names, iou, strict=True)),
    }


def class_counts(confusion: np.ndarray) -> np.ndarray:
    """Return the counts by class of a confusion matrix; IoU over any choice of images follows from their sum.

    Args:
        confusion: int64 [k, k], pixels by true class (rows) and predicted class, such as of one image.

    Returns:
        int64 [k, 3]: true positives, false positives, false negatives of each class.
    """
    hits = np.diag(confusion)
    return np.stack([hits, confusion.sum(axis=0) - hits, confusion.sum(axis=1) - hits], axis=1)


def boundary_counts(
    label: np.ndarray, prediction: np.ndarray, *, num_classes: int, tolerance: float = 0.0075
) -> np.ndarray:
    """Count boundary pixels of one image, and how many have a counterpart nearby, on the host.

    A boundary pixel of class c is a pixel of class c with a 4-neighbour of another class; void is no class, and
    void in the truth is void in the prediction too. It is matched if the other map has a boundary pixel of class c
    within a disc (Csurka et al., "What is a good evaluation measure for semantic segmentation?", BMVC 2013).

    Args:
        label: integer [h, w], true class ids; ids outside 0..num_classes - 1 are void.
        prediction: integer [h, w], predicted class ids.
        num_classes: k.
        tolerance: radius of the disc as a fraction of the image's diagonal; at least one pixel is used.

    Returns:
        int64 [k, 4]: predicted boundary pixels matched, all predicted, true boundary pixels matched, all true.

    Raises:
        ValueError: if the maps are not two-dimensional and of one shape.
    """
    if np.ndim(label) != 2 or np.shape(label) != np.shape(prediction):
        raise ValueError(f"expected two maps [h, w] of one shape, found {np.shape(label)} and {np.shape(prediction)}")
    radius = max(1.0, tolerance * float(np.hypot(*label.shape)))
    label = _with_void(label, num_classes)
    prediction = _with_void(prediction, num_classes)
    prediction[label < 0] = -1
    truth_edge, predicted_edge = _boundary(label), _boundary(prediction)
    counts = np.zeros((num_classes, 4), dtype=np.int64)
    for first in range(0, num_classes, CLASSES_PER_WORD):
        size = min(CLASSES_PER_WORD, num_classes - first)
        near_truth = _dilate(_class_bits(label - first, truth_edge, size), radius)
        near_predicted = _dilate(_class_bits(prediction - first, predicted_edge, size), radius)
        block = counts[first : first + size]
        block[:, 0], block[:, 1] = _count_matched(prediction - first, predicted_edge, near_truth, size)
        block[:, 2], block[:, 3] = _count_matched(label - first, truth_edge, near_predicted, size)
    return counts


def boundary_f1(counts: np.ndarray) -> float | None:
    """Return the mean over classes of the boundary F1 score, from counts pooled over a split.

    Precision is the matched share of predicted boundary pixels, recall that of true ones, F1 their harmonic mean (0 if
    either is 0 or undefined). Classes without any boundary, true or predicted, are left out.

    Args:
        counts: integer [k, 4], sum of `boundary_counts` over the images.

    Returns:
        float in 0..1, or None if no class has a boundary.
    """
    values = []
    for predicted_matched, predicted, truth_matched, truth in np.asarray(counts, dtype=np.int64):
        if predicted + truth > 0:
            precision = _ratio(predicted_matched, predicted) or 0.0
            recall = _ratio(truth_matched, truth) or 0.0
            values.append(2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0)
    return _mean(values)


def _ratio(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None


def _with_void(ids: np.ndarray, num_classes: int) -> np.ndarray:
    """Return a copy as int32 with -1 for every id that is no class."""
    ids = np.asarray(ids).astype(np.int32)  # first: in uint8 the -1 would become 255
    return np.where((ids >= 0) & (ids < num_classes), ids, -1)


def _boundary(ids: np.ndarray) -> np.ndarray:
    """Return bool [h, w]: a class pixel with a 4-neighbour of another class."""
    known = ids >= 0
    edge = np.zeros(ids.shape, dtype=bool)
    down = (ids[1:] != ids[:-1]) & known[1:] & known[:-1]
    right = (ids[:, 1:] != ids[:, :-1]) & known[:, 1:] & known[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    return edge


def _class_bits(ids: np.ndarray, where: np.ndarray, size: int) -> np.ndarray:
    """Return the smallest unsigned integers [h, w] that hold `size` bits: bit c is set where ids == c and `where`."""
    dtype = next(kind for kind in (np.uint8, np.uint16, np.uint32, np.uint64) if np.iinfo(kind).bits >= size)
    bits = np.zeros(ids.shape, dtype=dtype)
    where = where & (ids >= 0) & (ids < size)
    bits[where] = np.left_shift(dtype(1), ids[where].astype(dtype))
    return bits


def _dilate(bits: np.ndarray, radius: float) -> np.ndarray:
    """Return the OR of `bits` over a Euclidean disc: rows of growing half-width, shared by all rows of that width."""
    result = np.zeros_like(bits)
    beyond = int(radius)  # columns on both sides: what a run has there comes back as it is moved
    run, half_width = np.pad(bits, ((0, 0), (beyond, beyond))), 0
    inside = slice(beyond, beyond + bits.shape[1])
    for row in range(int(radius), -1, -1):
        wanted = int(np.sqrt(max(0.0, radius * radius - row * row)))
        while half_width < wanted:  # a run of half-width a joined with itself moved by up to 2 a + 1 leaves no gap
            move = min(wanted - half_width, 2 * half_width + 1)
            wider = run.copy()
            wider[:, move:] |= run[:, :-move]
            wider[:, :-move] |= run[:, move:]
            run, half_width = wider, half_width + move
        kept = max(0, bits.shape[0] - row)
        result[row:] |= run[:kept, inside]
        result[:kept] |= run[row:, inside]
    return result


def _count_matched(ids: np.ndarray, edge: np.ndarray, near: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return int64 [size] twice: boundary pixels of each class with their class' bit set in `near`, and all of them."""
    where = edge & (ids >= 0) & (ids < size)
    classes = ids[where]
    matched = np.right_shift(near[where], classes.astype(near.dtype)) & near.dtype.type(1)
    return np.bincount(classes[matched > 0], minlength=size), np.bincount(classes, minlength=size)


def true_edges(label: np.ndarray, *, num_classes: int) -> np.ndarray:
    """Return bool [h, w]: pixels with a 4-neighbour of another class; ids outside 0..num_classes - 1 are void."""
    return _boundary(_with_void(label, num_classes))


def edge_counts(label: np.ndarray, edges: np.ndarray, *, num_classes: int, tolerance: float = 0.0075) -> np.ndarray:
    """Count edges of no class against the boundaries between classes of one image, on the host.

    An edge pixel is matched if a boundary pixel of the truth, of whichever classes, lies within a disc, and the other
    way round. Edges within that disc of void are not counted as found: what lies there is unknown.

    Args:
        label: integer [h, w], true class ids; ids outside 0..num_classes - 1 are void.
        edges: bool [h, w].
        num_classes: k.
        tolerance: radius of the disc as a fraction of the image's diagonal; at least one pixel is used.

    Returns:
        int64 [4]: found edge pixels matched, all found, true boundary pixels matched, all true.
    """
    chex.assert_equal_shape([label, edges])
    radius = max(1.0, tolerance * float(np.hypot(*label.shape)))
    truth = true_edges(label, num_classes=num_classes)
    found = edges & ~_dilate(_with_void(label, num_classes) < 0, radius)
    sets = (found & _dilate(truth, radius), found, truth & _dilate(edges, radius), truth)
    return np.array([np.count_nonzero(pixels) for pixels in sets], np.int64)


def edge_scores(counts: np.ndarray) -> dict[str, float | None]:
    """Return {"edge_f1", "edge_precision", "edge_recall"}, fractions or None, from `edge_counts` summed over images."""
    found_matched, found, truth_matched, truth = np.asarray(counts, dtype=np.int64)
    precision, recall = _ratio(found_matched, found), _ratio(truth_matched, truth)
    total = (precision or 0.0) + (recall or 0.0)
    f1 = 2 * (precision or 0.0) * (recall or 0.0) / total if total else 0.0
    return {"edge_f1": f1 if found + truth > 0 else None, "edge_precision": precision, "edge_recall": recall}
