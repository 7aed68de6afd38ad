"""Classical segmentation behind the same scoring as the networks.

A baseline is a module, or an `edges.EdgeBaseline`, with two functions:
    fit(train_split, *, num_classes, seed) -> model
    predict(model, image uint8 [h, w, 3]) -> class ids uint8 [h, w], at the image's own size
and a third, None where it finds no edges:
    boundaries(model, image uint8 [h, w, 3]) -> bool [h, w], the thin edges, of no class
`train_split` is anything with `__len__` and `__getitem__` as a `Split` of `data.catalog` has them.
"""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any


class _Baselines(Mapping[str, Any]):
    """Name -> baseline, loaded when it is asked for: scikit-learn takes half a second to load."""

    _NAMES = ("sobel", "roberts", "canny", "kmeans", "dbscan", "slic", "majority")

    def __getitem__(self, name: str) -> Any:
        if name not in self._NAMES:
            raise KeyError(name)
        module = importlib.import_module(f"{__name__}.{name}")
        return getattr(module, "BASELINE", module)

    def __iter__(self) -> Iterator[str]:
        return iter(self._NAMES)

    def __len__(self) -> int:
        return len(self._NAMES)


BASELINES = _Baselines()
