"""FCN: a classification network made convolutional, with its scores upsampled and refined from earlier layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import convolution, layers, norms
from gan_seg_jax.models.backbones import create_backbone
from gan_seg_jax.models.network import SEGMENTATION, Network

STRIDES = (32, 16, 8)
SMALLEST = 32


class FCN(Network):
    """Score the last feature map of a backbone, and add scores of c4 (stride 16) and c3 (stride 8) on the way up.

    Long, Shelhamer and Darrell 2015 (https://arxiv.org/abs/1411.4038), with the coarsest scores
    s5 = score(fc7(fc6(c5))):

        FCN-32s: up32(s5)
        FCN-16s: up16(s4), s4 = up2(s5) + score(c4)
        FCN-8s:  up8(s3),  s3 = up2(s4) + score(c3)

    As in the paper the up2 are transposed 4x4 convolutions that start as bilinear interpolation and learn, the last
    step is fixed bilinear interpolation, and the score layers start at zero. Differences: fc6 keeps the size (the
    paper pads the image by 100 pixels and crops) and starts afresh; the strides are trained at once rather than one
    after the other; c3 and c4 are not scaled before they are scored.

    Attributes:
        num_classes: number of output channels.
        stride: of the finest scores: 32, 16 or 8.
        backbone: a name in `backbones.BACKBONES`.
        backbone_width: factor of the backbone's channel counts.
        norm: of the backbone, fc6 and fc7; with the backbone `vgg16` there is none.
        head_channels: of fc6 and fc7.
        head_kernel: side of fc6's kernel, odd.
        dropout: rate after fc6 and fc7.
        kernel_init: of fc6 and fc7: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION,)

    num_classes: int
    stride: int = 8
    backbone: str = "vgg16"
    backbone_width: float = 1.0
    norm: str = "batch"
    head_channels: int = 4096
    head_kernel: int = 7
    dropout: float = 0.5
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array:
        """Return the class logits of each pixel.

        Args:
            image: float [b, h, w, 3] in [-1, 1], of any size from 32x32.
            train: whether norms use the statistics of this batch, and dropout (key "dropout") is on.

        Returns:
            float32 [b, h, w, num_classes], class logits.

        Raises:
            InputError: the stride is not one of the three, the head's kernel is even, or the image is too small.
        """
        if self.stride not in STRIDES:
            raise InputError(f"FCN has stride {self.stride}; choose 32, 16 or 8.")
        if self.head_kernel % 2 == 0:
            raise InputError(f"FCN has head_kernel {self.head_kernel}, which has no centre; choose an odd number.")
        if image.shape[1] < SMALLEST or image.shape[2] < SMALLEST:
            raise InputError(
                f"FCN with a backbone of output stride 32 needs images of at least {SMALLEST}x{SMALLEST} pixels, found "
                f"{image.shape[1]}x{image.shape[2]}; use larger images or a larger crop_size and canvas_size."
            )
        backbone = create_backbone(
            self.backbone, output_stride=32, norm=self.norm, width=self.backbone_width, dtype=self.dtype
        )
        features = backbone(image, train=train)
        x = self._full(features["c5"], self.head_kernel, "fc6", train=train)
        x = self._full(x, 1, "fc7", train=train)
        self.sow("intermediates", "decoder", x)
        scores = self._score(x, "score_5")
        for name, stride in (("c4", 16), ("c3", 8)):
            if stride < self.stride:
                break
            skip = features[name]
            scores = _fit(UpBilinear(self.dtype, name=f"up_{name}")(scores), skip.shape[1:3])
            scores = scores + self._score(skip, f"score_{name[1]}")
        return layers.resize_logits(scores, image.shape[1:3])

    def _full(self, x, kernel, name, *, train):
        """Return dropout(relu(norm(convolution))): a fully connected layer of the classifier, made convolutional."""
        norm = "none" if self.backbone == "vgg16" else self.norm
        options = {"bias": norm == "none", "kernel_init": self.kernel_init, "dtype": self.dtype, "name": name}
        if kernel == 1:
            x = layers.Conv1x1(self.head_channels, **options)(x)
        else:
            x = layers.Conv(self.head_channels, kernel, **options)(x)
        x = nn.relu(norms.Norm(norm, self.dtype, name=f"{name}_norm")(x, train=train))
        return nn.Dropout(self.dropout, name=f"{name}_dropout")(x, deterministic=not train)

    def _score(self, x, name):
        return layers.Conv1x1(self.num_classes, kernel_init=0.0, dtype=self.dtype, name=name)(x)


class UpBilinear(nn.Module):
    """Double the size by a transposed 4x4 convolution that starts as bilinear interpolation of each channel.

    At the border it interpolates towards zero, as the paper's does.

    Attributes:
        dtype: of the computation.
    """

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return float [b, 2h, 2w, c] from x float [b, h, w, c]."""

        def bilinear(key, shape, dtype):
            taps = jnp.array([0.25, 0.75, 0.75, 0.25], dtype)
            return jnp.einsum("k,l,io->klio", taps, taps, jnp.eye(shape[-1], dtype=dtype))

        w = self.param("kernel", bilinear, (4, 4, x.shape[-1], x.shape[-1]), jnp.float32)
        return convolution.up(x.astype(self.dtype), w.astype(self.dtype))


def _fit(x, size):
    """Crop to `size`, or repeat the last row or column where x is one short (a pooling that dropped an odd one)."""
    missing = [max(0, wanted - found) for wanted, found in zip(size, x.shape[1:3], strict=True)]
    x = jnp.pad(x, ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0)), mode="edge") if any(missing) else x
    return x[:, : size[0], : size[1]]
