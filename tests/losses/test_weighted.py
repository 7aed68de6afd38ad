"""Properties that every term of the weighted sum has, and the sum itself."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from configs import common
from gan_seg_jax.errors import InputError
from gan_seg_jax.losses import segmentation
from gan_seg_jax.losses.weighted import TERMS, expect_a_loss, weighted_sum

CLASSES = 5


def options_of(weights, **changed):
    """Return `config.losses` with these weights and no others; a small sigma compiles sooner."""
    options = common.get_config().losses
    options.boundary_sigma = 0.7
    options.update(changed)
    for name in TERMS:
        options.weights[name] = weights.get(name, 0.0)
    return options


@functools.cache
def _compiled(name, **changed):
    options = options_of({name: 1.0}, **changed)
    loss = jax.value_and_grad(lambda logits, label: weighted_sum(logits, label, options)[0])
    return jax.jit(loss, compiler_options={"xla_backend_optimization_level": 0})


def _random(seed, size=(2, 4, 6), ignored=True):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (*size, CLASSES)).astype(np.float32)
    label = rng.integers(0, CLASSES + ignored, size).astype(np.int32)
    return logits, np.where(label == CLASSES, 255, label)


def test_defaults_name_every_term():
    assert set(common.get_config().losses.weights) == set(TERMS)


def test_the_sum_is_weighted_and_holds_only_what_has_a_weight():
    logits, label = _random(0)
    options = options_of({"cross_entropy": 0.5, "dice": 2.0})
    total, terms = weighted_sum(logits, label, options)
    assert set(terms) == {"cross_entropy", "dice"}
    np.testing.assert_allclose(terms["cross_entropy"], segmentation.cross_entropy(logits, label), rtol=1e-6)
    np.testing.assert_allclose(total, 0.5 * terms["cross_entropy"] + 2.0 * terms["dice"], rtol=1e-6)
    total, terms = weighted_sum(logits, label, options_of({}))
    assert total == 0.0 and total.dtype == jnp.float32 and terms == {}


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("focal", {"focal_gamma": 0.5}),
        ("tversky", {"tversky_alpha": 0.9}),
        ("tversky", {"tversky_beta": 0.1}),
        ("boundary", {"boundary_strength": 1.0}),
        ("boundary", {"boundary_sigma": 0.4}),
        ("hard_pixel", {"hard_pixel_fraction": 0.6}),
        *((name, {"class_weights": (1.0, 2.0, 3.0, 4.0, 5.0)}) for name in ("cross_entropy", "focal", "boundary")),
        ("hard_pixel", {"class_weights": (1.0, 2.0, 3.0, 4.0, 5.0)}),
        *((name, {"label_smoothing": 0.2}) for name in ("cross_entropy", "boundary", "hard_pixel")),
    ],
)
def test_options_reach_their_terms(name, changed):
    logits, label = _random(1)
    plain, _ = _compiled(name)(logits, label)
    other, _ = _compiled(name, **changed)(logits, label)
    assert abs(plain - other) > 1e-4


def test_unknown_names_are_refused():
    options = common.get_config().losses
    options.weights.lovas = 1.0
    with pytest.raises(InputError, match="'lovas'.*'lovasz'"):
        weighted_sum(*_random(2), options)


@pytest.mark.parametrize("name", TERMS)
@pytest.mark.parametrize("nothing", [255, -1, CLASSES])
def test_nothing_known_is_zero_with_zero_gradient(name, nothing):
    logits, label = _random(3)
    for scale in (1.0, 1e4):
        loss, gradient = _compiled(name)(scale * logits, np.full_like(label, nothing))
        assert loss == 0.0
        chex.assert_trees_all_equal(gradient, jnp.zeros_like(logits))


@pytest.mark.parametrize("name", ["cross_entropy", "boundary", "hard_pixel"])
def test_nothing_known_is_zero_with_weights_and_smoothing_too(name):
    logits, label = _random(3)
    loss, gradient = _compiled(name, class_weights=(1.0, 0.0, 2.0, 1.0, 1.0), label_smoothing=0.1)(
        logits, np.full_like(label, 255)
    )
    assert loss == 0.0
    chex.assert_trees_all_equal(gradient, jnp.zeros_like(logits))


@pytest.mark.parametrize("name", TERMS)
def test_gradients_are_finite_at_extreme_logits(name):
    _, label = _random(4)
    signs = np.random.default_rng(4).choice([-1e4, 0.0, 1e4], (*label.shape, CLASSES)).astype(np.float32)
    right = 1e4 * (2 * np.asarray(segmentation.one_hot(label, CLASSES)) - 1)
    for logits in (signs, right, -right, np.zeros_like(signs)):
        loss, gradient = _compiled(name)(logits, label)
        assert np.isfinite(loss) and loss >= 0
        assert np.all(np.isfinite(gradient))
        assert not np.any(gradient[label == 255])


@pytest.mark.parametrize("name", TERMS)
def test_the_right_answer_costs_nothing_and_the_wrong_one_more(name):
    _, label = _random(5)
    right = 50.0 * segmentation.one_hot(label, CLASSES)
    unsure, wrong = 0.05 * right, -right
    losses = [_compiled(name)(logits, label)[0] for logits in (right, unsure, wrong)]
    assert abs(losses[0]) < 1e-5
    assert losses[0] < losses[1] < losses[2]


@pytest.mark.parametrize("name", TERMS)
def test_half_precision_logits_are_computed_in_float32(name):
    logits, label = _random(6)
    half = jnp.asarray(logits, jnp.bfloat16)
    found, gradient = _compiled(name)(half, label)
    assert found.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(found, _compiled(name)(half.astype(jnp.float32), label)[0], rtol=1e-6)


@pytest.mark.parametrize("name", TERMS)
def test_small_steps_against_the_gradient_descend(name):
    logits, label = _random(7)
    loss, gradient = _compiled(name)(logits, label)
    squared = float(jnp.sum(gradient**2))
    step = 1e-2 * float(loss) / squared  # first order: one percent less
    after, _ = _compiled(name)(logits - step * gradient, label)
    np.testing.assert_allclose(loss - after, 1e-2 * loss, rtol=0.2)


@pytest.mark.parametrize("name", TERMS)
def test_wrong_shapes_are_refused(name):
    logits, label = _random(8)
    with pytest.raises((AssertionError, ValueError)):
        weighted_sum(logits, label[:, 1:], options_of({name: 1.0}))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(sorted(TERMS)))
def test_ignored_pixels_count_as_cut_out(seed, name):
    """Rows of known pixels, and the same with rows of ignored ones between which they may lie anywhere."""
    logits, label = _random(seed, (1, 4, 6), ignored=False)
    rng = np.random.default_rng(seed)
    more = rng.normal(0, 50, (1, 2, 6, CLASSES)).astype(np.float32)
    all_logits = np.concatenate([logits, more], axis=1)
    all_label = np.concatenate([label, rng.choice([255, -1, CLASSES, 254], (1, 2, 6))], axis=1).astype(np.int32)
    if name != "boundary":  # which alone looks at neighbours
        order = rng.permutation(36)
        all_logits = all_logits.reshape(1, 36, CLASSES)[:, order].reshape(all_logits.shape)
        all_label = all_label.reshape(1, 36)[:, order].reshape(all_label.shape)
    expected, _ = _compiled(name)(logits, label)
    found, gradient = _compiled(name)(all_logits, all_label)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
    is_known = np.asarray(segmentation.known(all_label, CLASSES))
    assert not np.any(np.asarray(gradient)[~is_known])


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**31), name=st.sampled_from(sorted(TERMS)))
def test_order_of_classes_and_images_changes_nothing(seed, name):
    logits, label = _random(seed)
    rng = np.random.default_rng(seed)
    classes, rows = rng.permutation(CLASSES), rng.permutation(2)
    renamed = np.where(label == 255, 255, np.argsort(classes)[np.where(label == 255, 0, label)]).astype(np.int32)
    expected, gradient = _compiled(name)(logits, label)
    found, permuted = _compiled(name)(logits[rows][..., classes], renamed[rows])
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(permuted, gradient[rows][..., classes], rtol=1e-3, atol=1e-6)


def test_a_role_needs_a_loss():
    names = ("auxiliary_weight", "weights")
    expect_a_loss(options_of({"dice": 0.5}, auxiliary_weight=0.0), "segmenter", *names)
    expect_a_loss(options_of({}, auxiliary_weight=0.5), "segmenter", *names)
    found = r"segmenter to learn from: every weight .* is 0.*losses\.auxiliary_weight, config\.losses\.weights a pos"
    with pytest.raises(InputError, match=found):
        expect_a_loss(options_of({}, auxiliary_weight=0.0), "segmenter", *names)
    with pytest.raises(InputError, match="generator to learn from"):
        expect_a_loss(options_of({"dice": 0.5}, auxiliary_weight=0.0), "generator", "auxiliary_weight")
