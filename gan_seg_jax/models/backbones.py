"""Backbones by name: feature extractors under segmentation networks.

A backbone (`stages.Backbone`) maps an image float [b, h, w, 3] in [-1, 1] to a dict of float feature maps "c1" to "c5"
with strides 2, 4, 8, 16 and 32; strides beyond `output_stride` are turned into rates (`stages.atrous_stages`). Those
that cut the image into patches of 4x4 pixels have no "c1"; a plain vision transformer has "c2" to "c5" at the stride of
its patches. It normalises the image for itself.

Parameters have the names of published PyTorch weights (torchvision's, timm's where that has none, the authors' of
transformers), by one rule:
1. the first number of a key joins the word before it, and the two name the block: "layer1.0." is `layer1_0`,
   "features.1." is `features_1`, "conv1.0." (deep stem) is `conv1_0`;
2. what is between the block and the last word is joined by "_" and names the layer in it: "layer1.0.downsample.0." is
   `layer1_0/downsample_0`, "features.1.conv.0.0." is `features_1/conv_0_0`, "features.0.0." of MobileNetV2 is
   `features_0/0`;
3. the last word: of a convolution "weight" is `kernel` ([o, i, h, w] becomes [h, w, i, o]; that of a depthwise
   one is [h, w, 1, c]; [o, i] of a matrix becomes [i, o]) and "bias" is `bias`; of a norm "weight" and "bias" are
   `batch/scale` and `batch/bias`, "running_mean" and "running_var" are `batch/mean` and `batch/var` of the collection
   `batch_stats`.
Keys of other layouts are translated by the backbone (`own_key`). The rest of the published weights has no counterpart:
the classifiers ("fc.", "classifier.") and what a backbone calls `unused`.
"""

from functools import partial

import jax.numpy as jnp

from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.models.convnext import ConvNeXt
from gan_seg_jax.models.efficientnet_lite import EfficientNetLite
from gan_seg_jax.models.mix_transformer import MixTransformer
from gan_seg_jax.models.mobilenet import MobileNetV2
from gan_seg_jax.models.resnet import ResNet
from gan_seg_jax.models.stages import Backbone, atrous_stages
from gan_seg_jax.models.vgg import VGG16
from gan_seg_jax.models.vision_transformer import VisionTransformer

# name -> its class, with the attributes that the name fixes.
BACKBONES: dict[str, partial] = {
    "resnet18": partial(ResNet, depths=(2, 2, 2, 2)),
    "resnet34": partial(ResNet, depths=(3, 4, 6, 3)),
    "resnet50": partial(ResNet, depths=(3, 4, 6, 3), bottleneck=True),
    "resnet101": partial(ResNet, depths=(3, 4, 23, 3), bottleneck=True),
    "resnet50_deep": partial(ResNet, depths=(3, 4, 6, 3), bottleneck=True, deep_stem=True),
    "resnet101_deep": partial(ResNet, depths=(3, 4, 23, 3), bottleneck=True, deep_stem=True),
    "mobilenetv2": partial(MobileNetV2),
    "vgg16": partial(VGG16, norm="none"),
    "vgg16_bn": partial(VGG16),
    "efficientnet_lite0": partial(EfficientNetLite, growth=(1.0, 1.0)),
    "efficientnet_lite1": partial(EfficientNetLite, growth=(1.0, 1.1)),
    "efficientnet_lite2": partial(EfficientNetLite, growth=(1.1, 1.2)),
    "convnext_tiny": partial(ConvNeXt, depths=(3, 3, 9, 3), channels=(96, 192, 384, 768)),
    "convnext_small": partial(ConvNeXt, depths=(3, 3, 27, 3), channels=(96, 192, 384, 768)),
    "convnext_base": partial(ConvNeXt, depths=(3, 3, 27, 3), channels=(128, 256, 512, 1024)),
    "mit_b0": partial(MixTransformer),
    "mit_b1": partial(MixTransformer, head_channels=64),
    "mit_b2": partial(MixTransformer, depths=(3, 4, 6, 3), head_channels=64),
    "mit_b3": partial(MixTransformer, depths=(3, 4, 18, 3), head_channels=64),
    "mit_b4": partial(MixTransformer, depths=(3, 8, 27, 3), head_channels=64),
    "mit_b5": partial(MixTransformer, depths=(3, 6, 40, 3), head_channels=64),
    "dinov2_small": partial(VisionTransformer),
    "dinov2_base": partial(VisionTransformer, heads=12),
    "dinov2_small_reg4": partial(VisionTransformer, registers=4),
    "dinov2_base_reg4": partial(VisionTransformer, heads=12, registers=4),
}


def create_backbone(
    name: str,
    *,
    output_stride: int = 32,
    multi_grid: tuple[int, ...] = (1, 1, 1),
    norm: str = "batch",
    width: float = 1.0,
    drop_path: float = 0.0,
    dtype: jnp.dtype = jnp.float32,
    module_name: str | None = "backbone",
) -> Backbone:
    """Return the backbone of that name; `features = backbone(image, train=train)`.

    Args:
        name: key of `BACKBONES`.
        output_stride: 8, 16 or 32.
        multi_grid: factors on the rates of the last stage (ResNets only).
        norm: kind of `norms.Norm`; those with norms of their own ("vgg16" has none) have these whatever is given here.
        width: factor on the channel counts.
        drop_path: rate at which the last residual is dropped in training (stochastic depth), rising linearly from 0 at
            the first (transformers and ConvNeXt only).
        dtype: of the computation.
        module_name: of the submodule. Networks leave it, since learning rates and pre-trained weights find a backbone
            by it; None outside of a network.

    Raises:
        InputError: no such backbone, no such output_stride, or a multi-grid or a drop_path for one without.
    """
    if name not in BACKBONES:
        raise unknown("backbone", name, BACKBONES)
    atrous_stages((), output_stride, network=name)  # its message, before the network is built
    model = BACKBONES[name]
    options = {
        "output_stride": output_stride,
        "multi_grid": tuple(multi_grid),
        "norm": norm,
        "width": width,
        "drop_path": drop_path,
        "dtype": dtype,
        **model.keywords,
    }
    known = model.func.__dataclass_fields__
    for option, none in (("multi_grid", (1,) * len(multi_grid)), ("drop_path", 0.0)):
        if option not in known and options[option] != none:
            raise InputError(f"{name} has no {option}, found {options[option]}; set {option} to {none}.")
    return model.func(**{option: value for option, value in options.items() if option in known}, name=module_name)
