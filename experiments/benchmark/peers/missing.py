"""Peers are optional: what is not installed is said in a sentence, and the other sides go on."""

import importlib
from typing import Any

from experiments.benchmark import worker

PACKAGES = {
    "segmentation_models_pytorch": "segmentation-models-pytorch",
    "keras_hub": "keras-hub",
    "pydensecrf.densecrf": "pydensecrf2",
}  # where a package has another name than its module


def need(module: str) -> Any:
    """Return a module.

    Raises:
        MissingError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = PACKAGES.get(module, module)
        raise worker.MissingError(f"{module} is not installed ({error}); pip install {package}") from error
