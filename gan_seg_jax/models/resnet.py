"""ResNet backbones (He et al. 2016, https://arxiv.org/abs/1512.03385), with stride turned into rates.

The structure and the names of parameters are torchvision's: the stride of a bottleneck is in its 3x3 convolution
(the paper has it in the first 1x1), and the deep stem is ResNet-C's (He et al. 2019,
https://arxiv.org/abs/1812.01187), with timm's names.
"""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.models import layers, norms, stages

CHANNELS = (64, 128, 256, 512)

# Names in transformers.
_STEM = {"embedder.embedder.convolution": "conv1", "embedder.embedder.normalization": "bn1"}
_LAYER = re.compile(r"encoder\.stages\.(\d)\.layers\.(\d+)\.(?:layer\.(\d)|shortcut)\.(convolution|normalization)")
_SHORTCUT = {"convolution": "downsample.0", "normalization": "downsample.1"}


class ResNet(stages.Backbone):
    """Map an image to the features of five stages.

    Attributes:
        depths: number of blocks of the four residual stages.
        bottleneck: blocks of 1x1, 3x3, 1x1 with fourfold output instead of two 3x3.
        deep_stem: three 3x3 convolutions (32, 32, 64) instead of one 7x7.
        output_stride: 8, 16 or 32; see `stages.atrous_stages`.
        multi_grid: factors on the rates of the last stage's blocks (DeepLab v3), repeated if there are more blocks.
        norm: kind of `norms.Norm`.
        width: factor on the channel counts.
        dtype: of the computation.
    """

    depths: tuple[int, ...] = (2, 2, 2, 2)
    bottleneck: bool = False
    deep_stem: bool = False
    output_stride: int = 32
    multi_grid: tuple[int, ...] = (1, 1, 1)
    norm: str = "batch"
    width: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        """Return "c1" (the stem) to "c5", float [b, ceil(h / s), ceil(w / s), c] with s = min(2^i, output_stride).

        Args:
            image: float [b, h, w, 3] in [-1, 1], of any size.
            train: whether norms use the statistics of this batch.

        Raises:
            InputError: an `output_stride` other than 8, 16 or 32.
        """
        _, _, *plan = stages.atrous_stages((2, 2, 1, 2, 2, 2), self.output_stride, network="ResNet")
        x = self._stem(self.normalize(image), train=train)
        features = {"c1": x}
        x = layers.max_pool(x, 3, stride=2, padding=1)
        for index, (stage, depth, channels) in enumerate(zip(plan, self.depths, CHANNELS, strict=True)):
            for block in range(depth):
                grid = self.multi_grid[block % len(self.multi_grid)] if index == 3 else 1
                first = block == 0
                x = Block(
                    features=stages.scaled(channels, self.width),
                    bottleneck=self.bottleneck,
                    stride=stage.stride if first else 1,
                    first_rate=(stage.first_rate if first else stage.rate) * grid,
                    rate=stage.rate * grid,
                    project=first and (self.bottleneck or index > 0),
                    norm=self.norm,
                    dtype=self.dtype,
                    name=f"layer{index + 1}_{block}",
                )(x, train=train)
            features[f"c{index + 2}"] = x
        self.sow("intermediates", "encoder", x)
        return features

    def own_key(self, key: str) -> str:
        """Return torchvision's key; that of transformers is known, timm's is the same."""
        module, _, leaf = key.rpartition(".")
        if found := _LAYER.fullmatch(module):
            stage, index, layer, kind = found.groups()
            names = {"convolution": "conv", "normalization": "bn"} if layer else _SHORTCUT
            return f"layer{int(stage) + 1}.{index}.{names[kind]}{int(layer) + 1 if layer else ''}.{leaf}"
        return f"{_STEM[module]}.{leaf}" if module in _STEM else key

    def _stem(self, x, *, train):
        bias = self.norm == "none"
        features = stages.scaled(64, self.width)
        if self.deep_stem:
            half = stages.scaled(32, self.width)
            for conv, norm, stride in (("conv1_0", "conv1_1", 2), ("conv1_3", "conv1_4", 1)):
                x = layers.Conv(half, stride=stride, bias=bias, dtype=self.dtype, name=conv)(x)
                x = nn.relu(norms.Norm(self.norm, self.dtype, name=norm)(x, train=train))
            x = layers.Conv(features, bias=bias, dtype=self.dtype, name="conv1_6")(x)
        else:
            x = layers.Conv(features, kernel=7, stride=2, bias=bias, dtype=self.dtype, name="conv1")(x)
        return nn.relu(norms.Norm(self.norm, self.dtype, name="bn1")(x, train=train))


class Block(nn.Module):
    """Compute relu(shortcut(x) + residual(x)), the residual being two 3x3 convolutions or a bottleneck.

    Attributes:
        features: channels of the 3x3 convolutions; a bottleneck returns four times as many.
        bottleneck: whether the residual is 1x1, 3x3, 1x1.
        stride: of the first 3x3 convolution.
        first_rate: of the first 3x3 convolution.
        rate: of the second 3x3 convolution, where there are two.
        project: whether the shortcut is a 1x1 convolution and a norm, else the identity.
        norm: kind of `norms.Norm`.
        dtype: of the computation.
    """

    features: int
    bottleneck: bool
    stride: int
    first_rate: int
    rate: int
    project: bool
    norm: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, ceil(h / stride), ceil(w / stride), c'] from x float [b, h, w, c]."""
        bias = self.norm == "none"

        def norm(y, name):
            return norms.Norm(self.norm, self.dtype, name=name)(y, train=train)

        def conv3x3(y, name, **options):
            return layers.Conv(self.features, bias=bias, dtype=self.dtype, name=name, **options)(y)

        def conv1x1(y, name, features):
            return layers.Conv1x1(features, bias=bias, dtype=self.dtype, name=name)(y)

        first = {"stride": self.stride, "rate": self.first_rate}
        if self.bottleneck:
            y = nn.relu(norm(conv1x1(x, "conv1", self.features), "bn1"))
            y = nn.relu(norm(conv3x3(y, "conv2", **first), "bn2"))
            y = norm(conv1x1(y, "conv3", 4 * self.features), "bn3")
        else:
            y = nn.relu(norm(conv3x3(x, "conv1", **first), "bn1"))
            y = norm(conv3x3(y, "conv2", rate=self.rate), "bn2")
        if self.project:
            x = norm(conv1x1(x[:, :: self.stride, :: self.stride], "downsample_0", y.shape[-1]), "downsample_1")
        return nn.relu(x + y)
