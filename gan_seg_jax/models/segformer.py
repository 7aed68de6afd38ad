"""SegFormer: every map of the backbone by one matrix to the same channels, and all classified together."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.models import layers
from gan_seg_jax.models.aspp import CLASSIFIER_INIT, ConvBlock
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.network import SEGMENTATION, SHARE, Network

LEVELS = ("c5", "c4", "c3", "c2")


class SegFormer(Network):
    """Classify what matrices make of the backbone's maps, all at the size of the finest.

    Xie et al. 2021 (https://arxiv.org/abs/2105.15203): with x_i = resize(W_i c_i + b_i) to the size of c2, i = 2 to 5,
    the scores are W relu(norm(V [x_5, x_4, x_3, x_2])) + b, resized to the image, with a dropout before W. Matrices act
    on the channels of each position. So small a head is enough since the backbone's attention sees the whole image.

    Attributes:
        num_classes: number of output channels.
        backbone: a name in `backbones.BACKBONES`.
        backbone_width: factor of the backbone's channel counts.
        drop_path: as in `backbones.create_backbone` (0.1 in the paper).
        norm: of the head, and of a backbone without a norm of its own.
        channels: of each x_i and of what is classified: 256 for MiT-B0 and B1, 768 for the others.
        dropout: rate before the classifier.
        kernel_init: of the matrices: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)
    NUMBERS: ClassVar = {"drop_path": SHARE}

    num_classes: int
    backbone: str = "mit_b0"
    backbone_width: float = 1.0
    drop_path: float = 0.0
    norm: str = "batch"
    channels: int = 256
    dropout: float = 0.1
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Return class logits.

        Args:
            image: float [b, h, w, 3] in [-1, 1], of any size that the backbone takes.
            train: whether norms use the statistics of this batch, and dropout (key "dropout") is on.

        Returns:
            float32 [b, h, w, num_classes].

        Raises:
            InputError: what the backbone says.
        """
        backbone = create_backbone(
            self.backbone, norm=self.norm, width=self.backbone_width, drop_path=self.drop_path, dtype=self.dtype
        )
        features = backbone(image, train=train)
        options = {"kernel_init": self.kernel_init, "dtype": self.dtype}

        def level(name):
            x = layers.Conv1x1(self.channels, **options, name=f"linear_{name}")(features[name])
            return layers.resize(x, features["c2"].shape[1:3])

        x = jnp.concatenate([level(name) for name in LEVELS], axis=-1)
        x = ConvBlock(self.channels, kernel=1, norm=self.norm, **options, name="fuse")(x, train=train)
        x = nn.Dropout(self.dropout, name="drop")(x, deterministic=not train)
        self.sow("intermediates", "decoder", x)
        logits = layers.Conv1x1(self.num_classes, kernel_init=CLASSIFIER_INIT, dtype=self.dtype, name="logits")(x)
        return layers.resize_logits(logits, image.shape[1:3])
