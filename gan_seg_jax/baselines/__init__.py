"""Classical segmentation behind the same scoring as the networks.

A baseline is a module, or an `edges.EdgeBaseline`, with two functions:
    fit(train_split, *, num_classes, seed) -> model
    predict(model, image uint8 [h, w, 3]) -> class ids uint8 [h, w], at the image's own size
and a third, None where it finds no edges:
    boundaries(model, image uint8 [h, w, 3]) -> bool [h, w], the thin edges, of no class
`train_split` is anything with `__len__` and `__getitem__` as a `Split` of `data.catalog` has them.
"""

from typing import Any

from gan_seg_jax.baselines import canny, dbscan, kmeans, majority, roberts, slic, sobel

BASELINES: dict[str, Any] = {
    "sobel": sobel.BASELINE,
    "roberts": roberts.BASELINE,
    "canny": canny.BASELINE,
    "kmeans": kmeans,
    "dbscan": dbscan,
    "slic": slic,
    "majority": majority,
}
