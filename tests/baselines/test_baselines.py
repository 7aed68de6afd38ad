"""Classical baselines: known answers, the same result for the same seed, ignored pixels, time."""

import numpy as np
import pytest

from gan_seg_jax.baselines import BASELINES, kmeans, majority
from gan_seg_jax.errors import InputError

_COLOURS = np.array([[40, 90, 200], [120, 120, 120], [40, 140, 40]], np.uint8)  # sky, road, tree


def _scene(seed, size=(48, 64)):
    """Sky above, road below, a tree where it likes; the image is the class's colour with noise."""
    rng = np.random.default_rng(seed)
    label = np.zeros(size, np.uint8)
    label[int(size[0] * rng.uniform(0.4, 0.6)) :] = 1
    row, column = (int(rng.uniform(0.2, 0.6) * n) for n in size)
    label[row : row + size[0] // 4, column : column + size[1] // 4] = 2
    image = np.clip(_COLOURS[label] + rng.normal(0, 6, (*size, 3)), 0, 255).astype(np.uint8)
    marked = label.copy()
    marked[:2] = 255
    return {"image": image, "label": marked, "id": str(seed)}, label


def _train(count=12):
    return [_scene(seed)[0] for seed in range(count)]


def _accuracy(baseline, model):
    scenes = [_scene(seed) for seed in range(100, 106)]
    return np.mean([np.mean(baseline.predict(model, example["image"]) == label) for example, label in scenes])


@pytest.mark.parametrize("name", BASELINES)
def test_same_seed_same_result(name):
    baseline, image = BASELINES[name], _scene(100)[0]["image"]
    first, second = (baseline.predict(baseline.fit(_train(), num_classes=3, seed=4), image) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("size", [(1, 1), (17, 5), (96, 128)])
def test_prediction_has_the_size_of_the_image(name, size):
    model = BASELINES[name].fit(_train(3), num_classes=3, seed=0)
    predicted = BASELINES[name].predict(model, np.zeros((*size, 3), np.uint8))
    assert predicted.shape == size
    assert predicted.dtype == np.uint8
    assert predicted.max() < 3


@pytest.mark.parametrize("name", BASELINES)
def test_values_that_are_no_class_are_never_learnt(name):
    train = [{**example, "label": np.where(example["label"] == 0, 7, example["label"])} for example in _train(3)]
    model = BASELINES[name].fit(train, num_classes=3, seed=0)
    assert set(np.unique(BASELINES[name].predict(model, train[0]["image"]))) <= {1, 2}


@pytest.mark.parametrize("name", BASELINES)
def test_no_labelled_pixel_is_bad_input(name):
    train = [{**example, "label": np.full_like(example["label"], 255)} for example in _train(2)]
    with pytest.raises(InputError, match="pixel with a class in 0..2"):
        BASELINES[name].fit(train, num_classes=3, seed=0)


def test_majority_counts_every_training_pixel():
    train = _train()
    model = majority.fit(train, num_classes=3, seed=0)
    labels = np.concatenate([example["label"].ravel() for example in train])
    expected = [np.sum(labels == c) for c in range(3)]
    np.testing.assert_array_equal(model.counts, expected)
    assert model.label == np.argmax(expected)


def test_kmeans_learns_colours_and_beats_majority():
    model = kmeans.fit(_train(), num_classes=3, seed=0)
    assert _accuracy(kmeans, model) > 0.97
    assert _accuracy(majority, majority.fit(_train(), num_classes=3, seed=0)) < 0.6


def test_kmeans_uses_position_where_colour_says_nothing():
    label = np.repeat([[0], [1]], 16, axis=0).repeat(32, axis=1).astype(np.uint8)
    train = [{"image": np.full((32, 32, 3), 128, np.uint8), "label": label, "id": "0"}]
    model = kmeans.fit(train, num_classes=2, seed=0)
    predicted = kmeans.predict(model, np.full((64, 48, 3), 128, np.uint8))
    assert np.mean(predicted == (np.arange(64) >= 32)[:, None]) > 0.9


def test_kmeans_nearest_equals_brute_force():
    rng = np.random.default_rng(0)
    samples, centres = rng.normal(size=(3000, 5)).astype(np.float32), rng.normal(size=(64, 5)).astype(np.float32)
    distance = np.sum((samples[:, None] - centres) ** 2, axis=-1)
    np.testing.assert_array_equal(kmeans._nearest(samples, centres), distance.argmin(axis=1))
