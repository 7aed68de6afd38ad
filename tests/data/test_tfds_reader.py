"""Prepared TensorFlow Datasets, read without TensorFlow; tiny sets are prepared on the spot."""

import contextlib
import io
import json
import os
import pickle
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from gan_seg_jax.data import tfds_metadata
from gan_seg_jax.data.catalog import DatasetInfo
from gan_seg_jax.data.images import decode_image, decode_mask
from gan_seg_jax.data.splits import Rules
from gan_seg_jax.data.tfds_reader import open_tfds
from gan_seg_jax.data.tfds_split import TfdsSplit
from gan_seg_jax.errors import InputError
from tests import tiny_runs


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
    for split in dataset.splits.values():
        np.testing.assert_array_equal(split.class_pixels(), tiny_runs.count_by_reading(split))


def test_without_names_the_ids_that_occur_are_the_classes(tmp_path, monkeypatch):
    splits = {"train": [example(i, 2) for i in range(5)], "test": [example(9, 4)]}
    dataset = open_tfds("tiny_masks:3.*.*", prepare(tmp_path, monkeypatch, splits))
    assert dataset.info.class_names == ("class_0", "class_1", "class_2", "class_4")
    assert "ids that occur" in dataset.info.protocol
    np.testing.assert_array_equal(dataset.splits["test"][0]["label"], [[255] * 8] + [[3] * 8] * 5)


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
    splits = {"train": [example(i, 9) for i in range(9)], "validation": [example(20)]}
    split = open_tfds("tiny_masks", prepare(tmp_path, monkeypatch, splits, mask="named")).splits["train"]
    with pytest.raises(InputError, match=r"train-000004: the mask holds class id 4, but the 4 classes have ids 0 to 3"):
        split[4]


def test_sizes_that_differ_are_bad_input(tmp_path, monkeypatch):
    wrong = {"image": example(0)["image"], "segmentation_mask": example(1)["segmentation_mask"]}
    splits = {"train": [wrong], "validation": [example(20)]}
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


class Bomb:
    """Says when the module of a feature class is imported."""

    def find_spec(self, name, path=None, target=None):
        assert name != "evil_module", "imported"


NESTED = {"pythonClassName": "evil_module.Feature", "tensor": {}}
TEXT = "tensorflow_datasets.core.features.text_feature.Text"
SEQUENCE = "tensorflow_datasets.core.features.sequence_feature.Sequence"


@pytest.mark.parametrize(
    "feature",
    [
        NESTED,
        {"python_class_name": "evil_module.Feature", "tensor": {}},
        {"pythonClassName": SEQUENCE, "sequence": {"feature": NESTED, "length": "-1"}},
        {"type": "evil_module.Feature", "content": {}},
        {"pythonClassName": TEXT, "jsonFeature": {"json": '{"type": "evil_module.Feature", "content": {}}'}},
    ],
    ids=["plain", "snake case", "nested", "legacy", "in a string"],
)
@pytest.mark.parametrize("where", ["features.json", "dataset_info.json"])
def test_other_feature_classes_than_those_of_tfds_are_never_imported(tmp_path, monkeypatch, feature, where):
    """Whoever evaluates somebody's run must not thereby run that somebody's code."""
    prepare(tmp_path, monkeypatch, {"train": [example(i) for i in range(4)]}, mask="named")
    monkeypatch.setattr("sys.meta_path", [Bomb(), *sys.meta_path])
    directory = next(tmp_path.glob("*/*/features.json")).parent
    sound = TfdsSplit(DatasetInfo("x", ("a",), ((0, 0, 0),)), "train", str(directory), "train")
    features = json.loads((directory / "features.json").read_text())
    features["featuresDict"]["features"]["extra"] = feature
    content = features if where == "features.json" else json.loads((directory / where).read_text())
    if where == "dataset_info.json":
        content["features"] = features
    (directory / where).write_text(json.dumps(content))
    for opened in (lambda: open_tfds("tiny_masks", tmp_path), lambda: len(sound)):
        with pytest.raises(InputError, match=f"{where} names the feature class evil_module.Feature, which would be"):
            opened()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("filepathTemplate", "gs://bucket/{SPLIT}"),
        ("filepathTemplate", "../{SPLIT}"),
        ("filepathTemplate", "/etc/passwd"),
        ("name", "../../other"),
        ("name", ".."),
    ],
)
def test_records_outside_of_the_folder_are_not_opened(tmp_path, monkeypatch, field, value):
    prepare(tmp_path, monkeypatch, {"train": [example(i) for i in range(4)]}, mask="named")
    path = next(tmp_path.glob("*/*/dataset_info.json"))
    facts = json.loads(path.read_text())
    facts["splits"][0][field] = value
    path.write_text(json.dumps(facts))
    with pytest.raises(InputError, match="dataset_info.json says that records lie at"):
        open_tfds("tiny_masks", tmp_path)


def test_a_pipe_among_the_files_is_not_waited_for(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch, {"train": [example(i) for i in range(4)]}, mask="named")
    path = next(tmp_path.glob("*/*/features.json"))
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="features.json is no regular file"):
        tfds_metadata.check(str(path.parent))
    with pytest.raises(InputError, match="features.json is no regular file"):
        open_tfds("tiny_masks:3.*.*", tmp_path)


def test_more_classes_than_ids_are_refused_before_their_names_are_made(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch, {"train": [example(i) for i in range(4)]}, mask="named")
    path = next(tmp_path.glob("*/*/features.json"))
    path.write_text(path.read_text().replace('"numClasses": "4"', f'"numClasses": "{10**12}"'))
    for labels in path.parent.glob("*.labels.txt"):
        labels.unlink()
    with pytest.raises(InputError, match="segmentation_mask has 1000000000000 classes; expected at most 255"):
        open_tfds("tiny_masks", tmp_path)


def test_a_second_start_reads_no_record(tmp_path, monkeypatch):
    splits = {"train": [example(i) for i in range(12)], "test": [example(20)]}
    prepare(tmp_path, monkeypatch, splits)
    first = open_tfds("tiny_masks", tmp_path)
    monkeypatch.setattr(TfdsSplit, "record", None)
    again = open_tfds("tiny_masks", tmp_path)
    for name, split in first.splits.items():
        assert again.splits[name].ids == split.ids
        np.testing.assert_array_equal(again.splits[name].sizes(), split.sizes())
        np.testing.assert_array_equal(again.splits[name].class_pixels(), split.class_pixels())
    assert again.info == first.info and again.digests == first.digests


def test_a_limit_of_pixels_holds_for_what_is_remembered(tmp_path, monkeypatch):
    prepare(tmp_path, monkeypatch, {"train": [example(i) for i in range(4)]}, mask="named")
    open_tfds("tiny_masks", tmp_path)
    with pytest.raises(InputError, match=r"the mask: has 8 x 8 pixels, .*config.max_pixels"):
        open_tfds("tiny_masks", tmp_path, rules=Rules(max_pixels=63))


def test_splits_that_are_not_read_are_named(tmp_path, monkeypatch, capsys):
    splits = {"train": [example(i) for i in range(4)], "extra": [example(9)]}
    prepare(tmp_path, monkeypatch, splits, mask="named")
    open_tfds("tiny_masks", tmp_path)
    assert "left out in tfds:tiny_masks: splits that are not read: extra\n" in capsys.readouterr().err


def test_twelve_bits_in_sixteen_are_scaled(tmp_path, monkeypatch):
    deep = [{**example(i), "image": png(np.full((6 + i % 3, 8), top, np.uint16))} for i, top in enumerate((4095, 800))]
    image = tfds.features.Image(shape=(None, None, 1), dtype=np.uint16)
    prepare(tmp_path, monkeypatch, {"train": deep, "val": [example(9)]}, mask="named", extra={"image": image})
    dataset = open_tfds("tiny_masks", tmp_path)
    assert dataset.info.image_bits == 12
    assert [dataset.splits["train"][index]["image"][0, 0, 0] for index in (0, 1)] == [255, 800 >> 4]


def test_the_same_image_in_two_splits_is_refused_unless_it_is_allowed(tmp_path, monkeypatch):
    splits = {"train": [example(i) for i in range(4)], "test": [example(9), example(2)]}
    prepare(tmp_path, monkeypatch, splits, mask="named")
    with pytest.raises(InputError, match=r"1 image is in two splits \(1 of train and test\), such as train-000002 and"):
        open_tfds("tiny_masks", tmp_path)
    assert len(open_tfds("tiny_masks", tmp_path, rules=Rules(allow_duplicates=True)).splits["test"]) == 2


def test_a_group_of_ids_is_in_one_split(tmp_path, monkeypatch):
    examples = [{**example(i), "file_name": f"p{i % 5}_{i}.jpg"} for i in range(20)]
    prepare(tmp_path, monkeypatch, {"train": examples}, mask="named", extra={"file_name": tfds.features.Text()})
    splits = open_tfds("tiny_masks", tmp_path, rules=Rules(group_pattern="^(p.)_")).splits
    assert {name[:2] for name in splits["val"].ids} & {name[:2] for name in splits["train"].ids} == set()
    assert len(splits["val"]) == 4


def test_ids_that_never_occur_are_no_classes(tmp_path, monkeypatch):
    """Masks that count from 1, as those of oxford_iiit_pet."""
    examples = [example(i, 2) for i in range(10)]
    for one in examples:
        label = np.asarray(Image.open(io.BytesIO(one["segmentation_mask"])))
        one["segmentation_mask"] = png(np.where(label == 255, label, label + 1).astype(np.uint8))
    dataset = open_tfds("tiny_masks", prepare(tmp_path, monkeypatch, {"train": examples}))
    assert dataset.info.class_names == ("class_1", "class_2", "class_3")
    labels = [dataset.splits["train"][index]["label"] for index in range(9)]
    assert set(np.unique(np.concatenate([label.ravel() for label in labels]))) == {0, 1, 2, 255}
    for split in dataset.splits.values():
        np.testing.assert_array_equal(split.class_pixels(), tiny_runs.count_by_reading(split))


def test_a_val_without_a_labelled_pixel_is_refused(tmp_path, monkeypatch):
    void = {**example(20), "segmentation_mask": png(np.full((8, 8), 255, np.uint8))}
    splits = {"train": [example(i) for i in range(4)], "validation": [void]}
    prepare(tmp_path, monkeypatch, splits, mask="named")
    with pytest.raises(InputError, match="tfds:tiny_masks: no pixel of val is labelled"):
        open_tfds("tiny_masks", tmp_path)


def flipped(content, position):
    return content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :]


@pytest.mark.parametrize("feature", ["image", "segmentation_mask"])
def test_damage_inside_of_a_record_is_found(tmp_path, monkeypatch, feature):
    sound = png(np.random.default_rng(0).integers(0, 4, (8, 8), np.uint8))
    wrong = {**example(1), feature: flipped(sound, len(sound) // 2)}
    splits = {"train": [wrong, example(2)], "validation": [example(20)]}
    prepare(tmp_path, monkeypatch, splits, mask="named")
    with pytest.raises(InputError, match=r"train-000000: the (image|mask): is damaged or cut short \(wrong checksum"):
        open_tfds("tiny_masks", tmp_path).splits["train"][0]


def test_damage_around_the_records_is_bad_input(tmp_path, monkeypatch):
    """Wherever a bit is flipped in the file, the labels are those that were stored or there is a sentence."""
    prepare(tmp_path, monkeypatch, {"train": [example(i) for i in range(4)], "validation": [example(20)]}, mask="named")
    read = lambda: [open_tfds("tiny_masks", tmp_path).splits["train"][index]["label"].tolist() for index in range(4)]
    stored, (path,) = read(), tmp_path.glob("*/*/*train*array_record*")
    content, refused = path.read_bytes(), 0
    for position in np.flatnonzero(np.frombuffer(content, np.uint8))[::60]:  # the rest is padding
        path.write_bytes(flipped(content, position))
        try:
            assert read() == stored
        except InputError as error:
            assert "damaged" in str(error)
            refused += 1
    assert refused > 3


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
    np.testing.assert_array_equal(decode_image("x", file.getvalue()), expected)


def test_masks_keep_their_stored_numbers():
    palette = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8), "P")
    palette.putpalette([9, 9, 9, 50, 60, 70, 1, 2, 3, 200, 100, 0])
    for bits in (2, 8):
        file = io.BytesIO()
        palette.save(file, "PNG", bits=bits)
        np.testing.assert_array_equal(decode_mask("x", file.getvalue()), [[0, 1], [2, 3]])
    np.testing.assert_array_equal(decode_mask("x", png(np.array([[0, 7]], np.uint8))), [[0, 7]])


def test_a_folder_that_is_no_set_is_bad_input(tmp_path):
    from gan_seg_jax.data.scenes.builder import INFO

    with pytest.raises(InputError, match="damaged or incomplete"):
        len(TfdsSplit(INFO, "train", str(tmp_path), "train"))
