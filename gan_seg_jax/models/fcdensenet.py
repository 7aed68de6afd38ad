"""FC-DenseNet, the "one hundred layers tiramisu": a U-Net of densely connected blocks."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import convolution, layers, norms
from gan_seg_jax.models.network import MOST_LAYERS, SEGMENTATION, Network, Numbers
from gan_seg_jax.models.perturbation import EncoderFeatures


class FCDenseNet(Network):
    """Segment by dense blocks, whose every layer sees all earlier ones, on the way down and on the way up.

    Jegou et al. 2017 (https://arxiv.org/abs/1611.09326). A layer is norm, ReLU, 3x3 convolution to `growth` channels
    and dropout; a block joins its input and the outputs of its layers, x_l = H_l([x_0, ..., x_(l-1)]). On the way up
    only what a block added is upsampled, so that the number of channels does not grow with depth.

    FC-DenseNet56: `layers=(4, 4, 4, 4, 4), bottleneck=4, growth=12`; 67: `(5, 5, 5, 5, 5), 5, 16`;
    103 (the default): `(4, 5, 7, 10, 12), 15, 16`.

    Differences from the authors' code: convolutions have no bias but the classifier's (each is followed by norms),
    and kernels start from a normal distribution of He's variance rather than a uniform one.

    Attributes:
        num_classes: number of output channels.
        layers: of each dense block on the way down, mirrored on the way up; each block is followed by a 2x2 pooling.
        bottleneck: layers of the dense block in the middle.
        growth: channels that a layer adds.
        stem: channels of the first convolution.
        norm: "batch", "frozen_batch", "instance", "layer", "group" or "none".
        dropout: rate after every convolution of layers and of transitions down.
        kernel_init: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)
    NUMBERS: ClassVar = {"layers": Numbers(most=MOST_LAYERS), "bottleneck": Numbers(most=MOST_LAYERS)}

    num_classes: int
    layers: tuple[int, ...] = (4, 5, 7, 10, 12)
    bottleneck: int = 15
    growth: int = 16
    stem: int = 48
    norm: str = "batch"
    dropout: float = 0.2
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Return the class logits of each pixel.

        Args:
            image: float [b, h, w, 3] in [-1, 1], of any size from 2 ** len(layers) pixels a side.
            train: whether norms use the statistics of this batch, and dropout (key "dropout") is on.

        Returns:
            float32 [b, h, w, num_classes], class logits.

        Raises:
            InputError: the image is too small for the poolings.
        """
        smallest, (height, width) = 2 ** len(self.layers), image.shape[1:3]
        if height < smallest or width < smallest:
            raise InputError(
                f"FCDenseNet halves its input {len(self.layers)} times: the image must have at least "
                f"{smallest}x{smallest} pixels, found {height}x{width}; use larger images or fewer blocks."
            )
        stem = layers.Conv(self.stem, bias=False, kernel_init=self.kernel_init, dtype=self.dtype, name="stem")
        stack, skips = [stem(image)], []
        for level, count in enumerate(self.layers):
            stack = stack + self._block(stack, count, f"down_{level}", train=train)
            skips.append(stack)
            channels = sum(part.shape[-1] for part in stack)
            x = self._layer(stack, channels, f"transition_{level}", kernel=1, train=train)
            stack = [layers.max_pool(x, 2, stride=2)]
        added = self._block(stack, self.bottleneck, "bottleneck", train=train)
        self.sow("intermediates", "encoder", jnp.concatenate(added, axis=-1))
        added, skips = EncoderFeatures()((added, skips))
        for level in reversed(range(len(self.layers))):
            up = TransitionUp(
                self.growth * len(added), skips[level][0].shape[1:3], self.kernel_init, self.dtype, name=f"up_{level}"
            )
            stack = [up(jnp.concatenate(added, axis=-1)), *skips[level]]
            added = self._block(stack, self.layers[level], f"up_block_{level}", train=train)
        logits = layers.Conv1x1(self.num_classes, kernel_init=self.kernel_init, dtype=self.dtype, name="logits")
        x = jnp.concatenate(stack + added, axis=-1)
        self.sow("intermediates", "decoder", x)
        return logits(x).astype(jnp.float32)

    def _block(self, stack, count, name, *, train):
        """Return the list of what the layers of a dense block add to the list `stack`."""
        added = []
        for index in range(count):
            added.append(self._layer(stack + added, self.growth, f"{name}_{index}", kernel=3, train=train))
        return added

    def _layer(self, parts, features, name, *, kernel, train):
        layer = DenseLayer(features, kernel, self.norm, self.dropout, train, self.kernel_init, self.dtype, name=name)
        return layer(parts)


class DenseLayer(nn.Module):
    """Join, normalise, apply ReLU, convolve and drop out: a layer of a dense block, or a transition down.

    Attributes: as `FCDenseNet`, and:
        features: number of output channels.
        kernel: side of the kernel, 1 or 3.
        train: as in a call of `FCDenseNet`.
    """

    features: int
    kernel: int
    norm: str
    dropout: float
    train: bool
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, parts: list[jax.Array]) -> jax.Array:
        """Return float [b, h, w, features] from the parts float [b, h, w, c_i]."""
        x = jnp.concatenate(parts, axis=-1)
        x = nn.relu(norms.Norm(self.norm, self.dtype, name="norm")(x, train=self.train))
        options = {"bias": self.norm == "none", "kernel_init": self.kernel_init, "dtype": self.dtype, "name": "conv"}
        x = (
            layers.Conv1x1(self.features, **options)(x)
            if self.kernel == 1
            else layers.Conv(self.features, **options)(x)
        )
        return nn.Dropout(self.dropout, name="dropout")(x, deterministic=not self.train) if self.dropout else x


class TransitionUp(nn.Module):
    """Convolve 3x3 with stride 2, transposed: y[2 m + k] = sum over m, k of x[m] w[k], k = 0, 1, 2 along each axis.

    A 4x4 kernel whose first row and column are zero makes it with pad 1, so the fast form of `UpConv` serves.

    Attributes: as `layers.UpConv`, and:
        size: height and width of the result; each twice that of the input, or one more.
    """

    features: int
    size: tuple[int, int]
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return float [b, *size, features] from x float [b, h, w, c]."""
        init = layers.initializer(self.kernel_init, 9 * x.shape[-1] / 4)  # 9/4 taps reach a pixel on average
        w = self.param("kernel", init, (3, 3, self.features, x.shape[-1]), jnp.float32).astype(self.dtype)
        bottom, right = self.size[0] % 2, self.size[1] % 2  # an odd size needs the last tap of the last pixel
        x = jnp.pad(x.astype(self.dtype), ((0, 0), (0, bottom), (0, right), (0, 0)))
        y = convolution.up(x, jnp.pad(w, ((1, 0), (1, 0), (0, 0), (0, 0))))
        return y[:, : self.size[0], : self.size[1]]
