"""The linear head: the scores of a position are one matrix times the features of the backbone there."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.models import layers, norms
from gan_seg_jax.models.aspp import CLASSIFIER_INIT
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.network import SEGMENTATION, SHARE, Network


class LinearHead(Network):
    """Classify each position of the backbone's deepest map by one matrix, to show what the features hold.

    scores = W norm(c5) + b, resized to the image, as DINOv2 is judged (Oquab et al. 2023,
    https://arxiv.org/abs/2304.07193, section 7.4), there over a frozen backbone
    (`config.optimizers.ROLE.backbone_frozen_steps`, as many as `config.steps`).

    Attributes:
        num_classes: number of output channels.
        backbone: a name in `backbones.BACKBONES`.
        backbone_width: factor of the backbone's channel counts.
        drop_path: as in `backbones.create_backbone`.
        norm: before the matrix, and of a backbone without a norm of its own.
        dropout: rate before the matrix.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)
    NUMBERS: ClassVar = {"drop_path": SHARE}

    num_classes: int
    backbone: str = "dinov2_small"
    backbone_width: float = 1.0
    drop_path: float = 0.0
    norm: str = "batch"
    dropout: float = 0.0
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
        x = norms.Norm(self.norm, self.dtype, name="norm")(backbone(image, train=train)["c5"], train=train)
        x = nn.Dropout(self.dropout, name="drop")(x, deterministic=not train)
        self.sow("intermediates", "decoder", x)
        logits = layers.Conv1x1(self.num_classes, kernel_init=CLASSIFIER_INIT, dtype=self.dtype, name="logits")(x)
        return layers.resize_logits(logits, image.shape[1:3])
