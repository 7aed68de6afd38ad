"""A folder prepared for TensorFlow Datasets holds the same images, labels and names, and is read by TFDS and by us."""

import contextlib
import io

import numpy as np
import pytest
import tensorflow_datasets as tfds

from gan_seg_jax.data.folder import open_folder
from gan_seg_jax.data.tfds_folder import SegmentationFolder
from gan_seg_jax.data.tfds_reader import open_tfds
from gan_seg_jax.data.tfds_split import quiet_logs
from gan_seg_jax.errors import InputError
from tests import tiny_runs


def prepare(folder, data_dir, **options):
    builder = SegmentationFolder(folder=folder, data_dir=data_dir, file_format="array_record", **options)
    with quiet_logs(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        builder.download_and_prepare()
    return builder


def test_what_was_in_the_folder_comes_out(tmp_path):
    folder = tiny_runs.write_set(tmp_path / "my data")
    prepare(folder, tmp_path / "prepared")
    ours, theirs = open_folder(folder), open_tfds("segmentation_folder/my_data", tmp_path / "prepared")
    assert theirs.info.class_names == ours.info.class_names
    assert {name: len(split) for name, split in theirs.splits.items()} == tiny_runs.COUNTS
    for name, split in ours.splits.items():
        for place in range(len(split)):
            one, two = split[place], theirs.splits[name][place]
            np.testing.assert_array_equal(one["image"], two["image"])
            np.testing.assert_array_equal(one["label"], two["label"])
    source = tfds.data_source("segmentation_folder/my_data", data_dir=tmp_path / "prepared", split="validation")
    example = source[1]
    np.testing.assert_array_equal(example["segmentation_mask"][..., 0], ours.splits["val"][1]["label"])
    assert example["id"].decode() == ours.splits["val"][1]["id"]


def test_another_folder_of_the_same_name_is_refused(tmp_path):
    folder = tiny_runs.write_set(tmp_path / "data")
    prepare(folder, tmp_path / "prepared")
    prepare(folder, tmp_path / "prepared")
    (folder / "train" / "images" / "000.png").write_bytes((folder / "train" / "images" / "004.png").read_bytes())
    with pytest.raises(InputError, match="prepared from other images or masks"):
        SegmentationFolder(folder=folder, data_dir=tmp_path / "prepared", file_format="array_record")
    prepare(folder, tmp_path / "prepared", name="changed")


def test_a_folder_that_cannot_be_used_is_named(tmp_path):
    with pytest.raises(InputError, match="train"):
        SegmentationFolder(folder=tmp_path, data_dir=tmp_path / "prepared")
