"""UPerNet: pyramid pooling on the deepest map, a feature pyramid under it, and all levels fused at stride 4."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.models import layers
from gan_seg_jax.models.aspp import CLASSIFIER_INIT, ConvBlock
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.network import SEGMENTATION, SHARE, Network, Numbers
from gan_seg_jax.models.pspnet import pooled_pyramid


class UPerNet(Network):
    """Join what pooled grids say of the deepest map to a feature pyramid, and classify the levels together.

    Xiao et al. 2018 (https://arxiv.org/abs/1807.10221), its head of objects alone. c5 beside its grids of means
    (`pspnet.pooled_pyramid`, each to `channels`) goes through a 3x3 convolution: p5. For i = 4, 3, 2:
    p_i = conv1(c_i) + resize(p_{i+1}); each of p4, p3, p2 then goes through a 3x3 convolution; all four, resized to the
    size of c2, through another, a dropout and a 1x1 convolution to the scores. All convolutions but the last have
    `channels` outputs, a norm and a ReLU. As in mmsegmentation, with which Swin and ConvNeXt were published, there is
    dropout, and in training a second head (3x3 convolution, dropout, 1x1 convolution) on c4; the authors' code has
    neither. Swin's and ConvNeXt's code have another norm on each of the maps c2 to c5, which this has not.

    Attributes:
        num_classes: number of output channels.
        backbone: a name in `backbones.BACKBONES`.
        backbone_width: factor of the backbone's channel counts.
        drop_path: as in `backbones.create_backbone`.
        norm: of backbone and heads.
        bins: cells per side of each grid.
        channels: of all maps of the head; the second head has half of it.
        dropout: rate before the classifiers.
        auxiliary: whether to return the second head's logits too.
        kernel_init: of the heads: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)
    NUMBERS: ClassVar = {"bins": Numbers(distinct=True), "drop_path": SHARE}

    num_classes: int
    backbone: str = "resnet101"
    backbone_width: float = 1.0
    drop_path: float = 0.0
    norm: str = "batch"
    bins: tuple[int, ...] = (1, 2, 3, 6)
    channels: int = 512
    dropout: float = 0.1
    auxiliary: bool = True
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Return class logits.

        Args:
            image: float [b, h, w, 3] in [-1, 1], of any size that the backbone takes.
            train: whether norms use the statistics of this batch, and dropout (key "dropout") is on.

        Returns:
            float32 [b, h, w, num_classes]; with `auxiliary` also {"auxiliary": logits of that head}.

        Raises:
            InputError: what the backbone says.
        """
        size = image.shape[1:3]
        backbone = create_backbone(
            self.backbone, norm=self.norm, width=self.backbone_width, drop_path=self.drop_path, dtype=self.dtype
        )
        features = backbone(image, train=train)

        def block(x, name, *, kernel=3, channels=self.channels):
            options = {"norm": self.norm, "kernel_init": self.kernel_init, "dtype": self.dtype}
            return ConvBlock(channels, kernel, **options, name=name)(x, train=train)

        def classify(x, name):
            options = {"kernel_init": CLASSIFIER_INIT, "dtype": self.dtype}
            return layers.resize_logits(layers.Conv1x1(self.num_classes, **options, name=name)(x), size)

        pyramid = [block(pooled_pyramid(self, features["c5"], self.channels, train=train), "pyramid")]
        above = pyramid[0]
        for level in ("c4", "c3", "c2"):
            lateral = block(features[level], f"lateral_{level}", kernel=1)
            above = lateral + layers.resize(above, lateral.shape[1:3])
            pyramid.append(block(above, f"output_{level}"))
        finest = features["c2"].shape[1:3]
        x = block(jnp.concatenate([layers.resize(p, finest) for p in pyramid], axis=-1), "fuse")
        x = nn.Dropout(self.dropout, name="drop")(x, deterministic=not train)
        self.sow("intermediates", "decoder", x)
        logits = classify(x, "logits")
        if not self.auxiliary:
            return logits
        x = block(features["c4"], "auxiliary_block", channels=self.channels // 2)
        x = nn.Dropout(self.dropout, name="auxiliary_drop")(x, deterministic=not train)
        return logits, {"auxiliary": classify(x, "auxiliary_logits")}
