"""DPT: a pyramid made of the tokens of a plain vision transformer, fused from coarse to fine."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers, norms
from gan_seg_jax.models.aspp import CLASSIFIER_INIT, ConvBlock
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.network import SEGMENTATION, SHARE, Network, Numbers


class DPT(Network):
    """Enlarge the tokens of early blocks, shrink those of the last, and join all as a pyramid (dense prediction).

    Ranftl et al. 2021 (https://arxiv.org/abs/2103.13413). The tokens after each quarter of the blocks, c2 to c5, all of
    the stride of the patches, become maps of 4, 2, 1 and 1/2 times their size: a 1x1 convolution to `channels`, then a
    transposed convolution whose window is its stride, none, or a 3x3 convolution of stride 2; then a 3x3 convolution to
    `features` channels each: m_2 to m_5. From the coarsest on, p_5 = up(unit(m_5)), p_i = up(unit(p_{i+1} + unit(m_i)))
    with unit(x) = x + norm(conv3(relu(norm(conv3(relu(x)))))) and `up` bilinear to the next size, then a 1x1
    convolution. The head on p_2: 3x3 convolution, norm, ReLU, dropout and a 1x1 convolution to the scores.

    What differs: the class token is not read (the paper's "ignore"; its best form, "project", gains 0.1 to 0.3 there),
    and `up` has half-pixel centres where the authors align corners.

    Attributes:
        num_classes: number of output channels.
        backbone: a plain vision transformer in `backbones.BACKBONES`.
        backbone_width: factor of the backbone's channel counts.
        drop_path: as in `backbones.create_backbone`.
        norm: of units and head.
        channels: of the four maps, from the finest on.
        features: of the pyramid.
        dropout: rate before the classifier.
        kernel_init: of the head: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)
    NUMBERS: ClassVar = {"drop_path": SHARE, "channels": Numbers()}

    num_classes: int
    backbone: str = "dinov2_base"
    backbone_width: float = 1.0
    drop_path: float = 0.0
    norm: str = "batch"
    channels: tuple[int, ...] = (96, 192, 384, 768)
    features: int = 256
    dropout: float = 0.1
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Return class logits.

        Args:
            image: float [b, h, w, 3] in [-1, 1], of any size.
            train: whether norms use the statistics of this batch, and dropout (key "dropout") is on.

        Returns:
            float32 [b, h, w, num_classes].

        Raises:
            InputError: not four channels, or a backbone whose maps have different sizes.
        """
        if len(self.channels) != 4:
            raise InputError(f"DPT makes maps of four sizes, found channels for {len(self.channels)}; give four.")
        backbone = create_backbone(
            self.backbone, norm=self.norm, width=self.backbone_width, drop_path=self.drop_path, dtype=self.dtype
        )
        features = backbone(image, train=train)
        tokens = [features[level] for level in ("c2", "c3", "c4", "c5")]
        if len({x.shape[1:3] for x in tokens}) > 1:
            raise InputError(
                f"DPT makes a pyramid of tokens that all have one size, and {self.backbone} has a pyramid of its own; "
                "choose a plain vision transformer such as dinov2_small, or the network fpn or upernet."
            )
        options = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        maps = [self._reassemble(x, level) for level, x in enumerate(tokens)]
        sizes = [tuple(2 * length for length in maps[0].shape[1:3]), *(x.shape[1:3] for x in maps[:-1])]
        above = 0.0
        for level in (3, 2, 1, 0):
            unit = {"norm": self.norm, **options}
            skip = maps[level] if level == 3 else Unit(**unit, name=f"unit_{level}_0")(maps[level], train=train)
            x = Unit(**unit, name=f"unit_{level}_1")(above + skip, train=train)
            above = layers.Conv1x1(self.features, **options, name=f"out_{level}")(layers.resize(x, sizes[level]))
        x = ConvBlock(self.features, norm=self.norm, **options, name="head")(above, train=train)
        x = nn.Dropout(self.dropout, name="drop")(x, deterministic=not train)
        self.sow("intermediates", "decoder", x)
        logits = layers.Conv1x1(self.num_classes, kernel_init=CLASSIFIER_INIT, dtype=self.dtype, name="logits")(x)
        return layers.resize_logits(logits, image.shape[1:3])

    def _reassemble(self, x, level):
        """Return the tokens of a level as its map of the pyramid, float [b, h', w', features]."""
        options = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        channels = self.channels[level]
        x = layers.Conv1x1(channels, **options, name=f"project_{level}")(x)
        if level < 2:  # transposed convolution with windows side by side: each pixel becomes a square of its own
            side = 4 >> level
            x = layers.Conv1x1(side**2 * channels, **options, name=f"resize_{level}")(x)
            batch, rows, columns, _ = x.shape
            x = x.reshape(batch, rows, columns, side, side, channels).transpose(0, 1, 3, 2, 4, 5)
            x = x.reshape(batch, rows * side, columns * side, channels)
        elif level == 3:
            x = layers.Conv(channels, stride=2, **options, name=f"resize_{level}")(x)
        return layers.Conv(self.features, bias=False, **options, name=f"pyramid_{level}")(x)


class Unit(nn.Module):
    """Compute x + norm(conv3(relu(norm(conv3(relu(x))))))."""

    norm: str
    kernel_init: str | float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, h, w, c] from x float [b, h, w, c]."""
        y = x
        for index in range(2):
            options = {"bias": self.norm == "none", "kernel_init": self.kernel_init, "dtype": self.dtype}
            y = layers.Conv(x.shape[-1], **options, name=f"conv_{index}")(nn.relu(y))
            y = norms.Norm(self.norm, self.dtype, name=f"norm_{index}")(y, train=train)
        return x + y
