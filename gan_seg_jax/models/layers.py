"""The layers that networks are made of: convolutions, norms and resizing, as thin Flax modules.

Parameters are float32; `dtype` is the type of the computation and of the result. Every convolution takes `spectral`
(spectral normalisation of its kernel) and `kernel_init` ("he", "lecun" or the standard deviation of a normal
distribution).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax import resample
from gan_seg_jax.errors import InputError, unknown
from gan_seg_jax.models import convolution

NORMS = ("batch", "instance", "group", "none")


class Conv(nn.Module):
    """Convolve with any kernel size, stride and rate (dilation): the native operation on every platform.

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


class Norm(nn.Module):
    """Normalise by name: "batch", "instance", "group" (of up to 32 groups) or "none".

    Statistics are float32. Those of "batch" are over the whole batch: under `jax.jit` with a sharded batch, that is
    the global batch. Running averages have momentum 0.9.

    Attributes:
        kind: one of `NORMS`.
        dtype: of the result.
    """

    kind: str
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, h, w, c] from x float [b, h, w, c].

        Args:
            x: float [b, h, w, c].
            train: "batch" uses and stores the statistics of the batch, else its running averages.

        Raises:
            InputError: `kind` is not one of `NORMS`.
        """
        if self.kind == "batch":
            norm = nn.BatchNorm(momentum=0.9, epsilon=1e-5, dtype=self.dtype, name="batch")
            return norm(x, use_running_average=not train)
        if self.kind == "instance":
            return nn.InstanceNorm(epsilon=1e-5, dtype=self.dtype, name="instance")(x)
        if self.kind == "group":
            groups = math.gcd(32, x.shape[-1])
            return nn.GroupNorm(num_groups=groups, epsilon=1e-5, dtype=self.dtype, name="group")(x)
        if self.kind == "none":
            return x.astype(self.dtype)
        raise unknown("norm", self.kind, NORMS)


def pad_to_multiple(x: jax.Array, multiple: int) -> jax.Array:
    """Return x float [b, h, w, c] with zeros at the bottom and right up to the next multiple of both sizes."""
    bottom, right = -x.shape[1] % multiple, -x.shape[2] % multiple
    return jnp.pad(x, ((0, 0), (0, bottom), (0, right), (0, 0))) if bottom or right else x


def upsample_bilinear_2x(x: jax.Array) -> jax.Array:
    """Double the size by bilinear interpolation (half-pixel centres), with two taps per axis and no matrix product.

    Args:
        x: float [b, h, w, c].

    Returns:
        float [b, 2h, 2w, c], of x's dtype.
    """
    for axis in (1, 2):
        size = x.shape[axis]
        before = jnp.concatenate([_slice(x, axis, 0, 1), _slice(x, axis, 0, size - 1)], axis)
        after = jnp.concatenate([_slice(x, axis, 1, size), _slice(x, axis, size - 1, size)], axis)
        pair = jnp.stack([0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after], axis + 1)
        x = pair.reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
    return x


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


def _slice(x, axis, start, stop):
    return jax.lax.slice_in_dim(x, start, stop, axis=axis)


def _kernel(module, shape, *, fan_in, train):
    kernel = module.param("kernel", _initializer(module.kernel_init, fan_in), shape, jnp.float32)
    if module.spectral:
        kernel = _spectral_normalize(module, kernel, train=train)
    return kernel.astype(module.dtype)


def _initializer(init, fan_in):
    """Return the initializer of a kernel that sums `fan_in` products (He et al. 2015; LeCun et al. 1998)."""
    gains = {"he": 2.0, "lecun": 1.0}
    if isinstance(init, str) and init not in gains:
        raise InputError(f"Initialisation {init!r} is unknown; choose he, lecun or a standard deviation.")
    scale = math.sqrt(gains[init] / fan_in) if isinstance(init, str) else init

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
    if train and not module.is_initializing():
        if module.is_mutable_collection("batch_stats"):
            u.value = improved
        return kernel / (v @ matrix @ improved)
    return kernel / (v @ matrix @ u.value)


def _unit(x):
    return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)


def _add_bias(module, y):
    if not module.bias:
        return y
    return y + module.param("bias", nn.initializers.zeros, (module.features,), jnp.float32).astype(y.dtype)
