"""Networks by the name a config gives them; MODELS is the whole list."""

import inspect
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.models.discriminators import PatchGAN
from gan_seg_jax.models.unet import UNet

MODELS: dict[str, type[nn.Module]] = {
    "unet": UNet,
    "patchgan": PatchGAN,
}


def build_network(options: ConfigDict, *, dtype: str, **derived: Any) -> nn.Module:
    """Return the network that `config.networks.ROLE` describes.

    Args:
        options: `name`, a key of MODELS; `ema`, which is the state's; the rest are the network's attributes.
        dtype: of the computation, "float32" or "bfloat16".
        **derived: attributes that follow from other fields, such as the number of classes.

    Raises:
        InputError: no such network, or it has no such attribute.
    """
    if options.name not in MODELS:
        raise unknown("network", options.name, MODELS)
    model = MODELS[options.name]
    given = {name: value for name, value in options.items() if name not in ("name", "ema")}
    for name in given:
        if name not in inspect.signature(model).parameters:
            raise unknown(f"attribute of {options.name}", name, set(model.__dataclass_fields__) - {"parent", "name"})
    try:
        return model(**given, **derived, dtype=jnp.dtype(dtype))
    except TypeError as error:
        raise InputError(f"The network {options.name} cannot be built: {error}.") from error
