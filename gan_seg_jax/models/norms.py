"""Norms by name, and the refusal to normalise single values.

Statistics and parameters are float32; `dtype` is the type of the result.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError, unknown

EPSILON = 1e-5  # added to the variance, where a network says no other
MOMENTUM = 0.9  # of running averages; PyTorch's 0.1
NORMS = ("batch", "frozen_batch", "instance", "layer", "group", "none")


class Norm(nn.Module):
    """Normalise by name: "batch", "frozen_batch", "instance", "layer", "group" (of up to 32 groups) or "none".

    Statistics are float32. Those of "batch" are over the whole batch: under `jax.jit` with a sharded batch, that is
    the global batch. "frozen_batch" has the variables of "batch", always uses the running averages, never moves them,
    and its scale and bias get no gradient. Running averages have momentum 0.9, PyTorch's 0.1. "layer" is over all
    pixels and channels of an example, with a scale and a bias for each channel. In training a norm over a single value
    is refused (`check_values`).

    Attributes:
        kind: one of `NORMS`.
        dtype: of the result.
        epsilon: added to the variance.
    """

    kind: str
    dtype: jnp.dtype = jnp.float32
    epsilon: float = EPSILON

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Return float [b, h, w, c] from x float [b, h, w, c].

        Args:
            x: float [b, h, w, c].
            train: "batch" uses and stores the statistics of the batch, else its running averages.

        Raises:
            InputError: `kind` is not one of `NORMS`, or it would normalise single values in training.
        """
        if train:
            check_values(self, self.kind, x.shape)
        options = {"epsilon": self.epsilon, "dtype": self.dtype, "name": self.kind}
        if self.kind == "batch":
            return _BatchNorm(**options)(x, train=train)
        if self.kind == "frozen_batch":
            return _FrozenBatchNorm(self.dtype, self.epsilon, name="batch")(x)
        if self.kind == "instance":
            return nn.InstanceNorm(**options)(x)
        if self.kind == "layer":
            return nn.GroupNorm(num_groups=1, **options)(x)
        if self.kind == "group":
            return nn.GroupNorm(num_groups=_groups(x.shape[-1]), **options)(x)
        if self.kind == "none":
            return x.astype(self.dtype)
        raise unknown("norm", self.kind, NORMS)


class LayerNorm(nn.Module):
    """Normalise the channels of each position (Ba et al. 2016, https://arxiv.org/abs/1607.06450), then scale and shift.

    y = (x - mean(x)) / sqrt(var(x) + epsilon) * scale + bias, the mean and the biased variance over the last axis, in
    float32. It is the norm of ConvNeXt and of transformers; "layer" of `Norm` is over all positions at once.

    Attributes:
        epsilon: added to the variance.
        dtype: of the result.
    """

    epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return float [..., c] from x float [..., c]."""
        scale = self.param("scale", nn.initializers.ones, x.shape[-1:], jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:], jnp.float32)
        x = x.astype(jnp.float32)
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        variance = jnp.mean(centred**2, axis=-1, keepdims=True)
        return (centred * jax.lax.rsqrt(variance + self.epsilon) * scale + bias).astype(self.dtype)


def values_normalised(kind: str, shape: tuple[int, int, int, int]) -> int | None:
    """Return how many values of a map [b, h, w, c] share a mean in training; None where nothing is normalised."""
    batch, height, width, channels = shape
    pixels = height * width
    counts = {
        "batch": batch * pixels,
        "instance": pixels,
        "layer": pixels * channels,
        "group": pixels * channels // _groups(channels),
    }
    return counts[kind] if kind in counts else None


def check_values(module: nn.Module, kind: str, shape: tuple[int, int, int, int]) -> None:
    """Refuse to normalise single values: less its own mean each is 0, so nothing before the norm learns.

    Worse, the running variance of "batch" falls to 0, by which evaluation divides.

    Args:
        module: the norm, for its place in the network.
        kind: as in `Norm`.
        shape: of what is normalised, [b, h, w, c]; under `jax.jit` b is the global batch.

    Raises:
        InputError: a mean would be that of one value.
    """
    if values_normalised(kind, shape) != 1:
        return
    network = module
    while isinstance(network.parent, nn.Module):
        network = network.parent
    more = "batch_size 2 or more, " if kind == "batch" else ""
    raise InputError(
        f"{type(network).__name__} has a norm {kind!r} over one value, which leaves 0 of any input: in its layer "
        f"{'/'.join(module.path)} the map is {shape[1]}x{shape[2]}, the batch {shape[0]}; use {more}another "
        "norm or, if the map grows with it, a larger crop_size."
    )


def _groups(channels):
    return math.gcd(32, channels)


class _BatchNorm(nn.Module):
    """Batch normalisation (Ioffe & Szegedy 2015) with the variables and results of `nn.BatchNorm`.

    A network has a hundred of few shapes: what is computed for a shape is traced once, which takes a quarter off the
    trace of a first step, a half off that of others.
    """

    dtype: jnp.dtype
    epsilon: float

    @nn.compact
    def __call__(self, x, *, train):
        mean, var, scale, bias = _variables(self, x.shape[-1:])
        moments = mean.value, var.value
        if train:
            moments = _moments(x)
            if not self.is_initializing():
                mean.value, var.value = _moved((mean.value, var.value), moments)
        return _normalize(x, *moments, scale, bias, epsilon=self.epsilon).astype(self.dtype)


def _variables(module, shape):
    """Return the variables of `nn.BatchNorm` in a module: running mean and variance, scale and bias."""
    mean = module.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
    var = module.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
    scale = module.param("scale", nn.initializers.ones, shape, jnp.float32)
    bias = module.param("bias", nn.initializers.zeros, shape, jnp.float32)
    return mean, var, scale, bias


@functools.partial(jax.jit, inline=True)
def _moments(x):
    """Return mean and biased variance float32 [c] of x [b, h, w, c].

    In two passes: E[x^2] - E[x]^2 loses digits where the mean is large (gradients of a ResNet-34: 9e-4 off).
    """
    x = x.astype(jnp.float32)
    mean = x.mean((0, 1, 2))
    return mean, jnp.square(x - mean).mean((0, 1, 2))


@functools.partial(jax.jit, inline=True)
def _moved(averages, moments):
    return jax.tree.map(lambda average, moment: MOMENTUM * average + (1 - MOMENTUM) * moment, averages, moments)


@functools.partial(jax.jit, inline=True, static_argnames="epsilon")
def _normalize(x, mean, var, scale, bias, *, epsilon):
    return (x - mean) * (jax.lax.rsqrt(var + epsilon) * scale) + bias


class _FrozenBatchNorm(nn.Module):
    """Batch normalisation by constants, as one product and one sum; the variables of `nn.BatchNorm`."""

    dtype: jnp.dtype
    epsilon: float

    @nn.compact
    def __call__(self, x):
        mean, var, scale, bias = _variables(self, x.shape[-1:])
        factor = scale / jnp.sqrt(var.value + self.epsilon)
        factor, offset = jax.lax.stop_gradient((factor, bias - mean.value * factor))
        return (x * factor + offset).astype(self.dtype)
