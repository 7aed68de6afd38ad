"""Prepared TensorFlow Datasets, read without TensorFlow; tiny sets are prepared on the spot."""

import contextlib
import io
import pickle

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from gan_seg_jax.data.tfds_reader import TfdsSplit, decode_image, decode_label, open_tfds
from gan_seg_jax.errors import InputError


def png(array, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", **options)
    return file.getvalue()


def jpeg(array):
    file = io.BytesIO()
    Image.fromarray(array).save(file, "JPEG", quality=95)
    return file.getvalue()


def example(i, largest=3):
    label = np.full((6 + i % 3, 8), i % (largest + 1), np.uint8)
    label[0] = 255
    return {"image": jpeg(np.full((*label.shape, 3), 6 * i, np.uint8)), "segmentation_mask": png(label)}


class TinyMasks(tfds.core.GeneratorBasedBuilder):
    """Made by `prepare` with the class attributes set."""

    VERSION = tfds.core.Version("3.1.0")
    code_path = None
    mask = None
    splits: dict = {}  # noqa: RUF012
    extra: dict = {}  # noqa: RUF012

    def _info(self):
        features = {"image": tfds.features.Image(), "segmentation_mask": self.mask, **self.extra}
        features = {name: feature for name, feature in features.items() if feature is not None}
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _split_generators(self, dl_manager):
        return {name: self._generate_examples(examples) for name, examples in self.splits.items()}

    def _generate_examples(self, examples):
        yield from enumerate(examples)


def prepare(root, monkeypatch, splits, *, mask="plain", extra=None, file_format="array_record"):
    feature = {
        "plain": tfds.features.Image(shape=(None, None, 1)),
        "named": tfds.features.LabeledImage(labels=["dog", "cat", "sky", "sea"], shape=(None, None, 1)),
        "none": None,
    }[mask]
    for name, value in {"mask": feature, "splits": splits, "extra": extra or {}}.items():
        monkeypatch.setattr(TinyMasks, name, value)
    monkeypatch.setattr(tfds.core.DatasetInfo, "initialize_from_bucket", lambda self: None)  # leaves temporary folders
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        TinyMasks(data_dir=root, file_format=file_format).download_and_prepare()
    return root


def test_examples_names_and_sizes_are_those_of_the_set(tmp_path, monkeypatch):
    splits = {"train": [example(i) for i in range(5)], "validation": [example(7)], "test": [example(8), example(9)]}
    dataset = open_tfds("tiny_masks", prepare(tmp_path, monkeypatch, splits, mask="named"))
    assert dataset.info.class_names == ("dog", "cat", "sky", "sea")
    assert len(set(dataset.info.class_colors)) == 4
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 5, "val": 1, "test": 2}
    second = dataset.splits["train"][2]
    assert second["id"] == "train-000002"
    np.testing.assert_allclose(second["image"], np.full((8, 8, 3), 12), atol=1)
    np.testing.assert_array_equal(second["label"], [[255] * 8] + [[2] * 8] * 7)
    np.testing.assert_array_equal(dataset.splits["train"].sizes(), [(6, 8), (7, 8), (8, 8), (6, 8), (7, 8)])
    assert dataset.splits["train"].sizes().dtype == np.int32


def test_without_names_the_largest_id_counts_the_classes(tmp_path, monkeypatch):
    splits = {"train": [example(i, 2) for i in range(5)], "test": [example(4, 4)]}
    dataset = open_tfds("tiny_masks:3.*.*", prepare(tmp_path, monkeypatch, splits))
    assert dataset.info.class_names == ("class_0", "class_1", "class_2", "class_3", "class_4")
    assert "largest id" in dataset.info.protocol


def test_without_validation_a_tenth_of_train_is_the_same_every_time(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch, {"train": [example(i) for i in range(40)]}, mask="named")
    first, second = (open_tfds("tiny_masks", tmp_path) for _ in range(2))
    ids = {name: [split[i]["id"] for i in range(len(split))] for name, split in first.splits.items()}
    assert len(ids["val"]) == 4 and not set(ids["val"]) & set(ids["train"]) and len(ids["train"]) == 36
    assert ids["val"] == [second.splits["val"][i]["id"] for i in range(4)]
    assert "test" not in first.splits


def test_a_text_feature_gives_the_ids(tmp_path, monkeypatch):
    splits = {
        "train": [{**example(i), "file_name": f"photo {i}.jpg"} for i in range(2)],
        "validation": [{**example(3), "file_name": "v"}],
    }
    prepare(tmp_path, monkeypatch, splits, mask="named", extra={"file_name": tfds.features.Text()})
    assert open_tfds("tiny_masks", tmp_path).splits["train"][1]["id"] == "photo 1.jpg"


def test_a_split_survives_pickling_small(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch, {"train": [example(i) for i in range(4)]}, mask="named")
    split = open_tfds("tiny_masks", tmp_path).splits["train"]
    before = split[1]
    content = pickle.dumps(split)
    after = pickle.loads(content)[1]
    assert len(content) < 10_000
    np.testing.assert_array_equal(before["image"], after["image"])
    assert before["id"] == after["id"]


def test_an_index_outside_is_refused(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch, {"train": [example(i) for i in range(4)]}, mask="named")
    split = open_tfds("tiny_masks", tmp_path).splits["val"]
    for index in (-1, 1):
        with pytest.raises(IndexError, match="outside 0 to 0"):
            split[index]


def test_ids_beyond_the_names_are_bad_input(tmp_path, monkeypatch):
    splits = {"train": [example(i, 9) for i in range(9)], "validation": [example(0)]}
    split = open_tfds("tiny_masks", prepare(tmp_path, monkeypatch, splits, mask="named")).splits["train"]
    with pytest.raises(InputError, match=r"train-000004: the mask holds class id 4, but the 4 classes have ids 0 to 3"):
        split[4]


def test_sizes_that_differ_are_bad_input(tmp_path, monkeypatch):
    wrong = {"image": example(0)["image"], "segmentation_mask": example(1)["segmentation_mask"]}
    splits = {"train": [wrong], "validation": [example(0)]}
    split = open_tfds("tiny_masks", prepare(tmp_path, monkeypatch, splits, mask="named")).splits["train"]
    with pytest.raises(InputError, match="expected equal sizes"):
        split[0]


def test_a_set_that_is_not_there_is_bad_input(tmp_path):
    with pytest.raises(InputError, match=r"tfds:nothing_here: not found.*tfds build NAME --file_format=array_record"):
        open_tfds("nothing_here", tmp_path)


def test_a_set_without_masks_is_bad_input(tmp_path, monkeypatch):
    splits = {"train": [{"image": example(0)["image"]}]}
    prepare(tmp_path, monkeypatch, splits, mask="none")
    with pytest.raises(InputError, match="no image feature segmentation_mask; found image"):
        open_tfds("tiny_masks", tmp_path)


def test_another_format_is_bad_input(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch, {"train": [example(i) for i in range(2)]}, mask="named")
    for facts in tmp_path.glob("*/*/dataset_info.json"):
        facts.write_text(facts.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(InputError, match="in format tfrecord; expected array_record"):
        open_tfds("tiny_masks", tmp_path)


def test_a_set_without_train_is_bad_input(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch, {"test": [example(0)]}, mask="named")
    with pytest.raises(InputError, match=r"no split train .*found test"):
        open_tfds("tiny_masks", tmp_path)


def test_a_lost_file_is_bad_input(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch, {"train": [example(i) for i in range(4)]}, mask="named")
    dataset = open_tfds("tiny_masks", tmp_path)
    for records in tmp_path.glob("*/*/*array_record*"):
        records.unlink()
    with pytest.raises(InputError, match="damaged or incomplete"):
        dataset.splits["train"][0]


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "P", "1"])
def test_images_of_every_mode_become_rgb(mode):
    grey = Image.fromarray(np.array([[0, 255], [255, 0]], np.uint8))
    file = io.BytesIO()
    grey.convert(mode).save(file, "PNG")
    expected = np.repeat(np.asarray(grey)[:, :, None], 3, axis=2)
    np.testing.assert_array_equal(decode_image(file.getvalue(), "x"), expected)


def test_masks_keep_their_stored_numbers():
    palette = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 50, 60, 70, 1, 2, 3, 200, 100, 0])
    for bits in (2, 8):
        file = io.BytesIO()
        palette.save(file, "PNG", bits=bits)
        np.testing.assert_array_equal(decode_label(file.getvalue(), "x"), [[0, 1], [2, 3]])
    np.testing.assert_array_equal(decode_label(png(np.array([[0, 7]], np.uint8)), "x"), [[0, 7]])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no picture", "cannot be decoded"),
        (png(np.zeros((2, 2, 3), np.uint8)), "has mode RGB"),
        (png(np.zeros((9, 9), np.uint8))[:44], "cannot be decoded"),
    ],
)
def test_what_is_no_mask_is_bad_input(content, said):
    with pytest.raises(InputError, match=rf"some set, example 3: the mask {said}"):
        decode_label(content, "some set, example 3")


def test_a_damaged_image_is_bad_input():
    with pytest.raises(InputError, match="the image cannot be decoded"):
        decode_image(b"\xff\xd8\xff broken", "x")


def test_a_folder_that_is_no_set_is_bad_input(tmp_path):
    from gan_seg_jax.data.scenes import INFO

    with pytest.raises(InputError, match="damaged or incomplete"):
        len(TfdsSplit(INFO, "train", str(tmp_path), "train"))
