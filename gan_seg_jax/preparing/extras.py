"""Import packages that only some formats need."""

import importlib
from types import ModuleType

from gan_seg_jax.errors import InputError


def need(module: str, extra: str, what: str = "This format") -> ModuleType:
    """Return a module.

    Args:
        module: Its name, such as `pycocotools.mask`.
        extra: The extra of pyproject.toml that brings it.
        what: What needs it, for the error.

    Raises:
        InputError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        package = module.partition(".")[0]
        raise InputError(
            f'{what} needs {package}, which is not installed: pip install "gan_seg_jax[{extra}]".'
        ) from None
