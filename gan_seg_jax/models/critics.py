"""Critics that return features instead of scores (SegAN)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers, norms
from gan_seg_jax.models.network import FEATURES, Network


class SegANCritic(Network):
    """Return the features of a masked image at seven scales (SegAN: Xue et al. 2018, https://arxiv.org/abs/1706.01805).

    Six convolutions of stride 2 and no bias, each with LeakyReLU 0.2 and all but the first with a norm: 7x7x64,
    5x5x128, 4x4x256, 4x4x512, 4x4x512, 3x3x512. The game is about the mean absolute difference between what the critic
    makes of the image times the true mask and of the image times the predicted one, over the input and all six maps.
    Layers, channels and norms are those of the released code for ISIC; the weights of the scales are the loss's.

    Attributes:
        channels: of the first layer; doubled by each, at most 8 times.
        norm: "batch", "instance", "layer", "group" or "none".
        kernel_init: "he", "lecun" or a standard deviation; the released code draws with He's for the outputs.
        dtype: of the computation.
    """

    MAKES = (FEATURES,)

    channels: int = 64
    norm: str = "batch"
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, *inputs: jax.Array, train: bool) -> tuple[jax.Array, ...]:
        """Return the input and the features.

        Args:
            *inputs: float [b, h, w, c_i], any number, concatenated on channels: image times mask, for each class.
            train: whether norms use the statistics of this batch.

        Returns:
            float32 [b, h, w, c], the input, and six maps float32 [b, h / 2^i, w / 2^i, c_i], i = 1..6, finest first.

        Raises:
            InputError: the inputs are too small for six halvings.
        """
        x = jnp.concatenate([x.astype(jnp.float32) for x in inputs], axis=-1)
        if min(x.shape[1:3]) < 32:
            found = f"{x.shape[1]}x{x.shape[2]}"
            raise InputError(f"SegANCritic needs inputs of at least 32x32, found {found}; use larger ones.")
        features = [x]
        for level, kernel in enumerate((7, 5, 4, 4, 4, 3)):
            options = {"bias": False, "kernel_init": self.kernel_init, "dtype": self.dtype, "name": f"conv_{level}"}
            width = self.channels * min(2**level, 8)
            if kernel == 4:
                x = layers.DownConv(width, **options)(x)
            else:
                x = layers.Conv(width, kernel, stride=2, padding=kernel // 2, **options)(x)
            if level:
                x = norms.Norm(self.norm, self.dtype, name=f"norm_{level}")(x, train=train)
            x = nn.leaky_relu(x, 0.2)
            features.append(x.astype(jnp.float32))
        return tuple(features)
