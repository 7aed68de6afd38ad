"""Classical segmentation behind the same scoring as the networks.

A baseline is a module with two functions:
    fit(train_split, *, num_classes, seed) -> model
    predict(model, image uint8 [h, w, 3]) -> class ids uint8 [h, w], at the image's own size
`train_split` is anything with `__len__` and `__getitem__` as a `Split` of `data.catalog` has them.
"""

from gan_seg_jax.baselines import kmeans, majority

BASELINES = {"kmeans": kmeans, "majority": majority}
