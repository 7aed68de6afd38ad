"""Attributions have known answers, and change with the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from scipy import stats

from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import attribution, explaining
from gan_seg_jax.inference.load import Run, load_run
from gan_seg_jax.models.perturbation import EncoderFeatures
from tests import red_channel, tiny_runs

WEIGHTS = np.array([[2.0, -1.0], [0.5, 1.0], [-1.0, 3.0]], np.float32)  # channel, class
SIZE = (12, 18)


class Linear(nn.Module):
    """Logits that are a linear map of each pixel, by way of an encoder's features."""

    power: float = 1.0

    @nn.compact
    def __call__(self, image):
        features = EncoderFeatures()({"deep": image[:, ::2, ::2], "image": image})
        smooth = jnp.sign(features["image"]) * jnp.abs(features["image"]) ** self.power
        deep = features["deep"].repeat(2, axis=1).repeat(2, axis=2)
        return smooth @ WEIGHTS + 2.0 * deep @ WEIGHTS


def network(power=1.0):
    return lambda image: Linear(power).apply({}, image)


@pytest.fixture
def image():
    return jnp.asarray(np.random.default_rng(0).uniform(-1, 1, (1, *SIZE, 3)), jnp.float32)


@pytest.fixture
def region():
    found = np.zeros(SIZE, bool)
    found[2:8, 4:14] = True
    return jnp.asarray(found)


def test_grad_cam_of_a_linear_map_is_that_map(image, region):
    found = attribution.grad_cam(network(), image, region, jnp.int32(1))
    # dF/dA of a deep pixel is 2 w for each of its pixels in the region, over their number: the mean is 2 w / (h' w').
    deep = np.asarray(image)[0, ::2, ::2]
    expected = np.maximum(0, deep @ (2 * WEIGHTS[:, 1]) / (deep.shape[0] * deep.shape[1]))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_integrated_gradients_are_exact_where_the_network_is_linear(image, region):
    alone = lambda x: x @ WEIGHTS
    found = attribution.integrated_gradients(alone, image, region, jnp.int32(0), steps=3)
    expected = np.where(region, np.asarray(image)[0] @ WEIGHTS[:, 0], 0) / np.sum(np.asarray(region))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_integrated_gradients_add_up_to_the_difference(image, region):
    run = network(power=3.0)
    score = lambda x: attribution.region_score(run(x), region, jnp.int32(1))
    found = attribution.integrated_gradients(run, image, region, jnp.int32(1), steps=64)
    np.testing.assert_allclose(np.sum(found), score(image) - score(jnp.zeros_like(image)), rtol=1e-3)


def test_occlusion_finds_the_only_place_that_counts(region):
    """Class 1 is likely in its region while a spot far from it is white."""
    spot = (9, 15)

    def run(x):
        seen = 10.0 * x[0, spot[0], spot[1], 0]
        return jnp.broadcast_to(jnp.stack([jnp.zeros(()), seen]), (1, *SIZE, 2))

    image = jnp.zeros((1, *SIZE, 3)).at[0, spot[0], spot[1]].set(1.0)
    regions, numbers = jnp.stack([region, region]), jnp.array([1, 0])
    found = np.asarray(attribution.occlusion(run, image, regions, numbers, parts=6))
    fall = 1 / (1 + np.exp(-10.0)) - 0.5
    np.testing.assert_allclose(found[0][spot], fall, rtol=1e-4)  # every square that hides it takes all away
    np.testing.assert_allclose(found[1], -found[0], atol=1e-6)
    rows, columns = np.nonzero(found[0] > 1e-6)
    assert abs(rows - spot[0]).max() < 2 and abs(columns - spot[1]).max() < 3 and found[0][0, 0] == 0


def test_nothing_speaks_for_an_empty_region(image):
    empty = jnp.zeros(SIZE, bool)
    for method in (attribution.grad_cam, attribution.integrated_gradients):
        assert not np.any(method(network(), image, empty, jnp.int32(0)))


def test_a_network_that_hides_its_encoder_has_no_grad_cam(image, region):
    assert attribution.grad_cam(lambda x: x @ WEIGHTS, image, region, jnp.int32(0)) is None


def test_classes_that_are_not_on_the_canvas_are_not_explained():
    config = red_channel.make_config(resize="fit", canvas_size=(16, 24), crop_size=(16, 24))
    image = np.zeros((48, 72, 3), np.uint8)
    image[:, 36:] = 80  # class 2 beside class 0; half way between their scores class 1 has the highest
    found = explaining.Explainer(Run(red_channel.METHOD, config, red_channel.STATE, 0))(image)
    assert set(np.unique(found.labels)) == {0, 1, 2} and found.classes == [0, 2]
    assert set(found.maps) == {"integrated_gradients", "occlusion"} and set(found.uncertainty) == {"entropy", "mirror"}
    for values in found.maps.values():
        assert values.shape == (2, 48, 72) and all(np.ptp(each) > 0 for each in values)


def test_maps_change_with_the_weights_and_with_nothing_else(tiny):
    run, image = load_run(tiny.cgan), tiny_runs.draw(3, (20, 24))[0]
    explain = explaining.Explainer(run)
    first, again = explain(image), explain(image)
    classes = np.bincount(first.labels.ravel(), minlength=3)
    assert first.labels.shape == (20, 24) and first.classes == sorted(
        np.flatnonzero(classes), key=lambda c: -classes[c]
    )
    assert set(first.uncertainty) == {"entropy", "mirror", "doubt"} and set(first.maps) == set(explaining.METHODS)
    for values in first.uncertainty.values():
        assert values.shape == (20, 24) and 0 <= values.min() < values.max() <= 1
    state = run.state.networks["generator"]
    leaves, tree = jax.tree.flatten(state.params)
    drawn = [
        jax.random.permutation(jax.random.key(n), leaf.ravel()).reshape(leaf.shape) for n, leaf in enumerate(leaves)
    ]
    state = state.replace(params=jax.tree.unflatten(tree, drawn))
    run.state.networks["generator"] = state
    other = explain(image)
    sheet = explaining.sheet(image, first, run.config)
    assert sheet.dtype == np.uint8 and sheet.shape[1] > 5 * 320 and sheet.shape[0] > (1 + len(first.classes)) * 267
    for name, maps in first.maps.items():
        np.testing.assert_array_equal(maps, again.maps[name])
        both = [
            (maps[first.classes.index(c)], other.maps[name][other.classes.index(c)])
            for c in {*first.classes} & {*other.classes}
        ]
        assert both and all(abs(stats.spearmanr(one.ravel(), two.ravel()).statistic) < 0.8 for one, two in both), name


def test_large_images_are_explained_at_a_size_that_fits(tiny):
    config = load_run(tiny.cgan).config
    assert explaining.shown(np.zeros((3000, 1000, 3), np.uint8), config, "a").shape == (640, 213, 3)
    assert explaining.shown(np.zeros((20, 24, 3), np.uint8), config, "a").shape == (20, 24, 3)
    with config.unlocked():
        config.resize = "none"
    with pytest.raises(InputError, match="a has 2000x1000 pixels"):
        explaining.shown(np.zeros((2000, 1000, 3), np.uint8), config, "a")
