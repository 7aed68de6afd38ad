"""Scores of what a generator makes, with generators and feature networks that need no training."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax import parallel
from gan_seg_jax.errors import InputError
from gan_seg_jax.labels import IGNORE
from gan_seg_jax.tasks import TASKS, generation
from gan_seg_jax.tasks.feature_network import FeatureNetwork
from tests import red_channel, tiny_runs


def predict_copy(nets, batch, rng, config):
    """Make the real images and labels again."""
    del nets, rng, config
    return {"image": batch["labelled"]["image"], "label": batch["labelled"]["label"]}


def predict_noise(nets, batch, rng, config):
    """Make images of noise, without masks."""
    del nets, config
    return {"image": jax.random.uniform(rng, batch["labelled"]["image"].shape, minval=-1.0)}


def predict_one(nets, batch, rng, config):
    """Make the same image and mask again and again."""
    del nets, rng, config
    shape = batch["labelled"]["image"].shape
    return {
        "image": jnp.broadcast_to(jnp.linspace(-1, 1, shape[2])[:, None], shape),
        "label": jnp.zeros(shape[:3], int),
    }


def features(images):
    blocks = images.reshape(len(images), 2, images.shape[1] // 2, 2, images.shape[2] // 2, 3)
    return jnp.mean(blocks, axis=(2, 4)).reshape(len(images), -1)[:, :6]


NETWORK = FeatureNetwork(
    features,
    lambda images: red_channel.read_class(None, {"labelled": {"image": images}}, None, red_channel.make_config()),
    "red channel",
)
METHODS = {
    name: types.SimpleNamespace(predict=predict, TASK="generation", score_map=None)
    for name, predict in (("copy", predict_copy), ("noise", predict_noise), ("one", predict_one))
}


def make_config(**fields):
    sizes = {"canvas_size": (16, 32), "crop_size": (16, 32), "resize": "none"}
    return red_channel.make_config(**{**sizes, **fields})


def evaluate(name, *, devices=4, count=26, errors=0.2, network=NETWORK, **fields):
    mesh = parallel.make_mesh(jax.devices()[:devices])
    split = red_channel.coded_split(count, errors=errors)
    config = make_config(**fields)
    return generation.Evaluator(METHODS[name], config, split, mesh, network=network)(red_channel.STATE)


def test_a_perfect_copy_is_perfect():
    found = evaluate("copy")
    assert found["frechet"] == pytest.approx(0, abs=1e-6)
    assert found["precision"] == found["recall"] == 1.0
    assert found["diversity"] == pytest.approx(1) and found["collapsed"] == 0.0
    assert found["judge_miou"] == pytest.approx(found["judge_miou_real"]) and 0.5 < found["judge_miou"] < 1


def test_noise_is_far_away_and_makes_no_pairs():
    found = evaluate("noise")
    assert found["frechet"] > 2 * found["frechet_real"] > 0 and found["precision"] < 1 and found["kernel"] > 0
    assert found["judge_miou"] is None and found["judge_miou_real"] is not None


def test_one_image_again_and_again_is_a_collapse():
    found = evaluate("one", crop_size=(4, 4))  # which fits into every image: padding would differ
    assert found["collapsed"] == 1.0 and found["diversity"] == pytest.approx(0, abs=1e-6) and found["duplicates"] == 1.0


def brightness(nets, images, mask, config):
    """Find bright images real, and those whose mask is not empty a little more so."""
    del nets, config
    return jax.nn.sigmoid(jnp.mean(images, axis=-1) + 0.1 * jnp.sum(mask, axis=-1))


def test_discriminators_are_judged_on_held_out_images(monkeypatch):
    monkeypatch.setattr(METHODS["noise"], "score_map", brightness)
    monkeypatch.setattr(METHODS["copy"], "score_map", brightness)
    copied = evaluate("copy")
    assert copied["discriminator_auc"] == pytest.approx(0.5) and copied["discriminator_accuracy"] == 0.5
    assert "discriminator_auc" not in evaluate("one")
    one, four = (evaluate("noise", devices=n, count=23, batch_size=8) for n in (1, 4))
    assert one["discriminator_auc"] == pytest.approx(four["discriminator_auc"]) != 0.5


def test_any_number_of_devices_and_a_batch_that_is_not_full():
    one, four = (evaluate("noise", devices=n, count=23, batch_size=8) for n in (1, 4))
    assert one.pop("judge_miou") is None and four.pop("judge_miou") is None
    assert one == pytest.approx(four, rel=1e-4, abs=1e-6)


def test_few_images_leave_scores_out():
    found = evaluate("copy", count=3)
    assert found["frechet"] == pytest.approx(0, abs=1e-6)
    assert all(
        found[name] is None for name in ("frechet_real", "kernel", "precision", "recall", "diversity", "collapsed")
    )


def test_one_image_is_no_sample():
    assert evaluate("noise", count=1)["frechet"] is None
    with pytest.raises(InputError, match="1 validation image"):
        generation.check(make_config(), red_channel.coded_split(1, errors=0.0))
    with pytest.raises(InputError, match="the generator would learn that"):
        generation.check(make_config(crop_size=(16, 40)), red_channel.coded_split(4, errors=0.0))
    config = make_config()
    config.augment.noise = 0.1
    with pytest.raises(InputError, match="augment.noise is 0.1.*would make that, too"):
        generation.check(config, red_channel.coded_split(4, errors=0.0))


def test_a_feature_network_that_does_not_segment_gives_no_miou():
    found = evaluate("copy", network=NETWORK._replace(logits=None))
    assert found["judge_miou"] is None and found["judge_miou_real"] is None


def test_batches_are_cut_to_the_middle_and_padding_is_grey():
    config = make_config(canvas_size=(32, 32), crop_size=(8, 16))
    split = red_channel.coded_split(4, errors=0.0)  # 12x20, 16x24, 9x31, 7x5
    (stream,) = generation.streams(split, config)
    batch = generation.make_batch(stream, config)
    image, label = split[0]["image"], split[0]["label"]
    np.testing.assert_array_equal(batch["label"][0], label[2:10, 2:18])
    np.testing.assert_allclose(batch["image"][0] * 127.5 + 127.5, image[2:10, 2:18], atol=1e-3)
    assert batch["inside"][0].all()
    inside = np.zeros((8, 16), bool)
    inside[:7, :5] = True  # the last is smaller than the crop
    np.testing.assert_array_equal(batch["inside"][3], inside)
    made = generation.make(METHODS["one"], red_channel.STATE, batch, jax.random.key(0), config)
    assert np.all(made["image"][3][~inside] == 0) and np.all(made["label"][3][~inside] == IGNORE)
    assert np.any(made["image"][3][inside] != 0)


def test_images_smaller_than_the_crop_are_padded():
    config = make_config(crop_size=(24, 40), canvas_size=(32, 48))
    stream = {
        "image": jnp.full((1, 16, 32, 3), 255, jnp.uint8),
        "canvas_label": jnp.zeros((1, 16, 32), jnp.uint8),
        "content": jnp.array([[16, 30]]),
        "valid": jnp.array([True]),
        "id": jnp.array([0]),
    }
    batch = generation.make_batch(stream, config)
    inside = np.zeros((24, 40), bool)
    inside[:16, :30] = True
    np.testing.assert_array_equal(batch["inside"][0], inside)
    np.testing.assert_array_equal(batch["image"][0], np.where(inside[..., None], 1.0, np.zeros(3)))
    np.testing.assert_array_equal(batch["label"][0], np.where(inside, 0, IGNORE))


def test_what_is_compiled_serves_other_splits():
    mesh, config = parallel.make_mesh(), make_config(class_colors=tiny_runs.INFO.class_colors)
    one, two = (red_channel.coded_split(count, errors=0.2) for count in (26, 31))
    evaluators = [generation.Evaluator(METHODS["copy"], config, each, mesh, network=NETWORK) for each in (one, two)]
    first, second = (evaluator(red_channel.STATE) for evaluator in evaluators)
    assert evaluators[0].on(two)(red_channel.STATE) == second != first == evaluators[0](red_channel.STATE)
    sheets = [generation.SampleSheet(METHODS["copy"], config, each) for each in (one, two)]
    np.testing.assert_array_equal(sheets[0].on(two)(red_channel.STATE), sheets[1](red_channel.STATE))


def test_sheet_shows_real_images_beside_what_was_made_of_their_masks():
    split, config = red_channel.coded_split(5, errors=0.0), make_config(class_colors=tiny_runs.INFO.class_colors)
    sheets = {
        name: generation.SampleSheet(METHODS[name], config, split)(red_channel.STATE) for name in ("copy", "noise")
    }
    assert all(sheet.dtype == np.uint8 and sheet.ndim == 3 for sheet in sheets.values())
    assert sheets["copy"].size > sheets["noise"].size  # three columns against one


def test_endless_batches_have_other_draws_each_time():
    split = red_channel.coded_split(3, errors=0.0)
    batches = generation.batches(METHODS["noise"], make_config(), split, red_channel.STATE, seed=0)
    first, second = next(batches), next(batches)
    assert first["image"].shape == (3, 16, 32, 3) and first["image"].dtype == np.uint8
    assert np.any(first["image"] != second["image"])
    again = next(generation.batches(METHODS["noise"], make_config(), split, red_channel.STATE, seed=0))
    np.testing.assert_array_equal(first["image"], again["image"])


def test_the_best_generation_is_the_lowest_distance():
    task = TASKS["generation"]
    assert task.is_better({"frechet": 3.0}, None) and task.is_better({"frechet": 2.0}, {"frechet": 3.0})
    assert not task.is_better({"frechet": 3.0}, {"frechet": 3.0})
    task = TASKS["segmentation"]
    assert task.is_better({"miou": 0.2}, {"miou": None}) and not task.is_better({"miou": None}, {"miou": 0.1})
    assert not task.is_better({"miou": 0.1}, {"miou": 0.2})
