"""SegNet: an encoder that remembers where its maxima were, and a decoder that puts values back there."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers
from gan_seg_jax.models.aspp import ConvBlock
from gan_seg_jax.models.network import LAYERS, SEGMENTATION, Network
from gan_seg_jax.models.perturbation import EncoderFeatures


class SegNet(Network):
    """Segment by the convolutions of VGG-16 and their mirror image, joined by the indices of the poolings.

    Badrinarayanan, Kendall and Cipolla 2017 (https://arxiv.org/abs/1511.00561). Every stage of the encoder is 3x3
    convolutions, each with norm and ReLU, and a 2x2 max-pooling; a stage of the decoder puts each value where the
    maximum of that stage's pooling was, zeros elsewhere, and convolves as often, ending with the channels of the stage
    before; the last convolution makes the scores. Nothing but indices goes from encoder to decoder.

    Differences from the authors' code: no local contrast normalisation of the image, and no bias before a norm. An odd
    size loses its last row or column in the pooling and gets zeros there from the unpooling.

    Attributes:
        num_classes: number of output channels.
        channels: of each stage of the encoder.
        convs: convolutions of each stage.
        norm: "batch", "frozen_batch", "instance", "layer", "group" or "none".
        kernel_init: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)
    NUMBERS: ClassVar = {"convs": LAYERS}

    num_classes: int
    channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    convs: tuple[int, ...] = (2, 2, 3, 3, 3)
    norm: str = "batch"
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Return the class logits of each pixel.

        Args:
            image: float [b, h, w, 3] in [-1, 1], of any size from 2 ** len(channels) pixels a side.
            train: whether norms use the statistics of this batch.

        Returns:
            float32 [b, h, w, num_classes], class logits.

        Raises:
            InputError: the attributes do not fit each other, or the image is too small for the poolings.
        """
        self._check(image)
        x, places, sizes = image.astype(self.dtype), [], []
        for level, (channels, convs) in enumerate(zip(self.channels, self.convs, strict=True)):
            x = self._stage(x, (channels,) * convs, f"down_{level}", train=train)
            sizes.append(x.shape[1:3])
            x, indices = layers.max_pool_with_indices(x)
            places.append(indices)
        self.sow("intermediates", "encoder", x)
        x, places = EncoderFeatures()((x, places))
        for level in reversed(range(len(self.channels))):
            x = layers.max_unpool(x, places[level], sizes[level])
            channels = (self.channels[level],) * (self.convs[level] - 1)
            if level > 0:
                channels += (self.channels[level - 1],)
            x = self._stage(x, channels, f"up_{level}", train=train)
        self.sow("intermediates", "decoder", x)
        logits = layers.Conv(self.num_classes, kernel_init=self.kernel_init, dtype=self.dtype, name="logits")
        return logits(x).astype(jnp.float32)

    def _stage(self, x, channels, name, *, train):
        for index, features in enumerate(channels):
            block = ConvBlock(
                features, norm=self.norm, kernel_init=self.kernel_init, dtype=self.dtype, name=f"{name}_{index}"
            )
            x = block(x, train=train)
        return x

    def _check(self, image):
        if len(self.convs) != len(self.channels) or min(self.convs) < 1:
            raise InputError(
                f"SegNet has channels {tuple(self.channels)} and convs {tuple(self.convs)}; both need one entry a "
                "stage, and a stage at least one convolution."
            )
        smallest, (height, width) = 2 ** len(self.channels), image.shape[1:3]
        if height < smallest or width < smallest:
            raise InputError(
                f"SegNet halves its input {len(self.channels)} times: the image must have at least "
                f"{smallest}x{smallest} pixels, found {height}x{width}; use larger images or fewer stages."
            )
