"""What the backbones share: normalised input, names of weights, dropped residuals, widths, stride turned into rates."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gan_seg_jax.errors import InputError

OUTPUT_STRIDES = (8, 16, 32)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """A feature extractor under a segmentation network, and what its published weights are like.

    Class attributes:
        MEAN: of the images that its published weights were trained on, for R, G and B, of values in 0..1.
        STD: the standard deviation of those, likewise.
    """

    MEAN: ClassVar[tuple[float, float, float]] = IMAGENET_MEAN
    STD: ClassVar[tuple[float, float, float]] = IMAGENET_STD

    def normalize(self, image: jax.Array) -> jax.Array:
        """Return the image, float [b, h, w, 3] in [-1, 1], RGB, as its weights expect it, of the network's dtype."""
        mean, std = jnp.array(self.MEAN), jnp.array(self.STD)
        return (((image.astype(jnp.float32) + 1.0) / 2.0 - mean) / std).astype(self.dtype)

    def own_key(self, key: str) -> str:
        """Return the key of a weight in the layout whose names our parameters have, from that of any known layout.

        Our own names have "_" for some ".", so keys that differ in nothing else count as equal. A weight that is
        stored in pieces of one shape, to be joined along its first axis, has the keys "KEY[0/2]" and "KEY[1/2]".
        """
        return key

    def unused(self, key: str) -> bool:
        """Tell whether the weight of this key, as `own_key` returns it, is of no use to the features."""
        del key
        return False


def drop_paths(rate: float, blocks: int) -> list[float]:
    """Return the rate of `DropPath` of each block, which rises linearly from 0 at the first to `rate` at the last."""
    return np.linspace(0, rate, blocks).tolist()


class DropPath(nn.Module):
    """Drop the residual of some examples in training (stochastic depth; Huang et al. 2016, https://arxiv.org/abs/1603.09382).

    Attributes:
        rate: share of the examples whose residual is 0; the others are divided by 1 - rate.
    """

    rate: float

    @nn.compact
    def __call__(self, residual: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, ...] from residual float [b, ...]; in training the key "dropout" draws."""
        axes = tuple(range(1, residual.ndim))
        return nn.Dropout(self.rate, broadcast_dims=axes)(residual, deterministic=not train)


class Stage(NamedTuple):
    """How a stage is convolved: its first window and all those after it.

    Attributes:
        stride: of the first window, 1 where it was turned into a rate.
        first_rate: of the first window, which still reads the grid of the stage before.
        rate: of all later windows.
    """

    stride: int
    first_rate: int
    rate: int


def atrous_stages(strides: Sequence[int], output_stride: int, *, network: str) -> list[Stage]:
    """Turn the strides beyond `output_stride` into rates (Chen et al. 2017, https://arxiv.org/abs/1706.05587).

    A window of stride 2 becomes one of stride 1, which gives the strided result at every second position and what lies
    between; all windows after it are spread by 2. So at the positions of the strided network the features are exactly
    the same, the border included, as long as the norms are (batch statistics of the denser map differ). The first
    window of a stage therefore keeps the rate of the stage before, as in torchvision's
    `replace_stride_with_dilation`. DeepLab's own ResNet has its strides at the end of the stages, where the same rule
    gives the first window of the next stage the new rate: its rates (2, 4, 8) of a multi-grid (1, 2, 4) at output
    stride 16 are (1, 4, 8) here.

    Args:
        strides: of the stages in order, from the image on.
        output_stride: 8, 16 or 32: the largest stride of a feature map.
        network: name for the message.

    Raises:
        InputError: another `output_stride`.
    """
    if output_stride not in OUTPUT_STRIDES:
        fits = ", ".join(map(str, OUTPUT_STRIDES))
        raise InputError(f"{network} has no output_stride {output_stride}; choose one of {fits}.")
    stages, total, rate = [], 1, 1
    for stride in strides:
        if total * stride <= output_stride:
            total *= stride
            stages.append(Stage(stride, rate, rate))
        else:
            stages.append(Stage(1, rate, rate * stride))
            rate *= stride
    return stages


def scaled(channels: int, width: float) -> int:
    """Return channels times width as a multiple of 8, at least 8 and never below nine tenths of the product.

    At width 1 the count stays as it is. The rule is MobileNet's (Sandler et al. 2018).
    """
    if width == 1:
        return channels
    rounded = max(8, int(channels * width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels * width else rounded
