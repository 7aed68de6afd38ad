"""What a data set is, and the facts of those with a published protocol.

Facts only: names, colours and protocols. The pixels are never part of the project; `folder` reads them where they lie.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import NotRequired, Protocol, TypedDict

import numpy as np

from gan_seg_jax.labels import MAX_CLASSES


class Example(TypedDict):
    """One example: `image` uint8 [h, w, 3] RGB, `label` uint8 [h, w] of class ids with 255 = ignore, `id` its name.

    `target`, of pairs only: uint8 [h, w, 3] RGB, what is to be made of the image.
    """

    image: np.ndarray
    label: np.ndarray
    id: str
    target: NotRequired[np.ndarray]


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What a data set means, whatever the files it is read from.

    Attributes:
        name: Its name, as in `config.dataset`.
        class_names: A name for each class id 0..k-1, all different.
        class_colors: An RGB colour, 0..255, for each class id, for pictures only.
        protocol: One sentence on the published protocol: splits, size, void, metric, which class is the foreground.
        size: (height, width) at which published scores are taken; None where the images differ in size.
        counts: Of an official split how many labelled images train, val and test have, as far as they are published.
        image_bits: How many bits its images of 16 bits a sample use; 16 where it has none.
    """

    name: str
    class_names: tuple[str, ...]
    class_colors: tuple[tuple[int, int, int], ...]
    protocol: str = ""
    size: tuple[int, int] | None = None
    counts: tuple[tuple[str, int], ...] = ()
    image_bits: int = 16

    def __post_init__(self):
        if not 1 <= len(self.class_names) <= MAX_CLASSES:
            raise ValueError(
                f"{self.name}: {len(self.class_names)} classes; expected 1 to {MAX_CLASSES} (255 is ignore)."
            )
        if len(self.class_names) != len(self.class_colors):
            raise ValueError(
                f"{self.name}: {len(self.class_names)} class names, {len(self.class_colors)} colours; expected as many."
            )
        if len(set(self.class_names)) != len(self.class_names):
            raise ValueError(f"{self.name}: class names must differ, found {self.class_names}.")

    @property
    def num_classes(self) -> int:
        """Number of classes k; the ignore label is not one of them."""
        return len(self.class_names)


class Split(Protocol):
    """Random access to one split; picklable and cheap to pickle, since worker processes get a copy."""

    @property
    def info(self) -> DatasetInfo:
        """The data set's facts."""
        ...

    @property
    def name(self) -> str:
        """The split's name: "train", "val", "test" or "unlabelled"."""
        ...

    @property
    def ids(self) -> Sequence[str]:
        """The id of each example, without decoding pixels."""
        ...

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def __getitem__(self, index: int) -> Example:
        """Return example `index`, 0 <= index < len(self)."""
        ...

    def sizes(self) -> np.ndarray:
        """Return (height, width) of each label, int32 [n, 2], without decoding pixels where possible."""
        ...

    def class_pixels(self) -> np.ndarray:
        """Return how many pixels of each label are of each class, int32 [n, k], without decoding where possible."""
        ...


@dataclasses.dataclass(frozen=True)
class Members:
    """What the files of one split hold, without their pixels.

    Attributes:
        ids: The ids of the images.
        names: What they are called in a message, such as their paths.
        digests: Equal for equal images, and only for them.
        labels: The same of their labels or targets; () without any.
    """

    ids: Sequence[str]
    names: Sequence[str]
    digests: Sequence[str]
    labels: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set: its facts and its splits.

    Attributes:
        info: The facts.
        splits: Always "train" and "val"; "test" and "unlabelled" (labels all 255) only where they exist. A set that is
            opened as the target of `domains.from_source` may lack "train".
        members: What the splits were read from, by a name for each; {} for a set that is drawn or lies in memory.
    """

    info: DatasetInfo
    splits: dict[str, Split]
    members: Mapping[str, Members] = dataclasses.field(default_factory=dict)

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 over ids and contents of each of `members`, without reading them again."""
        return {
            name: hashlib.sha256(json.dumps([part.ids, part.digests, part.labels]).encode()).hexdigest()
            for name, part in self.members.items()
        }


def palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """Return the first colours of the palette of PASCAL VOC: bits 0, 3, 6, ... of the id are the high bits of red.

    Those of green are bits 1, 4, 7, ..., of blue 2, 5, 8, ... (VOCcolormap.m of the development kit).
    """
    channel = lambda class_id, first: sum((class_id >> (3 * bit + first) & 1) << (7 - bit) for bit in range(8))
    return tuple((channel(n, 0), channel(n, 1), channel(n, 2)) for n in range(count))


def _describe(name: str, classes: dict[str, tuple[int, int, int]], **facts) -> DatasetInfo:
    return DatasetInfo(name, tuple(classes), tuple(classes.values()), **facts)


def _colors(text: str) -> dict[str, tuple[int, int, int]]:
    """Return the classes of "name R G B, name R G B"."""
    rows = [row.split() for row in text.split(", ")]
    return {name: (int(red), int(green), int(blue)) for name, red, green, blue in rows}


CATALOG: dict[str, DatasetInfo] = {
    # Brostow et al., PRL 2009; 11 classes and split of SegNet (Badrinarayanan et al., TPAMI 2017).
    "camvid": _describe(
        "camvid",
        {
            "sky": (128, 128, 128),
            "building": (128, 0, 0),
            "pole": (192, 192, 128),
            "road": (128, 64, 128),
            "pavement": (60, 40, 222),
            "tree": (128, 128, 0),
            "sign_symbol": (192, 128, 128),
            "fence": (64, 64, 128),
            "car": (64, 0, 128),
            "pedestrian": (64, 64, 0),
            "bicyclist": (0, 128, 192),
        },
        protocol="SegNet split 367/101/233 at 360x480, trained on train alone; mean IoU over 11 classes from one "
        "confusion matrix over the test split, void (255) dropped.",
        size=(360, 480),
    ),
    # Tylecek and Sara, GCPR 2013; split of pix2pix (Isola et al., CVPR 2017).
    "facades": _describe(
        "facades",
        {
            "background": (0, 0, 170),
            "facade": (0, 0, 255),
            "window": (0, 85, 255),
            "door": (0, 170, 255),
            "cornice": (0, 255, 255),
            "sill": (85, 255, 170),
            "balcony": (170, 255, 85),
            "blind": (255, 255, 0),
            "deco": (255, 170, 0),
            "molding": (255, 85, 0),
            "pillar": (255, 0, 0),
            "shop": (170, 0, 0),
        },
        protocol="pix2pix split 400/100/106 at 256x256, 12 classes without void; no photo-to-labels score is published "
        "on this split, mean IoU from one confusion matrix is reported.",
        size=(256, 256),
    ),
    # Caicedo et al., Nature Methods 2019; BBBC038v1.
    "dsb2018": _describe(
        "dsb2018",
        {"background": (0, 0, 0), "nucleus": (255, 255, 255)},
        protocol="Nuclei, the foreground, against background; train 586 and val 78 by a rule on the ids, test = the 65 "
        "images of the official stage 1 test, at their own sizes without void; IoU of the nuclei is the usual score. "
        "Four test images show the same cells as training images at another brightness (gan-seg inspect names them).",
    ),
    # Cardona et al., PLoS Biology 2010; Arganda-Carreras et al., Frontiers in Neuroanatomy 2015.
    "isbi_em": _describe(
        "isbi_em",
        {"cell_interior": (0, 0, 0), "membrane": (255, 255, 255)},
        protocol="Membrane is class 1 and the foreground here, whereas many papers take the interior; the official "
        "test labels are not public, so the 30 labelled sections at 512x512 are split 20/5/5 by depth, without void; "
        "Dice or IoU.",
        size=(512, 512),
    ),
    # Everingham et al., IJCV 2015; ids of the palette of SegmentationClass.
    "voc2012": DatasetInfo(
        "voc2012",
        (
            *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
            *(
                "diningtable",
                "dog",
                "horse",
                "motorbike",
                "person",
                "pottedplant",
                "sheep",
                "sofa",
                "train",
                "tvmonitor",
            ),
        ),
        palette(21),
        protocol="train 1464 and val 1449 of ImageSets/Segmentation at their own sizes (many papers train on the 10582 "
        "of trainaug, with labels of SBD: prepare --trainaug); mean IoU over 21 classes with background from one "
        "confusion matrix over val, void (255, the borders of objects) dropped; the labels of test are withheld.",
        counts=(("train", 1464), ("val", 1449)),
    ),
    # Cordts et al., CVPR 2016; trainId of helpers/labels.py.
    "cityscapes": _describe(
        "cityscapes",
        _colors(
            "road 128 64 128, sidewalk 244 35 232, building 70 70 70, wall 102 102 156, fence 190 153 153, "
            "pole 153 153 153, traffic_light 250 170 30, traffic_sign 220 220 0, vegetation 107 142 35, "
            "terrain 152 251 152, sky 70 130 180, person 220 20 60, rider 255 0 0, car 0 0 142, truck 0 0 70, "
            "bus 0 60 100, train 0 80 100, motorcycle 0 0 230, bicycle 119 11 32"
        ),
        protocol="Fine annotations, train 2975 and val 500 at 1024x2048, cities apart; mean IoU over 19 classes from "
        "one confusion matrix over val, the other labels void (255) and dropped; the labels of test are withheld.",
        size=(1024, 2048),
        counts=(("train", 2975), ("val", 500)),
    ),
    # Parkhi et al., CVPR 2012.
    "oxford_iiit_pet": _describe(
        "oxford_iiit_pet",
        {"background": (0, 0, 0), "pet": (255, 255, 255)},
        protocol="trainval 3680, here train, and test 3669 of the lists, at their own sizes; of the trimaps 1 is the "
        "pet, 2 the background, and 3, not classified, void (255) and dropped (some take it for a third class); IoU.",
        counts=(("train", 3680), ("test", 3669)),
    ),
    # Gutman et al., arXiv:1605.01397; Codella et al., ISBI 2018, arXiv:1710.05006; arXiv:1902.03368.
    **{
        name: _describe(
            name,
            {"background": (0, 0, 0), "lesion": (255, 255, 255)},
            protocol=f"Lesion segmentation, the official parts of {name.removeprefix('isic')}, without void; Jaccard "
            f"index of the lesion, mean over images{extra}.",
            counts=counts,
        )
        for name, counts, extra in (
            ("isic2016", (("train", 900), ("test", 379)), ""),
            ("isic2017", (("train", 2000), ("val", 150), ("test", 600)), ""),
            ("isic2018", (("train", 2594), ("val", 100), ("test", 1000)), ", those below 0.65 counted as 0"),
        )
    },
    # Gould et al., ICCV 2009.
    "stanford_background": _describe(
        "stanford_background",
        _colors(
            "sky 128 128 128, tree 128 128 0, road 128 64 128, grass 0 128 0, water 0 128 192, building 128 0 0, "
            "mountain 128 80 0, foreground 255 128 0"
        ),
        protocol="715 images of about 240x320 without official split: five-fold cross-validation, 572 to train on and "
        "143 to test in each; pixel accuracy and class accuracy over 8 classes, unknown (-1) void (255) and dropped.",
    ),
}
"""Facts of the sets that `config.dataset` knows by name; `scenes` brings its own."""
