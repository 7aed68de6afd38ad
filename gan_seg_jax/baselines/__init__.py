"""Classical segmentation behind the same scoring as the networks.

A baseline is a module with two functions:
    fit(train_split, *, num_classes, seed) -> model
    predict(model, image uint8 [h, w, 3]) -> class ids uint8 [h, w], at the image's own size
and, where it finds edges, a third:
    boundaries(model, image uint8 [h, w, 3]) -> bool [h, w], the thin edges, of no class
`train_split` is anything with `__len__` and `__getitem__` as a `Split` of `data.catalog` has them.
"""

from types import ModuleType

from gan_seg_jax.baselines import canny, dbscan, kmeans, majority, roberts, slic, sobel

BASELINES: dict[str, ModuleType] = {
    "sobel": sobel,
    "roberts": roberts,
    "canny": canny,
    "kmeans": kmeans,
    "dbscan": dbscan,
    "slic": slic,
    "majority": majority,
}
