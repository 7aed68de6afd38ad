"""A folder of images and masks as a TensorFlow Datasets builder, for programs that read TFDS.

    import tensorflow_datasets as tfds
    from gan_seg_jax.data.tfds_folder import SegmentationFolder

    SegmentationFolder(folder="mydata", data_dir="prepared", file_format="array_record").download_and_prepare()
    source = tfds.data_source("segmentation_folder/mydata", data_dir="prepared", split="train")

needs no TensorFlow, nor does training from it: --config.dataset=tfds:segmentation_folder/mydata
--config.data_dir=prepared. `tfds.load` and the command `tfds build` are TensorFlow's own way, and need it.
"""

import dataclasses
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import tensorflow_datasets as tfds

from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.data.folder import open_folder
from gan_seg_jax.errors import InputError
from gan_seg_jax.pictures.png import encode_png

_SPLITS = {"train": "train", "val": "validation", "test": "test"}  # ours -> as TFDS calls them


@dataclasses.dataclass(kw_only=True)
class FolderConfig(tfds.core.BuilderConfig):
    """Which folder.

    Attributes:
        name: of the set, its version's folder; by default the folder's own name.
        folder: laid out as `data.folder` says.
    """

    name: str = ""
    folder: str = ""

    def __post_init__(self):
        found = self.name or os.path.basename(os.path.abspath(self.folder))
        self.name = re.sub(r"[^\w.-]", "_", found)


class SegmentationFolder(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of a folder: `image` and `segmentation_mask` as PNG, class ids, 255 is void; and `id`.

    The splits are those that `open_folder` finds: without a val a tenth of train is set aside.
    """

    VERSION = tfds.core.Version("1.0.0")
    code_path = None  # TFDS would look for checksums of downloads next to the code, by a package it does not require

    def __init__(self, *, folder: str | os.PathLike, name: str = "", **options: Any):
        """Open the folder, after a look at every file in it.

        Args:
            folder: the folder.
            name: of the set; "" is the folder's own name.
            **options: of every TFDS builder: data_dir, file_format ("array_record" is read without TensorFlow).

        Raises:
            InputError: the folder cannot be used, or a set of this name has been prepared from other images or masks.
        """
        self._dataset: Dataset = open_folder(folder)
        super().__init__(config=FolderConfig(name=name, folder=os.fspath(folder)), **options)
        there = self.data_path / "metadata.json"
        if there.exists() and json.loads(there.read_text()) != self._dataset.digests:
            raise InputError(
                f"{self.data_path} was prepared from other images or masks; remove it, or give this set another name."
            )

    def _info(self) -> tfds.core.DatasetInfo:
        names = list(self._dataset.info.class_names)
        features = {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
            "segmentation_mask": tfds.features.LabeledImage(labels=names, shape=(None, None, 1), encoding_format="png"),
            "id": tfds.features.Text(),
        }
        about = "Images and masks of class ids; 255 is void."
        return tfds.core.DatasetInfo(
            builder=self,
            description=about,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(self._dataset.digests),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        return {
            theirs: self._generate_examples(ours) for ours, theirs in _SPLITS.items() if ours in self._dataset.splits
        }

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        examples = self._dataset.splits[split]
        for place in range(len(examples)):
            example = examples[place]
            if example.get("label") is None:
                raise InputError(f"{example['id']} of {split} has no mask; TFDS sets need one for each image.")
            yield (
                place,
                {
                    "image": encode_png(example["image"]),
                    "segmentation_mask": encode_png(example["label"]),
                    "id": str(example["id"]),
                },
            )
