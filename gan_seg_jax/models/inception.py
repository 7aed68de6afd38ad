"""Inception v3 without its classifier, the feature network of the published Frechet distances ("FID").

Szegedy et al., "Rethinking the Inception Architecture for Computer Vision", CVPR 2016, arXiv:1512.00567; to score
generators by: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", 2017, arXiv:1706.08500. Inference only.

The user brings the weights as a .safetensors file; both published networks have the same keys, which are the names here
("Mixed_5b.branch1x1.bn.running_mean" is `batch_stats["Mixed_5b"]["branch1x1"]["bn"]["mean"]`):

    torchvision   torchvision.models.inception_v3, trained in TensorFlow slim and ported
    fid           the network of 2015 (1008 classes) that FID was defined with, as ported by pytorch-fid
                  (pt_inception-2015-12-05-6726825d.pth): its average pooling does not count the padding, and the
                  pooling branch of the last block takes the maximum

Images are resized to 299x299 by bilinear interpolation with pixel centres at half integers. pytorch-fid does so inside
the network and without anti-aliasing when shrinking (`torch.nn.functional.interpolate`), which is the default here;
`antialias` widens the kernel to the step, as Pillow does. clean-fid (Parmar, Zhang and Zhu, "On Aliased Resizing",
CVPR 2022, arXiv:2104.11222) resizes each image before the network by Pillow's anti-aliased bicubic kernel, in float,
and shows that the filter alone moves the distance. For its numbers resize so beforehand: images of 299x299 pass
unchanged. It also maps x of 0..255 to (x - 128) / 128, which differs from [-1, 1] by less than 0.01.

Distances compare only at the same variant, weights, filter and number of images.
"""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util

from gan_seg_jax.errors import unknown
from gan_seg_jax.models import pretrained
from gan_seg_jax.models.pooling import max_pool

VARIANTS = ("torchvision", "fid")
SIZE = 299
FEATURES = 2048
EPSILON = 1e-3  # of every BatchNorm; the other networks have 1e-5


def load_inception(source: str, *, variant: str = "fid", antialias: bool = False) -> tuple["InceptionV3", dict]:
    """Return the network and the weights in a file.

    Args:
        source: a .safetensors file, or "hf:OWNER/NAME[@REVISION]"; the classifiers (`fc`, `AuxLogits`) are left out.
            The keys do not say which network a file is of: name it by `variant`.
        variant: "torchvision" or "fid".
        antialias: whether resizing is anti-aliased where it shrinks.

    Returns:
        (module, {"params", "batch_stats"}), for `features`.

    Raises:
        InputError: `variant` is unknown, or the file cannot be read, is no safetensors file or holds other weights.
    """
    if variant not in VARIANTS:
        raise unknown("variant of Inception", variant, VARIANTS)
    module = InceptionV3(variant, antialias)
    shapes = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct((1, SIZE, SIZE, 3), jnp.float32))
    leaves = traverse_util.flatten_dict(shapes)
    paths = {pretrained.torch_key(path[1:]): path for path in leaves}
    wanted = {key: leaves[path] for key, path in paths.items()}
    hint = "Give the state dict of torchvision's inception_v3 or of pytorch-fid's network."
    read = pretrained.read_weights(source, wanted, network="Inception v3", hint=hint)
    return module, traverse_util.unflatten_dict({paths[key]: value for key, value in read.items()})


@functools.partial(jax.jit, static_argnums=0)
def features(module: "InceptionV3", variables: dict, images: jax.Array) -> jax.Array:
    """Return the pooled features of images, compiled once for each of their shapes.

    Args:
        module: the network.
        variables: its weights; both from `load_inception`.
        images: float [b, h, w, 3] in [-1, 1], of any size.

    Returns:
        float32 [b, 2048].
    """
    return module.apply(variables, images)


class InceptionV3(nn.Module):
    """Map images to the features that the classifier would see.

    Attributes:
        variant: one of `VARIANTS`.
        antialias: whether resizing to 299x299 is anti-aliased where it shrinks.
    """

    variant: str = "fid"
    antialias: bool = False

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Return float32 [b, 2048] from float [b, h, w, 3] in [-1, 1]."""
        chex.assert_shape(images, (None, None, None, 3))
        count_padding = self.variant == "torchvision"
        last_pool = "average" if self.variant == "torchvision" else "max"
        x = resize(images, antialias=self.antialias)
        x = Conv(32, 3, stride=2, name="Conv2d_1a_3x3")(x)
        x = Conv(32, 3, name="Conv2d_2a_3x3")(x)
        x = Conv(64, 3, padding=1, name="Conv2d_2b_3x3")(x)
        x = max_pool(x, 3, stride=2)
        x = Conv(80, 1, name="Conv2d_3b_1x1")(x)
        x = Conv(192, 3, name="Conv2d_4a_3x3")(x)
        x = max_pool(x, 3, stride=2)
        for name, pooled in (("Mixed_5b", 32), ("Mixed_5c", 64), ("Mixed_5d", 64)):
            x = BlockA(pooled, count_padding, name=name)(x)
        x = BlockB(name="Mixed_6a")(x)
        for name, channels in (("Mixed_6b", 128), ("Mixed_6c", 160), ("Mixed_6d", 160), ("Mixed_6e", 192)):
            x = BlockC(channels, count_padding, name=name)(x)
        x = BlockD(name="Mixed_7a")(x)
        x = BlockE("average", count_padding, name="Mixed_7b")(x)
        x = BlockE(last_pool, count_padding, name="Mixed_7c")(x)
        return jnp.mean(x, axis=(1, 2))


def resize(images: jax.Array, *, antialias: bool) -> jax.Array:
    """Return images float [b, h, w, 3] as float32 [b, 299, 299, 3]; see the module's docstring."""
    shape = (images.shape[0], SIZE, SIZE, 3)
    return jax.image.resize(images.astype(jnp.float32), shape, "linear", antialias=antialias)


def average_pool(x: jax.Array, *, count_padding: bool) -> jax.Array:
    """Return the 3x3 means of x float [b, h, w, c], of its own size.

    Args:
        x: float [b, h, w, c].
        count_padding: True divides by 9 everywhere, zeros around the map included; False, at the border, by the number
            of values there are.
    """
    return nn.avg_pool(x, (3, 3), padding=((1, 1), (1, 1)), count_include_pad=count_padding)


class Conv(nn.Module):
    """Compute relu(norm(convolve(x))) with the stored statistics, in float32.

    Attributes:
        features: number of output channels.
        kernel: side of the kernel, or its height and width.
        stride: of the window.
        padding: zeros on each side, or above and below and on the left and right.
    """

    features: int
    kernel: int | tuple[int, int]
    stride: int = 1
    padding: int | tuple[int, int] = 0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return float32 [b, h', w', features] from x float32 [b, h, w, c]."""
        pair = lambda value: (value, value) if isinstance(value, int) else value
        x = nn.Conv(
            self.features,
            pair(self.kernel),
            strides=self.stride,
            padding=[(n, n) for n in pair(self.padding)],
            use_bias=False,
            precision=jax.lax.Precision.HIGHEST,
            name="conv",
        )(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=EPSILON, name="bn")(x))


class BlockA(nn.Module):
    """Branches of 1x1, 5x5, twice 3x3, and pooling.

    Attributes:
        pooled: channels of the pooling branch.
        count_padding: of `average_pool`.
    """

    pooled: int
    count_padding: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return float32 [b, h, w, 224 + pooled] from x float32 [b, h, w, c]."""
        five = Conv(48, 1, name="branch5x5_1")(x)
        five = Conv(64, 5, padding=2, name="branch5x5_2")(five)
        three = Conv(64, 1, name="branch3x3dbl_1")(x)
        three = Conv(96, 3, padding=1, name="branch3x3dbl_2")(three)
        three = Conv(96, 3, padding=1, name="branch3x3dbl_3")(three)
        pool = Conv(self.pooled, 1, name="branch_pool")(average_pool(x, count_padding=self.count_padding))
        return jnp.concatenate([Conv(64, 1, name="branch1x1")(x), five, three, pool], axis=-1)


class BlockB(nn.Module):
    """Halve the map: 3x3, twice 3x3, and max pooling, all with stride 2."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return float32 [b, h', w', 480 + c] from x float32 [b, h, w, c], h' = floor((h - 1) / 2)."""
        three = Conv(64, 1, name="branch3x3dbl_1")(x)
        three = Conv(96, 3, padding=1, name="branch3x3dbl_2")(three)
        three = Conv(96, 3, stride=2, name="branch3x3dbl_3")(three)
        return jnp.concatenate([Conv(384, 3, stride=2, name="branch3x3")(x), three, max_pool(x, 3, stride=2)], axis=-1)


class BlockC(nn.Module):
    """Branches of 1x1, 7x7 and twice 7x7 as rows and columns, and pooling.

    Attributes:
        channels: inside of the branches.
        count_padding: of `average_pool`.
    """

    channels: int
    count_padding: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return float32 [b, h, w, 768] from x float32 [b, h, w, c]."""
        seven = Conv(self.channels, 1, name="branch7x7_1")(x)
        seven = _row(self.channels, 7, "branch7x7_2")(seven)
        seven = _column(192, 7, "branch7x7_3")(seven)
        twice = Conv(self.channels, 1, name="branch7x7dbl_1")(x)
        twice = _column(self.channels, 7, "branch7x7dbl_2")(twice)
        twice = _row(self.channels, 7, "branch7x7dbl_3")(twice)
        twice = _column(self.channels, 7, "branch7x7dbl_4")(twice)
        twice = _row(192, 7, "branch7x7dbl_5")(twice)
        pool = Conv(192, 1, name="branch_pool")(average_pool(x, count_padding=self.count_padding))
        return jnp.concatenate([Conv(192, 1, name="branch1x1")(x), seven, twice, pool], axis=-1)


class BlockD(nn.Module):
    """Halve the map: 3x3, 7x7 and 3x3, and max pooling, all with stride 2."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return float32 [b, h', w', 512 + c] from x float32 [b, h, w, c], h' = floor((h - 1) / 2)."""
        three = Conv(320, 3, stride=2, name="branch3x3_2")(Conv(192, 1, name="branch3x3_1")(x))
        seven = Conv(192, 1, name="branch7x7x3_1")(x)
        seven = _row(192, 7, "branch7x7x3_2")(seven)
        seven = _column(192, 7, "branch7x7x3_3")(seven)
        seven = Conv(192, 3, stride=2, name="branch7x7x3_4")(seven)
        return jnp.concatenate([three, seven, max_pool(x, 3, stride=2)], axis=-1)


class BlockE(nn.Module):
    """Branches of 1x1, 3x3 and twice 3x3 that end in a row and a column side by side, and pooling.

    Attributes:
        pool: "average" or "max".
        count_padding: of `average_pool`.
    """

    pool: str
    count_padding: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return float32 [b, h, w, 2048] from x float32 [b, h, w, c]."""
        three = Conv(384, 1, name="branch3x3_1")(x)
        three = [_row(384, 3, "branch3x3_2a")(three), _column(384, 3, "branch3x3_2b")(three)]
        twice = Conv(384, 3, padding=1, name="branch3x3dbl_2")(Conv(448, 1, name="branch3x3dbl_1")(x))
        twice = [_row(384, 3, "branch3x3dbl_3a")(twice), _column(384, 3, "branch3x3dbl_3b")(twice)]
        average = self.pool == "average"
        pool = average_pool(x, count_padding=self.count_padding) if average else max_pool(x, 3, stride=1, padding=1)
        pool = Conv(192, 1, name="branch_pool")(pool)
        return jnp.concatenate([Conv(320, 1, name="branch1x1")(x), *three, *twice, pool], axis=-1)


def _row(features, side, name):
    return Conv(features, (1, side), padding=(0, side // 2), name=name)


def _column(features, side, name):
    return Conv(features, (side, 1), padding=(side // 2, 0), name=name)
