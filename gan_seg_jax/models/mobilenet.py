"""The MobileNetV2 backbone (Sandler et al. 2018, https://arxiv.org/abs/1801.04381), with stride turned into rates."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.models import layers, norms, stages

# Of each group of blocks: expansion, channels, number of blocks, stride of the first.
GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
ENDS = {0: "c1", 1: "c2", 2: "c3", 4: "c4", 6: "c5"}  # the last group of each stride

# Names in timm: `blocks.I.J` is torchvision's `features.N` with N = _FIRST[I] + J.
_STEMS = {"conv_stem": "features.0.0", "bn1": "features.0.1", "conv_head": "features.18.0", "bn2": "features.18.1"}
_BLOCK = re.compile(r"blocks\.([0-6])\.(\d)\.(\w+)")
_FIRST = (1, 2, 4, 7, 11, 14, 17)
_SEPARABLE = {"conv_dw": "conv.0.0", "bn1": "conv.0.1", "conv_pw": "conv.1", "bn2": "conv.2"}
_INVERTED = {
    "conv_pw": "conv.0.0",
    "bn1": "conv.0.1",
    "conv_dw": "conv.1.0",
    "bn2": "conv.1.1",
    "conv_pwl": "conv.2",
    "bn3": "conv.3",
}


class MobileNetV2(stages.Backbone):
    """Map an image to the features of five stages by inverted residual blocks.

    "c5" is the map of 320 channels, the second last one, which the paper recommends under segmentation heads
    (section 6.3); the classifier's 1x1 convolution to 1280 channels is left out. Structure and names of parameters are
    torchvision's.

    Attributes:
        output_stride: 8, 16 or 32; see `stages.atrous_stages`.
        norm: kind of `norms.Norm`.
        width: factor on the channel counts.
        dtype: of the computation.
    """

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
        _, *plan = stages.atrous_stages(strides, self.output_stride, network="MobileNetV2")
        x, features, index = self.normalize(image), {}, 1
        options = {"norm": self.norm, "dtype": self.dtype}
        x = ConvNormReLU6(stages.scaled(32, self.width), kernel=3, stride=2, **options, name="features_0")(
            x, train=train
        )
        for group, ((expansion, channels, depth, _), stage) in enumerate(zip(GROUPS, plan, strict=True)):
            for block in range(depth):
                x = InvertedResidual(
                    stages.scaled(channels, self.width),
                    expansion=expansion,
                    stride=stage.stride if block == 0 else 1,
                    rate=stage.first_rate if block == 0 else stage.rate,
                    shrinks=block == 0 and GROUPS[group][3] > 1,
                    **options,
                    name=f"features_{index}",
                )(x, train=train)
                index += 1
            if group in ENDS:
                features[ENDS[group]] = x
        self.sow("intermediates", "encoder", x)
        return features

    def own_key(self, key: str) -> str:
        """Return torchvision's key; timm's is known."""
        module, _, leaf = key.rpartition(".")
        if found := _BLOCK.fullmatch(module):
            group, index, layer = int(found[1]), int(found[2]), found[3]
            names = _SEPARABLE if group == 0 else _INVERTED
            return f"features.{_FIRST[group] + index}.{names[layer]}.{leaf}" if layer in names else key
        return f"{_STEMS[module]}.{leaf}" if module in _STEMS else key

    def unused(self, key: str) -> bool:
        """Tell whether this is of the last convolution, to 1280 channels, or its norm."""
        return key.startswith("features.18.")


class ConvNormReLU6(nn.Module):
    """Convolve, normalise and clip to [0, 6].

    Attributes:
        features: number of output channels.
        kernel: side of the kernel.
        stride: step of the window.
        norm: kind of `norms.Norm`.
        dtype: of the computation.
    """

    features: int
    kernel: int
    stride: int
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, ceil(h / stride), ceil(w / stride), features] from x float [b, h, w, c]."""
        options = {"bias": self.norm == "none", "dtype": self.dtype, "name": "0"}
        if self.kernel == 1:
            x = layers.Conv1x1(self.features, **options)(x)
        else:
            x = layers.Conv(self.features, kernel=self.kernel, stride=self.stride, **options)(x)
        return nn.relu6(norms.Norm(self.norm, self.dtype, name="1")(x, train=train))


class InvertedResidual(nn.Module):
    """Widen by a 1x1 convolution, convolve each channel 3x3, and narrow without activation; a shortcut where it fits.

    Attributes:
        features: number of output channels.
        expansion: how many times wider the inner map is; 1 leaves out the first convolution.
        stride: of the 3x3 convolution.
        rate: of the 3x3 convolution.
        shrinks: whether the block has a stride before strides are turned into rates; such a block has no shortcut.
        norm: kind of `norms.Norm`.
        dtype: of the computation.
    """

    features: int
    expansion: int
    stride: int
    rate: int
    shrinks: bool
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, ceil(h / stride), ceil(w / stride), features] from x float [b, h, w, c]."""
        options = {"bias": self.norm == "none", "dtype": self.dtype}

        def norm(y, name):
            return norms.Norm(self.norm, self.dtype, name=name)(y, train=train)

        y, place = x, 0
        if self.expansion > 1:
            inner = self.expansion * x.shape[-1]
            y = nn.relu6(norm(layers.Conv1x1(inner, **options, name="conv_0_0")(y), "conv_0_1"))
            place = 1
        depthwise = layers.DepthwiseConv(stride=self.stride, rate=self.rate, **options, name=f"conv_{place}_0")
        y = nn.relu6(norm(depthwise(y), f"conv_{place}_1"))
        y = layers.Conv1x1(self.features, **options, name=f"conv_{place + 1}")(y)
        y = norm(y, f"conv_{place + 2}")
        return x + y if not self.shrinks and x.shape[-1] == self.features else y
