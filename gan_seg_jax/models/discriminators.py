"""Discriminators that score every patch of an image."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers


class PatchGAN(nn.Module):
    """Score every patch of an image and what belongs to it (Isola et al. 2017, https://arxiv.org/abs/1611.07004).

    `layers` convolutions 4x4 of stride 2, two of stride 1, LeakyReLU 0.2 between them and a norm on all but the first
    and the last. `layers=3` is the paper's C64-C128-C256-C512, which sees 70x70 pixels; `layers=0` is its PixelGAN,
    which sees one. Score one number per image by taking the mean of the map (in the loss).

    Attributes:
        channels: of the first layer; doubled by each, at most 8 times.
        layers: number of stride-2 convolutions.
        norm: "batch", "instance", "group", "none", or "spectral" (spectral normalisation of every kernel instead;
            it needs no statistics of the batch, so real and fake may be one batch).
        kernel_init: "he", "lecun" or a standard deviation (0.02 in the paper).
        dtype: of the computation.
    """

    channels: int = 64
    layers: int = 3
    norm: str = "batch"
    kernel_init: str | float = 0.02
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        """Score the patches.

        Args:
            *inputs: float [b, h, w, c_i], any number (such as image and mask), concatenated on channels.
            train: whether norms use the statistics of this batch.

        Returns:
            float32 [b, h', w', 1], scores (logits): h' = floor(h / 2^layers) - 2, or h where layers = 0.

        Raises:
            InputError: the inputs are too small to hold one patch.
        """
        x = jnp.concatenate([x.astype(self.dtype) for x in inputs], axis=-1)
        smallest = 3 * 2**self.layers if self.layers else 1
        if min(x.shape[1:3]) < smallest:
            found = f"{x.shape[1]}x{x.shape[2]}"
            raise InputError(
                f"PatchGAN with layers={self.layers} needs inputs of at least {smallest}x{smallest}, found {found}; "
                "use fewer layers."
            )
        spectral = self.norm == "spectral"
        norm = "none" if spectral else self.norm
        common = {"spectral": spectral, "kernel_init": self.kernel_init, "dtype": self.dtype}
        inner = common | {"bias": norm != "batch"}  # BatchNorm has its own bias

        if self.layers == 0:
            x = layers.Conv1x1(self.channels, name="conv_0", **common)(x, train=train)
            x = layers.Conv1x1(2 * self.channels, name="conv_1", **inner)(nn.leaky_relu(x, 0.2), train=train)
            x = layers.Norm(norm, self.dtype, name="norm_1")(x, train=train)
            x = layers.Conv1x1(1, name="score", **common)(nn.leaky_relu(x, 0.2), train=train)
            return x.astype(jnp.float32)

        x = layers.DownConv(self.channels, name="conv_0", **common)(x, train=train)
        for level in range(1, self.layers + 1):
            features = self.channels * min(2**level, 8)
            x = nn.leaky_relu(x, 0.2)
            if level < self.layers:
                x = layers.DownConv(features, name=f"conv_{level}", **inner)(x, train=train)
            else:
                x = layers.Conv(features, 4, padding=1, name=f"conv_{level}", **inner)(x, train=train)
            x = layers.Norm(norm, self.dtype, name=f"norm_{level}")(x, train=train)
        x = layers.Conv(1, 4, padding=1, name="score", **common)(nn.leaky_relu(x, 0.2), train=train)
        return x.astype(jnp.float32)
