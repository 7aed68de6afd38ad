"""Class weights: each rule by hand, CamVid against SegNet's published numbers, and how a run resolves them."""

import dataclasses
import os
import pathlib

import numpy as np
import pytest

from configs import common
from gan_seg_jax.data import class_weights, pipeline
from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.errors import InputError
from tests import tiny_runs

REAL_DATA = pathlib.Path(os.environ.get("GAN_SEG_DATA", pathlib.Path(__file__).parents[2] / ".." / "shared" / "data"))
# Class weights of SegNet's published CamVid model, in the order of the catalog.
SEGNET = (0.2595, 0.1826, 4.5640, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614)
COUNTS = (np.array([60, 30, 10, 0]), np.array([100, 80, 20, 0]))


def _split(*labels):
    labels = tuple(np.array(label, np.uint8) for label in labels)
    split = tiny_runs.memory_split(len(labels))
    return dataclasses.replace(split, labels=labels, name="train")


def _dataset(*labels):
    return Dataset(tiny_runs.INFO, {"train": _split(*labels), "val": _split(*labels)})


def _config(**losses):
    config = common.get_config()
    config.num_classes = 3
    config.losses.update(losses)
    return config


def test_pixels_are_counted_and_void_is_not():
    pixels, of_images = class_weights.count_classes(_split([[0, 0, 1, 255]], [[0, 255], [255, 7]], [[1, 1, 1]]))
    np.testing.assert_array_equal(pixels, [3, 4, 0])
    np.testing.assert_array_equal(of_images, [4, 6, 0])
    assert pixels.dtype == of_images.dtype == np.int64


def test_every_rule_by_hand():
    inverse = 1 / np.array([60, 30, 10])
    frequency = np.array([60 / 100, 30 / 80, 10 / 20])
    beta = 1 - 1 / (100 / 3)
    effective = (1 - beta) / (1 - beta ** np.array([60, 30, 10]))
    expected = {
        "inverse": inverse / inverse.mean(),
        "median_frequency": 0.5 / frequency,
        "root_median_frequency": np.sqrt(0.5 / frequency),
        "fourth_root_median_frequency": (0.5 / frequency) ** 0.25,
        "effective_number": effective / effective.mean(),
    }
    assert set(expected) == set(class_weights.RULES)
    for rule, weights in expected.items():
        found = class_weights.class_weights(COUNTS, rule)
        np.testing.assert_allclose(found, [*weights, 0.0], rtol=1e-12)


def test_beta_goes_from_no_weights_to_inverse():
    alike = class_weights.class_weights(COUNTS, "effective_number", beta=1e-9)
    np.testing.assert_allclose(alike[:3], 1.0, rtol=1e-6)
    inverse = class_weights.class_weights(COUNTS, "effective_number", beta=1 - 1e-9)
    np.testing.assert_allclose(inverse, class_weights.class_weights(COUNTS, "inverse"), rtol=1e-5)


@pytest.mark.parametrize("rule", class_weights.RULES)
def test_resolution_does_not_matter(rule):
    pixels, of_images = (1000 * count for count in COUNTS)
    larger = class_weights.class_weights((4 * pixels, 4 * of_images), rule)
    np.testing.assert_allclose(class_weights.class_weights((pixels, of_images), rule), larger, rtol=1e-3)


def test_nothing_to_count_and_unknown_rules_are_refused():
    with pytest.raises(InputError, match="hold no class"):
        class_weights.class_weights((np.zeros(3, int), np.zeros(3, int)), "inverse")
    with pytest.raises(InputError, match="'invers'.*'inverse'"):
        class_weights.class_weights(COUNTS, "invers")


def test_rounding_keeps_small_weights():
    found = class_weights.rounded(np.array([0.000123456, 12.34567, 0.0]))
    assert found == (0.0001235, 12.35, 0.0) and all(type(weight) is float for weight in found)


@pytest.mark.slow
def test_camvid_is_near_segnet():
    if not (REAL_DATA / "camvid" / "classes.txt").is_file():
        pytest.skip(f"camvid is not in {REAL_DATA} (GAN_SEG_DATA names the folder of the real sets)")
    config = common.get_config()
    config.dataset, config.data_dir = "camvid", str(REAL_DATA / "camvid")
    split = pipeline.open_dataset(config).splits["train"]
    assert len(split) == 367
    ratio = class_weights.class_weights(class_weights.count_classes(split), "median_frequency") / np.array(SEGNET)
    signs = 6  # 2.5 times as many pixels in the published labels at this size as SegNet's weight says
    np.testing.assert_allclose(np.delete(ratio, signs), 1.1, atol=0.1)
    np.testing.assert_allclose(ratio[signs], 0.4, atol=0.01)


def test_a_run_computes_its_weights_once():
    dataset = _dataset([[0, 0, 0, 1]], [[0, 0, 1, 1]])
    config = _config(class_weighting="inverse")
    class_weights.resolve_class_weights(config, dataset, None)
    assert config.losses.class_weights == (0.75, 1.25, 0.0)
    # The same command goes on with what is stored, though the data have changed.
    again = _config(class_weighting="inverse")
    class_weights.resolve_class_weights(again, _dataset([[0, 1, 2, 2]]), config)
    assert again.losses.class_weights == (0.75, 1.25, 0.0)
    # And so does one that gives the stored weights.
    class_weights.resolve_class_weights(again, dataset, config)
    assert again.losses.class_weights == (0.75, 1.25, 0.0)


def test_without_a_rule_nothing_is_read():
    config = _config(class_weights=(1.0, 2.0, 3.0))
    class_weights.resolve_class_weights(config, None, None)
    assert config.losses.class_weights == (1.0, 2.0, 3.0)


def test_a_rule_and_other_weights_are_refused():
    dataset, config = _dataset([[0, 1, 2]]), _config(class_weighting="inverse", class_weights=(1.0, 2.0, 3.0))
    for begun in (None, _config(class_weighting="inverse", class_weights=(3.0, 2.0, 1.0))):
        with pytest.raises(InputError, match="class_weighting.*one of them"):
            class_weights.resolve_class_weights(config, dataset, begun)
    with pytest.raises(InputError, match="'median'.*'median_frequency'"):
        class_weights.resolve_class_weights(_config(class_weighting="median"), dataset, None)


def test_another_rule_than_the_stored_one_is_computed():
    begun = _config(class_weighting="effective_number", class_weights=(9.0, 9.0, 9.0))
    config = _config(class_weighting="inverse")
    class_weights.resolve_class_weights(config, _dataset([[0, 0, 1, 2]]), begun)
    np.testing.assert_allclose(config.losses.class_weights, (0.6, 1.2, 1.2))
