"""Mixing masks: boxes, classes, void, one draw an example."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_seg_jax.augment import mixing


def test_mix_takes_from_the_first_where_the_mask_holds():
    mask = jnp.array([[[True, False]]])
    first, second = jnp.array([[[1, 2]]]), jnp.array([[[3, 4]]])
    np.testing.assert_array_equal(mixing.mix(mask, first, second), [[[1, 4]]])
    images = [jnp.stack([x, 10 * x], axis=-1) for x in (first, second)]
    np.testing.assert_array_equal(mixing.mix(mask, *images), [[[[1, 10], [4, 40]]]])
    gradient = jax.grad(lambda x, y: jnp.sum(mixing.mix(mask, x, y)), argnums=(0, 1))(1.0 * first, 1.0 * second)
    np.testing.assert_array_equal(gradient, [[[[1, 0]]], [[[0, 1]]]])
    with pytest.raises(AssertionError):
        mixing.mix(mask, first, images[1])


_boxes = jax.jit(lambda key, share: mixing.cutmix_mask(key, 200, (16, 24), share=share))


@settings(max_examples=20, deadline=None)
@given(share=st.floats(0.05, 1.0), seed=st.integers(0, 100))
def test_cutmix_masks_are_boxes_of_the_wanted_share(share, seed):
    masks = np.asarray(_boxes(jax.random.key(seed), share))
    assert masks.shape == (200, 16, 24) and masks.dtype == bool
    rows, columns = masks.any(axis=2), masks.any(axis=1)
    np.testing.assert_array_equal(masks, rows[:, :, None] & columns[:, None, :])
    for side in (rows, columns):  # one run each
        assert np.all(np.abs(np.diff(np.pad(side, ((0, 0), (1, 1))).astype(int))).sum(axis=1) == 2)
    heights, widths = rows.sum(axis=1), columns.sum(axis=1)
    # Each side is a rounded one, whose product would be exact.
    low, high = (heights - 0.5) * (widths - 0.5), (heights + 0.5) * (widths + 0.5)
    assert np.all((low <= share * 16 * 24 + 1e-2) & (share * 16 * 24 <= high + 1e-2))


def test_cutmix_boxes_differ_and_reach_every_corner():
    masks = np.asarray(_boxes(jax.random.key(0), 0.5))
    assert len(np.unique(masks.reshape(200, -1), axis=0)) > 150
    assert all(masks[:, i, j].any() for i in (0, -1) for j in (0, -1))
    heights = masks.any(axis=2).sum(axis=1)
    assert heights.min() <= 9 and heights.max() == 16  # 0.5^u of 16
    np.testing.assert_array_equal(_boxes(jax.random.key(0), 1.0), np.ones((200, 16, 24), bool))


def _label():
    """One image of the classes 0, 1, 2, 4 and void, repeated."""
    rows = np.array([[0, 0, 1, 1, 2, 255], [4, 4, 1, 2, 2, 255]], np.int32)
    return np.tile(rows[None], (400, 1, 1))


@pytest.mark.parametrize("function", [mixing.classmix_mask, mixing.labelmix_mask])
def test_masks_follow_the_classes(function):
    label = _label()
    masks = np.asarray(jax.jit(lambda key, label: function(key, label, num_classes=6))(jax.random.key(0), label))
    assert masks.shape == label.shape and masks.dtype == bool
    for value in (0, 1, 2, 4, 255):
        chosen = masks[:, label[0] == value]
        assert np.all(chosen == chosen[:, :1])
        if value != 255 or function is mixing.labelmix_mask:
            assert 0.4 < chosen.mean() < 0.6  # five standard deviations are 0.125


def test_classmix_chooses_half_of_the_classes():
    masks = np.asarray(mixing.classmix_mask(jax.random.key(1), _label(), num_classes=6))
    chosen = np.stack([masks[:, 0, 0], masks[:, 0, 2], masks[:, 0, 4], masks[:, 1, 0]], axis=1)
    np.testing.assert_array_equal(chosen.sum(axis=1), 2)
    assert len(np.unique(chosen, axis=0)) == 6  # all pairs of four
    assert not masks[:, :, 5].any()  # void stays


@pytest.mark.parametrize(("classes", "expected"), [((3,), 0), ((3, 1), 1), ((0, 1, 2), 1), ((255,), 0)])
def test_classmix_rounds_down(classes, expected):
    masks = mixing.classmix_mask(jax.random.key(2), jnp.array(classes)[None, None, :], num_classes=4)
    assert masks.sum() == expected


def test_labelmix_draws_for_each_class_and_image():
    masks = np.asarray(mixing.labelmix_mask(jax.random.key(3), _label(), num_classes=6))
    chosen = np.stack([masks[:, 0, 0], masks[:, 0, 2], masks[:, 0, 4], masks[:, 1, 0], masks[:, 0, 5]], axis=1)
    assert len(np.unique(chosen, axis=0)) == 32


@pytest.mark.parametrize("function", [mixing.classmix_mask, mixing.labelmix_mask])
def test_an_image_draws_by_its_row(function):
    label = _label()[:4]
    masks = function(jax.random.key(4), label, num_classes=6)
    other = label.copy()
    other[1:] = 3
    np.testing.assert_array_equal(function(jax.random.key(4), other, num_classes=6)[0], masks[0])


class _Options:
    cutmix, classmix = 0.4, 0.4


_mix_pairs = jax.jit(lambda stream, key: mixing.mix_pairs(stream, key, options=_Options, num_classes=6))


def test_mixed_pairs_are_whole_pixels_of_an_image_and_of_the_next_one():
    """Each image and its label say their row, so every pixel tells where it comes from."""
    label = _label()[:200]
    rows = np.arange(200)[:, None, None] + 0 * label
    image = np.stack([rows, label, rows], axis=-1).astype(np.float32)
    stream = {"image": image, "label": label, "target": -image, "id": np.arange(200)}
    found = jax.tree.map(np.asarray, _mix_pairs(stream, jax.random.key(0)))
    np.testing.assert_array_equal(found["image"][..., 1], found["label"])  # void with void
    np.testing.assert_array_equal(found["target"], -found["image"])
    np.testing.assert_array_equal(found["id"], stream["id"])
    source = found["image"][..., 0]
    pasted = source == (rows + 1) % 200
    assert np.all(pasted | (source == rows))
    mixed = pasted.any(axis=(1, 2))
    assert abs(mixed.mean() - 0.8) < 0.15
    boxes = pasted & ~pasted[:, :, 5:].any(axis=(1, 2), keepdims=True)
    by_class = np.array([all(len(np.unique(x[_label()[0] == c])) == 1 for c in (0, 1, 2, 4)) for x in boxes])
    assert 0.3 < (mixed & by_class).mean() < 0.7
    other = jax.tree.map(np.copy, stream)
    other["image"][2:] = 0
    np.testing.assert_array_equal(_mix_pairs(other, jax.random.key(0))["image"][0], found["image"][0])


def test_mixup_blends_with_the_next():
    image = np.random.default_rng(0).uniform(-1, 1, (3, 2, 2, 3)).astype(np.float32)
    found = mixing.mixup(image, 0.25)
    np.testing.assert_allclose(found[0], 0.25 * image[0] + 0.75 * image[1], rtol=1e-5)
    np.testing.assert_allclose(found[2], 0.25 * image[2] + 0.75 * image[0], rtol=1e-5)
    np.testing.assert_array_equal(mixing.mixup(image, 1.0), image)


def test_a_hole_has_its_size_and_is_anywhere():
    holes = np.asarray(
        jax.vmap(lambda k: mixing.hole(k, (9, 12), share=1 / 3))(jax.random.split(jax.random.key(0), 300))
    )
    rows, columns = holes.any(axis=2).sum(axis=1), holes.any(axis=1).sum(axis=1)
    assert (rows.max(), columns.max()) == (3, 4) and (rows.min(), columns.min()) == (2, 2)
    assert np.all(holes.mean(axis=0) > 0.03)
