"""Discriminators that score images: every patch (PatchGAN, at one or several scales), or the whole (DCGAN, dense)."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.models import layers, norms
from gan_seg_jax.models.network import LAYERS, Discriminator, Numbers


class PatchGAN(Discriminator):
    """Score every patch of an image and what belongs to it (Isola et al. 2017, https://arxiv.org/abs/1611.07004).

    `layers` convolutions 4x4 of stride 2, two of stride 1, LeakyReLU 0.2 between them and a norm on all but the first
    and the last. `layers=3` is the paper's C64-C128-C256-C512, which sees 70x70 pixels; `layers=0` is its PixelGAN,
    which sees one. Score one number per image by taking the mean of the map (in the loss).

    Attributes:
        channels: of the first layer; doubled by each, at most 8 times.
        layers: number of stride-2 convolutions.
        norm: "batch", "instance", "layer", "group", "none", or "spectral" (spectral normalisation of every kernel
            instead; it needs no statistics of the batch, so real and fake may be one batch).
        spectral: whether kernels are normalised beside the norm too.
        kernel_init: "he", "lecun" or a standard deviation (0.02 in the paper).
        features: whether to return the features of every layer too, for matching them.
        dtype: of the computation.
    """

    NUMBERS: ClassVar = {"layers": LAYERS}

    channels: int = 64
    layers: int = 3
    norm: str = "batch"
    spectral: bool = False
    kernel_init: str | float = 0.02
    features: bool = False
    dtype: jnp.dtype = jnp.float32

    @property
    def bounded(self) -> bool:
        """Whether every kernel is spectrally normalised."""
        return self.spectral or self.norm == "spectral"

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> Any:
        """Score the patches.

        Args:
            *inputs: float [b, h, w, c_i], any number (such as image and mask), concatenated on channels.
            train: whether norms use the statistics of this batch.

        Returns:
            float32 [b, h', w', 1], scores (logits): h' = floor(h / 2^layers) - 2, or h where layers = 0. With
            `features`, a pair of them and of {"features": tuple of float32 [b, h_i, w_i, c_i]}: each layer but the
            last, after its LeakyReLU.

        Raises:
            InputError: the inputs are too small to hold one patch.
        """
        x = _join(inputs, self.dtype)
        smallest = 3 * 2**self.layers if self.layers else 1
        if min(x.shape[1:3]) < smallest:
            found = f"{x.shape[1]}x{x.shape[2]}"
            raise InputError(
                f"PatchGAN with layers={self.layers} needs inputs of at least {smallest}x{smallest}, found {found}; "
                "use fewer layers."
            )
        norm = "none" if self.norm == "spectral" else self.norm
        spectral = self.spectral or self.norm == "spectral"
        common = {"spectral": spectral, "kernel_init": self.kernel_init, "dtype": self.dtype}
        inner = common | {"bias": norm != "batch"}  # BatchNorm has its own bias

        features = []
        for level in range(max(self.layers, 1) + 1):
            options = (inner if level else common) | {"name": f"conv_{level}"}
            channels = self.channels * min(2**level, 8)
            if self.layers == 0:
                conv = layers.Conv1x1(channels, **options)
            elif level < self.layers:
                conv = layers.DownConv(channels, **options)
            else:
                conv = layers.Conv(channels, 4, padding=1, **options)
            x = conv(x, train=train)
            if level:
                x = norms.Norm(norm, self.dtype, name=f"norm_{level}")(x, train=train)
            x = nn.leaky_relu(x, 0.2)
            features.append(x.astype(jnp.float32))
        if self.layers == 0:
            score = layers.Conv1x1(1, name="score", **common)
        else:
            score = layers.Conv(1, 4, padding=1, name="score", **common)
        scores = score(x, train=train).astype(jnp.float32)
        return (scores, {"features": tuple(features)}) if self.features else scores


class MultiscalePatchGAN(Discriminator):
    """Score the patches of an image at several sizes (Wang et al. 2018, https://arxiv.org/abs/1711.11585).

    A PatchGAN of its own sees the input, another one the input at half the size, and so on; between them is an average
    over 3x3 windows of stride 2 (pixels outside do not count). The defaults are SPADE's (Park et al. 2019,
    https://arxiv.org/abs/1903.07291): two scales of C64-C128-C256-C512 with spectral and instance normalisation.

    Differences from SPADE's code: convolutions pad 1 for its 2, so that maps are a little smaller; the last kernel is
    spectrally normalised too; instance norms have scale and bias.

    Attributes:
        scales: number of discriminators.
        channels, layers, norm, spectral, kernel_init, dtype: as `PatchGAN`.
    """

    NUMBERS: ClassVar = {"scales": LAYERS, "layers": LAYERS}

    scales: int = 2
    channels: int = 64
    layers: int = 3
    norm: str = "instance"
    spectral: bool = True
    kernel_init: str | float = 0.02
    dtype: jnp.dtype = jnp.float32

    @property
    def bounded(self) -> bool:
        """Whether every kernel is spectrally normalised."""
        return self.spectral or self.norm == "spectral"

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> tuple[tuple[jax.Array, ...], dict[str, Any]]:
        """Score the patches at each scale, finest first.

        Args:
            *inputs: float [b, h, w, c_i], any number (such as image and label map), concatenated on channels.
            train: whether norms use the statistics of this batch.

        Returns:
            (scores, {"features": features}): scores is a tuple with float32 [b, h_s, w_s, 1] of each scale (losses
            are the mean over scales), features a tuple with what `PatchGAN` calls its features of each scale.

        Raises:
            InputError: the inputs are too small to hold one patch at the coarsest scale.
        """
        x = _join(inputs, self.dtype)
        smallest = (3 * 2**self.layers if self.layers else 1) * 2 ** (self.scales - 1)
        if self.scales < 1 or min(x.shape[1:3]) < smallest:
            raise InputError(
                f"MultiscalePatchGAN with scales={self.scales} and layers={self.layers} needs at least one scale and "
                f"inputs of at least {smallest}x{smallest}, found {x.shape[1]}x{x.shape[2]}; use fewer of them."
            )
        scores, features = [], []
        for scale in range(self.scales):
            if scale:
                x = nn.avg_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)), count_include_pad=False)
            patchgan = PatchGAN(
                self.channels,
                self.layers,
                self.norm,
                self.spectral,
                self.kernel_init,
                features=True,
                dtype=self.dtype,
                name=f"scale_{scale}",
            )
            outputs, heads = patchgan(x, train=train)
            scores.append(outputs)
            features.append(heads["features"])
        return tuple(scores), {"features": tuple(features)}


class DCGANDiscriminator(Discriminator):
    """Give an image one score (Radford et al. 2016, https://arxiv.org/abs/1511.06434).

    `layers` convolutions 4x4 of stride 2, the channels doubled by each (at most 8 times), LeakyReLU 0.2, a norm on all
    but the first; then one matrix product of the whole map, so parameters depend on the size of the input. Kernels are
    4x4 for the paper's 5x5, as `generators.DCGANGenerator`'s.

    Attributes:
        channels: of the first layer.
        layers: number of convolutions.
        norm: "batch", "instance", "layer", "group", "none", or "spectral" (as `PatchGAN`).
        kernel_init: "he", "lecun" or a standard deviation (0.02 in the paper).
        dtype: of the computation.
    """

    SIZED = True
    NUMBERS: ClassVar = {"layers": LAYERS}

    channels: int = 64
    layers: int = 4
    norm: str = "batch"
    kernel_init: str | float = 0.02
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        """Score each image.

        Args:
            *inputs: float [b, h, w, c_i], any number (such as image and mask), concatenated on channels.
            train: whether norms use the statistics of this batch.

        Returns:
            float32 [b, 1], scores (logits).

        Raises:
            InputError: the inputs are too small for so many halvings.
        """
        x, smallest = _join(inputs, self.dtype), 2**self.layers
        if min(x.shape[1:3]) < smallest:
            raise InputError(
                f"DCGANDiscriminator with layers={self.layers} needs inputs of at least {smallest}x{smallest}, found "
                f"{x.shape[1]}x{x.shape[2]}; use fewer layers."
            )
        spectral = self.norm == "spectral"
        norm = "none" if spectral else self.norm
        common = {"spectral": spectral, "kernel_init": self.kernel_init, "dtype": self.dtype}
        for level in range(self.layers):
            bias = level == 0 or norm != "batch"
            conv = layers.DownConv(self.channels * min(2**level, 8), bias=bias, name=f"conv_{level}", **common)
            x = conv(x, train=train)
            if level:
                x = norms.Norm(norm, self.dtype, name=f"norm_{level}")(x, train=train)
            x = nn.leaky_relu(x, 0.2)
        return _score(x, common, train=train)


class DenseDiscriminator(Discriminator):
    """Give an image one score by dense layers only (Goodfellow et al. 2014, arXiv:1406.2661).

    The whole input as one vector, a matrix and LeakyReLU 0.2 for each hidden layer, and the score. The paper's hidden
    units are maxout with dropout; these widths are those of the tutorials that popularised this form.

    Attributes:
        hidden: width of each hidden layer.
        norm: "none" or "spectral" (as `PatchGAN`).
        kernel_init: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    SIZED = True
    NUMBERS: ClassVar = {"hidden": Numbers(empty=True)}

    hidden: tuple[int, ...] = (512, 256)
    norm: str = "none"
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> jax.Array:
        """Score each image.

        Args:
            *inputs: float [b, h, w, c_i], any number, concatenated on channels.
            train: with norm="spectral", improve the estimates of the singular values.

        Returns:
            float32 [b, 1], scores (logits).

        Raises:
            InputError: the norm is neither "none" nor "spectral".
        """
        if self.norm not in ("none", "spectral"):
            raise unknown("norm of DenseDiscriminator", self.norm, ("none", "spectral"))
        common = {"spectral": self.norm == "spectral", "kernel_init": self.kernel_init, "dtype": self.dtype}
        x = _join(inputs, self.dtype)
        x = x.reshape(x.shape[0], 1, 1, -1)
        for index, features in enumerate(self.hidden):
            x = nn.leaky_relu(layers.Conv1x1(features, name=f"dense_{index}", **common)(x, train=train), 0.2)
        return _score(x, common, train=train)


def _join(inputs, dtype):
    return jnp.concatenate([x.astype(dtype) for x in inputs], axis=-1)


def _score(x, options, *, train):
    """Return float32 [b, 1], one product of the whole map."""
    vector = x.reshape(x.shape[0], 1, 1, -1)
    return layers.Conv1x1(1, name="score", **options)(vector, train=train)[:, 0, 0].astype(jnp.float32)
