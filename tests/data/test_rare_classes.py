"""Rare-class sampling: its probabilities by hand, and draws that are functions of the seed and the position alone."""

import itertools

import numpy as np
import pytest

from configs import common
from gan_seg_jax.data import fields, pipeline
from gan_seg_jax.data.rare_classes import open_rare_classes, probabilities
from gan_seg_jax.errors import InputError
from tests import tiny_runs

LABELS = (  # of 20 pixels each: class 1 in two images, class 2 in one with 4 pixels and in one with a single pixel
    [0] * 20,
    [0] * 10 + [1] * 10,
    [0] * 12 + [1] * 4 + [2] * 4,
    [0] * 18 + [2] + [255],
)


def make_config(temperature=0.1, area=0.1, **fields):
    config = common.get_config()
    config.update({"canvas_size": (10, 14), "batch_size": 4, "seed": 3, **fields})
    config.rare_classes.update({"temperature": temperature, "area": area})
    return config


def make_split():
    labels = tuple(np.array(label, np.uint8).reshape(4, 5) for label in LABELS)
    images = tuple(np.zeros((4, 5, 3), np.uint8) for _ in labels)
    return tiny_runs.MemorySplit(tiny_runs.INFO, "train", images, labels)


def take(count, dataset, config, streams=("labelled",), **options):
    batches = pipeline.train_batches(dataset, config, streams, **options)
    found = list(itertools.islice(batches, count))
    batches.close()
    return found


def test_probabilities_are_those_of_the_equation():
    frequency = np.array([60, 30, 10]) / 100
    weights = np.exp((1 - frequency) / 0.5)
    np.testing.assert_allclose(probabilities(np.array([60, 30, 0, 10]), 0.5)[[0, 1, 3]], weights / weights.sum())
    assert probabilities(np.array([60, 30, 0, 10]), 0.5)[2] == 0
    np.testing.assert_allclose(probabilities(np.array([60, 40]), 1e9), 0.5)
    for temperature in (1e-6, 1e-310):  # without an overflow
        np.testing.assert_array_equal(probabilities(np.array([60, 40, 0]), temperature), [0, 1, 0])


def test_draws_follow_the_probabilities_and_the_area():
    split = make_split()
    rare = open_rare_classes(make_config(temperature=0.5, area=0.1), split)
    assert [images.tolist() for images in rare.images] == [[0, 1, 2, 3], [1, 2], [2]]
    expected = np.zeros(4)
    p = probabilities(np.array([60, 14, 5]), 0.5)
    for share, images in zip(p, rare.images, strict=True):
        expected[images] += share / len(images)
    found = np.bincount([rare.find(position) for position in range(4000)], minlength=4) / 4000
    np.testing.assert_allclose(found, expected, atol=0.03)
    other = open_rare_classes(make_config(temperature=0.5, seed=4), split)
    assert [rare.find(i) for i in range(40)] != [other.find(i) for i in range(40)]


def test_an_area_that_no_image_reaches_counts_for_no_class():
    assert [images.tolist() for images in open_rare_classes(make_config(area=0.3), make_split()).images] == [
        [0, 1, 2, 3],
        [1],
        [2, 3],
    ]
    assert open_rare_classes(make_config(area=0.0), make_split()).images[2].tolist() == [2, 3]
    assert open_rare_classes(make_config(temperature=0.0), make_split()) is None


def test_batches_are_functions_of_seed_and_position():
    dataset = tiny_runs.memory_set(train=11, val=5, unlabelled=3)
    config = make_config(temperature=0.05, resize="none")
    whole = take(7, dataset, config, ("labelled", "unlabelled"))
    rare = open_rare_classes(config, dataset.splits["train"])
    found = np.concatenate([batch["labelled"]["id"] for batch in whole])
    np.testing.assert_array_equal(found, [rare.find(position) for position in range(28)])
    later = take(4, dataset, config, ("labelled", "unlabelled"), start=3)
    parts = [take(7, dataset, config, process=(number, 2)) for number in range(2)]
    for name, array in later[0]["labelled"].items():
        np.testing.assert_array_equal(array, whole[3]["labelled"][name])
        joined = np.concatenate([part[5]["labelled"][name] for part in parts])
        np.testing.assert_array_equal(joined, whole[5]["labelled"][name])
    plain = take(7, dataset, make_config(temperature=0.0, resize="none"), ("labelled", "unlabelled"))
    for batch, other in zip(whole, plain, strict=True):  # of the labelled stream alone
        np.testing.assert_array_equal(batch["unlabelled"]["id"], other["unlabelled"]["id"])
    rounds = take(1, dataset, make_config(temperature=0.05, resize="none", rounds=3))[0]["labelled"]["id"]
    np.testing.assert_array_equal(rounds.ravel(), found[:12])


@pytest.mark.parametrize(("field", "value"), [("temperature", -0.1), ("area", 1.5), ("area", -0.1)])
def test_bad_values_are_named(field, value):
    with pytest.raises(InputError, match=rf"rare_classes\.{field} is {value}"):
        fields.check(make_config(**{field: value}))
