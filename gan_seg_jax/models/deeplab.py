"""DeepLab v1, v2, v3 and v3+: a backbone whose last strides are turned into rates, and a head that sees far.

Feature maps are resized with pixel centres at half integers, whatever the size. The authors align the corner pixels
instead, which fits their crops of k * output_stride + 1 pixels (321, 513).
"""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers
from gan_seg_jax.models.aspp import ASPP, CLASSIFIER_INIT, ConvBlock, SummedASPP
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.network import SEGMENTATION, Network, Numbers


class DeepLabV1(Network):
    """DeepLab-LargeFOV: VGG-16 at output stride 8, fc6 as a 3x3 convolution of rate 12, fc7, and the classifier.

    Chen et al. 2015 (https://arxiv.org/abs/1412.7062). The authors' code also has an average pooling 3x3 of stride 1
    behind the last max-pooling, and starts fc6 and fc7 from a thinned copy of VGG's fully connected layers; here they
    start afresh.

    Attributes:
        num_classes: number of output channels.
        backbone: a name in `backbones.BACKBONES`.
        backbone_width: factor of the backbone's channel counts.
        output_stride: input pixels per pixel of the last feature map: 8, 16 or 32.
        norm: of the backbone (VGG-16 has none).
        rate: of fc6, in pixels of the feature map.
        channels: of fc6 and fc7.
        dropout: rate after fc6 and fc7.
        kernel_init: of fc6 and fc7: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)

    num_classes: int
    backbone: str = "vgg16"
    backbone_width: float = 1.0
    output_stride: int = 8
    norm: str = "batch"
    rate: int = 12
    channels: int = 1024
    dropout: float = 0.5
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Return class logits.

        Args:
            image: float [b, h, w, 3] in [-1, 1], of at least twice the output stride.
            train: whether norms use the statistics of this batch, and dropout (key "dropout") is on.

        Returns:
            float32 [b, h, w, num_classes].

        Raises:
            InputError: the output stride is none of 8, 16 and 32, or does not fit the image.
        """
        x = _features(self, image, train=train)["c5"]
        self.sow("intermediates", "decoder", x)
        head = SummedASPP(
            self.num_classes,
            (self.rate,),
            self.channels,
            self.dropout,
            False,
            self.kernel_init,
            self.dtype,
            name="head",
        )
        return layers.resize_logits(head(x, train=train), image.shape[1:3])


class DeepLabV2(Network):
    """ResNet-101 at output stride 8 and the summed pyramid: four atrous 3x3 convolutions to the classes.

    Chen et al. 2016 (https://arxiv.org/abs/1606.00915). The paper trains with three copies of the image (scales 1,
    0.75 and 0.5) and the maximum of their scores; here it is one. It keeps BatchNorm at the statistics of the
    pre-trained weights: `norm="frozen_batch"`, which is useless without such weights and so not the default.

    Attributes:
        num_classes: number of output channels.
        backbone: a name in `backbones.BACKBONES`.
        backbone_width: factor of the backbone's channel counts.
        output_stride: input pixels per pixel of the last feature map: 8, 16 or 32.
        norm: of the backbone.
        rates: of the branches, in pixels of the feature map.
        channels: of fc6 and fc7 of each branch, the paper's VGG-16 form (1024); 0 is one convolution a branch.
        dropout: rate after fc6 and fc7.
        legacy_two_branches: only the first two rates act, as in the released code of AdvSemiSeg.
        auxiliary: whether to return a second head's logits too: another pyramid on c4, as in AdaptSegNet (Tsai et al.
            2018, https://arxiv.org/abs/1802.10349).
        kernel_init: of fc6 and fc7: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)
    NUMBERS: ClassVar = {"channels": Numbers(least=0)}

    num_classes: int
    backbone: str = "resnet101"
    backbone_width: float = 1.0
    output_stride: int = 8
    norm: str = "batch"
    rates: tuple[int, ...] = (6, 12, 18, 24)
    channels: int = 0
    dropout: float = 0.5
    legacy_two_branches: bool = False
    auxiliary: bool = False
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Return class logits float32 [b, h, w, num_classes]; arguments and errors as `DeepLabV1`.

        With `auxiliary` a pair of them and {"auxiliary": logits of that head}.
        """
        features = _features(self, image, train=train)
        self.sow("intermediates", "decoder", features["c5"])

        def head(x, name):
            options = (self.rates, self.channels, self.dropout, self.legacy_two_branches, self.kernel_init, self.dtype)
            scores = SummedASPP(self.num_classes, *options, name=name)(x, train=train)
            return layers.resize_logits(scores, image.shape[1:3])

        logits = head(features["c5"], "head")
        return (logits, {"auxiliary": head(features["c4"], "auxiliary")}) if self.auxiliary else logits


class DeepLabV3(Network):
    """ResNet with multi-grid, ASPP with the pooled image, and a 1x1 classifier.

    Chen et al. 2017 (https://arxiv.org/abs/1706.05587). torchvision's form has one more 3x3 convolution before the
    classifier, and another head on c4 for training; the paper has neither.

    Attributes:
        num_classes: number of output channels.
        backbone: a name in `backbones.BACKBONES`.
        backbone_width: factor of the backbone's channel counts.
        output_stride: input pixels per pixel of the last feature map: 8, 16 or 32.
        multi_grid: factors of the rates of the last stage's three blocks.
        norm: of backbone and head.
        rates: of the pyramid at output stride 16, in pixels of the feature map; doubled at 8, halved at 32.
        aspp_channels: of each branch of the pyramid and of its result.
        dropout: rate on the result of the pyramid.
        kernel_init: of the head: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)

    num_classes: int
    backbone: str = "resnet101"
    backbone_width: float = 1.0
    output_stride: int = 16
    multi_grid: tuple[int, ...] = (1, 2, 4)
    norm: str = "batch"
    rates: tuple[int, ...] = (6, 12, 18)
    aspp_channels: int = 256
    dropout: float = 0.1
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Return class logits float32 [b, h, w, num_classes]; arguments and errors as `DeepLabV1`."""
        x = _features(self, image, multi_grid=self.multi_grid, train=train)["c5"]
        x = _pyramid(self, separable=False)(x, train=train)
        self.sow("intermediates", "decoder", x)
        logits = layers.Conv1x1(self.num_classes, kernel_init=CLASSIFIER_INIT, dtype=self.dtype, name="logits")(x)
        return layers.resize_logits(logits, image.shape[1:3])


class DeepLabV3Plus(Network):
    """DeepLab v3 with a decoder that takes in the features of stride 4.

    Chen et al. 2018 (https://arxiv.org/abs/1802.02611): the result of the pyramid, resized to the size of c2, beside
    c2 reduced to `low_level_channels`; two 3x3 convolutions; the classifier. The paper's modified Xception is not
    among the backbones; its ResNet-101 is the default.

    Attributes:
        num_classes: number of output channels.
        backbone: a name in `backbones.BACKBONES`.
        backbone_width: factor of the backbone's channel counts.
        output_stride: input pixels per pixel of the last feature map: 8, 16 or 32.
        multi_grid: factors of the rates of the last stage's three blocks.
        norm: of backbone and head.
        rates: of the pyramid at output stride 16, in pixels of the feature map; doubled at 8, halved at 32.
        aspp_channels: of each branch of the pyramid and of its result.
        low_level_channels: to which c2 is reduced.
        decoder_channels: of the two 3x3 convolutions.
        separable: depthwise-separable 3x3 convolutions in pyramid and decoder (the paper's faster form).
        dropout: rate on the result of the pyramid.
        kernel_init: of the head: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)

    num_classes: int
    backbone: str = "resnet101"
    backbone_width: float = 1.0
    output_stride: int = 16
    multi_grid: tuple[int, ...] = (1, 2, 4)
    norm: str = "batch"
    rates: tuple[int, ...] = (6, 12, 18)
    aspp_channels: int = 256
    low_level_channels: int = 48
    decoder_channels: int = 256
    separable: bool = False
    dropout: float = 0.1
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Return class logits float32 [b, h, w, num_classes]; arguments and errors as `DeepLabV1`."""
        features = _features(self, image, multi_grid=self.multi_grid, train=train)
        x = _pyramid(self, separable=self.separable)(features["c5"], train=train)
        options = {"norm": self.norm, "kernel_init": self.kernel_init, "dtype": self.dtype}
        low = ConvBlock(self.low_level_channels, 1, **options, name="low_level")(features["c2"], train=train)
        x = jnp.concatenate([layers.resize(x, low.shape[1:3]), low], axis=-1)
        block = layers.SeparableConv if self.separable else ConvBlock
        for name in ("decoder_0", "decoder_1"):
            x = block(self.decoder_channels, **options, name=name)(x, train=train)
        self.sow("intermediates", "decoder", x)
        logits = layers.Conv1x1(self.num_classes, kernel_init=CLASSIFIER_INIT, dtype=self.dtype, name="logits")(x)
        return layers.resize_logits(logits, image.shape[1:3])


def _features(network, image, *, train, multi_grid=(1, 1, 1)):
    """Return the backbone's features, after a check that the output stride fits the image."""
    name, stride, (height, width) = type(network).__name__, network.output_stride, image.shape[1:3]
    if height < 2 * stride or width < 2 * stride:
        raise InputError(
            f"{name} with output_stride {stride} needs images of at least {2 * stride}x{2 * stride} pixels, found "
            f"{height}x{width}; choose a larger crop_size and canvas_size or a smaller output_stride."
        )
    backbone = create_backbone(
        network.backbone,
        output_stride=stride,
        multi_grid=multi_grid,
        norm=network.norm,
        width=network.backbone_width,
        dtype=network.dtype,
    )
    return backbone(image, train=train)


def _pyramid(network, *, separable):
    """Return the ASPP of a DeepLab v3 or v3+; its rates are given at output stride 16."""
    return ASPP(
        network.aspp_channels,
        tuple(max(1, rate * 16 // network.output_stride) for rate in network.rates),
        separable,
        network.dropout,
        network.norm,
        network.kernel_init,
        network.dtype,
        name="aspp",
    )
