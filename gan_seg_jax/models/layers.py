"""The layers that networks are made of: convolutions and resizing, as thin Flax modules.

Parameters are float32; `dtype` is the type of the computation and of the result. Convolutions take `kernel_init` ("he",
"lecun" or the standard deviation of a normal distribution), the dense ones `spectral` too (spectral normalisation of
the kernel). The poolings of `models.pooling` are here under the same names.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.augment import resample
from gan_seg_jax.errors import InputError
from gan_seg_jax.models import convolution
from gan_seg_jax.models.norms import Norm
from gan_seg_jax.models.pooling import max_pool, max_pool_with_indices, max_unpool

__all__ = [
    "Conv",
    "Conv1x1",
    "DepthwiseConv",
    "DownConv",
    "PatchConv",
    "SeparableConv",
    "UpConv",
    "enlarge",
    "max_pool",
    "max_pool_with_indices",
    "max_unpool",
    "pad_to_multiple",
    "resize",
    "resize_logits",
]


class Conv(nn.Module):
    """Convolve with any kernel size, stride and rate (dilation): the native operation, to few channels products on CPU.

    Attributes:
        features: number of output channels.
        kernel: side of the kernel.
        stride: step of the window.
        rate: distance between the taps of the kernel (atrous convolution).
        padding: zeros on each of the four sides; None keeps the size at stride 1 (odd kernels).
        bias: whether to add a bias (leave out before a norm).
        spectral: divide the kernel by its largest singular value.
        kernel_init: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    rate: int = 1
    padding: int | None = None
    bias: bool = True
    spectral: bool = False
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return float [b, h', w', features] with h' = floor((h + 2 padding - rate (kernel - 1) - 1) / stride) + 1.

        Args:
            x: float [b, h, w, c].
            train: with `spectral`, improve the estimate of the singular value and store it.
        """
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        w = _kernel(self, shape, fan_in=self.kernel**2 * x.shape[-1], train=train)
        pad = self.rate * (self.kernel - 1) // 2 if self.padding is None else self.padding
        if convolution.is_narrow(w.shape, self.stride):
            return _add_bias(self, convolution.narrow(x.astype(self.dtype), w, pad, self.rate))
        y = jax.lax.conv_general_dilated(
            x.astype(self.dtype),
            w,
            (self.stride, self.stride),
            ((pad, pad), (pad, pad)),
            rhs_dilation=(self.rate, self.rate),
            dimension_numbers=convolution.NHWC,
        )
        return _add_bias(self, y)


class Conv1x1(nn.Module):
    """Convolve 1x1: a matrix product on CPU (2 to 3 times faster there), the native operation elsewhere.

    Attributes: as `Conv`.
    """

    features: int
    bias: bool = True
    spectral: bool = False
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return float [b, h, w, features] from x float [b, h, w, c]; `train` as in `Conv`."""
        w = _kernel(self, (1, 1, x.shape[-1], self.features), fan_in=x.shape[-1], train=train)
        return _add_bias(self, convolution.pointwise(x.astype(self.dtype), w))


class DownConv(nn.Module):
    """Convolve 4x4 with stride 2 and pad 1, which halves the size (rounded down).

    Attributes: as `Conv`.
    """

    features: int
    bias: bool = True
    spectral: bool = False
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return float [b, floor(h / 2), floor(w / 2), features] from x float [b, h, w, c]; `train` as in `Conv`."""
        height, width, channels = x.shape[1:]
        w = _kernel(self, (4, 4, channels, self.features), fan_in=16 * channels, train=train)
        y = convolution.down(pad_to_multiple(x.astype(self.dtype), 2), w)
        return _add_bias(self, y[:, : height // 2, : width // 2])  # an odd size has no window for the padded pixel


class UpConv(nn.Module):
    """Convolve 4x4 with stride 2, transposed, with pad 1, which doubles the size exactly.

    The kernel is stored [4, 4, features, c], as that of the `DownConv` whose transpose this is.

    Attributes: as `Conv`.
    """

    features: int
    bias: bool = True
    spectral: bool = False
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Return float [b, 2h, 2w, features] from x float [b, h, w, c]; `train` as in `Conv`."""
        channels = x.shape[-1]
        w = _kernel(self, (4, 4, self.features, channels), fan_in=4 * channels, train=train)  # 2x2 taps reach a pixel
        return _add_bias(self, convolution.up(x.astype(self.dtype), w))


class DepthwiseConv(nn.Module):
    """Convolve each channel with a kernel of its own: shifted products on CPU, the native operation elsewhere.

    The kernel is stored [kernel, kernel, 1, c].

    Attributes: as `Conv`; zeros on each side keep the size at stride 1.
    """

    kernel: int = 3
    stride: int = 1
    rate: int = 1
    bias: bool = True
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return float [b, ceil(h / stride), ceil(w / stride), c] from x float [b, h, w, c].

        Raises:
            InputError: the kernel's side is even.
        """
        if self.kernel % 2 == 0:
            raise InputError(f"A depthwise convolution of side {self.kernel} has no centre; give it an odd side.")
        shape = (self.kernel, self.kernel, 1, x.shape[-1])
        w = _kernel(self, shape, fan_in=self.kernel**2)
        y = convolution.depthwise(x.astype(self.dtype), w, self.stride, self.rate)
        return _add_bias(self, y)


class PatchConv(nn.Module):
    """Convolve windows side by side, of a stride equal to the kernel: one matrix product on every platform.

    Attributes: as `Conv`; rows and columns at the end that do not fill a window are left out.
    """

    features: int
    kernel: int
    bias: bool = True
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return float [b, floor(h / kernel), floor(w / kernel), features] from x float [b, h, w, c]."""
        k, (b, height, width, channels) = self.kernel, x.shape
        w = _kernel(self, (k, k, channels, self.features), fan_in=k**2 * channels)
        rows, columns = height // k, width // k
        windows = x[:, : rows * k, : columns * k].reshape(b, rows, k, columns, k, channels)
        return _add_bias(self, jnp.einsum("bhkwlc,klco->bhwo", windows.astype(self.dtype), w))


class SeparableConv(nn.Module):
    """Convolve each channel, then mix the channels by a 1x1 convolution (DeepLab v3+, https://arxiv.org/abs/1802.02611).

    relu(norm(pointwise(relu(norm(depthwise(x)))))), as in DeepLab v3+'s decoder and ASPP.

    Attributes:
        features: number of output channels.
        kernel: side of the depthwise kernel, odd.
        stride: of the depthwise convolution.
        rate: of the depthwise convolution.
        norm: kind of `Norm`, after each of the two.
        kernel_init: "he", "lecun" or a standard deviation.
        dtype: of the computation.
    """

    features: int
    kernel: int = 3
    stride: int = 1
    rate: int = 1
    norm: str = "batch"
    kernel_init: str | float = "he"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, ceil(h / stride), ceil(w / stride), features] from x float [b, h, w, c]."""
        options = {"bias": self.norm == "none", "kernel_init": self.kernel_init, "dtype": self.dtype}
        x = DepthwiseConv(self.kernel, self.stride, self.rate, **options, name="depthwise")(x)
        x = nn.relu(Norm(self.norm, self.dtype, name="depthwise_norm")(x, train=train))
        x = Conv1x1(self.features, **options, name="pointwise")(x)
        return nn.relu(Norm(self.norm, self.dtype, name="pointwise_norm")(x, train=train))


def pad_to_multiple(x: jax.Array, multiple: int) -> jax.Array:
    """Return x float [b, h, w, c] with zeros at the bottom and right up to the next multiple of both sizes."""
    bottom, right = -x.shape[1] % multiple, -x.shape[2] % multiple
    return jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0))) if bottom or right else x


@functools.partial(jax.jit, static_argnames="size", inline=True)  # traced once for a shape
def resize_logits(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Resize by bilinear interpolation (half-pixel centres, anti-aliased when shrinking).

    Args:
        x: float [b, h, w, c].
        size: height and width of the result (static).

    Returns:
        float32 [b, *size, c].
    """

    def weights(in_size, out_size):
        coordinates = resample.source_coordinates(out_size, start=0.0, step=in_size / out_size)
        return resample.bilinear_weights(coordinates, in_size=in_size, content=in_size)

    if x.shape[1:3] == tuple(size):
        return x.astype(jnp.float32)
    rows, columns = weights(x.shape[1], size[0]), weights(x.shape[2], size[1])
    return jax.vmap(resample.apply_weights, in_axes=(0, None, None))(x.astype(jnp.float32), rows, columns)


def resize(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Return float [b, *size, c] of x's dtype: a feature map resized as by `resize_logits`."""
    return resize_logits(x, size).astype(x.dtype)


def enlarge(x: jax.Array, size: tuple[int, int]) -> jax.Array:
    """Return float [b, *size, c]: each pixel 2x2 times, less what is too much; resized to sizes that this has not."""
    if all(-(-length // 2) == old for length, old in zip(size, x.shape[1:3], strict=True)):
        return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)[:, : size[0], : size[1]]
    return resize(x, size)


def _kernel(module, shape, *, fan_in, train=False):
    kernel = module.param("kernel", initializer(module.kernel_init, fan_in), shape, jnp.float32)
    if getattr(module, "spectral", False):
        kernel = _spectral_normalize(module, kernel, train=train)
    return kernel.astype(module.dtype)


def initializer(init, fan_in):
    """Return the initializer of a kernel that sums `fan_in` products (He et al. 2015; LeCun et al. 1998).

    A standard deviation may be a string, so that a field of a config can hold either kind of choice.
    """
    gains = {"he": 2.0, "lecun": 1.0}
    try:
        scale = math.sqrt(gains[init] / fan_in) if init in gains else float(init)
    except ValueError as error:
        raise InputError(f"Initialisation {init!r} is unknown; choose he, lecun or a standard deviation.") from error

    def draw(key, shape, dtype):
        # Flat: XLA CPU takes four times as long to compile a draw of four axes (seconds for a whole network).
        return scale * jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape)

    return draw


def _spectral_normalize(module, kernel, *, train):
    """Divide the kernel, as a matrix [rest, features], by its largest singular value (Miyato et al. 2018).

    One step of the power iteration a training pass, kept in "batch_stats". Flax's own module would do, but it stores
    its vectors under names with slashes.
    """
    matrix = kernel.reshape(-1, kernel.shape[-1])

    def iterate(u):
        v = _unit(jax.lax.stop_gradient(matrix) @ u)
        return v, _unit(v @ jax.lax.stop_gradient(matrix))

    def first():
        u = _unit(jax.random.normal(module.make_rng("params"), (matrix.shape[1],)))
        return jax.lax.fori_loop(0, 10, lambda _, u: iterate(u)[1], u)

    u = module.variable("batch_stats", "u", first)
    v, improved = iterate(u.value)
    if train and not module.is_initializing() and module.is_mutable_collection("batch_stats"):
        u.value = improved
    return kernel / (v @ matrix @ improved)  # of length 1, which a running average of such vectors has not


def _unit(x):
    return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)


def _add_bias(module, y):
    if not module.bias:
        return y
    return y + module.param("bias", nn.initializers.zeros, y.shape[-1:], jnp.float32).astype(y.dtype)
