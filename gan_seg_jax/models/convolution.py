"""The 4x4 stride-2 convolution, its transpose and the 1x1 convolution, fast in every derivative on every platform.

The 4x4 convolution, its transpose and their weight gradient are the partial derivatives of one trilinear form, with
pad 1 and stride 2,

    T(x, w, y) = sum_{b, m, n, k, l, i, o} x[b, 2m + k - 1, 2n + l - 1, i] w[k, l, i, o] y[b, m, n, o]

    down(x, w) = dT/dy        up(y, w) = dT/dx        weight_gradient(x, y) = dT/dw

and each is linear in both of its arguments, so the gradients of each are the other two, exactly. The rules below say
so to JAX: they are closed under differentiation, and a gradient penalty (a gradient of a gradient) runs in the same
fast forms. Without them JAX differentiates whatever form was chosen, which on CPU is up to 15 times slower. The 1x1
convolution has rules of the same kind.

On CPU `up` is one 2x2 convolution that makes the four output phases at once (sub-pixel convolution, Shi et al. 2016,
https://arxiv.org/abs/1609.05158), and `down` of an image of few channels is a 2x2 convolution of its 2x2 blocks. TPU
and GPU get the native operations. `jax.lax.platform_dependent` chooses while lowering, so that compiling ahead of
time for a TPU on a machine without one gets the TPU's forms (`jax.default_backend()` would say cpu).

Trap: functions with `custom_vjp` have no forward mode; take Hessian-vector products as a gradient of a gradient.
"""

import jax
import jax.numpy as jnp

NHWC = ("NHWC", "HWIO", "NHWC")
BLOCK_CHANNELS = 4  # up to so many input channels, blocks beat the native form on CPU (3 channels: 1.9 ms against 4.7)


@jax.custom_vjp
def down(x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve 4x4 with stride 2 and pad 1.

    Args:
        x: float [b, 2h, 2w, i].
        w: float [4, 4, i, o], of x's dtype.

    Returns:
        float [b, h, w, o], of x's dtype.
    """
    return jax.lax.platform_dependent(x, w, cpu=_down_cpu, default=_down_native)


@jax.custom_vjp
def up(y: jax.Array, w: jax.Array) -> jax.Array:
    """Apply the transpose of `down(., w)`: the 4x4 stride-2 transposed convolution, which doubles the size exactly.

    Args:
        y: float [b, h, w, o].
        w: float [4, 4, i, o], of y's dtype, laid out as for `down`.

    Returns:
        float [b, 2h, 2w, i], of y's dtype.
    """
    return jax.lax.platform_dependent(y, w, cpu=_up_cpu, default=_up_native)


@jax.custom_vjp
def weight_gradient(x: jax.Array, y: jax.Array) -> jax.Array:
    """Correlate the input of `down` with a gradient at its output, which gives the gradient of its weights.

    Args:
        x: float [b, 2h, 2w, i].
        y: float [b, h, w, o], of x's dtype.

    Returns:
        float [4, 4, i, o], of x's dtype.
    """
    dimensions = ("CHWN", "IHWO", "HWNC")  # contract over the batch and the positions
    padding = ((1, 1), (1, 1))
    return jax.lax.conv_general_dilated(x, y, (1, 1), padding, rhs_dilation=(2, 2), dimension_numbers=dimensions)


@jax.custom_vjp
def pointwise(x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve 1x1: a matrix product on CPU, the native convolution elsewhere.

    Args:
        x: float [b, h, w, i].
        w: float [1, 1, i, o], of x's dtype.

    Returns:
        float [b, h, w, o], of x's dtype.
    """
    return jax.lax.platform_dependent(x, w, cpu=_pointwise_cpu, default=_pointwise_native)


@jax.custom_vjp
def pointwise_weight_gradient(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return float [1, 1, i, o], the sum over batch and positions of the products of x and y.

    Args:
        x: float [b, h, w, i].
        y: float [b, h, w, o], of x's dtype.
    """
    return jnp.einsum("bhwi,bhwo->io", x, y)[None, None]


def _save(operation):
    return lambda a, b: (operation(a, b), (a, b))


down.defvjp(_save(down), lambda xw, dy: (up(dy, xw[1]), weight_gradient(xw[0], dy)))
up.defvjp(_save(up), lambda yw, dx: (down(dx, yw[1]), weight_gradient(dx, yw[0])))
weight_gradient.defvjp(_save(weight_gradient), lambda xy, dw: (up(xy[1], dw), down(xy[0], dw)))
pointwise.defvjp(
    _save(pointwise), lambda xw, dy: (pointwise(dy, xw[1].swapaxes(2, 3)), pointwise_weight_gradient(xw[0], dy))
)
pointwise_weight_gradient.defvjp(
    _save(pointwise_weight_gradient), lambda xy, dw: (pointwise(xy[1], dw.swapaxes(2, 3)), pointwise(xy[0], dw))
)


def _down_native(x, w):
    return jax.lax.conv_general_dilated(x, w, (2, 2), ((1, 1), (1, 1)), dimension_numbers=NHWC)


def _up_native(y, w):
    w = w[::-1, ::-1].swapaxes(2, 3)
    return jax.lax.conv_general_dilated(y, w, (1, 1), ((2, 2), (2, 2)), lhs_dilation=(2, 2), dimension_numbers=NHWC)


def _down_cpu(x, w):
    b, height, width, i = x.shape
    if i > BLOCK_CHANNELS:
        return _down_native(x, w)
    # Blocks of 2x2 pixels of the padded image become channels: x[2m + 2s + k, ...] -> blocks[m + s, ..., k].
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    blocks = x.reshape(b, height // 2 + 1, 2, width // 2 + 1, 2, i).swapaxes(2, 3)
    blocks = blocks.reshape(b, height // 2 + 1, width // 2 + 1, 4 * i)
    w = w.reshape(2, 2, 2, 2, i, -1).swapaxes(1, 2).reshape(2, 2, 4 * i, -1)
    return jax.lax.conv_general_dilated(blocks, w, (1, 1), "VALID", dimension_numbers=NHWC)


def _up_cpu(y, w):
    b, height, width, o = y.shape
    i = w.shape[2]
    # Along each axis out[2m + p] = sum over t in {0, 1} of y[m + p + t - 1] w[3 - (p + 2t)]: a window of two that
    # begins at m + p - 1, so one 2x2 convolution on the grid of h + 1 windows makes all four phases (p, q).
    w = w[::-1, ::-1].reshape(2, 2, 2, 2, i, o).transpose(0, 2, 5, 1, 3, 4).reshape(2, 2, o, 4 * i)
    phases = jax.lax.conv_general_dilated(y, w, (1, 1), ((1, 1), (1, 1)), dimension_numbers=NHWC)
    phases = phases.reshape(b, height + 1, width + 1, 2, 2, i)

    def interleave_columns(p):
        return jnp.stack([phases[:, p : p + height, q : q + width, p, q] for q in (0, 1)], axis=3)

    rows = jnp.stack([interleave_columns(p) for p in (0, 1)], axis=2)  # [b, h, 2, w, 2, i]
    return rows.reshape(b, 2 * height, 2 * width, i)


def _pointwise_native(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=NHWC)


def _pointwise_cpu(x, w):
    return (x.reshape(-1, x.shape[-1]) @ w[0, 0]).reshape(*x.shape[:-1], w.shape[-1])
