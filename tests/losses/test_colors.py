"""Labels as colours and back, and differences between images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_seg_jax.errors import InputError
from gan_seg_jax.losses import colors
from gan_seg_jax.losses.segmentation import l1, mse

CLASS_COLORS = ((0, 0, 0), (255, 255, 255), (255, 0, 51))
PALETTE = np.array([[-1, -1, -1], [1, 1, 1], [1, -1, -0.6]], np.float32)


def test_palette_and_colorize_known_answers():
    found = colors.palette(CLASS_COLORS, 3)
    np.testing.assert_allclose(found, PALETTE, atol=1e-6)
    colored = colors.colorize(jnp.array([[[0, 1, 2, 255, 7]]]), found)
    np.testing.assert_allclose(colored, [[[*PALETTE, [0, 0, 0], [0, 0, 0]]]], atol=1e-6)


@pytest.mark.parametrize(
    ("listed", "words"),
    [(CLASS_COLORS[:2], "2 different.*for 3"), ((*CLASS_COLORS[:2], (0, 0, 0)), "2 different.*in 3")],
)
def test_classes_that_cannot_be_told_apart(listed, words):
    with pytest.raises(InputError, match=words):
        colors.palette(listed, 3)


def test_logits_known_answers_and_round_trip():
    palette = colors.palette(CLASS_COLORS, 3)
    label = jnp.array([[[0, 1, 2]]])
    logits = colors.color_logits(colors.colorize(label, palette), palette)
    np.testing.assert_allclose(logits[0, 0, 0], [0.0, -12 / 0.02, -4.16 / 0.02], rtol=1e-5)
    np.testing.assert_array_equal(jnp.argmax(logits, -1), label)


def test_logits_between_two_colours_are_even():
    palette = colors.palette(CLASS_COLORS, 3)
    middle = jnp.mean(palette[:2], axis=0).reshape(1, 1, 1, 3)
    logits = colors.color_logits(middle, palette)[0, 0, 0]
    assert float(logits[0]) == pytest.approx(float(logits[1]))
    # Interpolated logits decode as the interpolated colour does: differences are linear.
    ends = colors.color_logits(palette[None, None, :2], palette)[0, 0]
    mixed, direct = jnp.mean(ends, axis=0), logits
    np.testing.assert_allclose(mixed - mixed[0], direct - direct[0], atol=1e-3)


def test_differences_are_weighted_and_heads_count_less():
    keys = jax.random.split(jax.random.key(0), 3)
    image, target, head = (jax.random.normal(key, (2, 4, 5, 3)) for key in keys)
    known = jnp.arange(5) > jnp.zeros((2, 4, 1))
    options = ConfigDict({"weights": {"l1": 3.0, "mse": 0.5, "dice": 0.0}, "auxiliary_weight": 0.4})
    loss, terms = colors.with_heads(image, {"low": head}, target, known, options)
    of_head = 3 * l1(head, target, known) + 0.5 * mse(head, target, known)
    expected = 3 * l1(image, target, known) + 0.5 * mse(image, target, known) + 0.4 * of_head
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
    assert set(terms) == {"l1", "mse", "auxiliary/low"}
    options.weights.mse = 0.0
    assert set(colors.weighted_differences(image, target, known, options.weights)[1]) == {"l1"}


def test_losses_of_classes_are_refused():
    colors.check_differences({"l1": 1.0, "mse": 1.0, "cross_entropy": 0.0})
    with pytest.raises(InputError, match=r"weights.cross_entropy is 1.0.*l1 or mse"):
        colors.check_differences({"l1": 1.0, "cross_entropy": 1.0})
