"""A generator that makes images of noise by styles (StyleGAN2), with their masks where wanted (SemanticGAN)."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import convolution, layers
from gan_seg_jax.models.generators import check_heads
from gan_seg_jax.models.network import UNCONDITIONAL, Network

MAPPING_RATE = 0.01  # the mapping network learns this much slower than the rest
GAIN = math.sqrt(2.0)  # of LeakyReLU, which halves the power of what is symmetric


class StyleGAN2Generator(Network):
    """Make images of noise by styles (Karras et al. 2020, https://arxiv.org/abs/1912.04958).

    A mapping network turns the noise, divided by its root mean square, into a style w. A learned map of size / 2^n with
    channels[0] channels, n = len(channels) - 1, is convolved once and doubled n times, each time with two convolutions
    3x3 to the channels of that size. The style scales the inputs of every convolution for each example, and
    demodulation brings each output back to the scale that it has for inputs of unit variance:

        w'_ijk = s_i w_ijk,   w''_ijk = w'_ijk / sqrt(sum_ik w'_ijk^2 + 1e-8),   s = 1 + A w

    (i, j: channels of input and output, k: taps). Noise of one number a pixel with a learned strength, a bias and
    LeakyReLU 0.2 follow. At every size a 1x1 convolution, modulated but not demodulated, makes an image, and the image
    is the sum of them all, each doubled to the size of the next. In the joint form it makes class logits, too, summed
    alike: the label branch of SemanticGAN (Li et al. 2021, https://arxiv.org/abs/2104.05833). Kernels start from
    N(0, 1) and are scaled where they are used (an equalised learning rate); the mapping learns 100 times slower.

    Differences from the paper: doubling is bilinear (its filter [1, 3, 3, 1], but that pixels at the border are
    repeated) and comes before the convolution (theirs after it; but for the border these are one); the noise of the
    pixels is drawn by a key that is made of the example's own noise vector, so an image is a function of it alone, in
    training and after; tanh bounds the image; image and class logits share the style of their convolution. No mixing of
    two styles, no truncation, no path length regularisation.

    Attributes:
        size: height and width of the image, multiples of 2^(len(channels) - 1).
        channels: of each size, the smallest first (512 each up to 64x64 in the paper).
        mapping_layers: number of layers of the mapping network.
        style_size: width of these, and of the style.
        heads: "image", or "joint" for image and mask.
        num_classes: of the mask in the joint form.
        dtype: of the computation.
    """

    MAKES = (UNCONDITIONAL,)
    SIZED = True

    size: tuple[int, int] = (64, 64)
    channels: tuple[int, ...] = (512, 512, 512, 512, 512)
    mapping_layers: int = 8
    style_size: int = 512
    heads: str = "image"
    num_classes: int = 0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, noise: jax.Array, *, train: bool) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Return what the noise makes.

        Args:
            noise: float [b, z], any z (512 normal numbers in the paper).
            train: is ignored; the network has no norm.

        Returns:
            The image, float32 [b, *size, 3] in [-1, 1]; in the joint form a pair of it and of the mask's class logits,
            float32 [b, *size, num_classes].

        Raises:
            InputError: the size is no multiple of 2^(len(channels) - 1), or `heads` is not one of its choices.
        """
        del train
        check_heads("StyleGAN2Generator", self.heads, self.num_classes)
        doublings, (height, width) = len(self.channels) - 1, self.size
        factor = 2**doublings
        if height % factor or width % factor:
            raise InputError(
                f"StyleGAN2Generator doubles {doublings} times: height and width must be multiples of {factor}, found "
                f"{height}x{width}; change size or the number of channels."
            )
        keys, style = _keys(noise), _normalize(noise.astype(jnp.float32))
        for index in range(self.mapping_layers):
            style = GAIN * nn.leaky_relu(_Dense(self.style_size, MAPPING_RATE, name=f"mapping_{index}")(style), 0.2)

        shape = (height // factor, width // factor, self.channels[0])
        x = self.param("start", nn.initializers.normal(1.0), shape, jnp.float32)
        x = jnp.broadcast_to(x.astype(self.dtype), (len(noise), *shape))
        total, made = 0.0, 3 + (self.num_classes if self.heads == "joint" else 0)
        for level, features in enumerate(self.channels):
            if level:
                size = (2 * x.shape[1], 2 * x.shape[2])
                x, total = layers.resize(x, size), layers.resize(total, size)
                x = _StyledConv(features, 2 * level, self.dtype, name=f"up_{level}")(x, style, keys)
            x = _StyledConv(features, 2 * level + 1, self.dtype, name=f"conv_{level}")(x, style, keys)
            y = ModulatedConv(made, 1, demodulate=False, dtype=self.dtype, name=f"out_{level}")(x, style)
            total += _bias(self, f"out_bias_{level}", y).astype(jnp.float32)
        image = jnp.tanh(total[..., :3])
        return image if self.heads == "image" else (image, total[..., 3:])


class ModulatedConv(nn.Module):
    """Convolve each example by a kernel of its own, which its style makes of one kernel (`StyleGAN2Generator`).

    Inputs are scaled by s, the shared kernel is applied, and outputs are scaled: the same as kernels for each example,
    since the scale of an input and of an output channel are factors of the sum.

    Attributes:
        features: number of output channels.
        kernel: side of the kernel, odd; zeros around the input keep the size.
        demodulate: whether the kernel of each output channel is divided by its norm.
        dtype: of the computation.
    """

    features: int
    kernel: int = 3
    demodulate: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, style: jax.Array) -> jax.Array:
        """Return float [b, h, w, features].

        Args:
            x: float [b, h, w, c].
            style: float32 [b, size], of which a matrix makes the scale of each input channel.
        """
        scale = 1.0 + _Dense(x.shape[-1], name="style")(style)
        w = _equalised(self, "kernel", (self.kernel, self.kernel, x.shape[-1], self.features))
        x = x * scale[:, None, None].astype(self.dtype)
        y = convolution.pointwise(x, w.astype(self.dtype)) if self.kernel == 1 else _convolve(x, w.astype(self.dtype))
        if not self.demodulate:
            return y
        power = jnp.square(scale) @ jnp.sum(jnp.square(w), axis=(0, 1))
        return y * jax.lax.rsqrt(power + 1e-8)[:, None, None].astype(self.dtype)


class _StyledConv(nn.Module):
    """Convolve 3x3 by a style, add noise number `index` of the pixels and a bias, and activate."""

    features: int
    index: int
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x, style, keys):
        x = ModulatedConv(self.features, dtype=self.dtype, name="conv")(x, style)
        draw = lambda key: jax.random.normal(jax.random.fold_in(key, self.index), (*x.shape[1:3], 1))
        noise = self.param("noise_strength", nn.initializers.zeros, (), jnp.float32) * jax.vmap(draw)(keys)
        return GAIN * nn.leaky_relu(_bias(self, "bias", x + noise.astype(x.dtype)), 0.2)


class _Dense(nn.Module):
    """Multiply vectors by a matrix and add a bias, both of which learn `rate` times as fast."""

    features: int
    rate: float = 1.0

    @nn.compact
    def __call__(self, x):
        w = _equalised(self, "kernel", (x.shape[-1], self.features), self.rate)
        return x @ w + self.rate * self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)


def _keys(noise):
    """Return a key an example, of the signs of its noise: rounding, by whatever platform drew it, changes none."""
    places = jnp.arange(noise.shape[-1], dtype=jnp.uint32) % 32
    numbers = jnp.sum((noise > 0).astype(jnp.uint32) << places, axis=-1, dtype=jnp.uint32)
    return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), numbers)


def _normalize(z):
    return z * jax.lax.rsqrt(jnp.mean(jnp.square(z), axis=-1, keepdims=True) + 1e-8)


def _equalised(module, name, shape, rate=1.0):
    """Return a kernel of variance 1 / fan-in whose parameters have 1 / rate^2: Adam moves all kernels equally fast."""
    draw = lambda key, shape, dtype: jax.random.normal(key, (math.prod(shape),), dtype).reshape(shape) / rate
    return module.param(name, draw, shape, jnp.float32) * (rate / math.sqrt(math.prod(shape[:-1])))


def _convolve(x, w):
    return jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=convolution.NHWC)


def _bias(module, name, x):
    return x + module.param(name, nn.initializers.zeros, x.shape[-1:], jnp.float32).astype(x.dtype)
