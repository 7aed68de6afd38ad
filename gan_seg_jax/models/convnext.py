"""The ConvNeXt backbones (Liu et al. 2022, https://arxiv.org/abs/2201.03545), with stride turned into rates."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.models import layers, norms, stages

EPSILON = 1e-6  # of every norm
INIT = 0.02  # standard deviation of every kernel
LAYER_SCALE = 1e-6  # factor of every residual, at first

# Names in the authors' code, torchvision ("features.N" is stage N // 2) and transformers.
_DOWNSAMPLE = re.compile(
    r"(downsample_layers|features|encoder\.stages)\.(\d)(?:\.downsampling_layer)?\.([01])\.(weight|bias)"
)
_BLOCK = re.compile(
    r"(features|stages|encoder\.stages)\.(\d)\.(?:layers\.)?(\d+)\.((?:block\.)?\w+?)(\.(?:weight|bias))?"
)
_STEM = {"embeddings.patch_embeddings": "stem.0", "embeddings.layernorm": "stem.1"}
_LAYERS = {
    "conv_dw": ("dwconv", "block.0"),
    "norm": ("norm", "block.2", "layernorm"),
    "mlp.fc1": ("pwconv1", "block.3"),
    "mlp.fc2": ("pwconv2", "block.5"),
    "gamma": ("gamma", "layer_scale", "layer_scale_parameter"),
}
_OWN = {name: own for own, names in _LAYERS.items() for name in names}


class ConvNeXt(stages.Backbone):
    """Map an image to the features of four stages: convolution as transformers have it.

    The image is cut into patches of 4x4 pixels. A stage begins (but for the first) with a norm of the channels and a
    2x2 convolution of stride 2, and has `depths` blocks (`Block`). Names of parameters are timm's.

    An image, or a map, whose size is no multiple of the stride is extended at the bottom and right by zeros, so that
    all of it is seen; the published modules drop what is left over. A stride that is turned into a rate keeps the
    kernel's first tap in its place, so that every second position is as it was.

    Attributes:
        depths: number of blocks of the four stages.
        channels: of each stage.
        output_stride: 8, 16 or 32; see `stages.atrous_stages`.
        width: factor on the channel counts.
        drop_path: rate at which the last block's residual is dropped in training (stochastic depth, Huang et al. 2016,
            https://arxiv.org/abs/1603.09382), of whole examples; it rises linearly from 0 at the first.
        dtype: of the computation.
    """

    depths: tuple[int, ...] = (3, 3, 9, 3)
    channels: tuple[int, ...] = (96, 192, 384, 768)
    output_stride: int = 32
    width: float = 1.0
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        """Return "c2" to "c5", float [b, ceil(h / s), ceil(w / s), c] with s = min(2^i, output_stride).

        Args:
            image: float [b, h, w, 3] in [-1, 1], of any size.
            train: whether residuals are dropped (key "dropout").

        Raises:
            InputError: an `output_stride` other than 8, 16 or 32.
        """
        _, *plan = stages.atrous_stages((4, 1, 2, 2, 2), self.output_stride, network="ConvNeXt")
        channels = [stages.scaled(count, self.width) for count in self.channels]
        rates = iter(stages.drop_paths(self.drop_path, sum(self.depths)))
        options = {"padding": 0, "kernel_init": INIT, "dtype": self.dtype}
        x = layers.pad_to_multiple(self.normalize(image), 4)
        x = layers.Conv(channels[0], kernel=4, stride=4, **options, name="stem_0")(x)
        x = norms.LayerNorm(EPSILON, self.dtype, name="stem_1")(x)
        features = {}
        for index, (stage, depth) in enumerate(zip(plan, self.depths, strict=True)):
            drop_paths = tuple(next(rates) for _ in range(depth))
            x = _Stage(channels[index], stage, drop_paths, index > 0, self.dtype, name=f"stages_{index}")(
                x, train=train
            )
            features[f"c{index + 2}"] = x
        self.sow("intermediates", "encoder", x)
        return features

    def own_key(self, key: str) -> str:
        """Return timm's key; those of the authors' code, torchvision and transformers are known."""
        if found := _DOWNSAMPLE.fullmatch(key):
            layout, number, layer, leaf = found.groups()
            stage = int(number) // 2 if layout == "features" else int(number)
            return f"stages.{stage}.downsample.{layer}.{leaf}" if stage else f"stem.{layer}.{leaf}"
        found = _BLOCK.fullmatch(key)
        if found and found[4] in _OWN:
            layout, number, block, layer, leaf = found.groups()
            stage = int(number) // 2 if layout == "features" else int(number)
            return f"stages.{stage}.blocks.{block}.{_OWN[layer]}{leaf or ''}"
        module, _, leaf = key.rpartition(".")
        return f"{_STEM[module]}.{leaf}" if module in _STEM else key

    def unused(self, key: str) -> bool:
        """Tell whether this is of the norm before the classifier."""
        return key.startswith(("norm.", "layernorm."))


class _Stage(nn.Module):
    """Halve the map, where the stage does, and apply its blocks.

    Attributes:
        features: number of channels.
        stage: its stride and rates.
        drop_paths: of each block.
        downsample: whether the stage begins with a norm and a 2x2 convolution.
        dtype: of the computation.
    """

    features: int
    stage: stages.Stage
    drop_paths: tuple[float, ...]
    downsample: bool
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, ceil(h / stride), ceil(w / stride), features] from x float [b, h, w, c]."""
        if self.downsample:
            stride, rate = self.stage.stride, self.stage.first_rate
            x = norms.LayerNorm(EPSILON, self.dtype, name="downsample_0")(x)
            below = 0 if stride == 2 else rate
            x = jnp.pad(layers.pad_to_multiple(x, stride), ((0, 0), (0, below), (0, below), (0, 0)))
            options = {"padding": 0, "kernel_init": INIT, "dtype": self.dtype, "name": "downsample_1"}
            x = layers.Conv(self.features, kernel=2, stride=stride, rate=rate, **options)(x)
        for index, drop_path in enumerate(self.drop_paths):
            x = Block(self.stage.rate, drop_path, self.dtype, name=f"blocks_{index}")(x, train=train)
        return x


class Block(nn.Module):
    """Compute x + drop(gamma * conv1(gelu(conv1(norm(depthwise(x)))))).

    The depthwise convolution is 7x7, the first 1x1 convolution widens fourfold, gamma is a factor for each channel and
    `drop` drops it for whole examples.

    Attributes:
        rate: of the depthwise convolution.
        drop_path: rate of `drop`.
        dtype: of the computation.
    """

    rate: int
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, h, w, c] from x float [b, h, w, c]."""
        options, channels = {"kernel_init": INIT, "dtype": self.dtype}, x.shape[-1]
        y = layers.DepthwiseConv(7, rate=self.rate, **options, name="conv_dw")(x)
        y = norms.LayerNorm(EPSILON, self.dtype, name="norm")(y)
        y = nn.gelu(layers.Conv1x1(4 * channels, **options, name="mlp_fc1")(y), approximate=False)
        y = layers.Conv1x1(channels, **options, name="mlp_fc2")(y)
        gamma = self.param("gamma", nn.initializers.constant(LAYER_SCALE), (channels,), jnp.float32)
        return x + stages.DropPath(self.drop_path, name="drop")(gamma.astype(self.dtype) * y, train=train)
