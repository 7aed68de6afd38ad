"""The methods: each a module of pure functions (`state.Method`); METHODS is the whole list."""

from types import ModuleType
from typing import Any

from ml_collections import ConfigDict

from gan_seg_jax.errors import unknown
from gan_seg_jax.methods import (
    adaptation,
    advent,
    adversarial,
    advsemiseg,
    augmentation,
    cgan,
    cps,
    fixmatch,
    mean_teacher,
    mixed_domains,
    oasis,
    refinement,
    s4gan,
    segan,
    supervised,
    synthesis,
    translation,
    unconditional,
    unimatch,
)
from gan_seg_jax.models import that_make
from gan_seg_jax.models.network import CLASS_SCORES

METHODS: dict[str, ModuleType] = {
    "adaptation": adaptation,
    "advent": advent,
    "adversarial": adversarial,
    "advsemiseg": advsemiseg,
    "augmentation": augmentation,
    "cgan": cgan,
    "cps": cps,
    "fixmatch": fixmatch,
    "mean_teacher": mean_teacher,
    "mixed_domains": mixed_domains,
    "oasis": oasis,
    "refinement": refinement,
    "s4gan": s4gan,
    "segan": segan,
    "supervised": supervised,
    "synthesis": synthesis,
    "translation": translation,
    "unconditional": unconditional,
    "unimatch": unimatch,
}
STANDS_FOR = {"semi_supervised": ("advsemiseg", "s4gan"), "synthesis": ("synthesis", "oasis")}  # see `get_method`


def fields_of(*values: str) -> dict[str, Any]:
    """Return the kinds of the fields that these values of `config.method` alone read; of all methods without any.

    Fields of `losses` stand in a group of that name; not every form of a method has all.
    """
    names = [name for value in values or METHODS for name in (STANDS_FOR[value] if value in STANDS_FOR else (value,))]
    found = [METHODS[each].FIELDS for each in names if each in METHODS]
    merged = {field: kind for fields in found for field, kind in fields.items()}
    losses = {field: kind for fields in found if "losses" in fields for field, kind in fields["losses"].items()}
    return {**merged, "losses": losses}


def get_method(config: ConfigDict) -> ModuleType:
    """Return the method of a config.

    `config.method` is its name, but for two values that stand for two methods each: "semi_supervised" is the one that
    `losses.semi` names, and "synthesis" is OASIS where the discriminator is OASIS's.

    Raises:
        InputError: there is none; the nearest name is given.
    """
    name = config.method
    if name == "semi_supervised":
        name = config.losses.semi if "semi" in config.losses else ""
        if name not in STANDS_FOR["semi_supervised"]:
            raise unknown("losses.semi", name, STANDS_FOR["semi_supervised"])
    elif name == "synthesis" and "discriminator" in config.networks:
        name = "oasis" if config.networks.discriminator.name in that_make(CLASS_SCORES) else name
    if name not in METHODS:
        raise unknown("method", name, (*METHODS, "semi_supervised"))
    return METHODS[name]
