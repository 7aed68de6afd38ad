"""What is timed: each case is a config of the project with some fields set, so that all sides read one description.

Peers import this module and `configs`, which are light, and not JAX.
"""

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

CLASSES = 10  # those of `scenes`, on which the short run through `main` trains
TWIN, LIBRARY = 0.0, 0.01  # by which share the parameters of a twin, and those of a library's network, may differ
IMAGES = {"train": 64, "val": 32}  # of the folder that data pipeline and evaluation read
PHOTOGRAPHS, PHOTOGRAPH = 16, (500, 500)  # that are labelled, and their height and width
TORCH = ("torch-eager", "torch-eager-channels_last", "torch-compile", "torch-compile-channels_last")
SMP = tuple(side.replace("torch", "smp") for side in TORCH)


class Case(NamedTuple):
    """One comparison.

    Attributes:
        title: for tables.
        config: name of a file in configs/ and its words, such as "cgan_seg:paper".
        fields: by their dotted names.
        peers: the sides beside ours, each a process of its own.
        host: whether a short run through `main` is timed, too.
        part: "data", "evaluation", "predict" or "crf", where it is no training: see `parts`.
        devices: on which it runs where it is not named.
    """

    title: str
    config: str
    fields: Mapping[str, Any]
    peers: tuple[str, ...]
    host: bool = True
    part: str = ""
    devices: tuple[str, ...] = ("cpu", "gpu", "tpu")


def _deeplab(backbone: str, **head: Any) -> dict[str, Any]:
    """Return the fields of DeepLab v3+ at full width and output stride 16, by default with smp's separable head."""
    head = {
        "backbone": backbone,
        "backbone_width": 1.0,
        "rates": (6, 12, 18),
        "aspp_channels": 256,
        "low_level_channels": 48,
        "decoder_channels": 256,
        "separable": True,
        **head,
    }
    return {
        **_size(144, 192),
        **{f"networks.segmenter.{name}": value for name, value in head.items()},
        "pretrained.segmenter": "",
    }


def _size(height: int, width: int) -> dict[str, Any]:
    return {"canvas_size": (height, width), "crop_size": (height, width), "scenes.size": (height, width)}


def _pix2pix(*channels: int) -> dict[str, Any]:
    """Return the fields of pix2pix's networks: no convolutions but those of stride 2; the PatchGAN begins like them."""
    return {
        "networks.generator.channels": channels,
        "networks.generator.encoder_convs": (0,) * len(channels),
        "networks.generator.decoder_convs": (0,) * (len(channels) - 1),
        "networks.generator.skip": "concat",
        "networks.generator.dropout": 0.5,
        "networks.discriminator.channels": channels[0],
    }


# KerasHub's head: plain atrous convolutions and one 1x1 of 256 channels; two 3x3 of 32 have as many weights. Its 256
# channels are resized to the image's size before they are classified: 8 to 18% more operations a step than ours.
_KERASHUB = {"separable": False, "decoder_channels": 32}
_TINY = {
    **_size(32, 32),
    "batch_size": 2,
    "networks.generator.channels": (4, 8),
    "networks.generator.encoder_convs": (0, 1),
    "networks.generator.decoder_convs": (1,),
    "networks.discriminator.channels": 4,
    "networks.discriminator.layers": 1,
}
CASES = {
    "cgan": Case(
        "pix2pix, 128x128, batch 8",
        "cgan_seg:paper",
        {**_size(128, 128), **_pix2pix(32, 64, 128, 256, 256, 256)},
        TORCH,
    ),
    "cgan-default": Case("default cGAN, 96x128, batch 8", "cgan_seg", {}, TORCH),
    **{
        f"adversarial-{word}": Case(
            f"adversarial DeepLab v3+ over {title}, 144x192, batch 8",
            "adversarial_seg:deeplabv3plus",
            _deeplab(backbone),
            (*TORCH, *SMP),
            host=word == "resnet18",
        )
        for word, backbone, title in (
            ("resnet18", "resnet18", "ResNet-18"),
            ("resnet50", "resnet50", "ResNet-50"),
            ("mobilenetv2", "mobilenetv2", "MobileNetV2"),
            ("lite0", "efficientnet_lite0", "EfficientNet-Lite0"),
        )
    },
    **{
        f"adversarial-resnet{depth}-kerashub": Case(
            f"adversarial DeepLab v3+ over ResNet-{depth} with KerasHub's head, 144x192, batch 8",
            "adversarial_seg:deeplabv3plus",
            _deeplab(f"resnet{depth}", **_KERASHUB),
            ("kerashub",),
            host=False,
        )
        for depth in (18, 50)
    },
    "advsemiseg": Case(
        "AdvSemiSeg, 96x128, 8 labelled and 8 unlabelled images",
        "semi_seg:advsemiseg",
        {"losses.self_training_start": 0.0},
        TORCH,
    ),
    "dcgan": Case("DCGAN at the paper's widths, 64x64, batch 128", "dcgan:paper", {}, TORCH, host=False),
    "fcdensenet56": Case(
        "FC-DenseNet56, 144x192, batch 4",
        "supervised_seg:fcdensenet56",
        {**_size(144, 192), "batch_size": 4},  # 8 take PyTorch 5 GB, and five processes wait side by side
        TORCH,
        host=False,
    ),
    "data": Case(
        "data pipeline: PNG of 360x480 to 144x192, batch 8", "supervised_seg", _size(144, 192), TORCH[:1], False, "data"
    ),
    "evaluation": Case(
        "evaluation: U-Net at 96x128, labels of 360x480", "supervised_seg", {}, TORCH[:2], False, "evaluation"
    ),
    "predict": Case(
        "photographs of 500x500, files to files of masks: DeepLab v3+ over ResNet-18 at 512x512",
        "supervised_seg:deeplabv3plus",
        {**_deeplab("resnet18"), **_size(512, 512)},
        SMP,
        False,
        "predict",
    ),
    "crf": Case(
        "fully connected CRF: 360x480, 11 classes, 10 iterations", "supervised_seg", {}, ("pydensecrf",), False, "crf"
    ),
    # A processor would take a minute for a step.
    "cgan-512": Case(
        "pix2pix at the paper's widths, 512x512, batch 32",
        "cgan_seg:paper",
        {**_size(512, 512), **_pix2pix(64, 128, 256, *(512,) * 5), "batch_size": 32},
        TORCH,
        host=False,
        devices=("gpu", "tpu"),
    ),
    "adversarial-resnet50-512": Case(
        "adversarial DeepLab v3+ over ResNet-50, 512x512, batch 32",
        "adversarial_seg:deeplabv3plus",
        {**_deeplab("resnet50"), **_size(512, 512), "batch_size": 32},
        (*TORCH, *SMP),
        host=False,
        devices=("gpu", "tpu"),
    ),
}
ALL = CASES | {"tiny": Case("a tiny cGAN, for tests", "cgan_seg", _TINY, TORCH, host=False)}  # run where it is named


def load(name: str, dtype: str = "float32") -> Any:
    """Return the config of a case, a ConfigDict."""
    case = ALL[name]
    file, _, words = case.config.partition(":")
    config = importlib.import_module(f"configs.{file}").get_config(words)
    config.update_from_flattened_dict(dict(case.fields))
    config.num_classes, config.dtype = CLASSES, dtype
    return config


def flags(name: str, dtype: str) -> list[str]:
    """Return the flags of `main` for the config of a case."""
    case = ALL[name]
    file, _, words = case.config.partition(":")
    fields = {**case.fields, "dtype": dtype}
    return [f"--config=configs/{file}.py:{words}", *(f"--config.{key}={value}" for key, value in fields.items())]
