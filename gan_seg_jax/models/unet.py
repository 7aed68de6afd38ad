"""U-Net, as a generator (pix2pix) and as a segmenter."""

from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import layers, norms
from gan_seg_jax.models.network import LABEL_TO_IMAGE, LAYERS, SEGMENTATION, Network
from gan_seg_jax.models.perturbation import EncoderFeatures


class UNet(Network):
    """Map an image to a map of the same size by an encoder and a decoder with skips between them.

    Ronneberger et al. 2015 (https://arxiv.org/abs/1505.04597) in the form of Isola et al. 2017
    (https://arxiv.org/abs/1611.07004): every level halves the size by a 4x4 stride-2 convolution, every level of the
    decoder doubles it by the transposed one, and the last of these makes the output, so nothing is computed at the
    full size but the output itself. With `encoder_convs` and `decoder_convs` each level also has residual 3x3
    convolutions, x + norm(conv(relu(x))), which the paper's does not.

    pix2pix: `channels=(64, 128, 256, 512, 512, 512, 512, 512), encoder_convs=0, decoder_convs=0, skip="concat",
    dropout=0.5, kernel_init=0.02`, for images of 256x256.

    Attributes:
        num_classes: number of output channels.
        channels: of each level, from half the size of the image down.
        encoder_convs: residual 3x3 convolutions at each level: one number, or one for each level.
        decoder_convs: the same in the decoder: one number, or one for each level but the innermost.
        norm: "batch", "instance", "layer", "group" or "none".
        skip: how the decoder takes in the encoder's features: "concat", "add", or "none" (an encoder-decoder, the
            paper's ablation).
        dropout: rate in the three innermost levels of the decoder.
        kernel_init: "he", "lecun" or a standard deviation (0.02 in pix2pix).
        logits_init: the same for the last layer; None is as the others. 0.0 makes a network whose output is 0 at first.
        auxiliary: whether to return a second head's logits too: a 1x1 convolution in the middle of the decoder.
        dtype: of the computation.
    """

    MAKES = (SEGMENTATION, LABEL_TO_IMAGE)
    NUMBERS: ClassVar = {"encoder_convs": LAYERS, "decoder_convs": LAYERS}

    num_classes: int
    channels: tuple[int, ...] = (24, 48, 96, 192, 256)
    encoder_convs: int | tuple[int, ...] = (0, 1, 1, 2, 2)
    decoder_convs: int | tuple[int, ...] = 1
    norm: str = "batch"
    skip: str = "add"
    dropout: float = 0.0
    kernel_init: str | float = "he"
    logits_init: str | float | None = None
    auxiliary: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """Return what the network makes of the image.

        Args:
            image: float [b, h, w, 3] in [-1, 1], of any size.
            train: whether norms use the statistics of this batch, and dropout (key "dropout") is on.

        Returns:
            float32 [b, h, w, num_classes], class logits; with `auxiliary` also {"auxiliary": logits of that head}.

        Raises:
            InputError: an attribute does not fit the others, or, in training, the images are too small for so many
                levels.
        """
        if self.auxiliary and len(self.channels) < 2:
            raise InputError("UNet with an auxiliary head needs at least two levels; give more channels.")
        encoder_convs = _per_level(self.encoder_convs, len(self.channels), "encoder_convs")
        decoder_convs = _per_level(self.decoder_convs, len(self.channels) - 1, "decoder_convs")
        if self.skip not in ("concat", "add", "none"):
            raise InputError(f"Skip {self.skip!r} is unknown; choose concat, add or none.")

        if train:
            self._check_depth(image.shape, residual=encoder_convs[-1] > 0)
        x, features = image.astype(self.dtype), []
        innermost = len(self.channels) - 1
        for level in range(len(self.channels)):
            # As in pix2pix, no norm on the first level, nor on an innermost one that may be a single pixel.
            normalize = level > 0 and (level < innermost or encoder_convs[level] > 0)
            x = self._down(x, level, normalize=normalize, train=train)
            for index in range(encoder_convs[level]):
                x = self._residual(x, x, f"encoder_{level}_{index}", train=train)
            features.append(x)
        self.sow("intermediates", "encoder", x)
        features = EncoderFeatures()(features)
        x = features[-1]
        for level in reversed(range(innermost)):
            skip = features[level]
            x = self._up(x, skip.shape[1:3], level, train=train)
            merged = x
            if self.skip != "none":
                merged = x + skip if self.skip == "add" else jnp.concatenate([x, skip], axis=-1)
            if decoder_convs[level] == 0 or self.skip != "concat":
                x = merged
            for index in range(decoder_convs[level]):
                x = self._residual(x, merged if index == 0 else x, f"decoder_{level}_{index}", train=train)
            if self.auxiliary and level == innermost // 2:
                head = layers.Conv1x1(self.num_classes, kernel_init=0.01, dtype=self.dtype, name="auxiliary")
                auxiliary = layers.resize_logits(head(nn.relu(x)), image.shape[1:3])
        self.sow("intermediates", "decoder", x)
        init = self.kernel_init if self.logits_init is None else self.logits_init
        x = layers.UpConv(self.num_classes, kernel_init=init, dtype=self.dtype, name="logits")(nn.relu(x))
        logits = x[:, : image.shape[1], : image.shape[2]].astype(jnp.float32)
        return (logits, {"auxiliary": auxiliary}) if self.auxiliary else logits

    def _check_depth(self, shape, *, residual):
        """Refuse levels whose norm would see one value; `residual`: whether the innermost level has a norm too."""
        batch, height, width, _ = shape
        maps = [(batch, -(-height >> level), -(-width >> level)) for level in range(1, len(self.channels) + 1)]
        maps = [(*size, channels) for size, channels in zip(maps, self.channels, strict=True)]
        single = [norms.values_normalised(self.norm, size) == 1 for size in maps]
        bare = 0 if residual else 1  # levels without a norm, at the bottom
        normalised = single[: len(single) - bare]
        if any(normalised):
            larger = "larger batches" if self.norm == "batch" else "another norm"
            raise InputError(
                f"UNet has {len(single)} levels, but {normalised.index(True) + bare} fit a batch of {batch} with crops "
                f"of {height}x{width}: below, a norm {self.norm!r} would see one value, which leaves 0 of any input; "
                f"give channels fewer entries, or use a larger crop_size or {larger}."
            )

    def _down(self, x, level, *, normalize, train):
        x = layers.pad_to_multiple(x if level == 0 else nn.leaky_relu(x, 0.2), 2)
        bias = not (normalize and self.norm == "batch")  # BatchNorm has its own
        x = layers.DownConv(
            self.channels[level], bias=bias, kernel_init=self.kernel_init, dtype=self.dtype, name=f"down_{level}"
        )(x)
        return norms.Norm(self.norm, self.dtype, name=f"down_norm_{level}")(x, train=train) if normalize else x

    def _up(self, x, size, level, *, train):
        bias = self.norm != "batch"
        x = layers.UpConv(
            self.channels[level], bias=bias, kernel_init=self.kernel_init, dtype=self.dtype, name=f"up_{level}"
        )(nn.relu(x))
        x = norms.Norm(self.norm, self.dtype, name=f"up_norm_{level}")(x[:, : size[0], : size[1]], train=train)
        if self.dropout and level >= len(self.channels) - 4:
            x = nn.Dropout(self.dropout, name=f"dropout_{level}")(x, deterministic=not train)
        return x

    def _residual(self, x, source, name, *, train):
        """Return x + norm(conv(relu(source))); source is x, or x and the encoder's features."""
        bias = self.norm != "batch"
        conv = layers.Conv(x.shape[-1], bias=bias, kernel_init=self.kernel_init, dtype=self.dtype, name=name)
        return x + norms.Norm(self.norm, self.dtype, name=f"{name}_norm")(conv(nn.relu(source)), train=train)


def _per_level(value, levels, name):
    values = (value,) * levels if isinstance(value, int) else tuple(value)
    if len(values) != levels:
        raise InputError(
            f"UNet {name} has {len(values)} entries; with these channels it needs {levels}, or one number."
        )
    return values
