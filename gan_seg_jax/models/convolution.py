"""Convolutions that are fast in every derivative on every platform: 4x4 stride 2, 1x1, depthwise, to few channels.

The 4x4 convolution, its transpose and their weight gradient are the partial derivatives of one trilinear form, with
pad 1 and stride 2,

    T(x, w, y) = sum_{b, m, n, k, l, i, o} x[b, 2m + k - 1, 2n + l - 1, i] w[k, l, i, o] y[b, m, n, o]

    down(x, w) = dT/dy        up(y, w) = dT/dx        weight_gradient(x, y) = dT/dw

and each is linear in both of its arguments, so the gradients of each are the other two, exactly. The rules below say
so to JAX: they are closed under differentiation, and a gradient penalty (a gradient of a gradient) runs in the same
fast forms. Without them JAX differentiates whatever form was chosen, which on CPU is up to 15 times slower. The 1x1
convolution has rules of the same kind, and so has the depthwise one, of any odd kernel, stride and rate.

On CPU `up` is one 2x2 convolution that makes the four output phases at once (sub-pixel convolution, Shi et al. 2016,
https://arxiv.org/abs/1609.05158), and `down` of an image of few channels is a 2x2 convolution of its 2x2 blocks. TPU
and GPU get the native operations. `jax.lax.platform_dependent` chooses while lowering, so that compiling ahead of
time for a TPU on a machine without one gets the TPU's forms (`jax.default_backend()` would say cpu). A depthwise
convolution on CPU is a sum of shifted products: XLA's native one is some 30 times slower there. One to few channels is
there a 1x1 convolution to all taps of each channel, of which shifted maps are summed (kn2row, Anderson et al. 2017,
https://arxiv.org/abs/1709.03395); its gradients are products with the shifted maps of the few channels.

Trap: functions with `custom_vjp` have no forward mode; take Hessian-vector products as a gradient of a gradient.
"""

import contextlib
import contextvars
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp

NHWC = ("NHWC", "HWIO", "NHWC")
BLOCK_CHANNELS = 4  # up to so many input channels, blocks beat the native form on CPU (3 channels: 1.9 ms against 4.7)
FEW_CHANNELS = 16  # of a result, up to which `narrow` was timed

_native_alone = contextvars.ContextVar("native_alone", default=False)


@contextlib.contextmanager
def native_alone() -> Iterator[None]:
    """Take the native operations wherever it is that what is traced within will run: for formats without platforms."""
    token = _native_alone.set(True)
    try:
        yield
    finally:
        _native_alone.reset(token)


@jax.custom_vjp
def down(x: jax.Array, w: jax.Array) -> jax.Array:
    """Convolve 4x4 with stride 2 and pad 1.

    Args:
        x: float [b, 2h, 2w, i].
        w: float [4, 4, i, o], of x's dtype.

    Returns:
        float [b, h, w, o], of x's dtype.
    """
    return _form((_down_cpu, _down_native), x, w)


@jax.custom_vjp
def up(y: jax.Array, w: jax.Array) -> jax.Array:
    """Apply the transpose of `down(., w)`: the 4x4 stride-2 transposed convolution, which doubles the size exactly.

    Args:
        y: float [b, h, w, o].
        w: float [4, 4, i, o], of y's dtype, laid out as for `down`.

    Returns:
        float [b, 2h, 2w, i], of y's dtype.
    """
    return _form((_up_cpu, _up_native), y, w)


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
    return _form((_pointwise_cpu, _pointwise_native), x, w)


@jax.custom_vjp
def pointwise_weight_gradient(x: jax.Array, y: jax.Array) -> jax.Array:
    """Return float [1, 1, i, o], the sum over batch and positions of the products of x and y.

    Args:
        x: float [b, h, w, i].
        y: float [b, h, w, o], of x's dtype.
    """
    return _form((_pointwise_weight_gradient_cpu, _pointwise_weight_gradient_native), x, y)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def depthwise(x: jax.Array, w: jax.Array, stride: int, rate: int) -> jax.Array:
    """Convolve each channel with its own kernel: y[m, n] = sum_{k, l} x[s m + r (k - c), s n + r (l - c)] w[k, l].

    Here c = (side - 1) / 2 is the kernel's centre, s the stride, r the rate, and x is zero outside.

    Args:
        x: float [b, h, w, c].
        w: float [side, side, 1, c], of x's dtype; the side is odd.
        stride: step of the window (static).
        rate: distance between the taps (static).

    Returns:
        float [b, ceil(h / stride), ceil(w / stride), c], of x's dtype.
    """
    forms = (_depthwise_cpu, _depthwise_native)
    return _form(forms, x, w, stride=stride, rate=rate)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def depthwise_transpose(y: jax.Array, w: jax.Array, stride: int, rate: int, size: tuple[int, int]) -> jax.Array:
    """Apply the transpose of `depthwise(., w, stride, rate)` of maps of that size.

    Args:
        y: float [b, ceil(size[0] / stride), ceil(size[1] / stride), c].
        w: as for `depthwise`, of y's dtype.
        stride: as for `depthwise`.
        rate: as for `depthwise`.
        size: height and width of the result (static).

    Returns:
        float [b, *size, c], of y's dtype.
    """
    forms = (_depthwise_transpose_cpu, _depthwise_transpose_native)
    return _form(forms, y, w, stride=stride, rate=rate, size=size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def depthwise_weight_gradient(x: jax.Array, y: jax.Array, stride: int, rate: int, side: int) -> jax.Array:
    """Correlate the input of `depthwise` with a gradient at its output, which gives the gradient of its weights.

    Args:
        x: float [b, h, w, c].
        y: float [b, ceil(h / stride), ceil(w / stride), c], of x's dtype.
        stride: as for `depthwise`.
        rate: as for `depthwise`.
        side: of the kernel (static).

    Returns:
        float [side, side, 1, c], of x's dtype.
    """
    forms = (_depthwise_weight_gradient_cpu, _depthwise_weight_gradient_native)
    return _form(forms, x, y, stride=stride, rate=rate, side=side)


def is_narrow(shape: tuple[int, int, int, int], stride: int) -> bool:
    """Return whether `narrow` is the faster form on CPU for a kernel of that shape (side, side, i, o).

    Forward and gradients, 3x3 to 12 channels, 144x192 to 9x12, Intel with AVX-512, native / narrow: 48 channels 1.0, 96
    1.4, 144 and 192 1.5 to 1.7, 240 and 288 2.2 to 2.4.
    """
    side, _, i, o = shape
    return stride == 1 and side > 1 and o <= FEW_CHANNELS and side**2 * o <= 2 * i


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def narrow(x: jax.Array, w: jax.Array, pad: int, rate: int) -> jax.Array:
    """Convolve to few channels: y[m, n] = sum_{k, l} x[m + r k - p, n + r l - p] w[k, l], x zero outside.

    Args:
        x: float [b, h, w, i].
        w: float [side, side, i, o], of x's dtype.
        pad: p, zeros on each of the four sides (static).
        rate: r, distance between the taps (static).

    Returns:
        float [b, h + 2 p - r (side - 1), ..., o], of x's dtype.
    """
    return _form((_narrow_cpu, _narrow_native), x, w, pad=pad, rate=rate)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def narrow_transpose(y: jax.Array, w: jax.Array, pad: int, rate: int) -> jax.Array:
    """Apply the transpose of `narrow(., w, pad, rate)`: float [b, h, w, i] from its result's shape [b, ..., o]."""
    return _form((_narrow_transpose_cpu, _narrow_transpose_native), y, w, pad=pad, rate=rate)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def narrow_weight_gradient(x: jax.Array, y: jax.Array, pad: int, rate: int, side: int) -> jax.Array:
    """Return float [side, side, i, o]: the gradient of the kernel of `narrow` for x and a gradient y at its output."""
    forms = (_narrow_weight_gradient_cpu, _narrow_weight_gradient_native)
    return _form(forms, x, y, pad=pad, rate=rate, side=side)


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


def _depthwise_rule(stride, rate, xw, dy):
    x, w = xw
    dx = depthwise_transpose(dy, w, stride, rate, x.shape[1:3])
    return dx, depthwise_weight_gradient(x, dy, stride, rate, w.shape[0])


def _depthwise_transpose_rule(stride, rate, size, yw, dx):
    y, w = yw
    return depthwise(dx, w, stride, rate), depthwise_weight_gradient(dx, y, stride, rate, w.shape[0])


def _depthwise_weight_gradient_rule(stride, rate, side, xy, dw):
    x, y = xy
    return depthwise_transpose(y, dw, stride, rate, x.shape[1:3]), depthwise(x, dw, stride, rate)


def _save_static(operation):
    return lambda a, b, *static: (operation(a, b, *static), (a, b))


depthwise.defvjp(_save_static(depthwise), _depthwise_rule)
depthwise_transpose.defvjp(_save_static(depthwise_transpose), _depthwise_transpose_rule)
depthwise_weight_gradient.defvjp(_save_static(depthwise_weight_gradient), _depthwise_weight_gradient_rule)


def _narrow_rule(pad, rate, xw, dy):
    x, w = xw
    return narrow_transpose(dy, w, pad, rate), narrow_weight_gradient(x, dy, pad, rate, w.shape[0])


def _narrow_transpose_rule(pad, rate, yw, dx):
    y, w = yw
    return narrow(dx, w, pad, rate), narrow_weight_gradient(dx, y, pad, rate, w.shape[0])


def _narrow_weight_gradient_rule(pad, rate, side, xy, dw):
    x, y = xy
    return narrow_transpose(y, dw, pad, rate), narrow(x, dw, pad, rate)


narrow.defvjp(_save_static(narrow), _narrow_rule)
narrow_transpose.defvjp(_save_static(narrow_transpose), _narrow_transpose_rule)
narrow_weight_gradient.defvjp(_save_static(narrow_weight_gradient), _narrow_weight_gradient_rule)


def _form(forms, a, b, **static):
    if _native_alone.get():
        return forms[1](a, b, **static)
    return _by_platform(forms, a, b, tuple(static.items()))


@functools.partial(jax.jit, static_argnums=(0, 3), inline=True)  # a network has few shapes: each is traced once
def _by_platform(forms, a, b, static):
    cpu, native = (functools.partial(form, **dict(static)) for form in forms)
    return jax.lax.platform_dependent(a, b, cpu=cpu, default=native)


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


def _pointwise_weight_gradient_native(x, y):
    return jnp.einsum("bhwi,bhwo->io", x, y)[None, None]


def _pointwise_weight_gradient_cpu(x, y):
    # Positions are one axis: over three XLA copies x transposed first (8 x 36 x 48, 256 to 256 channels: 38 ms for 22).
    return jnp.einsum("pi,po->io", x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]))[None, None]


def _depthwise_native(x, w, *, stride, rate):
    pad = rate * (w.shape[0] // 2)
    return jax.lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        ((pad, pad), (pad, pad)),
        rhs_dilation=(rate, rate),
        dimension_numbers=NHWC,
        feature_group_count=x.shape[-1],
    )


def _depthwise_transpose_native(y, w, *, stride, rate, size):
    x = jax.ShapeDtypeStruct((y.shape[0], *size, y.shape[-1]), y.dtype)
    return jax.linear_transpose(lambda x: _depthwise_native(x, w, stride=stride, rate=rate), x)(y)[0]


def _depthwise_weight_gradient_native(x, y, *, stride, rate, side):
    w = jax.ShapeDtypeStruct((side, side, 1, x.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda w: _depthwise_native(x, w, stride=stride, rate=rate), w)(y)[0]


def _taps(side, rate, stride, size):
    """Return index and offset, along both axes, of each tap that meets a map of that size at any position."""

    def along(length):
        offsets = [(k, rate * (k - side // 2)) for k in range(side)]
        if not isinstance(length, int):  # a size that is not known yet (`jax.export`): each tap may meet it
            return offsets
        last = (length - 1) // stride * stride
        return [(k, offset) for k, offset in offsets if -last <= offset < length]

    return [((k, l), (i, j)) for k, i in along(size[0]) for l, j in along(size[1])]


def _shifted(x, taps, stride):
    """Return x[s m + offset] for each tap, zero outside, at every position m of the strided map."""
    top, left = (max(abs(offset[axis]) for _, offset in taps) for axis in (0, 1))
    padded = jnp.pad(x, ((0, 0), (top, top), (left, left), (0, 0)))

    def window(i, j):
        return padded[:, top + i : top + i + x.shape[1] : stride, left + j : left + j + x.shape[2] : stride]

    return [window(*offset) for _, offset in taps]


def _depthwise_cpu(x, w, *, stride, rate):
    taps = _taps(w.shape[0], rate, stride, x.shape[1:3])
    w, windows = w.astype(jnp.float32), _shifted(x.astype(jnp.float32), taps, stride)
    return sum(window * w[k, l, 0] for ((k, l), _), window in zip(taps, windows, strict=True)).astype(x.dtype)


def _depthwise_transpose_cpu(y, w, *, stride, rate, size):
    """Sum over the taps what each position of the result gets; of a stride, by the phases of the position.

    At s a + p that is sum_{k: s | p - offset_k} y[a + (p - offset_k) / s] w[k]: windows of y, as in the convolution
    itself. To place each tap's product at its offset instead takes up to 4.5 times as long (5x5, 144 channels, Intel).
    """
    taps, w, y32 = _taps(w.shape[0], rate, stride, size), w.astype(jnp.float32), y.astype(jnp.float32)
    grid = [-(-length // stride) for length in size]
    reach = [max(abs(offset[axis]) for _, offset in taps) // stride + 1 for axis in (0, 1)]
    beyond = [(r, r + g - n) for r, g, n in zip(reach, grid, y.shape[1:3], strict=True)]
    padded = jnp.pad(y32, ((0, 0), *beyond, (0, 0)))

    def phase(p, q):
        met = [(kl, (p - i, q - j)) for kl, (i, j) in taps if (p - i) % stride == 0 == (q - j) % stride]
        starts = [(kl, (reach[0] + i // stride, reach[1] + j // stride)) for kl, (i, j) in met]
        windows = [padded[:, a : a + grid[0], b : b + grid[1]] * w[k, l, 0] for (k, l), (a, b) in starts]
        return sum(windows) if windows else jnp.zeros((len(y), *grid, y.shape[-1]), jnp.float32)

    if stride == 1:
        return phase(0, 0).astype(y.dtype)
    rows = [jnp.stack([phase(p, q) for q in range(stride)], axis=3) for p in range(stride)]
    whole = jnp.stack(rows, axis=2).reshape(len(y), grid[0] * stride, grid[1] * stride, -1)
    return whole[:, : size[0], : size[1]].astype(y.dtype)


def _depthwise_weight_gradient_cpu(x, y, *, stride, rate, side):
    taps, y32 = _taps(side, rate, stride, x.shape[1:3]), y.astype(jnp.float32)
    products = [window * y32 for window in _shifted(x.astype(jnp.float32), taps, stride)]
    # One reduction of all products, along the rows first: one pass over y, 3 times faster than a sum for each tap.
    zeros = [jnp.zeros((), jnp.float32)] * len(taps)
    sums = jax.lax.reduce(products, zeros, lambda a, b: [p + q for p, q in zip(a, b, strict=True)], (2,))
    w = jnp.zeros((side, side, 1, x.shape[-1]), jnp.float32)
    for ((k, l), _), rows in zip(taps, sums, strict=True):
        w = w.at[k, l, 0].set(jnp.sum(rows, (0, 1)))
    return w.astype(x.dtype)


def _moved(a, down, right, size):
    """Return a[m - down, n - right] for every position (m, n) of a map of that size, zero outside."""
    height, width = a.shape[1:3]
    padding = ((0, 0, 0), (down, size[0] - height - down, 0), (right, size[1] - width - right, 0), (0, 0, 0))
    return jax.lax.pad(a, jnp.zeros((), a.dtype), padding)


def _narrow_native(x, w, *, pad, rate):
    dilation = (rate, rate)
    return jax.lax.conv_general_dilated(
        x, w, (1, 1), ((pad, pad), (pad, pad)), rhs_dilation=dilation, dimension_numbers=NHWC
    )


def _narrow_transpose_native(y, w, *, pad, rate):
    grown = rate * (w.shape[0] - 1) - 2 * pad
    x = jax.ShapeDtypeStruct((len(y), y.shape[1] + grown, y.shape[2] + grown, w.shape[2]), y.dtype)
    return jax.linear_transpose(lambda x: _narrow_native(x, w, pad=pad, rate=rate), x)(y)[0]


def _narrow_weight_gradient_native(x, y, *, pad, rate, side):
    w = jax.ShapeDtypeStruct((side, side, x.shape[-1], y.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda w: _narrow_native(x, w, pad=pad, rate=rate), w)(y)[0]


def _narrow_cpu(x, w, *, pad, rate):
    side, _, i, o = w.shape
    size = [length + 2 * pad - rate * (side - 1) for length in x.shape[1:3]]
    taps = w.astype(jnp.float32).transpose(2, 0, 1, 3).reshape(i, side * side * o)
    products = _pointwise_cpu(x.astype(jnp.float32), taps[None, None])
    parts = jnp.split(products, side * side, axis=-1)
    offsets = [(pad - rate * k, pad - rate * l) for k in range(side) for l in range(side)]
    return sum(_moved(part, *offset, size) for part, offset in zip(parts, offsets, strict=True)).astype(x.dtype)


def _taps_of(y, *, pad, rate, side):
    """Return the maps of few channels as each tap meets them, [b, h, w, side * side * o], of the larger map's size.

    Rows of zeros are joined on, and not padded, since XLA fuses no join: else what makes y is computed for each tap.
    """
    b, height, width, o = y.shape
    rows, columns = (length - 2 * pad + rate * (side - 1) for length in (height, width))
    offsets = [rate * k - pad for k in range(side)]
    above, below = max(0, *offsets), max(0, *(rows - offset - height for offset in offsets))
    blank = lambda count: jnp.zeros((b, count, width, o))
    tall = jnp.concatenate([blank(above), y.astype(jnp.float32), blank(below)], axis=1)
    windows = [tall[:, above - offset : above - offset + rows] for offset in offsets]
    taps = [_moved(window, 0, offset, (rows, columns)) for window in windows for offset in offsets]
    return jnp.concatenate(taps, axis=-1)


def _narrow_transpose_cpu(y, w, *, pad, rate):
    side, _, i, o = w.shape
    taps = w.astype(jnp.float32).transpose(0, 1, 3, 2).reshape(1, 1, side * side * o, i)
    return _pointwise_cpu(_taps_of(y, pad=pad, rate=rate, side=side), taps).astype(y.dtype)


def _narrow_weight_gradient_cpu(x, y, *, pad, rate, side):
    taps = _taps_of(y, pad=pad, rate=rate, side=side)
    w = _pointwise_weight_gradient_cpu(x.astype(jnp.float32), taps)[0, 0]
    return w.reshape(x.shape[-1], side, side, -1).transpose(1, 2, 0, 3).astype(x.dtype)
