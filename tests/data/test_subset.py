"""Labels that are withheld: who keeps them, and that nothing of the others is left."""

import dataclasses
import itertools
import os
import pickle

import numpy as np
import pytest

from configs import common, semi_seg, supervised_seg
from gan_seg_jax import config as config_lib
from gan_seg_jax.data import class_weights, pipeline
from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.data.subset import keep_labels
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE
from tests import tiny_runs


@dataclasses.dataclass(frozen=True, eq=False)
class NamedSplit(tiny_runs.MemorySplit):
    """A split in memory that knows its ids."""

    @property
    def ids(self):
        return tuple(self[index]["id"] for index in range(len(self)))


def make_set(**counts):
    whole = tiny_runs.memory_set(**counts)
    splits = {name: NamedSplit(s.info, s.name, s.images, s.labels) for name, s in whole.splits.items()}
    return Dataset(whole.info, splits)


@pytest.fixture(scope="module")
def whole():
    return make_set(train=20, val=2, unlabelled=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_runs.write_set(tmp_path_factory.mktemp("set"))


def kept(dataset, **options):
    return set(keep_labels(dataset, **options).splits["train"].ids)


def test_larger_fractions_hold_smaller_ones(whole):
    parts = [kept(whole, fraction=fraction) for fraction in (0.02, 0.1, 0.25, 0.5, 0.99, 1.0)]
    assert [len(part) for part in parts] == [1, 2, 5, 10, 20, 20]
    assert all(small <= large for small, large in itertools.pairwise(parts))


def test_a_seed_is_a_choice(whole):
    chosen = {frozenset(kept(whole, fraction=0.25, seed=seed)) for seed in range(6)}
    assert len(chosen) > 3
    assert kept(whole, fraction=0.25, seed=3) == kept(whole, fraction=0.25, seed=3)


def test_the_choice_is_by_the_names_alone(whole):
    train = whole.splits["train"]
    turned = NamedSplit(train.info, "train", train.images[::-1], train.labels)
    assert kept(whole, fraction=0.25) == kept(Dataset(whole.info, {**whole.splits, "train": turned}), fraction=0.25)


def test_every_image_is_there_once_and_labels_are_gone(whole):
    parts = keep_labels(whole, fraction=0.25).splits
    train, rest = whole.splits["train"], parts["unlabelled"]
    own = tuple(f"unlabelled-{index}" for index in range(3))
    assert rest.ids[-3:] == own
    assert sorted(parts["train"].ids + rest.ids[:-3]) == sorted(train.ids)
    assert (len(parts["train"]), len(rest)) == (5, 18)
    position = {name: index for index, name in enumerate(train.ids)}
    for index, name in enumerate(parts["train"].ids):
        example, original = parts["train"][index], train[position[name]]
        assert example["id"] == name
        np.testing.assert_array_equal(example["image"], original["image"])
        np.testing.assert_array_equal(example["label"], original["label"])
        np.testing.assert_array_equal(parts["train"].sizes()[index], original["label"].shape)
    for index, name in enumerate(rest.ids):
        example = rest[index]
        original = train[position[name]] if name in position else whole.splits["unlabelled"][int(name[-1])]
        assert example["id"] == name
        np.testing.assert_array_equal(example["image"], original["image"])
        assert example["label"].shape == example["image"].shape[:2]
        assert (example["label"] == IGNORE).all()
        np.testing.assert_array_equal(rest.sizes()[index], example["image"].shape[:2])
    assert parts["val"] is whole.splits["val"]


@pytest.mark.parametrize("index", [-1, 18, 100])
def test_an_index_outside_is_refused(whole, index):
    with pytest.raises(IndexError):
        keep_labels(whole, fraction=0.25).splits["unlabelled"][index]


def test_all_labels_change_nothing(whole):
    assert keep_labels(whole) is whole
    assert "unlabelled" not in keep_labels(make_set(train=1, val=1), fraction=0.5).splits


def test_an_index_file_names_the_images(whole, tmp_path):
    file = tmp_path / "ids.txt"
    file.write_text("train-7\n\n  train-3 \r\ntrain-7\n")
    assert keep_labels(whole, index_file=str(file)).splits["train"].ids == ("train-3", "train-7")


def test_an_index_file_is_a_regular_file_and_its_names_are_composed(whole, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is a named pipe"):
        keep_labels(whole, index_file=str(tmp_path / "pipe"))
    (tmp_path / "ids.txt").write_text("e\u0301\n")
    with pytest.raises(InputError, match="does not have: é."):
        keep_labels(whole, index_file=str(tmp_path / "ids.txt"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train-1\n\x1b[31m\n", r"does not have: \\x1b\[31m"),
        ("train-1\ntrain-99\nval-0\n", "train-99, val-0"),
        ("".join(f"x{n}\n" for n in range(9)), "x0, x1, x2, x3, x4 and 4 more.*like train-0"),
        ("\n \n", "lists no id"),
        (None, "cannot be read: No such file"),
        (b"\xff\xfe\x00", "no UTF-8"),
    ],
)
def test_index_files_that_cannot_be_used(whole, tmp_path, text, words):
    file = tmp_path / "ids.txt"
    if text is not None:
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=words):
        keep_labels(whole, index_file=str(file))


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_fractions_out_of_range(whole, fraction):
    with pytest.raises(InputError, match=r"labelled\.fraction"):
        keep_labels(whole, fraction=fraction)


def test_an_index_file_takes_the_place_of_the_fraction(whole, tmp_path):
    config = semi_seg.get_config()
    config.labelled.index_file = str(tmp_path / "ids.txt")
    (tmp_path / "ids.txt").write_text("train-7\ntrain-3\n")
    splits = keep_labels(whole, **config.labelled).splits
    assert splits["train"].ids == ("train-3", "train-7") and len(splits["unlabelled"]) == 21


@pytest.mark.slow
def test_parts_travel_to_workers(whole):
    config = common.get_config()
    config.update({"canvas_size": (10, 14), "batch_size": 4, "seed": 3})
    dataset = keep_labels(whole, fraction=0.25)
    again = pickle.loads(pickle.dumps(dataset))
    np.testing.assert_array_equal(again.splits["unlabelled"][9]["image"], dataset.splits["unlabelled"][9]["image"])
    found = []
    for workers in (0, 1):
        config.num_workers = workers
        batches = pipeline.train_batches(dataset, config, ("labelled", "unlabelled"))
        found.append(list(itertools.islice(batches, 2)))
        batches.close()
    for plain, worked in zip(*found, strict=True):
        assert (plain["unlabelled"]["label"] == IGNORE).all()
        assert (plain["labelled"]["label"] != IGNORE).any()
        for stream in plain:
            for name in plain[stream]:
                np.testing.assert_array_equal(plain[stream][name], worked[stream][name])


def test_a_missing_stream_says_what_to_do():
    config = common.get_config()
    with pytest.raises(InputError, match=r"none; set config\.labelled\.fraction below 1"):
        next(pipeline.train_batches(make_set(train=2, val=2), config, ("unlabelled",)))


def test_every_reader_of_the_data_set_sees_the_labelled_part(folder):
    config = supervised_seg.get_config("smoke")
    config.update({"dataset": "folder", "data_dir": str(folder)})
    whole = pipeline.open_dataset(config)
    config.labelled.fraction = 0.25
    part = pipeline.open_dataset(config)
    names = part.splits["train"].ids
    assert len(names) == 3 and set(names) < set(whole.splits["train"].ids)
    assert len(part.splits["unlabelled"]) == 10
    assert len(part.splits["val"]) == len(whole.splits["val"])
    labels = [e["label"] for e in map(whole.splits["train"].__getitem__, range(13)) if e["id"] in names]
    expected = [sum((label == c).sum() for label in labels) for c in range(3)]
    np.testing.assert_array_equal(class_weights.count_classes(part.splits["train"])[0], expected)
    for split in part.splits.values():
        np.testing.assert_array_equal(split.class_pixels(), tiny_runs.count_by_reading(split))


def test_a_run_is_not_continued_with_other_labels():
    old, new = supervised_seg.get_config(), supervised_seg.get_config()
    new.labelled.fraction = 0.5
    found = config_lib.differences(config_lib.to_json(old), config_lib.to_json(new))
    assert found == [("labelled.fraction", 1.0, 0.5)]


def test_scenes_have_names(tmp_path):
    config = common.get_config()
    config.data_dir, config.scenes.size, config.scenes.counts = str(tmp_path), (16, 16), (8, 1, 0)
    config.labelled.fraction = 0.25
    splits = pipeline.open_dataset(config).splits
    assert sorted(splits["train"].ids + splits["unlabelled"].ids) == [f"train-{n:06d}" for n in range(8)]
    assert splits["train"].ids[1] == splits["train"][1]["id"]
