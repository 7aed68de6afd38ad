"""Generators that make images of noise: by transposed convolutions (DCGAN) and by dense layers only."""

import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.models import layers, norms
from gan_seg_jax.models.network import UNCONDITIONAL, Network, Numbers

HEADS = ("image", "joint")
UPSAMPLINGS = ("transposed", "resize")


class DCGANGenerator(Network):
    """Make images of noise by doubling a small map (Radford et al. 2016, https://arxiv.org/abs/1511.06434).

    A matrix projects the noise to a map of size / 2^n with channels[0] channels, n = len(channels); each of n blocks
    doubles it by a 4x4 stride-2 transposed convolution; norm and ReLU follow all but the last, which makes the image,
    of tanh. By default: 4x4x1024, 8x8x512, 16x16x256, 32x32x128, 64x64x3. The joint form has a second last layer for
    the class logits of a mask, so image and mask come of the same features.

    Differences from the paper: kernels of 4x4, which a stride of 2 divides, for its 5x5 (so no checkerboard of unequal
    overlaps). `upsample="resize"` goes further: nearest-neighbour doubling and a 3x3 convolution (Odena et al. 2016,
    https://distill.pub/2016/deconv-checkerboard).

    Attributes:
        size: height and width of the image, multiples of 2^len(channels).
        channels: of the projected map and of each block but the last.
        heads: "image", or "joint" for image and mask.
        num_classes: of the mask in the joint form.
        upsample: "transposed" or "resize".
        norm: "batch", "instance", "layer", "group" or "none".
        kernel_init: "he", "lecun" or a standard deviation (0.02 in the paper).
        dtype: of the computation.
    """

    MAKES = (UNCONDITIONAL,)
    SIZED = True

    size: tuple[int, int] = (64, 64)
    channels: tuple[int, ...] = (1024, 512, 256, 128)
    heads: str = "image"
    num_classes: int = 0
    upsample: str = "transposed"
    norm: str = "batch"
    kernel_init: str | float = 0.02
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, noise: jax.Array, *, train: bool) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Return what the noise makes.

        Args:
            noise: float [b, z], any z (100 uniform numbers in the paper).
            train: whether norms use the statistics of this batch.

        Returns:
            The image, float32 [b, *size, 3] in [-1, 1]; in the joint form a pair of it and of the mask's class logits,
            float32 [b, *size, num_classes].

        Raises:
            InputError: the size is no multiple of 2^len(channels), or an attribute is not one of its choices.
        """
        check_heads("DCGANGenerator", self.heads, self.num_classes)
        if self.upsample not in UPSAMPLINGS:
            raise unknown("upsample", self.upsample, UPSAMPLINGS)
        factor, (height, width) = 2 ** len(self.channels), self.size
        if height % factor or width % factor or min(height, width) < factor:
            raise InputError(
                f"DCGANGenerator doubles {len(self.channels)} times: height and width must be multiples of {factor}, "
                f"found {height}x{width}; change size or the number of channels."
            )
        start = (height // factor, width // factor)
        bias = self.norm != "batch"  # BatchNorm has its own
        x = layers.Conv1x1(
            math.prod(start) * self.channels[0],
            bias=bias,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            name="project",
        )(noise[:, None, None, :])
        x = x.reshape(-1, *start, self.channels[0])
        x = nn.relu(norms.Norm(self.norm, self.dtype, name="project_norm")(x, train=train))
        for index, features in enumerate(self.channels[1:]):
            x = self._double(x, features, f"up_{index}", bias=bias)
            x = nn.relu(norms.Norm(self.norm, self.dtype, name=f"up_norm_{index}")(x, train=train))
        image = jnp.tanh(self._double(x, 3, "image", bias=True).astype(jnp.float32))
        if self.heads == "image":
            return image
        return image, self._double(x, self.num_classes, "mask", bias=True).astype(jnp.float32)

    def _double(self, x, features, name, *, bias):
        options = {"bias": bias, "kernel_init": self.kernel_init, "dtype": self.dtype, "name": name}
        if self.upsample == "transposed":
            return layers.UpConv(features, **options)(x)
        return layers.Conv(features, **options)(jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2))


class DenseGenerator(Network):
    """Make images of noise by dense layers only, as the first GANs did (Goodfellow et al. 2014, arXiv:1406.2661).

    Each hidden layer is a matrix, a norm and LeakyReLU 0.2; the last one makes every number of the image, of tanh. The
    widths are those of the tutorials that popularised this form; the paper's had ReLU and sigmoid units, and no norm.

    Attributes:
        size: height and width of the image, any.
        hidden: width of each hidden layer.
        heads: "image", or "joint" for image and mask.
        num_classes: of the mask in the joint form.
        norm: "batch", "group" or "none".
        kernel_init: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (UNCONDITIONAL,)
    SIZED = True
    NUMBERS: ClassVar = {"hidden": Numbers(empty=True)}

    size: tuple[int, int] = (64, 64)
    hidden: tuple[int, ...] = (256, 512, 1024)
    heads: str = "image"
    num_classes: int = 0
    norm: str = "batch"
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, noise: jax.Array, *, train: bool) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Return what the noise makes.

        Args:
            noise: float [b, z], any z.
            train: whether norms use the statistics of this batch.

        Returns:
            As `DCGANGenerator`.

        Raises:
            InputError: an attribute is not one of its choices.
        """
        check_heads("DenseGenerator", self.heads, self.num_classes)
        if self.norm not in ("batch", "group", "none"):
            raise unknown("norm of DenseGenerator", self.norm, ("batch", "group", "none"))
        options = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        x = noise[:, None, None, :]
        for index, features in enumerate(self.hidden):
            x = layers.Conv1x1(features, bias=self.norm != "batch", name=f"dense_{index}", **options)(x)
            x = norms.Norm(self.norm, self.dtype, name=f"norm_{index}")(x, train=train)
            x = nn.leaky_relu(x, 0.2)

        def head(channels, name):
            y = layers.Conv1x1(math.prod(self.size) * channels, name=name, **options)(x)
            return y.reshape(-1, *self.size, channels).astype(jnp.float32)

        image = jnp.tanh(head(3, "image"))
        return image if self.heads == "image" else (image, head(self.num_classes, "mask"))


def check_heads(network: str, heads: str, num_classes: int) -> None:
    """Raise InputError if a network has no such heads, or if its mask would have no class."""
    if heads not in HEADS:
        raise unknown(f"heads of {network}", heads, HEADS)
    if heads == "joint" and num_classes < 1:
        raise InputError(f"{network} with heads='joint' makes a mask of num_classes={num_classes}; give it 1 or more.")
