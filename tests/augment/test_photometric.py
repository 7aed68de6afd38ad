"""Colours of an image: hue, grey and blur by known answers, padding that never enters, one draw an image."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from scipy.ndimage import gaussian_filter

from gan_seg_jax.augment import photometric
from gan_seg_jax.augment.photometric import StrongView

_OFF = StrongView(brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0, jitter=1.0, greyscale=0.0, blur=0.0)
_SIZE = (12, 16)


def _images(seed, batch=16):
    """Images as `prepare` returns them, the last three columns of which are padding."""
    image = np.random.default_rng(seed).integers(0, 256, (batch, *_SIZE, 3)).astype(np.float32) * 2 / 255 - 1
    inside = np.broadcast_to(np.arange(_SIZE[1]) < _SIZE[1] - 3, (batch, *_SIZE))
    return np.where(inside[..., None], image, 0.0).astype(np.float32), inside


@functools.cache
def _compiled(options):
    return jax.jit(lambda image, inside, key: photometric.strong_view(image, inside, key, options=options))


_turn = jax.jit(photometric.turn_hue)


def _view(image, inside, *, seed=0, **options):
    return np.asarray(_compiled(_OFF._replace(**options))(image, inside, jax.random.key(seed)))


@pytest.mark.parametrize("turns", [0.0, 0.1, -0.27, 0.5])
def test_hue_turns_as_in_hsv(turns):
    x = np.random.default_rng(0).uniform(0, 1, (200, 3)).astype(np.float32)
    x[:4] = [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5], [1, 0, 0]]
    hsv = rgb_to_hsv(x)
    hsv[:, 0] = (hsv[:, 0] + turns) % 1
    np.testing.assert_allclose(_turn(x, turns), hsv_to_rgb(hsv), atol=1e-5)


def test_a_third_of_a_turn_permutes_the_channels():
    x = np.random.default_rng(1).uniform(0, 1, (5, 7, 3)).astype(np.float32)
    np.testing.assert_allclose(_turn(x, 1 / 3), x[..., [2, 0, 1]], atol=1e-5)
    np.testing.assert_allclose(_turn(x, -1 / 3), x[..., [1, 2, 0]], atol=1e-5)


_blur = jax.jit(lambda x, inside, sigma: photometric.gaussian_blur(x, inside, sigma, largest=2.0))


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_blur_of_an_impulse_is_the_gaussian(sigma):
    impulse = np.zeros((25, 31, 1), np.float32)
    impulse[12, 15] = 1
    found = np.asarray(_blur(impulse, np.ones((25, 31), bool), sigma))[..., 0]
    assert found.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found, gaussian_filter(impulse[..., 0], sigma, radius=6), atol=1e-6)


def test_blur_of_a_constant_is_the_constant_beside_padding_too():
    inside = np.zeros((25, 31), bool)
    inside[2:9, 3:15] = True
    x = np.where(inside[..., None], 0.7, 0.1).astype(np.float32)
    found = np.asarray(_blur(x, inside, 1.5))
    np.testing.assert_allclose(found[inside], 0.7, atol=1e-6)
    assert np.all(np.isfinite(found))
    assert np.all(np.isfinite(_blur(x, np.zeros_like(inside), 0.1)))


def test_off_changes_nothing():
    image, inside = _images(2)
    np.testing.assert_allclose(_view(image, inside), image, atol=1e-6)


@pytest.mark.slow
def test_each_part_comes_with_its_probability_and_one_draw_an_image():
    image, inside = _images(3, batch=200)
    known = {"jitter": {"hue": 0.2}, "greyscale": {}, "blur": {}}
    for name, strengths in known.items():
        found = _view(image, inside, **{name: 0.3}, **strengths)
        changed = np.any(np.abs(found - image) > 1e-5, axis=(1, 2, 3))
        assert abs(changed.mean() - 0.3) < 0.16, name  # five standard deviations
        if name == "greyscale":
            luma = image @ np.array([0.299, 0.587, 0.114], np.float32)
            np.testing.assert_allclose(found[changed], np.repeat(luma[changed][..., None], 3, -1), atol=1e-5)
    blurred = _view(image, inside, blur=1.0, blur_sigma=(0.5, 0.5))
    row = np.asarray(photometric.gaussian_blur(image[7], inside[7], 0.5, largest=0.5))
    np.testing.assert_allclose(blurred[7], np.where(inside[7][..., None], row, 0), atol=1e-5)


def test_gamma_and_noise_equal_their_equations():
    image, inside = _images(7, batch=200)
    x = 0.5 * (image + 1)
    found = 0.5 * (_view(image, inside, gamma=1.0, noise=0.0) + 1)
    free = inside & np.all((x > 0.1) & (x < 0.9), axis=-1)
    exponents = np.array([np.median(np.log(found[i][free[i]]) / np.log(x[i][free[i]])) for i in range(200)])
    np.testing.assert_allclose(found[inside], (x ** exponents[:, None, None, None])[inside], atol=1e-4)
    assert 0.5 <= exponents.min() < 0.53 and 1.9 < exponents.max() <= 2 and abs(np.log(exponents).mean()) < 0.15
    middle = np.where(inside[..., None], np.float32([0.2, 0.2, 0.2]), np.float32(0))
    noise = 0.5 * (_view(middle, inside, noise=0.1) - middle)[:, :, :-3]
    strength = noise.std(axis=(1, 2, 3))
    assert strength.max() < 0.11 and strength.min() < 0.01 and abs(strength.mean() - 0.05) < 0.01
    assert np.abs(noise.mean()) < 1e-3
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.03


def test_padding_stays_padding_and_no_pixel_becomes_it():
    image, inside = _images(4)
    image[:, :2] = [[[2e-3, -1e-3, 0.0]]]  # a grey of nearly 0
    image[:, 2:4] = np.where(inside[:, 2:4, :, None], -1, 0)
    for seed in range(3):
        found = _view(image, inside, seed=seed, **StrongView()._asdict())
        assert np.all(found[~inside] == 0) and np.all(np.any(found[inside] != 0, axis=-1))
        assert np.abs(found).max() <= 1
    flat = np.where(inside[..., None], np.float32(0.0), 0.0).astype(np.float32)  # what chance may make
    assert np.all(np.asarray(photometric.keep_shown(flat, inside))[inside] != 0)


def test_what_lies_in_the_padding_does_not_matter():
    image, inside = _images(5)
    other = np.where(inside[..., None], image, np.float32(0.9))
    everything = StrongView()._asdict()
    np.testing.assert_array_equal(_view(other, inside, **everything), _view(image, inside, **everything))


def test_an_image_draws_by_its_row_and_the_key_decides():
    image, inside = _images(6)
    image[:] = image[:1]
    everything = StrongView()._asdict()
    found = _view(image, inside, **everything)
    assert len({x.tobytes() for x in found}) > 12
    other = image.copy()
    other[1:] = -other[1:]
    np.testing.assert_array_equal(_view(other, inside, **everything)[0], found[0])
    np.testing.assert_array_equal(_view(image, inside, **everything), found)
    assert not np.allclose(_view(image, inside, seed=1, **everything), found)
    with pytest.raises(AssertionError):
        photometric.strong_view(jnp.zeros((2, 4, 4, 3)), jnp.ones((2, 4, 5), bool), jax.random.key(0))
