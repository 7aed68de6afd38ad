"""Thin edges: non-maximum suppression of an edge map, and one pixel wide boundaries between classes, on the host."""

import numpy as np
from scipy import ndimage


def non_maximum_suppression(strength: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Keep the pixels at which an edge is strongest across it.

    A pixel stays if its strength is at least that of the points one pixel before and behind it along the gradient,
    interpolated linearly; of two equal ones the earlier, downwards and then to the right, goes (Canny, "A computational
    approach to edge detection", PAMI 1986, with interpolation in place of his four directions). Ridges are one pixel
    wide across horizontal and vertical edges, two where a slanted one steps from one row or column to the next.

    Args:
        strength: float [h, w], at least 0.
        direction: float [h, w], direction of the gradient in radians, from the x axis (columns) towards y (rows); its
            sign does not matter.

    Returns:
        float [h, w], the strength on ridges, 0 elsewhere.
    """
    dy, dx = np.round(np.sin(direction), 6), np.round(np.cos(direction), 6)
    sign = np.where((dy < 0) | ((dy == 0) & (dx < 0)), -1.0, 1.0)
    y, x = np.mgrid[: strength.shape[0], : strength.shape[1]]
    ahead, behind = (
        ndimage.map_coordinates(strength, (y + way * sign * dy, x + way * sign * dx), order=1, mode="nearest")
        for way in (1.0, -1.0)
    )
    slack = 1e-6 * strength.max(initial=0.0)  # equal up to rounding
    ridge = (strength > ahead + slack) & (strength >= behind - slack)
    return np.where(ridge, strength, 0.0)


def thin_boundaries(probabilities: np.ndarray, *, threshold: float = 0.1, sigma: float = 1.0) -> np.ndarray:
    """Find the thin boundaries between classes in their probabilities, or in a one-hot label map.

    With g_c the gradient (Gaussian derivative) of the probability of class c, the edge's strength and direction are
    the root of the larger eigenvalue of the structure tensor sum_c g_c g_c^T and its eigenvector (Di Zenzo, "A note on
    the gradient of a multi-image", 1986), thinned by `non_maximum_suppression`.

    Args:
        probabilities: float [h, w, k], 0..1.
        threshold: least strength of a boundary, in probability per pixel; sigma 1 makes a sharp one 0.56 strong.
        sigma: of the Gaussian, in pixels.

    Returns:
        bool [h, w].
    """
    planes = np.moveaxis(np.asarray(probabilities, np.float32), -1, 0)
    xx = yy = xy = np.zeros(planes.shape[1:], np.float32)
    for plane in planes:
        dy = ndimage.gaussian_filter(plane, sigma, order=(1, 0), mode="nearest")
        dx = ndimage.gaussian_filter(plane, sigma, order=(0, 1), mode="nearest")
        xx, yy, xy = xx + dx * dx, yy + dy * dy, xy + dx * dy
    largest = 0.5 * (xx + yy + np.hypot(xx - yy, 2.0 * xy))
    return non_maximum_suppression(np.sqrt(largest), 0.5 * np.arctan2(2.0 * xy, xx - yy)) >= threshold
