"""The methods: each a module of pure functions (`state.Method`); METHODS is the whole list."""

from types import ModuleType

from gan_seg_jax.errors import unknown
from gan_seg_jax.methods import (
    adaptation,
    adversarial,
    augmentation,
    cgan,
    mean_teacher,
    refinement,
    segan,
    semi_supervised,
    supervised,
    synthesis,
    translation,
    unconditional,
)

METHODS: dict[str, ModuleType] = {
    "adaptation": adaptation,
    "adversarial": adversarial,
    "augmentation": augmentation,
    "cgan": cgan,
    "mean_teacher": mean_teacher,
    "refinement": refinement,
    "segan": segan,
    "semi_supervised": semi_supervised,
    "supervised": supervised,
    "synthesis": synthesis,
    "translation": translation,
    "unconditional": unconditional,
}


def get_method(name: str) -> ModuleType:
    """Return the method called `name`.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    if name not in METHODS:
        raise unknown("method", name, METHODS)
    return METHODS[name]
