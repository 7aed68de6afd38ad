"""The methods: each a module of pure functions (`state.Method`); METHODS is the whole list."""

from types import ModuleType

from ml_collections import ConfigDict

from gan_seg_jax.errors import unknown
from gan_seg_jax.methods import (
    adaptation,
    adversarial,
    advsemiseg,
    augmentation,
    cgan,
    mean_teacher,
    oasis,
    refinement,
    s4gan,
    segan,
    supervised,
    synthesis,
    translation,
    unconditional,
)

METHODS: dict[str, ModuleType] = {
    "adaptation": adaptation,
    "adversarial": adversarial,
    "advsemiseg": advsemiseg,
    "augmentation": augmentation,
    "cgan": cgan,
    "mean_teacher": mean_teacher,
    "oasis": oasis,
    "refinement": refinement,
    "s4gan": s4gan,
    "segan": segan,
    "supervised": supervised,
    "synthesis": synthesis,
    "translation": translation,
    "unconditional": unconditional,
}
SEMI_SUPERVISED = ("advsemiseg", "s4gan")  # what `config.losses.semi` may be


def get_method(config: ConfigDict) -> ModuleType:
    """Return the method of a config.

    `config.method` is its name, but for two values that stand for two methods each: "semi_supervised" is the one that
    `losses.semi` names, and "synthesis" is OASIS where the discriminator is OASIS's.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    name = config.method
    if name == "semi_supervised":
        name = config.losses.semi
        if name not in SEMI_SUPERVISED:
            raise unknown("losses.semi", name, SEMI_SUPERVISED)
    elif name == "synthesis" and config.networks.discriminator.name == "unet_discriminator":
        name = "oasis"
    if name not in METHODS:
        raise unknown("method", name, (*METHODS, "semi_supervised"))
    return METHODS[name]
