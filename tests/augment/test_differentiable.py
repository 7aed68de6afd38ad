"""Differentiable augmentation: each effect against NumPy, one draw for image and mask, gradients, noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from gan_seg_jax.augment.differentiable import POLICY, diff_augment, instance_noise
from gan_seg_jax.errors import InputError

_SIZE = (16, 24)


def _images(seed, batch=8, channels=3):
    return np.random.default_rng(seed).uniform(-1, 1, (batch, *_SIZE, channels)).astype(np.float32)


@functools.cache
def _compiled(policy):
    return jax.jit(lambda images, maps, key: diff_augment(images, maps, key, policy=policy))


def _augment(images, maps=(), *, policy, seed=0):
    return jax.tree.map(np.asarray, _compiled(policy)(list(images), list(maps), jax.random.key(seed)))


def test_off_returns_the_inputs():
    image, mask = _images(0), _images(1)
    (found,), (found_mask,) = diff_augment([image], [mask], jax.random.key(0), policy=())
    assert found is image and found_mask is mask
    assert diff_augment([], [], jax.random.key(0), policy=POLICY) == ([], [])


def test_brightness_adds_one_number_an_image():
    image = _images(2)
    (found,), _ = _augment([image], policy=("brightness",))
    shift = (found - image).reshape(8, -1)
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1], shift.shape), atol=1e-6)
    assert np.all(np.abs(shift) <= 0.5) and len(np.unique(shift[:, 0])) == 8


@pytest.mark.parametrize(
    ("name", "axes", "low", "high"), [("saturation", (3,), 0.0, 2.0), ("contrast", (1, 2, 3), 0.5, 1.5)]
)
def test_saturation_and_contrast_scale_about_the_mean(name, axes, low, high):
    image = _images(3, batch=64)
    (found,), _ = _augment([image], policy=(name,))
    mean = image.mean(axes, keepdims=True)
    np.testing.assert_allclose(found.mean(axes, keepdims=True), mean, atol=1e-5)
    factor = ((found - mean) * (image - mean)).sum((1, 2, 3)) / ((image - mean) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(found, mean + factor[:, None, None, None] * (image - mean), atol=1e-5)
    assert np.all((factor >= low) & (factor <= high))
    assert factor.max() - factor.min() > 0.7 * (high - low)


def test_translation_moves_whole_pixels_and_fills_with_zero():
    rows, columns = np.meshgrid(np.arange(16), np.arange(24), indexing="ij")
    where = np.tile(np.stack([rows, columns, np.ones_like(rows)], axis=-1)[None], (300, 1, 1, 1)).astype(np.float32)
    _, (found,) = _augment([], [where], policy=("translation",))
    shifts = set()
    for image in found:
        inside = image[..., 2] == 1
        shift = np.unique(np.stack([rows, columns], -1)[inside] - image[inside][:, :2], axis=0)
        assert len(shift) == 1
        i, j = shift[0]
        expected = (rows >= i) & (rows < 16 + i) & (columns >= j) & (columns < 24 + j)
        np.testing.assert_array_equal(inside, expected)
        assert not np.any(image[~inside])
        shifts.add((i, j))
    assert {i for i, _ in shifts} == set(range(-2, 3))  # 1/8 of 16
    assert {j for _, j in shifts} == set(range(-3, 4))  # 1/8 of 24


@pytest.mark.parametrize("size", [(16, 24), (15, 10)])
def test_cutout_zeroes_a_rectangle_of_half_the_size(size):
    ones = np.ones((400, *size), np.float32)
    _, (found,) = _augment([], [ones], policy=("cutout",))
    hole = found == 0
    assert np.all(found[~hole] == 1)
    in_rows, in_columns = hole.any(axis=2), hole.any(axis=1)
    np.testing.assert_array_equal(hole, in_rows[:, :, None] & in_columns[:, None, :])
    for side, n in ((in_rows.sum(axis=1), size[0]), (in_columns.sum(axis=1), size[1])):
        half = round(0.5 * n)
        assert side.max() == half and side.min() == half - half // 2  # the centre may be on the border
    for side in (in_rows.mean(axis=0), in_columns.mean(axis=0)):
        np.testing.assert_allclose(side[0], side[-1], atol=0.15)  # both ends alike: four standard deviations


def test_everything_in_a_call_has_the_same_draw_and_maps_keep_their_colour():
    image, mask = _images(4), np.abs(_images(5, channels=5)) + 1
    images, maps = _augment([image, image], [mask, mask[..., 0]], policy=POLICY)
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(maps[0][..., 0], maps[1])
    _, (alone,) = _augment([], [mask], policy=("translation", "cutout"))  # colour draws nothing of geometry's
    np.testing.assert_array_equal(maps[0], alone)
    np.testing.assert_array_equal((images[0] == 0).all(-1), maps[1] == 0)


def test_order_of_the_policy_does_not_matter_and_an_example_draws_by_its_row():
    image = _images(6)
    (found,), _ = _augment([image], policy=POLICY)
    (backwards,), _ = _augment([image], policy=POLICY[::-1])
    np.testing.assert_allclose(found, backwards, atol=1e-6)
    other = image.copy()
    other[1:] = 0
    np.testing.assert_allclose(_augment([other], policy=POLICY)[0][0][0], found[0], atol=1e-6)
    assert not np.allclose(found, _augment([image], policy=POLICY, seed=1)[0][0])


def test_gradients_reach_the_generator():
    image = _images(7, batch=2)
    weight = _images(8, batch=2)

    def score(x):
        (augmented,), _ = diff_augment([x], [], jax.random.key(3), policy=POLICY)
        return jnp.sum(jnp.tanh(augmented) * weight)

    check_grads(jax.jit(score), (image,), order=1, modes=("rev",), atol=2e-2, rtol=2e-2, eps=1e-2)
    _, (shown,) = _augment([], [np.ones_like(image)], policy=("translation", "cutout"), seed=3)

    def visible(x):
        _, (augmented,) = diff_augment([], [x], jax.random.key(3), policy=("translation", "cutout"))
        return jnp.sum(augmented)

    gradient = jax.grad(visible)(image)
    assert set(np.unique(gradient)) <= {0.0, 1.0}
    assert np.sum(gradient) == np.sum(shown)


def test_half_precision_stays_and_misspelt_effects_are_named():
    half = jnp.zeros((1, *_SIZE, 3), jnp.bfloat16)
    (image,), (mask,) = diff_augment([half], [half], jax.random.key(0), policy=POLICY)
    assert image.dtype == mask.dtype == jnp.bfloat16
    with pytest.raises(InputError, match="Did you mean 'cutout'"):
        diff_augment([half], [], jax.random.key(0), policy=("cutuot",))
    with pytest.raises(AssertionError):
        diff_augment([half], [half[:, 1:]], jax.random.key(0), policy=POLICY)


def test_instance_noise():
    zeros = [jnp.zeros((4, 32, 32, 3)), jnp.zeros((4, 32, 32))]
    noise = jax.jit(lambda stddev: instance_noise(zeros, jax.random.key(0), stddev=stddev))(0.3)
    for x in noise:
        np.testing.assert_allclose([jnp.mean(x), jnp.std(x)], [0.0, 0.3], atol=0.03)
    assert not np.allclose(noise[0][..., 0], noise[1])
    shifted = instance_noise([x + 2 for x in zeros], jax.random.key(0), stddev=0.3)
    np.testing.assert_allclose(shifted[0], noise[0] + 2, atol=1e-6)  # same key, same noise
    assert all(a is b for a, b in zip(instance_noise(zeros, jax.random.key(0), stddev=0.0), zeros, strict=True))
    np.testing.assert_array_equal(instance_noise(zeros, jax.random.key(0), stddev=jnp.float32(0))[0], zeros[0])
    gradient = jax.grad(lambda x: jnp.sum(instance_noise([x], jax.random.key(0), stddev=1.0)[0]))(zeros[0])
    np.testing.assert_array_equal(gradient, 1.0)
    half = instance_noise([jnp.zeros(3, jnp.bfloat16)], jax.random.key(0), stddev=0.1)
    assert half[0].dtype == jnp.bfloat16
    assert instance_noise([], jax.random.key(0), stddev=0.1) == []
