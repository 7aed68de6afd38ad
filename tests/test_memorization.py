"""Copies are found where a generator hands out its training images, and not where it makes new ones."""

import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax import memorization
from gan_seg_jax.data import pipeline
from gan_seg_jax.data.catalog import Dataset, DatasetInfo
from gan_seg_jax.inference import load
from gan_seg_jax.inference.load import Run
from gan_seg_jax.tasks import feature_network
from gan_seg_jax.tasks.feature_network import FeatureNetwork
from tests import red_channel, tiny_runs

SIZE, TRAIN, VAL = (16, 32), 40, 30
INFO = DatasetInfo("noise", ("a", "b"), ((0, 0, 0), (9, 9, 9)))


def make_split(name, count, seed):
    draw = np.random.default_rng(seed)
    small = draw.integers(0, 256, (count, 4, 8, 3), np.uint8)
    images = small.repeat(4, axis=1).repeat(4, axis=2)
    return tiny_runs.MemorySplit(INFO, name, tuple(images), (np.zeros(SIZE, np.uint8),) * count)


DATASET = Dataset(INFO, {"train": make_split("train", TRAIN, 1), "val": make_split("val", VAL, 2)})
KNOWN = jnp.asarray(np.stack(DATASET.splits["train"].images[:5]), jnp.float32) / 127.5 - 1.0


def predict_copies(nets, batch, rng, config):
    """Hand out the first five training images with a little noise."""
    del nets, config
    key, other = jax.random.split(rng)
    chosen = jax.random.randint(key, (len(batch["labelled"]["image"]),), 0, len(KNOWN))
    return {"image": jnp.clip(KNOWN[chosen] + 0.02 * jax.random.normal(other, (len(chosen), *SIZE, 3)), -1, 1)}


def predict_new(nets, batch, rng, config):
    """Make images of the same distribution."""
    del nets, config
    small = jax.random.uniform(rng, (len(batch["labelled"]["image"]), 4, 8, 3), minval=-1.0)
    return {"image": jnp.repeat(jnp.repeat(small, 4, axis=1), 4, axis=2)}


def features(images):
    return jnp.mean(images.reshape(len(images), 4, 4, 8, 4, 3), axis=(2, 4)).reshape(len(images), -1)


@pytest.fixture
def run(monkeypatch):
    """Return a function that makes the commands find a run whose generator is `predict`."""

    def make(predict, task="generation"):
        config = red_channel.make_config(canvas_size=SIZE, crop_size=SIZE, resize="none", num_classes=2)
        method = types.SimpleNamespace(predict=predict, TASK=task)
        found = Run(method, config, red_channel.STATE, 0)
        monkeypatch.setattr(load, "load_run", lambda *args: found)
        monkeypatch.setattr(pipeline, "open_dataset", lambda config: DATASET)
        network = FeatureNetwork(features, None, "blocks")
        monkeypatch.setattr(feature_network, "open_feature_network", lambda *args: network)

    return make


def test_pixels_are_means_of_blocks():
    images = np.zeros((2, 64, 128, 3), np.uint8)
    images[1, :4, :4] = 255
    found = memorization.pixels(images)
    assert found.shape == (2, 16 * 32 * 3) and found.dtype == np.float32
    np.testing.assert_array_equal(np.flatnonzero(found[1]), [0, 1, 2])
    assert found.max() == 1.0 and not found[0].any()
    assert memorization.pixels(images[:, :8, :8]).shape == (2, 8 * 8 * 3)  # never scaled up


def test_features_do_not_depend_on_the_batches():
    images = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), np.uint8)
    mean = lambda x: jnp.mean(x, axis=(1, 2))
    expected = images.astype(np.float32).mean(axis=(1, 2)) / 127.5 - 1
    for size in (1, 3, 7, 16):
        np.testing.assert_allclose(memorization.network_features(mean, images, size), expected, atol=1e-5)


def test_copies_are_found(run, tmp_path):
    run(predict_copies)
    outcome = tiny_runs.command("memorization", "--workdir=x", f"--output={tmp_path}/out", "--count=25")
    assert outcome.code == 0 and "image 25/25" in outcome.err, outcome.err
    report = json.loads((tmp_path / "out" / "memorization.json").read_text())
    assert (report["made"], report["training_images"], report["held_out"]) == (25, TRAIN, VAL)
    assert report["feature_network"] == "blocks" and report["quantile"] == pytest.approx(1 / VAL)
    for space in ("pixels", "features"):
        assert report[space]["copied"] == 1.0 and report[space]["p_value"] < 1e-6
        names = {pair["train"] for pair in report[space]["closest"]}
        assert names <= {f"train-{number}" for number in range(5)} and len(names) > 1
        distances = [pair["distance"] for pair in report[space]["closest"]]
        assert distances == sorted(distances)
    assert (tmp_path / "out" / "closest.png").stat().st_size > 0
    assert "100.0% of 25 are copies" in outcome.out


def test_new_images_are_no_copies(run, tmp_path):
    run(predict_new)
    outcome = tiny_runs.command("memorization", "--workdir=x", f"--output={tmp_path}", "--count=60")
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "memorization.json").read_text())
    for space in ("pixels", "features"):
        assert report[space]["copied"] < 0.15 and report[space]["p_value"] > 0.01


@pytest.mark.parametrize(
    ("task", "args", "words"),
    [
        ("segmentation", ("--output=x",), "makes no images"),
        ("generation", ("--output=x", "--count=0"), "--count is 0"),
        ("generation", (), "--output is missing"),
    ],
)
def test_bad_input_is_named(run, tmp_path, monkeypatch, task, args, words):
    run(predict_new, task)
    monkeypatch.chdir(tmp_path)
    outcome = tiny_runs.command("memorization", "--workdir=x", *args)
    assert outcome.code == 2 and words in outcome.err and "Traceback" not in outcome.err
