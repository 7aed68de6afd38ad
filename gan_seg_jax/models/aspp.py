"""Atrous spatial pyramid pooling: parallel atrous convolutions that see the same features at several scales."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.models import layers, norms

CLASSIFIER_INIT = 0.01  # standard deviation of the last convolution's kernel in the authors' code


class ConvBlock(nn.Module):
    """Convolve, normalise, rectify.

    Attributes:
        features: number of output channels.
        kernel: side of the kernel, 1 or 3.
        rate: distance between the taps of the kernel.
        norm: as in `norms.Norm`.
        kernel_init: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    features: int
    kernel: int = 3
    rate: int = 1
    norm: str = "batch"
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, h, w, features], not negative, from x float [b, h, w, c]."""
        given = {"bias": self.norm == "none", "kernel_init": self.kernel_init, "dtype": self.dtype, "name": "conv"}
        if self.kernel == 1:
            x = layers.Conv1x1(self.features, **given)(x)
        else:
            x = layers.Conv(self.features, rate=self.rate, **given)(x)
        return nn.relu(norms.Norm(self.norm, self.dtype, name="norm")(x, train=train))


class SummedASPP(nn.Module):
    """Sum the class scores of parallel atrous branches, one for each rate: DeepLab v2's pyramid and its classifier.

    scores = sum_r branch_r(x) (Chen et al. 2016, https://arxiv.org/abs/1606.00915). With `channels` 0 a branch is one
    3x3 convolution of rate r to the classes (the paper's ResNet-101); otherwise it is fc6 (3x3 of rate r), fc7 (1x1),
    fc8 (1x1 to the classes), with ReLU and dropout after the first two (the paper's VGG-16). With the one rate 12 and
    1024 channels that is the LargeFOV of DeepLab v1.

    Attributes:
        num_classes: number of output channels.
        rates: of the branches, in pixels of the feature map.
        channels: of fc6 and fc7; 0 is a single convolution.
        dropout: rate after fc6 and fc7.
        legacy_two_branches: only the branches of the first two rates act, though all have parameters. The released
            code of AdvSemiSeg (and what copied it) returned from inside its loop over the branches.
        kernel_init: of fc6 and fc7.
        dtype: of the computation.
    """

    num_classes: int
    rates: tuple[int, ...] = (6, 12, 18, 24)
    channels: int = 0
    dropout: float = 0.5
    legacy_two_branches: bool = False
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return class scores float [b, h, w, num_classes] from x float [b, h, w, c]."""
        scores = [self._branch(x, index, rate, train=train) for index, rate in enumerate(self.rates)]
        return sum(scores[:2] if self.legacy_two_branches else scores)

    def _branch(self, x, index, rate, *, train):
        last = {"kernel_init": CLASSIFIER_INIT, "dtype": self.dtype}
        if self.channels == 0:
            return layers.Conv(self.num_classes, rate=rate, **last, name=f"branch_{index}")(x)
        options = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        drop = nn.Dropout(self.dropout, deterministic=not train)
        x = drop(nn.relu(layers.Conv(self.channels, rate=rate, **options, name=f"branch_{index}_fc6")(x)))
        x = drop(nn.relu(layers.Conv1x1(self.channels, **options, name=f"branch_{index}_fc7")(x)))
        return layers.Conv1x1(self.num_classes, **last, name=f"branch_{index}_fc8")(x)


class ASPP(nn.Module):
    """Concatenate a 1x1 convolution, atrous 3x3 convolutions and the pooled image, and mix them by a 1x1 convolution.

    Chen et al. 2017 (https://arxiv.org/abs/1706.05587). The image branch is the mean over the whole feature map, a
    1x1 convolution, norm and ReLU, spread over the map again. Every convolution has `channels` outputs, a norm and a
    ReLU. The image branch has one value an image and channel: under norm "batch" it needs batches of two images or
    more, under "instance" it has a bias in place of the norm.

    Attributes:
        channels: of each branch and of the result.
        rates: of the 3x3 branches, in pixels of the feature map.
        separable: depthwise-separable 3x3 branches (DeepLab v3+).
        dropout: rate on the result (0.1 in the authors' code; the paper says nothing of it).
        norm: as in `norms.Norm`.
        kernel_init: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    channels: int = 256
    rates: tuple[int, ...] = (6, 12, 18)
    separable: bool = False
    dropout: float = 0.1
    norm: str = "batch"
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, h, w, channels] from x float [b, h, w, c]."""
        options = {"norm": self.norm, "kernel_init": self.kernel_init, "dtype": self.dtype}
        branches = [ConvBlock(self.channels, 1, **options, name="branch_0")(x, train=train)]
        for index, rate in enumerate(self.rates, start=1):
            block = layers.SeparableConv if self.separable else ConvBlock
            branches.append(block(self.channels, rate=rate, **options, name=f"branch_{index}")(x, train=train))
        pooled = jnp.mean(x, axis=(1, 2), keepdims=True, dtype=jnp.float32).astype(self.dtype)
        norm = "none" if self.norm == "instance" else self.norm
        pooled = ConvBlock(self.channels, 1, **(options | {"norm": norm}), name="image")(pooled, train=train)
        branches.append(jnp.broadcast_to(pooled, branches[0].shape))
        x = jnp.concatenate(branches, axis=-1)
        x = ConvBlock(self.channels, 1, **options, name="projection")(x, train=train)
        return nn.Dropout(self.dropout, name="drop")(x, deterministic=not train)
