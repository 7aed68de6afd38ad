"""Scores of patches: known answers, agreement with other code, and an interval that is over images."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from gan_seg_jax.errors import InputError
from gan_seg_jax.judging import patches
from gan_seg_jax.judging.patches import PatchScores


def filled(pairs):
    scores = PatchScores()
    for real, fake in pairs:
        scores.add(np.array(real), np.array(fake))
    return scores


def test_known_answers():
    """Pairs: 0.9 > 0.2, 0.9 > 0.6, 0.9 = 0.9, 0.3 > 0.2, 0.3 < 0.6, 0.3 < 0.9."""
    found = filled([([0.9], [0.2, 0.6]), ([[0.3]], [0.9])]).scores()
    assert found["auc"] == pytest.approx(3.5 / 6, abs=1e-12)
    assert found["real_accuracy"] == 1 / 2 and found["fake_accuracy"] == 1 / 3
    assert found["accuracy"] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_what_decides_nothing_is_fake_and_halves_every_pair():
    found = filled([([0.5, 0.5], [0.5]), ([0.5], [0.5])]).scores()
    assert (found["auc"], found["real_accuracy"], found["fake_accuracy"]) == (0.5, 0.0, 1.0)
    assert found["auc_low"] == found["auc_high"] == 0.5


@pytest.mark.parametrize("flip", [False, True])
def test_a_perfect_detector_has_the_binomial_interval(flip):
    pair = ([1.0, 1 - 1e-6], [0.0, 1e-7, 0.4])
    found = filled([pair[::-1] if flip else pair] * 5).scores()
    width = 1 - 0.025 ** (1 / 5)
    assert found["auc"] == (0.0 if flip else 1.0)
    assert (found["auc_low"], found["auc_high"]) == pytest.approx((0.0, width) if flip else (1 - width, 1.0))


@pytest.mark.parametrize("spread", [2.0, 1e-3])
@pytest.mark.parametrize(("each", "kept"), [(20, 10**6), (300, 10**6), (300, 1500)])
def test_the_auc_is_that_of_the_scores(monkeypatch, spread, each, kept):
    """Exactly where there are few, and nearly on any scale where the bins are those of the first scores."""
    monkeypatch.setattr(patches, "KEPT", kept)
    rng = np.random.default_rng(0)
    real, fake = (expit(spread * rng.normal(mean, 1, (20, each))).astype(np.float32) for mean in (0.5, 0))
    expected = roc_auc_score(np.repeat([1, 0], 20 * each), np.concatenate([real.ravel(), fake.ravel()]))
    found = filled(zip(real, fake, strict=True)).scores()
    assert found["auc"] == pytest.approx(expected, abs=1e-12 if each == 20 else 1e-3)
    assert found["real_accuracy"] == np.mean(real > 0.5) and found["fake_accuracy"] == np.mean(fake <= 0.5)


def test_the_interval_covers_and_knows_that_patches_of_an_image_are_alike():
    """Each image has an offset of its own in its fakes: the AUC of one image says little about that of all."""

    def interval(spread, seed):
        rng = np.random.default_rng(seed)
        offsets = spread * rng.normal(size=(12, 1))
        real, fake = rng.normal(size=(12, 50)), offsets + rng.normal(size=(12, 50))
        found = filled(zip(expit(real), expit(fake), strict=True)).scores(resamples=400)
        return found["auc_low"], found["auc_high"]

    apart, alike = np.array([interval(2.0, seed) for seed in range(40)]), np.array(interval(0.0, 0))
    assert np.mean(apart[:, 1] - apart[:, 0]) > 3 * (alike[1] - alike[0])
    assert np.mean((apart[:, 0] <= 0.5) & (apart[:, 1] >= 0.5)) > 0.8  # 0.95 for many images


def test_the_histogram_holds_all_patches_in_place():
    edges, real, fake = filled([([0.5, 1.0], [0.0]), ([0.75], [0.3])]).histogram()
    np.testing.assert_array_equal(edges, np.arange(-16, 16.5, 0.5))
    assert real[32] == real[63] == real[34] == pytest.approx(1 / 3)  # logits 0, 16 or more, 1.1
    assert fake[0] == fake[30] == 0.5  # -16 or less, -0.8
    assert real.sum() == pytest.approx(1) and fake.sum() == 1


@pytest.mark.parametrize("scores", [[], [0.5, 1.01], [-0.1], [np.nan]])
def test_bad_scores(scores):
    with pytest.raises(ValueError, match=r"0\.\.1"):
        PatchScores().add(np.array([0.5]), np.array(scores))


def test_one_image_is_too_few():
    with pytest.raises(InputError, match="at least 2 labelled images, found 1"):
        filled([([0.5], [0.5])]).scores()
