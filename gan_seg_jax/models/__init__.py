"""Networks by the name a config gives them; MODELS is the whole list."""

import inspect
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.models.critics import SegANCritic
from gan_seg_jax.models.deeplab import DeepLabV1, DeepLabV2, DeepLabV3, DeepLabV3Plus
from gan_seg_jax.models.discriminators import DCGANDiscriminator, DenseDiscriminator, MultiscalePatchGAN, PatchGAN
from gan_seg_jax.models.fcdensenet import FCDenseNet
from gan_seg_jax.models.fcn import FCN
from gan_seg_jax.models.generators import DCGANGenerator, DenseGenerator
from gan_seg_jax.models.label_discriminators import FCNDiscriminator, LucDiscriminator, S4GANDiscriminator
from gan_seg_jax.models.pspnet import PSPNet
from gan_seg_jax.models.segnet import SegNet
from gan_seg_jax.models.spade import OASISGenerator, SPADEGenerator
from gan_seg_jax.models.unet import UNet
from gan_seg_jax.models.unet_discriminator import UNetDiscriminator

MODELS: dict[str, type[nn.Module]] = {
    "fcn": FCN,
    "unet": UNet,
    "segnet": SegNet,
    "pspnet": PSPNet,
    "deeplabv1": DeepLabV1,
    "deeplabv2": DeepLabV2,
    "deeplabv3": DeepLabV3,
    "deeplabv3plus": DeepLabV3Plus,
    "fcdensenet": FCDenseNet,
    "dcgan_generator": DCGANGenerator,
    "dense_generator": DenseGenerator,
    "spade_generator": SPADEGenerator,
    "oasis_generator": OASISGenerator,
    "patchgan": PatchGAN,
    "multiscale_patchgan": MultiscalePatchGAN,
    "dcgan_discriminator": DCGANDiscriminator,
    "dense_discriminator": DenseDiscriminator,
    "fcn_discriminator": FCNDiscriminator,
    "s4gan_discriminator": S4GANDiscriminator,
    "luc_discriminator": LucDiscriminator,
    "unet_discriminator": UNetDiscriminator,
    "segan_critic": SegANCritic,
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


def split_heads(outputs: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return (logits, auxiliary logits by name) of what a segmentation network returned: logits, or such a pair."""
    return outputs if isinstance(outputs, tuple) else (outputs, {})
