"""Networks by the name a config gives them; MODELS is the whole list."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError, expect, unknown
from gan_seg_jax.models import pip_weights
from gan_seg_jax.models.backbone_unet import BackboneUNet
from gan_seg_jax.models.critics import SegANCritic
from gan_seg_jax.models.deeplab import DeepLabV1, DeepLabV2, DeepLabV3, DeepLabV3Plus
from gan_seg_jax.models.discriminators import DCGANDiscriminator, DenseDiscriminator, MultiscalePatchGAN, PatchGAN
from gan_seg_jax.models.dpt import DPT
from gan_seg_jax.models.fcdensenet import FCDenseNet
from gan_seg_jax.models.fcn import FCN
from gan_seg_jax.models.fpn import FPN
from gan_seg_jax.models.generators import DCGANGenerator, DenseGenerator
from gan_seg_jax.models.label_discriminators import FCNDiscriminator, LucDiscriminator, S4GANDiscriminator
from gan_seg_jax.models.linear_head import LinearHead
from gan_seg_jax.models.network import Network
from gan_seg_jax.models.pspnet import PSPNet
from gan_seg_jax.models.segformer import SegFormer
from gan_seg_jax.models.segnet import SegNet
from gan_seg_jax.models.spade import OASISGenerator, SPADEGenerator
from gan_seg_jax.models.style_generator import StyleGAN2Generator
from gan_seg_jax.models.unet import UNet
from gan_seg_jax.models.unet_discriminator import UNetDiscriminator
from gan_seg_jax.models.upernet import UPerNet

MODELS: dict[str, type[Network]] = {
    "fcn": FCN,
    "unet": UNet,
    "segnet": SegNet,
    "pspnet": PSPNet,
    "deeplabv1": DeepLabV1,
    "deeplabv2": DeepLabV2,
    "deeplabv3": DeepLabV3,
    "deeplabv3plus": DeepLabV3Plus,
    "fcdensenet": FCDenseNet,
    "backbone_unet": BackboneUNet,
    "fpn": FPN,
    "upernet": UPerNet,
    "segformer": SegFormer,
    "linear_head": LinearHead,
    "dpt": DPT,
    "dcgan_generator": DCGANGenerator,
    "dense_generator": DenseGenerator,
    "stylegan2_generator": StyleGAN2Generator,
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


def check(config: ConfigDict) -> None:
    """Check `config.networks`, of which each network knows its own fields, and `config.pretrained`; of prior runs too.

    Raises:
        InputError: no such network, no such attribute, or a value that it may not have.
    """
    for role, options in config.networks.items():
        expect(options.name in MODELS, f"networks.{role}.name", options.name, f"one of {', '.join(MODELS)}")
        model = MODELS[options.name]
        for name, value in options.items():
            if name in ("name", "ema"):
                continue
            if name not in model.fields():
                known = (f"networks.{role}.{field}" for field in (*model.fields(), "name", "ema"))
                raise unknown("config field", f"networks.{role}.{name}", known)
            expected = model.expected(name, value)
            expect(not expected, f"networks.{role}.{name}", value, expected)
    for role, source in config.pretrained.items():
        expect(role in config.networks, "pretrained", role, f"roles of config.networks ({', '.join(config.networks)})")
        packaged = [f"{pip_weights.PREFIX}{name}" for name in pip_weights.WEIGHTS]
        known = not source.startswith(pip_weights.PREFIX) or source in packaged
        expect(known, f"pretrained.{role}", source, f"one of {', '.join(packaged)}, or a file")
    for prior in config.prior_runs.values():
        check(prior)


def that_make(kind: str) -> tuple[str, ...]:
    """Return the names of the networks that make this (a name in `models.network`)."""
    return tuple(name for name, model in MODELS.items() if kind in model.MAKES)


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
        if name not in model.fields():
            raise unknown(f"attribute of {options.name}", name, model.fields())
    try:
        return model(**given, **derived, dtype=jnp.dtype(dtype))
    except TypeError as error:
        raise InputError(f"The network {options.name} cannot be built: {error}.") from error


def split_heads(outputs: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Return (logits, auxiliary logits by name) of what a segmentation network returned: logits, or such a pair."""
    return outputs if isinstance(outputs, tuple) else (outputs, {})
