"""The methods: each a module of pure functions (`state.Method`); METHODS is the whole list."""

from types import ModuleType

from gan_seg_jax.errors import unknown
from gan_seg_jax.methods import adversarial, cgan, supervised

METHODS: dict[str, ModuleType] = {"adversarial": adversarial, "cgan": cgan, "supervised": supervised}


def get_method(name: str) -> ModuleType:
    """Return the method called `name`.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]
