"""A discriminator that segments: every pixel is one of N classes or fake (OASIS)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.models import layers
from gan_seg_jax.models.network import CLASS_SCORES, Network


class UNetDiscriminator(Network):
    """Give every pixel N + 1 logits (OASIS: Schönfeld et al. 2021, https://arxiv.org/abs/2012.04781).

    Residual blocks of two 3x3 convolutions with LeakyReLU 0.2 halve the size by averaging, with 128-128-256-256-512-512
    channels; as many double it by nearest neighbour, 512-256-256-128-128-64, and take in what the encoder had at their
    size; a 1x1 convolution makes the logits. Every kernel but the last is spectrally normalised, there is no norm.

    Differences from the released code: the fake class is the last one, not the first, so that class ids stay. The 1x1
    shortcuts run at the smaller of their two sizes, which changes no number.

    Attributes:
        num_classes: N; there is one logit more.
        channels: of each block of the encoder; the last block of the decoder has half of the first.
        norm: "spectral" or "none".
        kernel_init: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (CLASS_SCORES,)

    num_classes: int
    channels: tuple[int, ...] = (128, 128, 256, 256, 512, 512)
    norm: str = "spectral"
    kernel_init: str | float = 0.02
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        """Classify the pixels.

        Args:
            *inputs: float [b, h, w, c_i], any number (in the paper the image alone), concatenated on channels, of any
                size from 2^len(channels); padded with zeros at the bottom and right to a multiple of that.
            train: with norm="spectral", improve the estimates of the singular values.

        Returns:
            float32 [b, h, w, num_classes + 1], logits; the last one is "fake".

        Raises:
            InputError: the inputs are too small for so many halvings, or the norm is unknown.
        """
        if self.norm not in ("none", "spectral"):
            raise unknown("norm of UNetDiscriminator", self.norm, ("none", "spectral"))
        x = jnp.concatenate([x.astype(self.dtype) for x in inputs], axis=-1)
        factor, (height, width) = 2 ** len(self.channels), x.shape[1:3]
        if min(height, width) < factor:
            raise InputError(
                f"UNetDiscriminator halves its input {len(self.channels)} times: it must have at least "
                f"{factor}x{factor} pixels, found {height}x{width}; use fewer channels."
            )
        x, features = layers.pad_to_multiple(x, factor), []
        for level, channels in enumerate(self.channels):
            x = self._block(x, channels, f"down_{level}", scale="down", first=level == 0, train=train)
            features.append(x)
        outputs = (self.channels[0] // 2, *self.channels[:-1])
        for level in reversed(range(len(self.channels))):
            if level < len(self.channels) - 1:
                x = jnp.concatenate([features[level], x], axis=-1)
            x = self._block(x, outputs[level], f"up_{level}", scale="up", first=False, train=train)
        logits = layers.Conv1x1(self.num_classes + 1, kernel_init=self.kernel_init, dtype=self.dtype, name="logits")
        return logits(x)[:, :height, :width].astype(jnp.float32)

    def _block(self, x, channels, name, *, scale, first, train):
        """Return shortcut(x) + conv(lrelu(conv(lrelu(x)))), doubled before the convolutions or halved after them."""
        options = {"spectral": self.norm == "spectral", "kernel_init": self.kernel_init, "dtype": self.dtype}
        shortcut = _halve(x) if scale == "down" else x
        if x.shape[-1] != channels:
            shortcut = layers.Conv1x1(channels, name=f"{name}_shortcut", **options)(shortcut, train=train)
        y = x if first else nn.leaky_relu(x, 0.2)
        if scale == "up":
            shortcut, y = _double(shortcut), _double(y)
        y = layers.Conv(channels, name=f"{name}_conv_0", **options)(y, train=train)
        y = layers.Conv(channels, name=f"{name}_conv_1", **options)(nn.leaky_relu(y, 0.2), train=train)
        return shortcut + (_halve(y) if scale == "down" else y)


def _double(x):
    return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def _halve(x):
    b, height, width, channels = x.shape
    return jnp.mean(x.reshape(b, height // 2, 2, width // 2, 2, channels), axis=(2, 4))
