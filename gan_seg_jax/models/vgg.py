"""The VGG-16 backbone (Simonyan and Zisserman 2015, https://arxiv.org/abs/1409.1556), with stride turned into rates."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers, norms, stages

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))  # channels and number of 3x3 convolutions


class VGG16(stages.Backbone):
    """Map an image to the five pooled feature maps of VGG-16, without its fully connected layers.

    With output_stride 32 the pools are VGG's, 2x2 with stride 2 (an odd size loses its last row or column). With 8
    or 16 they are those of DeepLab v1's published network (Chen et al. 2015, https://arxiv.org/abs/1412.7062): 3x3
    with padding 1, the last ones with stride 1; the convolutions after a pool of stride 1 have rate 2.

    The names of parameters are torchvision's; every convolution has a bias there, also before a norm.

    Attributes:
        output_stride: 8, 16 or 32.
        norm: kind of `norms.Norm` after every convolution; "none" is the original network.
        width: factor on the channel counts.
        dtype: of the computation.
    """

    output_stride: int = 32
    norm: str = "none"
    width: float = 1.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> dict[str, jax.Array]:
        """Return "c1" to "c5", the pooled maps of nominal stride 2^i, at most output_stride.

        Args:
            image: float [b, h, w, 3] in [-1, 1]; any size, but at least 32x32 with output_stride 32.
            train: whether norms use the statistics of this batch.

        Returns:
            Float [b, h', w', c]; a size becomes floor(size / 2) in a pool of output_stride 32, else ceil(size / 2).

        Raises:
            InputError: an `output_stride` other than 8, 16 or 32, or an image too small for five pools.
        """
        plan = stages.atrous_stages((2,) * 5, self.output_stride, network="VGG-16")
        vgg_pools = self.output_stride == 32
        if vgg_pools and (image.shape[1] < 32 or image.shape[2] < 32):
            height, width = image.shape[1:3]
            raise InputError(
                f"VGG-16 with output_stride 32 halves the image five times, which {height}x{width} pixels do not "
                "allow; give images of at least 32x32 or output_stride 8 or 16."
            )
        x, features, index = self.normalize(image), {}, 0
        for number, ((channels, depth), stage) in enumerate(zip(STAGES, plan, strict=True), start=1):
            for _ in range(depth):
                options = {"rate": stage.first_rate, "dtype": self.dtype, "name": f"features_{index}"}
                x = layers.Conv(stages.scaled(channels, self.width), **options)(x)
                if self.norm != "none":
                    index += 1
                    x = norms.Norm(self.norm, self.dtype, name=f"features_{index}")(x, train=train)
                x = nn.relu(x)
                index += 2
            index += 1
            x = layers.max_pool(x, 2, stride=2) if vgg_pools else layers.max_pool(x, 3, stride=stage.stride, padding=1)
            features[f"c{number}"] = x
        self.sow("intermediates", "encoder", x)
        return features
