"""Maps from a crop to the canvas: turns by known answers, interpolation against SciPy, the deformation's moments."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from gan_seg_jax.augment import warp

_SIZE = (12, 12)
_CONTENT = np.array(_SIZE, np.int32)


@jax.jit
def _turned(image, label, degrees, shear, content):
    matrix = warp.affine(jnp.radians(degrees), jnp.radians(shear))
    where = warp.places(_SIZE, (0.0, 0.0), (1.0, 1.0), matrix=matrix)
    inside = warp.within(where, content)
    return warp.interpolate(image, where, content), warp.pick(label, where, content), inside


def _image(seed, size=_SIZE):
    draw = np.random.default_rng(seed)
    return draw.uniform(0, 255, (*size, 3)).astype(np.float32), draw.integers(0, 9, size).astype(np.uint8)


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
def test_quarter_turns_equal_numpy(quarters):
    image, label = _image(0)
    found, found_label, _ = _turned(image, label, 90.0 * quarters, np.zeros(2), _CONTENT)
    np.testing.assert_allclose(found, np.rot90(image, quarters), atol=1e-3 if quarters else 0)
    np.testing.assert_array_equal(found_label, np.rot90(label, quarters))


def test_a_shear_moves_rows_by_their_distance_from_the_centre():
    image, label = _image(1)
    _, found, inside = _turned(image, label, 0.0, np.array([0.0, 45.0]), _CONTENT)
    for row in range(12):
        expected = np.arange(12) + (row - 5.5)  # a source column; half a pixel off, so that it is a tie
        known = (expected > 0) & (expected < 11)
        options = np.stack([label[row][np.clip(np.floor(expected).astype(int) + i, 0, 11)] for i in (0, 1)])
        assert np.all(np.any(options == np.asarray(found)[row], axis=0)[known])
        assert np.all(np.asarray(inside)[row] == ((expected >= -0.5) & (expected < 11.5)))


@pytest.mark.parametrize("content", [(12, 12), (7, 10)])
def test_interpolation_equals_scipy(content):
    image, _ = _image(2)
    where = np.random.default_rng(3).uniform(-2, 13, (*_SIZE, 2)).astype(np.float32)
    found = jax.jit(warp.interpolate)(image, where, np.array(content, np.int32))
    cut = image[: content[0], : content[1]]
    for channel in range(3):
        expected = map_coordinates(cut[..., channel], np.moveaxis(where, -1, 0), order=1, mode="nearest")
        np.testing.assert_allclose(found[..., channel], expected, atol=0.02)
    picked = warp.pick(image, where, np.array(content, np.int32))
    index = np.clip(np.floor(where + 0.5).astype(int), 0, np.array(content) - 1)
    np.testing.assert_array_equal(picked, image[index[..., 0], index[..., 1]])


def test_the_deformation_is_smooth_and_of_standard_deviation_1_up_to_the_borders():
    draw = jax.jit(jax.vmap(lambda key: warp.displacement(key, (20, 31), sigma=4.0)))
    fields = np.asarray(draw(jax.random.split(jax.random.key(0), 2000)))
    np.testing.assert_allclose(fields.std(axis=0), 1.0, atol=0.09)
    np.testing.assert_allclose(fields.mean(axis=0), 0.0, atol=0.13)
    for distance in (1, 4, 12):  # of noise smoothed by sigma: exp(-d^2 / (4 sigma^2))
        found = np.mean(fields[:, :, :-distance] * fields[:, :, distance:])
        assert found == pytest.approx(np.exp(-(distance**2) / 64), abs=0.05)
    assert abs(np.mean(fields[..., 0] * fields[..., 1])) < 0.02  # rows and columns are moved independently


def test_no_deformation_and_no_turn_is_the_identity():
    image, label = _image(4)
    moved = 0.0 * warp.displacement(jax.random.key(0), _SIZE, sigma=3.0)
    where = warp.places(_SIZE, (0.0, 0.0), (1.0, 1.0), matrix=warp.affine(0.0, (0.0, 0.0)), moved=moved)
    np.testing.assert_array_equal(warp.interpolate(image, where, _CONTENT), image)
    np.testing.assert_array_equal(warp.pick(label, where, _CONTENT), label)
    assert np.all(warp.within(where, _CONTENT))
    mirrored = warp.places(_SIZE, (0.0, 12.0), (1.0, -1.0))
    np.testing.assert_array_equal(warp.pick(label, mirrored, _CONTENT), label[:, ::-1])
