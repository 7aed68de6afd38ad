"""How far the outlines of a prediction are from those of the truth: HD95 and ASSD, class by class.

The surface of a class in an image is its pixels with a 4-neighbour of another class, of void, or beyond the border, as
in MedPy and MONAI; void in the truth is void in the prediction too, so that both end there. With S and R the surfaces
of prediction and truth, and d(s, R) the distance from s to the nearest point of R, between centres of pixels,

    HD95 = max(P95 over s in S of d(s, R), P95 over r in R of d(r, S))            95th percentile, interpolated linearly
    ASSD = (sum over s of d(s, R) + sum over r of d(r, S)) / (|S| + |R|)

as in Maier-Hein et al., "Metrics reloaded" (2024). A class that only one of the two has is given the worst that there
can be, the image's diagonal, since leaving it out would reward finding nothing; one that neither has is left out.
"""

import numpy as np
from scipy import spatial

PERCENTILE = 95


def surface_distances(
    label: np.ndarray, prediction: np.ndarray, *, num_classes: int, spacing: tuple[float, float] = (1.0, 1.0)
) -> np.ndarray:
    """Return HD95 and ASSD of each class of one image, on the host.

    Distances are exact, by a k-d tree of the surfaces' points, which takes less memory than a distance transform.

    Args:
        label: integer [h, w], true class ids; ids outside 0..num_classes - 1 are void.
        prediction: integer [h, w], predicted class ids.
        num_classes: k.
        spacing: from one row to the next and from one column to the next, in the unit of the result; 1 is pixels.

    Returns:
        float64 [k, 2], HD95 and ASSD; nan for a class that neither map has.

    Raises:
        ValueError: if the maps are not two-dimensional and of one shape.
    """
    if np.ndim(label) != 2 or np.shape(label) != np.shape(prediction):
        raise ValueError(f"expected two maps [h, w] of one shape, found {np.shape(label)} and {np.shape(prediction)}")
    known = (label >= 0) & (label < num_classes)
    truth = np.where(known, label, -1).astype(np.int16)
    found = np.where(known & (prediction >= 0) & (prediction < num_classes), prediction, -1).astype(np.int16)
    truth_points, found_points = (_surfaces(ids, num_classes, spacing) for ids in (truth, found))
    diagonal = float(np.hypot(label.shape[0] * spacing[0], label.shape[1] * spacing[1]))
    distances = np.full((num_classes, 2), np.nan)
    for number, (right, ours) in enumerate(zip(truth_points, found_points, strict=True)):
        if len(right) and len(ours):
            there, back = spatial.cKDTree(right).query(ours)[0], spatial.cKDTree(ours).query(right)[0]
            hd95 = max(np.percentile(there, PERCENTILE), np.percentile(back, PERCENTILE))
            distances[number] = hd95, (there.sum() + back.sum()) / (len(there) + len(back))
        elif len(right) or len(ours):
            distances[number] = diagonal
    return distances


def _surfaces(ids: np.ndarray, num_classes: int, spacing: tuple[float, float]) -> list[np.ndarray]:
    """Return the surface points of each class, float64 [n, 2] in the unit of `spacing`; ids are int16 [h, w]."""
    edge = np.zeros(ids.shape, bool)
    edge[[0, -1]] = edge[:, [0, -1]] = True
    down, right = ids[1:] != ids[:-1], ids[:, 1:] != ids[:, :-1]
    edge[1:] |= down
    edge[:-1] |= down
    edge[:, 1:] |= right
    edge[:, :-1] |= right
    places = np.argwhere(edge)
    classes = ids[edge]
    return [places[classes == number] * spacing for number in range(num_classes)]
