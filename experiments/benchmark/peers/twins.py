"""The project's networks once more in PyTorch: the same layers, so that parameters and work are the same.

Each is made of the fields of `config.networks.ROLE` that our network has; images are [b, c, h, w] here. Norms are
BatchNorm, discriminators may have spectral normalisation instead. Sizes must be divisible as often as they are halved.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MEANS = {"efficientnet_lite0": ((127 / 255,) * 3, (128 / 255,) * 3)}  # of backbones, and deviations
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
TIMM = {"mobilenetv2": "mobilenetv2_100", "efficientnet_lite0": "tf_efficientnet_lite0"}  # others: the same names


def build(network: Any, *, channels: int, classes: int, size: tuple[int, int]) -> nn.Module:
    """Return the twin of a network.

    Args:
        network: its fields, `config.networks.ROLE`.
        channels: of the input; of a generator of images, how many numbers its noise has.
        classes: channels of the output of a network that labels.
        size: height and width of the images.
    """
    fields = dict(network)
    make = {
        "unet": lambda: UNet(fields, classes),
        "deeplabv3plus": lambda: DeepLabV3Plus(fields, classes),
        "fcdensenet": lambda: FCDenseNet(fields, classes),
        "patchgan": lambda: PatchGAN(fields, channels),
        "fcn_discriminator": lambda: FCNDiscriminator(fields, channels),
        "dcgan_generator": lambda: DCGANGenerator(fields, channels, size),
        "dcgan_discriminator": lambda: DCGANDiscriminator(fields, channels, size),
    }
    return make[fields["name"]]()


def _each(value: int | Sequence[int], levels: int) -> tuple[int, ...]:
    return (value,) * levels if isinstance(value, int) else tuple(value)


class Residual(nn.Module):
    """x + norm(conv(relu(source)))."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """Return a map of x's size from x and the source."""
        return x + self.norm(self.conv(F.relu(source)))


class UNet(nn.Module):
    """`models.unet.UNet`."""

    def __init__(self, fields: dict[str, Any], classes: int):
        super().__init__()
        widths, self.skip = fields["channels"], fields["skip"]
        last = len(widths) - 1
        encoder, decoder = _each(fields["encoder_convs"], last + 1), _each(fields["decoder_convs"], last)
        self.down, self.down_norm, self.encoder = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level, width in enumerate(widths):
            normalised = level > 0 and (level < last or encoder[level] > 0)
            before = widths[level - 1] if level else 3
            self.down.append(nn.Conv2d(before, width, 4, 2, 1, bias=not normalised))
            self.down_norm.append(nn.BatchNorm2d(width) if normalised else nn.Identity())
            self.encoder.append(nn.ModuleList(Residual(width, width) for _ in range(encoder[level])))
        self.up, self.up_norm, self.decoder, self.drop = (nn.ModuleList() for _ in range(4))
        x = widths[-1]
        for level in reversed(range(last)):
            width = widths[level]
            merged = 2 * width if self.skip == "concat" else width
            self.up.append(nn.ConvTranspose2d(x, width, 4, 2, 1, bias=False))
            self.up_norm.append(nn.BatchNorm2d(width))
            drops = fields["dropout"] > 0 and level >= last - 3
            self.drop.append(nn.Dropout(fields["dropout"]) if drops else nn.Identity())
            x = merged if decoder[level] == 0 else width
            convs = (Residual(merged if index == 0 else width, width) for index in range(decoder[level]))
            self.decoder.append(nn.ModuleList(convs))
        self.logits = nn.ConvTranspose2d(x, classes, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits [b, k, h, w]."""
        features = []
        for level, (down, norm, convs) in enumerate(zip(self.down, self.down_norm, self.encoder, strict=True)):
            x = norm(down(F.leaky_relu(x, 0.2) if level else x))
            for conv in convs:
                x = conv(x, x)
            features.append(x)
        parts = zip(self.up, self.up_norm, self.drop, self.decoder, reversed(features[:-1]), strict=True)
        for up, norm, drop, convs, skip in parts:
            x = merged = drop(norm(up(F.relu(x))))
            if self.skip != "none":
                merged = x + skip if self.skip == "add" else torch.cat([x, skip], 1)
            if len(convs) == 0 or self.skip != "concat":
                x = merged
            for index, conv in enumerate(convs):
                x = conv(x, merged if index == 0 else x)
        return self.logits(F.relu(x))


def _conv_norm(inputs: int, outputs: int, kernel: int, rate: int = 1, *, groups: int = 1) -> nn.Sequential:
    pad = rate * (kernel - 1) // 2
    conv = nn.Conv2d(inputs, outputs, kernel, padding=pad, dilation=rate, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def _block(inputs: int, outputs: int, rate: int = 1, *, separable: bool) -> nn.Sequential:
    if not separable:
        return _conv_norm(inputs, outputs, 3, rate)
    return nn.Sequential(_conv_norm(inputs, inputs, 3, rate, groups=inputs), _conv_norm(inputs, outputs, 1))


class DeepLabV3Plus(nn.Module):
    """`models.deeplab.DeepLabV3Plus` over timm's backbone."""

    def __init__(self, fields: dict[str, Any], classes: int):
        super().__init__()
        import timm

        name = fields["backbone"]
        mean, std = MEANS.get(name, IMAGENET)
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.backbone = timm.create_model(
            TIMM.get(name, name), features_only=True, output_stride=fields["output_stride"], out_indices=(1, 4)
        )
        low, high = self.backbone.feature_info.channels()
        width, separable = fields["aspp_channels"], fields["separable"]
        self.branches = nn.ModuleList([_conv_norm(high, width, 1)])
        self.branches += [_block(high, width, rate, separable=separable) for rate in fields["rates"]]
        self.image = _conv_norm(high, width, 1)
        self.projection = _conv_norm((len(fields["rates"]) + 2) * width, width, 1)
        self.drop = nn.Dropout(fields["dropout"])
        self.low = _conv_norm(low, fields["low_level_channels"], 1)
        decoder = fields["decoder_channels"]
        self.decoder = nn.Sequential(
            _block(width + fields["low_level_channels"], decoder, separable=separable),
            _block(decoder, decoder, separable=separable),
        )
        self.logits = nn.Conv2d(decoder, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [b, k, h, w]."""
        low, x = self.backbone(((image + 1) / 2 - self.mean) / self.std)
        pooled = self.image(x.mean((2, 3), keepdim=True)).expand(-1, -1, *x.shape[2:])
        x = self.drop(self.projection(torch.cat([*(branch(x) for branch in self.branches), pooled], 1)))
        low = self.low(low)
        x = F.interpolate(x, low.shape[2:], mode="bilinear", align_corners=False)
        x = self.logits(self.decoder(torch.cat([x, low], 1)))
        return F.interpolate(x, image.shape[2:], mode="bilinear", align_corners=False)


class DenseLayer(nn.Sequential):
    """Norm, ReLU, convolution, dropout: a layer of a dense block, or a transition down."""

    def __init__(self, inputs: int, outputs: int, kernel: int, dropout: float):
        conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
        super().__init__(nn.BatchNorm2d(inputs), nn.ReLU(inplace=True), conv, nn.Dropout(dropout))


class DenseBlock(nn.Module):
    """What the layers of a dense block add, joined."""

    def __init__(self, inputs: int, count: int, growth: int, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(DenseLayer(inputs + index * growth, growth, 3, dropout) for index in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """Return [b, layers * growth, h, w]."""
        parts = [x]
        for layer in self.layers:
            parts.append(layer(torch.cat(parts, 1)))
        return torch.cat(parts[1:], 1)


class FCDenseNet(nn.Module):
    """`models.fcdensenet.FCDenseNet`."""

    def __init__(self, fields: dict[str, Any], classes: int):
        super().__init__()
        growth, dropout, counts = fields["growth"], fields["dropout"], tuple(fields["layers"])
        self.stem = nn.Conv2d(3, fields["stem"], 3, padding=1, bias=False)
        self.down, self.transitions, self.up, self.blocks = (nn.ModuleList() for _ in range(4))
        width, skips = fields["stem"], []
        for count in counts:
            self.down.append(DenseBlock(width, count, growth, dropout))
            width += count * growth
            skips.append(width)
            self.transitions.append(DenseLayer(width, width, 1, dropout))
        self.bottleneck = DenseBlock(width, fields["bottleneck"], growth, dropout)
        added = fields["bottleneck"] * growth
        for count, skip in zip(reversed(counts), reversed(skips), strict=True):
            self.up.append(nn.ConvTranspose2d(added, added, 3, 2, bias=False))
            width = added + skip
            self.blocks.append(DenseBlock(width, count, growth, dropout))
            added = count * growth
        self.logits = nn.Conv2d(width + added, classes, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits [b, k, h, w]."""
        x, skips = self.stem(image), []
        for block, transition in zip(self.down, self.transitions, strict=True):
            x = torch.cat([x, block(x)], 1)
            skips.append(x)
            x = F.max_pool2d(transition(x), 2)
        x = self.bottleneck(x)
        for up, block, skip in zip(self.up, self.blocks, reversed(skips), strict=True):
            joined = torch.cat([up(x)[:, :, : skip.shape[2], : skip.shape[3]], skip], 1)
            x = block(joined)
        return self.logits(torch.cat([joined, x], 1))


def _spectral(conv: nn.Module, norm: str) -> nn.Module:
    return nn.utils.parametrizations.spectral_norm(conv) if norm == "spectral" else conv


class PatchGAN(nn.Sequential):
    """`models.discriminators.PatchGAN`."""

    def __init__(self, fields: dict[str, Any], inputs: int):
        norm, count, parts = fields["norm"], fields["layers"], []
        for level in range(count + 1):
            width = fields["channels"] * min(2**level, 8)
            stride, bias = 2 if level < count else 1, level == 0 or norm != "batch"
            parts.append(_spectral(nn.Conv2d(inputs, width, 4, stride, 1, bias=bias), norm))
            if level and norm == "batch":
                parts.append(nn.BatchNorm2d(width))
            parts.append(nn.LeakyReLU(0.2, inplace=True))
            inputs = width
        super().__init__(*parts, _spectral(nn.Conv2d(inputs, 1, 4, 1, 1), norm))


class FCNDiscriminator(nn.Module):
    """`models.label_discriminators.FCNDiscriminator`."""

    def __init__(self, fields: dict[str, Any], inputs: int):
        super().__init__()
        parts = []
        for level in range(4):
            width = fields["channels"] * 2**level
            parts += [nn.Conv2d(inputs, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
            inputs = width
        self.convs = nn.Sequential(*parts, nn.Conv2d(inputs, 1, 4, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return scores [b, 1, h, w]."""
        return F.interpolate(self.convs(x), x.shape[2:], mode="bilinear", align_corners=False)


class DCGANGenerator(nn.Module):
    """`models.generators.DCGANGenerator`, of images alone."""

    def __init__(self, fields: dict[str, Any], noise: int, size: tuple[int, int]):
        super().__init__()
        widths = fields["channels"]
        self.start = (widths[0], size[0] >> len(widths), size[1] >> len(widths))
        self.project = nn.Linear(noise, self.start[0] * self.start[1] * self.start[2], bias=False)
        parts = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for before, width in itertools.pairwise(widths):
            parts.append(nn.ConvTranspose2d(before, width, 4, 2, 1, bias=False))
            parts += [nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
        self.convs = nn.Sequential(*parts, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), nn.Tanh())

    def forward(self, noise: Tensor) -> Tensor:
        """Return images [b, 3, h, w] in [-1, 1] of noise [b, z]."""
        return self.convs(self.project(noise).view(-1, *self.start))


class DCGANDiscriminator(nn.Sequential):
    """`models.discriminators.DCGANDiscriminator`."""

    def __init__(self, fields: dict[str, Any], inputs: int, size: tuple[int, int]):
        parts, count = [], fields["layers"]
        for level in range(count):
            width = fields["channels"] * min(2**level, 8)
            parts.append(nn.Conv2d(inputs, width, 4, 2, 1, bias=level == 0))
            if level:
                parts.append(nn.BatchNorm2d(width))
            parts.append(nn.LeakyReLU(0.2, inplace=True))
            inputs = width
        parts += [nn.Flatten(), nn.Linear(inputs * (size[0] >> count) * (size[1] >> count), 1)]
        super().__init__(*parts)
