"""FPN: a feature pyramid, all levels of which are made one map of stride 4."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.models import layers
from gan_seg_jax.models.aspp import CLASSIFIER_INIT, ConvBlock
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.network import SEGMENTATION, Network

LEVELS = ("c2", "c3", "c4", "c5")


class FPN(Network):
    """Give each map of the backbone the content of those below, and classify their sum.

    Feature pyramid (Lin et al. 2017, https://arxiv.org/abs/1612.03144): p5 = conv1(c5), p_i = conv1(c_i) + up(p_{i+1})
    with 1x1 convolutions to `pyramid_channels`, then a 3x3 convolution on each. Semantic branch (Panoptic FPN, Kirillov
    et al. 2019, https://arxiv.org/abs/1901.02446): p5 goes through three stages of 3x3 convolution to `channels`, norm,
    ReLU and bilinear resizing to the next level's size, p4 through two, p3 through one, p2 through a convolution, norm
    and ReLU; the scores are a 1x1 convolution of the sum, resized to the image.

    The paper has group norm in the branch; here `norm` is that of the backbone, too. Its pyramid has no norm, as here.

    Attributes:
        num_classes: number of output channels.
        backbone: a name in `backbones.BACKBONES`.
        backbone_width: factor of the backbone's channel counts.
        norm: of backbone and branch.
        pyramid_channels: of each level of the pyramid.
        channels: of the branch.
        dropout: rate before the classifier (0 in the paper).
        kernel_init: of pyramid and branch: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)

    num_classes: int
    backbone: str = "resnet101"
    backbone_width: float = 1.0
    norm: str = "batch"
    pyramid_channels: int = 256
    channels: int = 128
    dropout: float = 0.0
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
        backbone = create_backbone(self.backbone, norm=self.norm, width=self.backbone_width, dtype=self.dtype)
        features = backbone(image, train=train)
        x = sum(self._branch(p, level, features, train=train) for level, p in self._pyramid(features).items())
        x = nn.Dropout(self.dropout, name="drop")(x, deterministic=not train)
        self.sow("intermediates", "decoder", x)
        logits = layers.Conv1x1(self.num_classes, kernel_init=CLASSIFIER_INIT, dtype=self.dtype, name="logits")(x)
        return layers.resize_logits(logits, image.shape[1:3])

    def _pyramid(self, features):
        """Return level -> float [b, h, w, pyramid_channels], from the deepest on."""
        options = {"kernel_init": self.kernel_init, "dtype": self.dtype}
        pyramid, above = {}, None
        for level in reversed(LEVELS):
            lateral = layers.Conv1x1(self.pyramid_channels, **options, name=f"lateral_{level}")(features[level])
            above = lateral if above is None else lateral + layers.enlarge(above, lateral.shape[1:3])
            pyramid[level] = layers.Conv(self.pyramid_channels, **options, name=f"output_{level}")(above)
        return pyramid

    def _branch(self, x, level, features, *, train):
        """Return float [b, h, w, channels] at the size of c2 from a level of the pyramid."""
        options = {"norm": self.norm, "kernel_init": self.kernel_init, "dtype": self.dtype}
        for finer in reversed(LEVELS[: max(1, LEVELS.index(level))]):
            x = ConvBlock(self.channels, **options, name=f"branch_{level}_to_{finer}")(x, train=train)
            x = layers.resize(x, features[finer].shape[1:3])
        return x
