"""Plain vision transformers in DINOv2's form, ViT-S/14 and ViT-B/14, with or without registers.

The ViT of Dosovitskiy et al. 2021 (https://arxiv.org/abs/2010.11929) with LayerScale (Touvron et al. 2021,
https://arxiv.org/abs/2103.17239), as DINOv2 trains it (Oquab et al. 2023, https://arxiv.org/abs/2304.07193); registers
are four more tokens that belong to no patch (Darcet et al. 2023, https://arxiv.org/abs/2309.16588).
"""

import math
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from gan_seg_jax.augment import resample
from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers, stages
from gan_seg_jax.models.attention import LINEAR_INIT, attention, linear
from gan_seg_jax.models.norms import LayerNorm

PATCH = 14  # pixels a side
GRID = 37  # positions a side, of the images of 518 pixels on which the weights were trained last
EXPANSION = 4  # of the feed-forward layers
LAYER_SCALE = 1e-5  # of a residual at the start

# Names in transformers and timm -> the authors'.
_WHOLE = {
    "reg_token": "register_tokens",  # timm
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.position_embeddings": "pos_embed",
}
_MODULES = {"embeddings.patch_embeddings.projection": "patch_embed.proj", "layernorm": "norm"}
_BLOCK = re.compile(r"encoder\.layer\.(\d+)\.(.+)\.(\w+)")
_LAYERS = {
    "norm1": "norm1",
    "attention.attention.query": "attn.qkv",
    "attention.attention.key": "attn.qkv",
    "attention.attention.value": "attn.qkv",
    "attention.output.dense": "attn.proj",
    "layer_scale1": "ls1",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
    "layer_scale2": "ls2",
}
_PIECES = {
    "attention.attention.query": "[0/3]",
    "attention.attention.key": "[1/3]",
    "attention.attention.value": "[2/3]",
}


class VisionTransformer(stages.Backbone):
    """Map an image to the layer-normalised patch tokens of four evenly spaced blocks.

    An image whose sides are no multiples of 14 is enlarged to the next ones (bilinear, half-pixel centres), so that the
    maps cover the image exactly; the authors pad it for segmentation, which shifts what is mapped back. The position
    embeddings of 37x37 patches are resized to the grid of the image: bicubic without anti-aliasing, with registers with
    it, as in transformers. The authors' code without registers also shifts the samples by 0.1 patches in all, of which
    it says itself that it is historical.

    Names of parameters are those of the authors ("blocks.0.attn.qkv"). Weights of timm with registers are refused: its
    class token has its position added, and its `pos_embed` lacks it; those of transformers are the authors'.

    Attributes:
        depth: number of blocks, a multiple of 4.
        heads: of the attention.
        head_channels: of each head.
        registers: number of tokens beside the class token.
        output_stride: 32, which stands for the stride of all maps, 14.
        width: factor on the channels of a head.
        drop_path: rate at which the last block's residuals are dropped in training, rising linearly from 0 at the
            first.
        dtype: of the computation.
    """

    depth: int = 12
    heads: int = 6
    head_channels: int = 64
    registers: int = 0
    output_stride: int = 32
    width: float = 1.0
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        """Return "c2" to "c5", float [b, ceil(h / 14), ceil(w / 14), c]: after each quarter of the blocks.

        Args:
            image: float [b, h, w, 3] in [-1, 1], of any size.
            train: whether residuals are dropped (key "dropout"), where `drop_path` is not 0.

        Raises:
            InputError: an `output_stride` other than 32.
        """
        if self.output_stride != 32:
            raise InputError(
                f"A vision transformer has the stride of its patches, {PATCH}, and no other: found output_stride "
                f"{self.output_stride}, leave it at 32."
            )
        x, (rows, columns) = self._tokens(image)
        norm, features = LayerNorm(dtype=self.dtype, name="norm"), {}
        for index, rate in enumerate(stages.drop_paths(self.drop_path, self.depth)):
            x = Block(self.heads, rate, self.dtype, name=f"blocks_{index}")(x, train=train)
            quarters, rest = divmod(4 * (index + 1), self.depth)
            if rest == 0:
                patches = norm(x[:, 1 + self.registers :])
                features[f"c{1 + quarters}"] = patches.reshape(*patches.shape[:1], rows, columns, patches.shape[-1])
        self.sow("intermediates", "encoder", features["c5"])
        return features

    def own_key(self, key: str) -> str:
        """Return the authors' key; transformers' (query, key and value are pieces of "qkv") and timm's are known."""
        if key in _WHOLE:
            return _WHOLE[key]
        if (found := _BLOCK.fullmatch(key)) and found[2] in _LAYERS:
            number, layer, leaf = found.groups()
            piece = _PIECES[layer] if layer in _PIECES else ""
            return f"blocks.{number}.{_LAYERS[layer]}.{'gamma' if leaf == 'lambda1' else leaf}{piece}"
        module, _, leaf = key.rpartition(".")
        return f"{_MODULES[module]}.{leaf}" if module in _MODULES else key

    def unused(self, key: str) -> bool:
        """Tell whether this is the token of masked patches, which only pre-training has."""
        return key == "mask_token"

    def _tokens(self, image):
        """Return float [b, 1 + registers + rows * columns, c], and the rows and columns of the patches."""
        batch, *size, _ = image.shape
        size = tuple(PATCH * math.ceil(length / PATCH) for length in size)
        channels = self.heads * stages.scaled(self.head_channels, self.width)
        init = 1 / math.sqrt(3 * 3 * PATCH**2)  # PyTorch's for a convolution
        embed = layers.PatchConv(channels, PATCH, kernel_init=init, dtype=self.dtype, name="patch_embed_proj")
        patches = embed(self.normalize(layers.resize_logits(image, size)))
        positions = self.param("pos_embed", nn.initializers.normal(LINEAR_INIT), (1, 1 + GRID**2, channels))
        grid = positions[0, 1:].reshape(GRID, GRID, channels)
        weights = (cubic_weights(GRID, length, antialias=self.registers > 0) for length in patches.shape[1:3])
        patches = patches + resample.apply_weights(grid, *weights).astype(self.dtype)
        first = [self.param("cls_token", nn.initializers.normal(1e-6), (1, 1, channels)) + positions[:, :1]]
        if self.registers:
            shape = (1, self.registers, channels)
            first.append(self.param("register_tokens", nn.initializers.normal(1e-6), shape))
        first = [jnp.broadcast_to(x.astype(self.dtype), (batch, *x.shape[1:])) for x in first]
        return jnp.concatenate([*first, patches.reshape(batch, -1, channels)], axis=1), patches.shape[1:3]


class Block(nn.Module):
    """Compute x + scale * attention(norm(x)), then x + scale * feed_forward(norm(x)), with a learned scale by channel.

    Attributes:
        heads: of the attention.
        drop_path: rate at which a residual is dropped in training.
        dtype: of the computation.
    """

    heads: int
    drop_path: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, n, c] from x float [b, n, c]."""
        for number, residual in enumerate((self._attention, self._feed_forward), start=1):
            y = residual(LayerNorm(dtype=self.dtype, name=f"norm{number}")(x))
            scale = self.param(f"ls{number}_gamma", nn.initializers.constant(LAYER_SCALE), x.shape[-1:])
            x = x + stages.DropPath(self.drop_path)(y * scale.astype(self.dtype), train=train)
        return x

    def _attention(self, x):
        b, n, c = x.shape
        qkv = linear(3 * c, dtype=self.dtype, name="attn_qkv")(x).reshape(b, n, 3, self.heads, c // self.heads)
        y = attention(*(qkv[:, :, index] for index in range(3))).reshape(x.shape)
        return linear(c, dtype=self.dtype, name="attn_proj")(y)

    def _feed_forward(self, x):
        y = nn.gelu(linear(EXPANSION * x.shape[-1], dtype=self.dtype, name="mlp_fc1")(x), approximate=False)
        return linear(x.shape[-1], dtype=self.dtype, name="mlp_fc2")(y)


def cubic_weights(in_size: int, out_size: int, *, antialias: bool) -> np.ndarray:
    """Return the matrix of cubic interpolation along an axis, as PyTorch has it, with half-pixel centres.

    The kernel (Keys 1981) is (a + 2)|t|^3 - (a + 3)|t|^2 + 1 up to |t| = 1 and a (|t|^3 - 5|t|^2 + 8|t| - 4) up to 2.
    Without anti-aliasing a is -0.75, and pixels beyond the border are those at it; with it a is -0.5, t is divided by
    the factor of shrinking, and weights beyond the border are left out.

    Args:
        in_size: number of source pixels.
        out_size: number of pixels of the result.
        antialias: see above.

    Returns:
        float32 [out_size, in_size], rows sum to 1.
    """
    step = in_size / out_size
    a, width = (-0.5, max(1.0, step)) if antialias else (-0.75, 1.0)
    beyond = math.ceil(2 * width)
    pixels = np.arange(-beyond, in_size + beyond)
    t = np.abs((np.arange(out_size)[:, None] + 0.5) * step - 0.5 - pixels) / width
    near, far = (a + 2) * t**3 - (a + 3) * t**2 + 1, a * (t**3 - 5 * t**2 + 8 * t - 4)
    kernel = np.where(t <= 1, near, np.where(t < 2, far, 0.0))
    weights = kernel[:, beyond:-beyond].copy()
    if antialias:
        weights /= weights.sum(axis=1, keepdims=True)
    else:
        weights[:, 0] += kernel[:, :beyond].sum(axis=1)
        weights[:, -1] += kernel[:, -beyond:].sum(axis=1)
    return weights.astype(np.float32)
