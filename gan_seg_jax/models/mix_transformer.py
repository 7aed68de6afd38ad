"""The Mix Transformer backbones of SegFormer, MiT-B0 to B5 (Xie et al. 2021, https://arxiv.org/abs/2105.15203).

Four stages of strides 4, 8, 16 and 32. Each begins with overlapping patches (a convolution whose window is wider than
its stride), so that neighbours share borders; its tokens attend to keys of a grid that is 8, 4, 2 and 1 times coarser;
and a depthwise 3x3 convolution in the feed-forward layer, by its zeros at the border, tells where a token lies. There
are no position embeddings, so any size of image will do.
"""

import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers, stages
from gan_seg_jax.models.attention import attention, linear
from gan_seg_jax.models.norms import LayerNorm

HEADS = (1, 2, 5, 8)
REDUCTIONS = (8, 4, 2, 1)  # of the keys' grid, to each side
PATCHES = ((7, 4), (3, 2), (3, 2), (3, 2))  # window and stride
EXPANSION = 4  # of the feed-forward layers
EMBEDDING_EPSILON = 1e-5  # of the norms behind convolutions of patches; the others have 1e-6
SMALLEST = 29  # pixels a side that leave one key in the first stage

# Names in transformers -> the authors'.
_EMBEDDING = re.compile(r"(?:encoder\.)?patch_embeddings\.([0-3])\.(proj|layer_norm)")
_STAGE_NORM = re.compile(r"(?:encoder\.)?layer_norm\.([0-3])")
_BLOCK = re.compile(r"(?:encoder\.)?block\.([0-3])\.(\d+)\.(.+)")
_LAYERS = {
    "layer_norm_1": "norm1",
    "attention.self.query": "attn.q",
    "attention.self.key": "attn.kv",
    "attention.self.value": "attn.kv",
    "attention.self.sr": "attn.sr",
    "attention.self.layer_norm": "attn.norm",
    "attention.output.dense": "attn.proj",
    "layer_norm_2": "norm2",
    "mlp.dense1": "mlp.fc1",
    "mlp.dwconv.dwconv": "mlp.dwconv.dwconv",
    "mlp.dense2": "mlp.fc2",
}
_PIECES = {"attention.self.key": "[0/2]", "attention.self.value": "[1/2]"}


class MixTransformer(stages.Backbone):
    """Map an image to the layer-normalised features of four stages.

    Names of parameters are those of the authors' code ("patch_embed1.proj", "block1.0.attn.q").

    Attributes:
        depths: number of blocks of each stage.
        head_channels: of each attention head; a stage has `HEADS` times as many.
        output_stride: 32, the only one that it has.
        width: factor on the channels of a head.
        drop_path: rate at which the last block's residuals are dropped in training, rising linearly from 0 at the
            first (the authors train with 0.1).
        dtype: of the computation.
    """

    depths: tuple[int, ...] = (2, 2, 2, 2)
    head_channels: int = 32
    output_stride: int = 32
    width: float = 1.0
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        """Return "c2" to "c5", float [b, ceil(h / s), ceil(w / s), c] with s = 4, 8, 16 and 32.

        Args:
            image: float [b, h, w, 3] in [-1, 1], of at least 29x29 pixels.
            train: whether residuals are dropped (key "dropout"), where `drop_path` is not 0.

        Raises:
            InputError: an `output_stride` other than 32, or a smaller image.
        """
        if self.output_stride != 32:
            raise InputError(
                "A Mix Transformer has no atrous form, since its windows overlap by design: found output_stride "
                f"{self.output_stride}, set it to 32."
            )
        if image.shape[1] < SMALLEST or image.shape[2] < SMALLEST:
            height, width = image.shape[1:3]
            raise InputError(
                f"A Mix Transformer needs images of at least {SMALLEST}x{SMALLEST} pixels, found {height}x{width}; "
                "choose a larger crop_size and canvas_size."
            )
        x, features = self.normalize(image), {}
        rates = iter(stages.drop_paths(self.drop_path, sum(self.depths)))
        head_channels = stages.scaled(self.head_channels, self.width)
        for index, depth in enumerate(self.depths):
            stage, (window, stride) = index + 1, PATCHES[index]
            channels = HEADS[index] * head_channels
            options = {"kernel": window, "stride": stride, "kernel_init": math.sqrt(2 / (window**2 * channels))}
            x = layers.Conv(channels, **options, dtype=self.dtype, name=f"patch_embed{stage}_proj")(x)
            x = LayerNorm(EMBEDDING_EPSILON, self.dtype, name=f"patch_embed{stage}_norm")(x)
            for block in range(depth):
                x = Block(
                    heads=HEADS[index],
                    reduction=REDUCTIONS[index],
                    drop_path=next(rates),
                    dtype=self.dtype,
                    name=f"block{stage}_{block}",
                )(x, train=train)
            x = LayerNorm(dtype=self.dtype, name=f"norm{stage}")(x)
            features[f"c{stage + 1}"] = x
        self.sow("intermediates", "encoder", x)
        return features

    def own_key(self, key: str) -> str:
        """Return the authors' key; that of transformers is known, whose keys and values are pieces of "kv"."""
        module, _, leaf = key.rpartition(".")
        if found := _EMBEDDING.fullmatch(module):
            return f"patch_embed{int(found[1]) + 1}.{'norm' if found[2] == 'layer_norm' else 'proj'}.{leaf}"
        if found := _STAGE_NORM.fullmatch(module):
            return f"norm{int(found[1]) + 1}.{leaf}"
        if (found := _BLOCK.fullmatch(module)) and found[3] in _LAYERS:
            piece = _PIECES[found[3]] if found[3] in _PIECES else ""
            return f"block{int(found[1]) + 1}.{found[2]}.{_LAYERS[found[3]]}.{leaf}{piece}"
        return key

    def unused(self, key: str) -> bool:
        """Tell whether this is of a segmentation network's head."""
        return key.startswith("decode_head.")


class Block(nn.Module):
    """Compute x + attention(norm(x)), then x + feed_forward(norm(x)).

    Attributes:
        heads: of the attention.
        reduction: side of the windows that make a key and a value each; 1 is a key for each position.
        drop_path: rate at which a residual is dropped in training.
        dtype: of the computation.
    """

    heads: int
    reduction: int
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, h, w, c] from x float [b, h, w, c]."""
        for residual, name in ((self._attention, "norm1"), (self._feed_forward, "norm2")):
            y = residual(LayerNorm(dtype=self.dtype, name=name)(x))
            x = x + stages.DropPath(self.drop_path)(y, train=train)
        return x

    def _attention(self, x):
        """Attend from each position to the reduced grid; rows and columns that do not fill a window have no key."""
        b, h, w, c = x.shape
        context = x
        if self.reduction > 1:
            context = layers.PatchConv(c, self.reduction, dtype=self.dtype, name="attn_sr")(x)
            context = LayerNorm(EMBEDDING_EPSILON, self.dtype, name="attn_norm")(context)
        query = linear(c, dtype=self.dtype, name="attn_q")(x).reshape(b, h * w, self.heads, -1)
        both = linear(2 * c, dtype=self.dtype, name="attn_kv")(context).reshape(b, -1, 2, self.heads, c // self.heads)
        y = attention(query, both[:, :, 0], both[:, :, 1]).reshape(b, h, w, c)
        return linear(c, dtype=self.dtype, name="attn_proj")(y)

    def _feed_forward(self, x):
        y = linear(EXPANSION * x.shape[-1], dtype=self.dtype, name="mlp_fc1")(x)
        y = layers.DepthwiseConv(dtype=self.dtype, name="mlp_dwconv_dwconv")(y)
        return linear(x.shape[-1], dtype=self.dtype, name="mlp_fc2")(nn.gelu(y, approximate=False))
