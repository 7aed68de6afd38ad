"""U-Net over a backbone: a decoder that climbs the backbone's feature maps up to the size of the image."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers
from gan_seg_jax.models.aspp import CLASSIFIER_INIT, ConvBlock
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.network import SEGMENTATION, Network

SKIPS = ("c4", "c3", "c2", "c1", None)  # what joins at each level; the last is at the size of the image


class BackboneUNet(Network):
    """Enlarge the backbone's deepest map level by level, each time beside the map of that size.

    The decoder is that of U-Net (Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597) over the features of a
    classification network (TernausNet, Iglovikov and Shvets 2018, https://arxiv.org/abs/1801.05746). Each level is
    x_i = block(block([up(x_{i-1}), skip_i])), with two blocks of 3x3 convolution, norm and ReLU; `up` repeats each
    pixel 2x2 and cuts off what is too much. The skips are c4, c3, c2 and c1; a fifth level has none and the size of the
    image. A 3x3 convolution makes the scores.

    What differs from U-Net: convolutions keep the size, `up` is no convolution, and the encoder has a stride in its
    first layer, so that the finest level sees the image through the others only. A level whose size is not within a
    pixel of twice the last one (of a backbone without c1, or one that rounds sizes down) is resized bilinearly.

    Attributes:
        num_classes: number of output channels.
        backbone: a name in `backbones.BACKBONES`.
        backbone_width: factor of the backbone's channel counts.
        norm: of backbone and decoder.
        channels: of each level from c4 on, one to five; with fewer than five the scores are resized to the image.
        kernel_init: of the decoder: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)

    num_classes: int
    backbone: str = "resnet34"
    backbone_width: float = 1.0
    norm: str = "batch"
    channels: tuple[int, ...] = (256, 128, 64, 32, 16)
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Return class logits.

        Args:
            image: float [b, h, w, 3] in [-1, 1], of any size that the backbone takes.
            train: whether norms use the statistics of this batch.

        Returns:
            float32 [b, h, w, num_classes].

        Raises:
            InputError: more than five levels, or what the backbone says.
        """
        if len(self.channels) > len(SKIPS):
            raise InputError(f"BackboneUNet has {len(self.channels)} levels of channels; give one to {len(SKIPS)}.")
        size = image.shape[1:3]
        options = {"norm": self.norm, "kernel_init": self.kernel_init, "dtype": self.dtype}
        backbone = create_backbone(self.backbone, norm=self.norm, width=self.backbone_width, dtype=self.dtype)
        features = backbone(image, train=train)
        x = features["c5"]
        for level, (channels, name) in enumerate(zip(self.channels, SKIPS, strict=False)):
            if name in features:
                skip = features[name]
                x = jnp.concatenate([layers.enlarge(x, skip.shape[1:3]), skip], axis=-1)
            else:
                x = layers.enlarge(x, size if name is None else tuple(-(-length // 2) for length in size))
            for index in range(2):
                x = ConvBlock(channels, **options, name=f"decoder_{level}_{index}")(x, train=train)
        self.sow("intermediates", "decoder", x)
        logits = layers.Conv(self.num_classes, kernel_init=CLASSIFIER_INIT, dtype=self.dtype, name="logits")(x)
        return layers.resize_logits(logits, size)
