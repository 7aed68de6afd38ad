"""Batches: functions of (seed, position) alone, whatever the processes, the workers and the sizes of the images."""

import dataclasses
import itertools
import types

import numpy as np
import pytest
from PIL import Image

from configs import common
from gan_seg_jax.data import pipeline
from gan_seg_jax.data.splits import Rules
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.training import prior_runs
from tests import tiny_runs

LABELLED = ("labelled",)


def make_config(**fields):
    config = common.get_config()
    config.update({"canvas_size": (10, 14), "batch_size": 4, "seed": 3, **fields})
    return config


def take(count, dataset, config, **options):
    batches = pipeline.train_batches(dataset, config, LABELLED, **options)
    found = [batch["labelled"] for batch in itertools.islice(batches, count)]
    batches.close()
    return found


def assert_equal(some, others):
    assert len(some) == len(others)
    for a, b in zip(some, others, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            assert a[name].dtype == b[name].dtype
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture(scope="module")
def dataset():
    return tiny_runs.memory_set(train=11, val=5, unlabelled=3)


@pytest.mark.parametrize("resize", ["fit", "none"])
def test_starting_later_is_skipping(dataset, resize):
    config = make_config(resize=resize)
    whole = take(9, dataset, config)
    for start in (1, 5):
        assert_equal(take(9 - start, dataset, config, start=start), whole[start:])


def test_batches_are_uint8_canvases_of_the_contract(dataset):
    batch = take(1, dataset, make_config())[0]
    shapes = {name: (array.dtype.name, array.shape) for name, array in batch.items()}
    assert shapes == {
        "image": ("uint8", (4, 10, 14, 3)),
        "label": ("uint8", (4, 10, 14)),
        "content": ("int32", (4, 2)),
        "valid": ("bool", (4,)),
        "id": ("int32", (4,)),
    }
    assert batch["valid"].all()
    for row in range(4):
        split, index = dataset.splits["train"], int(batch["id"][row])
        alone = pipeline.fit_to_canvas(*map(split[index].get, ("image", "label")), (10, 14), resize="fit", rng=None)
        for name, array in alone.items():
            np.testing.assert_array_equal(batch[name][row], array)


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_the_global_batch_in_order(dataset, count, rounds):
    config = make_config(rounds=rounds, resize="none")
    whole = take(4, dataset, config)
    parts = [take(4, dataset, config, process=(number, count)) for number in range(count)]
    axis = 1 if rounds > 1 else 0
    joined = [
        {name: np.concatenate([part[name] for part in row], axis=axis) for name in row[0]}
        for row in zip(*parts, strict=True)
    ]
    assert_equal(joined, whole)


def test_every_epoch_visits_each_example_once_in_a_new_order(dataset):
    batches = take(11, dataset, make_config())  # 44 examples: four epochs of 11
    epochs = np.concatenate([batch["id"] for batch in batches]).reshape(4, 11)
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert any(tuple(epoch) != tuple(range(11)) for epoch in epochs)


def test_another_seed_is_another_order_and_other_windows(dataset):
    one, other = (
        np.concatenate([batch["id"] for batch in take(11, dataset, make_config(seed=seed))]) for seed in (0, 1)
    )
    epochs = [tuple(epoch) for epoch in np.concatenate([one, other]).reshape(8, 11)]
    assert len(set(epochs)) == 8  # neighbouring seeds share no order, in no epoch
    assert_equal(take(1, dataset, make_config(seed=2**32 - 1)), take(1, dataset, make_config(seed=2**32 - 1)))


def test_rounds_are_slices_of_fresh_examples(dataset):
    batches = take(2, dataset, make_config(rounds=3))
    assert batches[0]["image"].shape == (3, 4, 10, 14, 3)
    in_turn = take(6, dataset, make_config())
    for number, batch in enumerate(batches):
        assert_equal(
            [{name: array[slot] for name, array in batch.items()} for slot in range(3)], in_turn[3 * number :][:3]
        )


def test_workers_yield_the_same_batches(dataset):
    plain = take(6, dataset, make_config(resize="none"), start=2)
    assert_equal(take(6, dataset, make_config(resize="none", num_workers=2), start=2), plain)


def test_streams_go_their_own_ways(dataset):
    config = make_config()
    batches = pipeline.train_batches(dataset, config, ("labelled", "unlabelled"))
    batch = next(batches)
    batches.close()
    assert batch["unlabelled"]["id"].max() < 3
    np.testing.assert_array_equal(batch["labelled"]["id"], take(1, dataset, config)[0]["id"])


def test_a_missing_stream_is_named():
    with pytest.raises(InputError, match="unlabelled"):
        next(pipeline.train_batches(tiny_runs.memory_set(train=2, val=2), make_config(), ("unlabelled",)))


def test_a_batch_may_be_larger_than_the_split():
    batches = take(2, tiny_runs.memory_set(train=3, val=1), make_config(batch_size=6))
    assert all(sorted(batch["id"]) == [0, 0, 1, 1, 2, 2] for batch in batches)


class BrokenSplit(tiny_runs.MemorySplit):
    def __getitem__(self, index):
        if index == 7:
            raise InputError("example 7 is gone")
        return super().__getitem__(index)


def test_an_unreadable_example_is_named_when_its_batch_comes():
    whole = tiny_runs.memory_split(11, name="train")
    broken = types.SimpleNamespace(
        info=whole.info, splits={"train": BrokenSplit(whole.info, "train", whole.images, whole.labels)}
    )
    batches = pipeline.train_batches(broken, make_config(batch_size=1), LABELLED)
    seen = []
    with pytest.raises(InputError, match="example 7 is gone"):
        for batch in batches:
            seen.append(int(batch["labelled"]["id"][0]))
    sound = types.SimpleNamespace(info=whole.info, splits={"train": whole})
    order = [int(batch["id"][0]) for batch in take(11, sound, make_config(batch_size=1))]
    assert seen == order[: order.index(7)]


# fit_to_canvas


@pytest.mark.parametrize("size", [(12, 20), (5, 7), (10, 14), (40, 9), (33, 70)])
def test_fit_is_what_pillow_does(size):
    image, label = tiny_runs.draw(1, size)
    found = pipeline.fit_to_canvas(image, label, (10, 14), resize="fit", rng=None)
    scale = min(10 / size[0], 14 / size[1])
    height, width = (int(np.clip(round(n * scale), 1, limit)) for n, limit in zip(size, (10, 14), strict=True))
    np.testing.assert_array_equal(found["content"], (height, width))
    expected = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(found["image"][:height, :width], expected)
    nearest = np.asarray(Image.fromarray(label).resize((width, height), Image.Resampling.NEAREST))
    np.testing.assert_array_equal(found["label"][:height, :width], nearest)
    assert not found["image"][height:].any() and not found["image"][:, width:].any()
    assert (found["label"][height:] == IGNORE).all() and (found["label"][:, width:] == IGNORE).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (1000, 1), (3, 2000), (2, 2), (9, 13), (11, 15)])
@pytest.mark.parametrize("resize", ["fit", "none"])
def test_odd_shapes_fit_and_labels_are_only_picked(size, resize):
    rng = np.random.default_rng(0)
    label = rng.choice(np.array([0, 7, 200, IGNORE], np.uint8), size)
    image = np.repeat(label[..., None], 3, axis=2)
    found = pipeline.fit_to_canvas(image, label, (10, 14), resize=resize, rng=np.random.default_rng(1))
    height, width = found["content"]
    assert 1 <= height <= 10 and 1 <= width <= 14
    assert set(np.unique(found["label"])) <= {0, 7, 200, IGNORE}
    if resize == "none":
        assert (height, width) == (min(size[0], 10), min(size[1], 14))


def test_windows_without_scaling_are_cut_where_the_generator_says():
    rows, columns = np.indices((30, 40), np.uint8)
    image, label = np.stack([rows, columns, rows ^ columns], axis=-1), 40 + rows + columns
    centre = pipeline.fit_to_canvas(image, label, (10, 14), resize="none", rng=None)
    np.testing.assert_array_equal(centre["image"], image[10:20, 13:27])
    np.testing.assert_array_equal(centre["label"], label[10:20, 13:27])
    places = set()
    for seed in range(200):
        found = pipeline.fit_to_canvas(image, label, (10, 14), resize="none", rng=np.random.default_rng(seed))
        top, left = (int(n) for n in found["image"][0, 0, :2])
        np.testing.assert_array_equal(found["image"], image[top : top + 10, left : left + 14])
        np.testing.assert_array_equal(found["label"], label[top : top + 10, left : left + 14])
        places.add((top, left))
    assert {0, 20} <= {r for r, _ in places} and {0, 26} <= {c for _, c in places}  # both borders are reached


# eval_batches


@pytest.mark.parametrize("resize", ["fit", "none"])
@pytest.mark.parametrize("batch_size", [1, 4, 5, 16])
def test_evaluation_counts_every_image_once_at_its_own_size(batch_size, resize):
    split = tiny_runs.memory_split(9, sizes=((12, 20), (16, 24), (9, 31)))
    batches = list(pipeline.eval_batches(split, make_config(batch_size=batch_size, resize=resize)))
    assert {batch["image"].shape for batch in batches} == {
        (batch_size, *((10, 14) if resize == "fit" else (32, 32)), 3)
    }
    assert {batch["label"].shape for batch in batches} == {(batch_size, 32, 32)}
    valid = np.concatenate([batch["valid"] for batch in batches])
    assert np.concatenate([batch["id"] for batch in batches])[valid].tolist() == list(range(9))
    for batch in batches:
        for row in np.flatnonzero(batch["valid"]):
            label = split[int(batch["id"][row])]["label"]
            height, width = batch["size"][row]
            np.testing.assert_array_equal(batch["label"][row, :height, :width], label)
            assert (batch["label"][row, height:] == IGNORE).all() and (batch["label"][row, :, width:] == IGNORE).all()


@pytest.mark.parametrize("count", [2, 4])
def test_evaluation_is_shared_by_processes(count):
    split, config = tiny_runs.memory_split(9, sizes=((12, 20), (9, 31))), make_config()
    whole = list(pipeline.eval_batches(split, config))
    parts = [list(pipeline.eval_batches(split, config, process=(number, count))) for number in range(count)]
    joined = [
        {name: np.concatenate([part[name] for part in row]) for name in row[0]} for row in zip(*parts, strict=True)
    ]
    assert_equal(joined, whole)


# Data sets by name


def test_classes_come_from_the_data_set_or_must_be_its(dataset):
    config = make_config()
    pipeline.resolve_classes(config, dataset)
    assert (config.num_classes, config.class_names) == (3, ("sky", "road", "car"))
    pipeline.resolve_classes(config, dataset)  # what was filled in is right the second time
    with pytest.raises(InputError, match=r"num_classes is 5.*3"):
        pipeline.resolve_classes(make_config(num_classes=5), dataset)


@pytest.mark.parametrize(
    ("name", "words"), [("camvit", "camvid"), ("Scenes", "scenes"), ("folder", "data_dir"), ("camvid", "data_dir")]
)
def test_data_sets_that_cannot_be_opened(name, words):
    with pytest.raises(InputError, match=words):
        pipeline.open_dataset(make_config(dataset=name))


def test_the_config_says_how_a_set_is_read(tmp_path):
    for split in ("train", "val"):
        for kind, value in (("images", 4095), ("masks", 1)):
            (tmp_path / split / kind).mkdir(parents=True)
            Image.fromarray(np.full((6, 8), value, np.uint16)).save(tmp_path / split / kind / "p1_a.png")
    (tmp_path / "classes.txt").write_text("0 a 0 0 0\n1 b 1 1 1\n")
    config = make_config(dataset="folder", data_dir=str(tmp_path))
    with pytest.raises(InputError, match="allow_duplicates"):
        pipeline.open_dataset(config)
    config.allow_duplicates = True
    pipeline.resolve_classes(config, pipeline.open_dataset(config))
    assert config.image_bits == 12  # kept with the run, so that predict reads alike
    config.image_bits = 10
    with pytest.raises(InputError, match="beyond the 10 bits"):
        pipeline.open_dataset(config)
    config.group_pattern = "^(p1)_"
    with pytest.raises(InputError, match="group_pattern"):
        pipeline.open_dataset(config)
    config.max_pixels = 47
    with pytest.raises(InputError, match="max_pixels"):
        pipeline.open_dataset(config)


def test_a_prior_run_reads_its_set_by_the_same_rules():
    assert {field.name for field in dataclasses.fields(Rules)} <= set(prior_runs.DATA_FIELDS)


def test_groups_are_refused_where_they_would_not_be_kept():
    with pytest.raises(InputError, match="config.group_pattern has no meaning for scenes"):
        pipeline.open_dataset(make_config(group_pattern="^(.)"))


@pytest.mark.parametrize("name", ["scenes", "folder", "pairs", "tfds:x", "camvid"])
def test_sets_on_other_machines_are_refused(name):
    with pytest.raises(InputError, match="config.data_dir is 'gs://bucket/set'; data sets are read from a folder"):
        pipeline.open_dataset(make_config(dataset=name, data_dir="gs://bucket/set"))
