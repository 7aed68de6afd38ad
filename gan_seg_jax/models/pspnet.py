"""PSPNet: a backbone at output stride 8 and means over regions of several sizes as context."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gan_seg_jax.augment import resample
from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers
from gan_seg_jax.models.aspp import CLASSIFIER_INIT, ConvBlock
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.network import SEGMENTATION, Network, Numbers


class PSPNet(Network):
    """Pool the last feature map to grids of several sizes, and classify it together with them.

    Zhao et al. 2017 (https://arxiv.org/abs/1612.01105). Each grid of `bins` x `bins` means goes through a 1x1
    convolution to c / len(bins) channels, norm and ReLU, and is resized to the feature map; all are joined to it, and
    a 3x3 convolution to `channels`, dropout and a 1x1 convolution make the scores. In training a second head (3x3
    convolution, dropout, 1x1 convolution) on c4 helps.

    Differences from the authors' code: bilinear resizing has half-pixel centres; under norm "batch" or
    "instance" a grid of a single bin has a bias in place of the norm: its b values a channel are too few for statistics
    of the batch (two become -1 and 1 whatever the images are; the authors train with 16 images), its one for those of
    an image.

    Attributes:
        num_classes: number of output channels.
        backbone: a name in `backbones.BACKBONES` (the authors': `resnet50_deep`, `resnet101_deep`).
        backbone_width: factor of the backbone's channel counts.
        output_stride: input pixels per pixel of the last feature map: 8, 16 or 32.
        norm: of backbone and heads.
        bins: cells per side of each grid.
        channels: of the 3x3 convolution; the second head has half of it.
        dropout: rate before the classifiers.
        auxiliary: whether to return the second head's logits too.
        kernel_init: of the heads: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)
    NUMBERS: ClassVar = {"bins": Numbers(distinct=True)}

    num_classes: int
    backbone: str = "resnet101_deep"
    backbone_width: float = 1.0
    output_stride: int = 8
    norm: str = "batch"
    bins: tuple[int, ...] = (1, 2, 3, 6)
    channels: int = 512
    dropout: float = 0.1
    auxiliary: bool = True
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Return the class logits of each pixel.

        Args:
            image: float [b, h, w, 3] in [-1, 1], of at least output stride x the largest of `bins` a side.
            train: whether norms use the statistics of this batch, and dropout (key "dropout") is on.

        Returns:
            float32 [b, h, w, num_classes], class logits; with `auxiliary` also {"auxiliary": logits of that head}.

        Raises:
            InputError: the output stride is none of 8, 16 and 32, or does not fit the image and the bins.
        """
        smallest, size = self.output_stride * max(self.bins), image.shape[1:3]
        if size[0] < smallest or size[1] < smallest:
            raise InputError(
                f"PSPNet with output_stride {self.output_stride} and bins {tuple(self.bins)} needs images of at least "
                f"{smallest}x{smallest} pixels, found {size[0]}x{size[1]}; choose a larger crop_size and canvas_size, "
                "a smaller output_stride or fewer bins."
            )
        backbone = create_backbone(
            self.backbone,
            output_stride=self.output_stride,
            norm=self.norm,
            width=self.backbone_width,
            dtype=self.dtype,
        )
        features = backbone(image, train=train)
        x = features["c5"]
        x = pooled_pyramid(self, x, x.shape[-1] // len(self.bins), train=train)
        logits = layers.resize_logits(self._head(x, self.channels, "head", train=train, sow=True), size)
        if not self.auxiliary:
            return logits
        auxiliary = self._head(features["c4"], self.channels // 2, "auxiliary", train=train)
        return logits, {"auxiliary": layers.resize_logits(auxiliary, size)}

    def _head(self, x, channels, name, *, train, sow=False):
        options = {"norm": self.norm, "kernel_init": self.kernel_init, "dtype": self.dtype}
        x = ConvBlock(channels, **options, name=f"{name}_block")(x, train=train)
        x = nn.Dropout(self.dropout, name=f"{name}_dropout")(x, deterministic=not train)
        if sow:
            self.sow("intermediates", "decoder", x)
        return layers.Conv1x1(self.num_classes, kernel_init=CLASSIFIER_INIT, dtype=self.dtype, name=f"{name}_logits")(x)


def pooled_pyramid(network: Network, x: jax.Array, channels: int, *, train: bool) -> jax.Array:
    """Return a map joined to what its grids of means make of it; called where the network makes its layers.

    Args:
        network: its `bins`, `norm`, `kernel_init` and `dtype` count.
        x: float [b, h, w, c].
        channels: of each grid's convolution.
        train: as in `PSPNet`.

    Returns:
        float [b, h, w, c + len(bins) * channels].
    """
    parts = [x]
    for bins in network.bins:
        norm = "none" if bins == 1 and network.norm in ("batch", "instance") else network.norm
        options = {"kernel": 1, "norm": norm, "kernel_init": network.kernel_init, "dtype": network.dtype}
        grid = ConvBlock(channels, **options, name=f"bin_{bins}")(adaptive_mean(x, bins), train=train)
        parts.append(layers.resize(grid, x.shape[1:3]))
    return jnp.concatenate(parts, axis=-1)


def adaptive_mean(x: jax.Array, bins: int) -> jax.Array:
    """Return the means over a grid of `bins` x `bins` cells that cover the map, as one matrix product per axis.

    Cell i of an axis of n pixels has the pixels floor(i n / bins) to ceil((i + 1) n / bins) - 1; neighbours overlap
    by a pixel where n is not a multiple (the rule of torch's `adaptive_avg_pool2d`).

    Args:
        x: float [b, h, w, c].
        bins: cells per side.

    Returns:
        float [b, bins, bins, c], of x's dtype.
    """

    def weights(size):
        matrix = np.zeros((bins, size), np.float32)
        for i in range(bins):
            start, stop = i * size // bins, -(-(i + 1) * size // bins)
            matrix[i, start:stop] = 1 / (stop - start)
        return matrix

    pool = jax.vmap(resample.apply_weights, in_axes=(0, None, None))
    return pool(x.astype(jnp.float32), weights(x.shape[1]), weights(x.shape[2])).astype(x.dtype)
