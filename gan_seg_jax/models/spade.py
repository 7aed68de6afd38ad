"""Label-to-image generators, by norms whose scale and bias the map decides at every pixel (SPADE, OASIS)."""

import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.models import layers, norms
from gan_seg_jax.models.network import LABEL_TO_IMAGE, Network, Numbers

NOISES = ("start", "map")


class SPADEGenerator(Network):
    """Make an image of a label map (Park et al. 2019, https://arxiv.org/abs/1903.07291).

    The start is the label map at 1/32, convolved 3x3, or, with noise z, a matrix product of z. Residual blocks
    (`_Block`) follow, of widths 1024, 1024, 1024, 512, 256, 128, 64 by default, five of which double the size first by
    nearest neighbour; then LeakyReLU 0.2, a 3x3 convolution to three channels and tanh. Each block normalises without
    parameters and takes scale and bias of a pixel from the label map around it,

        SPADE(x, m) = (1 + gamma(m)) (x - mean) / sqrt(var + 1e-5) + beta(m).

    Label maps are reduced by taking the top left pixel of each cell, as nearest neighbour does. Statistics of "batch"
    are over the whole batch, also where it is sharded (the paper's synchronised BatchNorm).

    Differences from the released code: kernels start from a normal distribution of 0.02 for Xavier's with gain 0.02;
    the norms of one block at the same input are one, as their numbers are the same; gamma and beta are one
    convolution of twice the channels. No encoder of a style image: z is the caller's.

    Attributes:
        channels: unit of the widths (64 in the paper).
        widths: output channels of each block, in units; the start has those of the first.
        doublings: of each block, 1 if it doubles the size first, else 0.
        noise: what noise makes: "start" (a vector is projected to the first map) or "map" (it is joined to the label
            map, see `OASISGenerator`).
        hidden: channels between label map and scale and bias (128 in the paper).
        norm: what SPADE normalises with, without parameters: "batch" or "instance".
        spectral: whether the kernels of the blocks are divided by their largest singular value.
        kernel_init: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (LABEL_TO_IMAGE,)
    NUMBERS: ClassVar = {"doublings": Numbers(least=0)}

    channels: int = 64
    widths: tuple[int, ...] = (16, 16, 16, 8, 4, 2, 1)
    doublings: tuple[int, ...] = (0, 1, 0, 1, 1, 1, 1)
    noise: str = "start"
    hidden: int = 128
    norm: str = "batch"
    spectral: bool = True
    kernel_init: str | float = 0.02
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, label_map: jax.Array, noise: jax.Array | None = None, *, train: bool) -> jax.Array:
        """Return the image.

        Args:
            label_map: float [b, h, w, k], one-hot (zeros where the class is unknown), of any size from one cell of
                the first map (32 pixels by default); it is padded with zeros at the bottom and right to whole cells.
            noise: None (the label map alone decides), or float [b, z], or for noise="map" also [b, h, w, z].
            train: whether norms use the statistics of this batch.

        Returns:
            float32 [b, h, w, 3] in [-1, 1].

        Raises:
            InputError: the map is smaller than one cell, or attributes or noise do not fit.
        """
        factor = self._check(label_map, noise)
        height, width = label_map.shape[1:3]
        if noise is not None and self.noise == "map":
            if noise.ndim == 2:
                noise = jnp.broadcast_to(noise[:, None, None], (*label_map.shape[:3], noise.shape[-1]))
            label_map = jnp.concatenate([noise, label_map], axis=-1)
        label_map = layers.pad_to_multiple(label_map.astype(self.dtype), factor)
        options = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        x = label_map[:, ::factor, ::factor]
        features = self.widths[0] * self.channels
        if noise is None or self.noise == "map":
            x = layers.Conv(features, name="start", **options)(x)
        else:
            start = layers.Conv1x1(math.prod(x.shape[1:3]) * features, name="start", **options)
            x = start(noise[:, None, None]).reshape(*x.shape[:3], features)
        for index, (units, doubled) in enumerate(zip(self.widths, self.doublings, strict=True)):
            if doubled:
                x, factor = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2), factor // 2
            block = _Block(
                units * self.channels, self.hidden, self.norm, spectral=self.spectral, name=f"block_{index}", **options
            )
            x = block(x, label_map[:, ::factor, ::factor], train=train)
        x = layers.Conv(3, name="image", **options)(nn.leaky_relu(x, 0.2))
        return jnp.tanh(x[:, :height, :width].astype(jnp.float32))

    def _check(self, label_map, noise):
        """Return how many pixels a side of a cell of the first map has."""
        if self.noise not in NOISES:
            raise unknown("noise of the generator", self.noise, NOISES)
        if self.norm not in ("batch", "instance"):
            raise unknown("norm of SPADE", self.norm, ("batch", "instance"))
        if len(self.widths) != len(self.doublings) or not set(self.doublings) <= {0, 1}:
            raise InputError(
                f"The generator has widths {tuple(self.widths)} and doublings {tuple(self.doublings)}; both need one "
                "entry a block, and doublings are 0 or 1."
            )
        if noise is not None and noise.ndim != 2 and self.noise == "start":
            raise InputError(f"Noise of shape {noise.shape} cannot be projected to a start; give one vector an image.")
        if noise is not None and noise.shape[: noise.ndim - 1] not in (label_map.shape[:1], label_map.shape[:3]):
            raise InputError(f"Noise of shape {noise.shape} does not fit a label map of shape {label_map.shape}.")
        factor, (height, width) = 2 ** sum(self.doublings), label_map.shape[1:3]
        if min(height, width) < factor:
            raise InputError(
                f"The generator doubles {sum(self.doublings)} times: the label map must have at least "
                f"{factor}x{factor} pixels, found {height}x{width}; use fewer doublings."
            )
        return factor


class OASISGenerator(SPADEGenerator):
    """Make an image of a label map and of noise at every pixel (Schönfeld et al. 2021, https://arxiv.org/abs/2012.04781).

    `SPADEGenerator` with six blocks of widths 1024, 1024, 512, 256, 128, 64, all but the first doubling; the noise, 64
    normal numbers a pixel, is joined to the label map, so that every SPADE and the start see it. One vector an image
    is repeated over the pixels, as in training; noise that changes from pixel to pixel redraws parts of an image.

    Attributes: as `SPADEGenerator`.
    """

    widths: tuple[int, ...] = (16, 16, 8, 4, 2, 1)
    doublings: tuple[int, ...] = (0, 1, 1, 1, 1, 1)
    noise: str = "map"


class _Block(nn.Module):
    """Residual block: shortcut + conv(relu(SPADE(conv(relu(SPADE(x)))))) with LeakyReLU 0.2 and 3x3 convolutions.

    Where the number of channels changes, the shortcut is SPADE and a 1x1 convolution without bias.
    """

    features: int
    hidden: int
    norm: str
    spectral: bool
    kernel_init: str | float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, label_map, *, train):
        options = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        middle = min(x.shape[-1], self.features)

        def modulate(normal, name):
            shared = nn.relu(layers.Conv(self.hidden, name=f"{name}_shared", **options)(label_map))
            gamma_beta = layers.Conv(2 * normal.shape[-1], name=f"{name}_gamma_beta", **options)(shared)
            gamma, beta = jnp.split(gamma_beta, 2, axis=-1)
            return normal * (1 + gamma) + beta

        def conv(y, features, name):
            layer = layers.Conv(features, spectral=self.spectral, name=name, **options)
            return layer(nn.leaky_relu(y, 0.2), train=train)

        normal = self._normalize(x, "norm_0", train=train)
        y = conv(modulate(normal, "spade_0"), middle, "conv_0")
        y = conv(modulate(self._normalize(y, "norm_1", train=train), "spade_1"), self.features, "conv_1")
        if x.shape[-1] != self.features:
            shortcut = layers.Conv1x1(self.features, bias=False, spectral=self.spectral, name="shortcut", **options)
            x = shortcut(modulate(normal, "spade_shortcut"), train=train)
        return x + y

    def _normalize(self, x, name, *, train):
        if train:
            norms.check_values(self, self.norm, x.shape)
        options = {"use_bias": False, "use_scale": False, "epsilon": 1e-5, "dtype": self.dtype, "name": name}
        if self.norm == "batch":
            return nn.BatchNorm(momentum=norms.MOMENTUM, **options)(x, use_running_average=not train)
        return nn.InstanceNorm(**options)(x)
