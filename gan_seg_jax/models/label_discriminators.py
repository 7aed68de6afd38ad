"""Discriminators of label maps: AdvSemiSeg's confidence map, S4GAN's score of an image, and those of Luc et al."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.models import layers
from gan_seg_jax.models.network import Discriminator


class FCNDiscriminator(Discriminator):
    """Score every pixel of a label map (AdvSemiSeg: Hung et al. 2018, https://arxiv.org/abs/1802.07934).

    Five convolutions 4x4 of stride 2, 64-128-256-512-1, LeakyReLU 0.2 after the first four, no norm, and bilinear
    resizing to the size of the input. AdaptSegNet (Tsai et al. 2018, https://arxiv.org/abs/1802.10349) has the same
    convolutions and no resizing.

    Attributes:
        channels: of the first layer; doubled by each but the last.
        resize: whether scores are resized to the size of the input.
        norm: "none", or "spectral" (spectral normalisation of every kernel).
        kernel_init: "he", "lecun" or a standard deviation; PyTorch's own, which the authors keep, is 0.58 of "lecun".
        dtype: of the computation.
    """

    channels: int = 64
    resize: bool = True
    norm: str = "none"
    kernel_init: str | float = "lecun"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        """Score the pixels.

        Args:
            *inputs: float [b, h, w, c_i], any number (in the papers the class probabilities alone), concatenated.
            train: with norm="spectral", improve the estimates of the singular values.

        Returns:
            float32 [b, h, w, 1], scores (logits), or [b, floor(h / 32), floor(w / 32), 1] without `resize`.

        Raises:
            InputError: the inputs are too small, or the norm is unknown.
        """
        x = _join("FCNDiscriminator", inputs, 32, self.dtype)
        size = x.shape[1:3]
        options = _options(self)
        for level in range(4):
            conv = layers.DownConv(self.channels * 2**level, name=f"conv_{level}", **options)
            x = nn.leaky_relu(conv(x, train=train), 0.2)
        x = layers.DownConv(1, name="score", **options)(x, train=train)
        return layers.resize_logits(x, size) if self.resize else x.astype(jnp.float32)


class S4GANDiscriminator(Discriminator):
    """Give a label map with its image one score (S4GAN: Mittal et al. 2021, https://arxiv.org/abs/1908.05724).

    Four convolutions 4x4 of stride 2, 64-128-256-512, LeakyReLU 0.2, dropout of whole channels after the first three,
    the mean over all positions, and a linear score. The means are the features that the paper matches.

    Differences from the released code: no sigmoid (losses take logits), and the mean is over any size.

    Attributes:
        channels: of the first layer; doubled by each.
        dropout: share of the channels that are dropped in training (key "dropout").
        norm: "none", or "spectral" (spectral normalisation of every kernel).
        kernel_init: as `FCNDiscriminator`.
        dtype: of the computation.
    """

    channels: int = 64
    dropout: float = 0.5
    norm: str = "none"
    kernel_init: str | float = "lecun"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Score each pair of image and label map.

        Args:
            *inputs: float [b, h, w, c_i], any number (in the paper class probabilities and image), concatenated.
            train: whether dropout is on.

        Returns:
            (scores, {"features": features}): float32 [b, 1], logits, and float32 [b, 8 channels], pooled features.

        Raises:
            InputError: the inputs are too small, or the norm is unknown.
        """
        x = _join("S4GANDiscriminator", inputs, 16, self.dtype)
        options = _options(self)
        for level in range(4):
            conv = layers.DownConv(self.channels * 2**level, name=f"conv_{level}", **options)
            x = nn.leaky_relu(conv(x, train=train), 0.2)
            if level < 3 and self.dropout:
                x = nn.Dropout(self.dropout, broadcast_dims=(1, 2), name=f"dropout_{level}")(x, deterministic=not train)
        features = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        scores = layers.Conv1x1(1, name="score", **options)(features[:, None, None], train=train)
        return scores[:, 0, 0].astype(jnp.float32), {"features": features}


class LucDiscriminator(Discriminator):
    """Score a label map (Luc et al. 2016, https://arxiv.org/abs/1611.08408), the first adversary of a segmenter.

    Convolutions with ReLU, in three groups with a 2x2 max-pooling between them. "large" has 3x3 convolutions of
    96-128-128, 256-256 and 512-1 channels, whose scores see 34x34 pixels; "small" alternates 3x3 and 1x1, 96-128,
    256-256 and 512-1, and sees 18x18; `light` has 128 and 256 channels for 256 and 512.

    Differences from the paper: one logit for two classes and softmax.

    Attributes:
        field: "large" or "small", the field of view.
        light: whether the later layers have half the channels.
        width: multiplies all channels but the score's.
        pool: whether the scores of an image are averaged, else the map is returned.
        norm: "none", or "spectral" (spectral normalisation of every kernel).
        kernel_init: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    field: str = "large"
    light: bool = False
    width: float = 1.0
    pool: bool = True
    norm: str = "none"
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        """Score the label map.

        Args:
            *inputs: float [b, h, w, c_i], any number, concatenated: class probabilities ("basic"), or these times
                each channel of the image ("product").
            train: with norm="spectral", improve the estimates of the singular values.

        Returns:
            float32 [b, 1], scores (logits), or [b, floor(h / 4), floor(w / 4), 1] without `pool`.

        Raises:
            InputError: the inputs are too small, or the field or the norm is unknown.
        """
        if self.field not in ("large", "small"):
            raise unknown("field of LucDiscriminator", self.field, ("large", "small"))
        x = _join("LucDiscriminator", inputs, 4, self.dtype)
        second, third = (128, 256) if self.light else (256, 512)
        groups = [(96, 128, 128) if self.field == "large" else (96, 128), (second, second), (third,)]
        options = _options(self)
        for group, widths in enumerate(groups):
            if group:
                x = layers.max_pool(x, 2, stride=2)
            for index, channels in enumerate(widths):
                conv = layers.Conv1x1 if self.field == "small" and index == 1 else layers.Conv
                features = max(1, round(self.width * channels))
                x = nn.relu(conv(features, name=f"conv_{group}_{index}", **options)(x, train=train))
        conv = layers.Conv1x1 if self.field == "small" else layers.Conv
        scores = conv(1, name="score", **options)(x, train=train).astype(jnp.float32)
        return jnp.mean(scores, axis=(1, 2)) if self.pool else scores


def _join(network, inputs, smallest, dtype):
    x = jnp.concatenate([x.astype(dtype) for x in inputs], axis=-1)
    if min(x.shape[1:3]) < smallest:
        found = f"{x.shape[1]}x{x.shape[2]}"
        raise InputError(f"{network} needs inputs of at least {smallest}x{smallest}, found {found}; use larger ones.")
    return x


def _options(module) -> dict[str, Any]:
    if module.norm not in ("none", "spectral"):
        raise unknown(f"norm of {type(module).__name__}", module.norm, ("none", "spectral"))
    return {"spectral": module.norm == "spectral", "kernel_init": module.kernel_init, "dtype": module.dtype}
