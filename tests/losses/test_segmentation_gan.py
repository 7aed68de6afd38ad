"""Losses of discriminators that judge pixels: equations in NumPy, ignored pixels, gradients."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from gan_seg_jax.losses import segmentation_gan

_CLASSES = 3


def _logits(seed, channels=_CLASSES + 1):
    return np.random.default_rng(seed).normal(0, 2, (2, 4, 5, channels)).astype(np.float32)


def _label(seed):
    label = np.random.default_rng(seed).choice(_CLASSES + 1, (2, 4, 5), p=[0.5, 0.2, 0.1, 0.2])
    return np.where(label == _CLASSES, 255, label).astype(np.int32)


def _log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def test_inverse_frequency_by_hand():
    label = jnp.array([[[0, 0, 0, 0], [0, 0, 2, 255]]])
    weights = segmentation_gan.inverse_frequency(label, num_classes=3)
    np.testing.assert_allclose(weights, [7 / (2 * 6), 0, 7 / (2 * 1)], rtol=1e-6)
    found = segmentation_gan.inverse_frequency(jnp.full((1, 2, 2), 255), num_classes=3)
    np.testing.assert_array_equal(found, np.zeros(3))


@pytest.mark.parametrize("balanced", [True, False])
def test_oasis_equals_the_equations(balanced):
    real, fake, label = _logits(0), _logits(1), _label(2)
    known = label != 255
    classes, counts = np.unique(label[known], return_counts=True)
    each = known.sum() / (len(classes) * counts) if balanced else np.ones(len(classes))
    weight = dict(zip(classes, each, strict=True))

    def classified(logits):
        log_p = _log_softmax(logits)
        return np.mean([-weight[label[i]] * log_p[i][label[i]] for i in zip(*np.nonzero(known), strict=True)])

    found = segmentation_gan.oasis_discriminator(real, fake, label, balanced=balanced)
    expected = classified(real) - _log_softmax(fake)[known][:, -1].mean()
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    found = segmentation_gan.oasis_generator(fake, label, balanced=balanced)
    np.testing.assert_allclose(found, classified(fake), rtol=1e-5)


def test_balanced_classes_have_the_same_say():
    logits, label = _logits(3), _label(4)
    log_p = _log_softmax(logits)
    per_class = [-log_p[label == c][:, c].mean() for c in range(_CLASSES)]
    np.testing.assert_allclose(segmentation_gan.oasis_generator(logits, label), np.mean(per_class), rtol=1e-5)


def test_oasis_at_equal_logits():
    zero, label = jnp.zeros((2, 4, 5, _CLASSES + 1)), _label(5)
    np.testing.assert_allclose(segmentation_gan.oasis_generator(zero, label), np.log(4), rtol=1e-6)
    np.testing.assert_allclose(segmentation_gan.oasis_discriminator(zero, zero, label), 2 * np.log(4), rtol=1e-6)


def test_oasis_leaves_unknown_pixels_out_of_real_and_fake():
    real, fake, label = _logits(6), _logits(7), _label(8)
    label[0, 0, 0] = _CLASSES  # the number of the class "fake" is no label
    gradients = jax.grad(segmentation_gan.oasis_discriminator, argnums=(0, 1))(real, fake, label)
    known = label < _CLASSES
    for gradient in gradients:
        assert not np.any(np.asarray(gradient)[~known])
        assert np.all(np.any(np.asarray(gradient)[known], axis=-1))
    nothing = np.full_like(label, 255)
    value, gradients = jax.value_and_grad(segmentation_gan.oasis_discriminator, argnums=(0, 1))(real, fake, nothing)
    assert value == 0.0
    chex.assert_trees_all_equal(gradients, (jnp.zeros_like(real), jnp.zeros_like(fake)))


def test_oasis_players_pull_apart():
    fake, label = _logits(9), _label(10)
    known = label < _CLASSES
    by_discriminator = jax.grad(segmentation_gan.oasis_discriminator, argnums=1)(fake, fake, label)
    by_generator = jax.grad(segmentation_gan.oasis_generator)(fake, label)
    assert np.all(np.asarray(by_discriminator)[known][:, -1] < 0)
    assert np.all(np.asarray(by_generator)[known][:, -1] > 0)


def test_label_mix_consistency():
    real, fake = _logits(11), _logits(12)
    mask = np.random.default_rng(13).integers(0, 2, (2, 4, 5)).astype(bool)
    mixed = np.where(mask[..., None], real, fake)
    assert segmentation_gan.label_mix_consistency(mixed, mask, real, fake) == 0.0
    mixed[0, 0, 0, 0] += 2.0
    found = segmentation_gan.label_mix_consistency(mixed, mask, real, fake)
    np.testing.assert_allclose(found, 4 / mixed.size, rtol=1e-5)
    known = np.ones(mask.shape, bool)
    known[0, 0, 0] = False
    assert segmentation_gan.label_mix_consistency(mixed, mask, real, fake, known) == 0.0
    gradients = jax.grad(segmentation_gan.label_mix_consistency, argnums=(2, 3))(0 * mixed, mask, real, fake)
    assert not np.any(np.asarray(gradients[0])[~mask]) and not np.any(np.asarray(gradients[1])[mask])


def test_self_training_uses_the_pixels_that_convince():
    logits, confidence = _logits(17, _CLASSES), 1 / (1 + np.exp(-_logits(18, 1)[..., 0]))
    known = _label(19) != 255
    accepted = (confidence > 0.4) & known
    expected = -_log_softmax(logits).max(-1)[accepted].mean()
    loss = lambda *arrays: segmentation_gan.confident_self_training(*arrays, threshold=0.4, known=known)
    found, share = jax.jit(loss)(logits, confidence)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(share, accepted.sum() / known.sum(), rtol=1e-6)
    by_logits, by_confidence = jax.grad(lambda *arrays: loss(*arrays)[0], argnums=(0, 1))(logits, confidence)
    np.testing.assert_array_equal(np.any(by_logits, axis=-1), accepted)
    assert not np.any(by_confidence)


def test_self_training_without_a_convincing_pixel_and_by_image():
    logits = _logits(20, _CLASSES)
    loss = lambda *arrays: segmentation_gan.confident_self_training(*arrays, threshold=0.6)
    (value, share), gradient = jax.value_and_grad(loss, has_aux=True)(logits, jnp.full((2, 4, 5), 0.5))
    assert value == share == 0.0 and not np.any(gradient)
    found, share = loss(logits, jnp.array([0.9, 0.1]).reshape(2, 1, 1))
    np.testing.assert_allclose(found, -_log_softmax(logits[0]).max(-1).mean(), rtol=1e-5)
    np.testing.assert_allclose(share, 0.5)


def _segan_features(seed):
    rng = np.random.default_rng(seed)
    sizes = [(8, 3), (8, 4), (4, 4), (4, 8), (2, 8), (2, 8), (1, 16)]
    return [[rng.normal(size=(2, n, n, c)).astype(np.float32) for n, c in sizes] for _ in range(2)]


def test_multi_scale_l1():
    truth, predicted = _segan_features(21)
    distances = [np.abs(a - b) for a, b in zip(truth, predicted, strict=True)]
    loss = segmentation_gan.multi_scale_l1
    np.testing.assert_allclose(loss(truth, predicted), np.mean([d.mean() for d in distances]), rtol=1e-5)
    together = [w * d.reshape(2, -1) for w, d in zip((1, 1, 2, 2, 2, 2, 4), distances, strict=True)]
    np.testing.assert_allclose(loss(truth, predicted, legacy=True), np.concatenate(together, axis=1).mean(), rtol=1e-5)
    valid = np.array([False, True])
    found = loss(truth, predicted, valid, legacy=True)
    np.testing.assert_allclose(found, np.concatenate(together, axis=1)[1].mean(), rtol=1e-5)
    assert loss(truth, truth) == 0.0


def test_multi_scale_l1_is_what_the_critic_climbs():
    image = jnp.asarray(np.random.default_rng(22).normal(size=(2, 4, 4, 3)), jnp.float32)
    truth = jnp.ones((2, 4, 4, 1)).at[:, :2].set(0.0)

    def distance(scale, mask):
        features = lambda mask: [image * mask, jnp.tanh(scale * image * mask)]
        return segmentation_gan.multi_scale_l1(features(truth), features(mask))

    mask = jnp.full((2, 4, 4, 1), 0.4)
    by_critic, by_segmenter = jax.grad(distance, argnums=(0, 1))(jnp.float32(0.5), mask)
    assert by_critic > 0
    np.testing.assert_array_equal(np.sign(by_segmenter), np.where(truth > 0.4, -1.0, 1.0))


def test_entropy():
    np.testing.assert_allclose(segmentation_gan.entropy(jnp.zeros((1, 2, 2, 5))), 1.0, rtol=1e-6)
    sure = 1e4 * jnp.eye(3)[jnp.array([[[0, 2]]])]
    value, gradient = jax.value_and_grad(segmentation_gan.entropy)(sure)
    np.testing.assert_allclose(value, 0.0, atol=1e-6)
    assert np.all(np.isfinite(gradient))
    p = np.array([0.5, 0.25, 0.25])
    logits = jnp.log(jnp.array([[[p, [0.1, 0.1, 0.8]]]]))
    found = segmentation_gan.entropy(logits, jnp.array([[[True, False]]]))
    np.testing.assert_allclose(found, -(p * np.log(p)).sum() / np.log(3), rtol=1e-5)
    each = segmentation_gan.self_information(logits)
    np.testing.assert_allclose(each[0, 0, 0], -(p * np.log(p)) / np.log(3), rtol=1e-5)
    assert segmentation_gan.entropy(logits, jnp.zeros((1, 1, 2), bool)) == 0.0


def test_gradients_equal_differences():
    real, fake, label = _logits(23), _logits(24), _label(25)
    mask = label == 0
    losses = [
        lambda x: segmentation_gan.oasis_discriminator(x, fake, label),
        lambda x: segmentation_gan.oasis_discriminator(real, x, label),
        lambda x: segmentation_gan.oasis_generator(x, label),
        lambda x: segmentation_gan.label_mix_consistency(x, mask, real, fake),
        lambda x: segmentation_gan.entropy(x, label != 255),
    ]
    for loss in losses:
        check_grads(jax.jit(loss), (fake + 0.1,), order=1, modes=("rev",), atol=1e-2, rtol=1e-2, eps=1e-2)
