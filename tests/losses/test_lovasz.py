"""Lovasz-softmax against the definition of a Lovasz extension, in float64 and without an order of pixels."""

import itertools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gan_seg_jax.losses import lovasz
from gan_seg_jax.losses.lovasz import lovasz_softmax


def _set_function(wrong, labelled):
    """Return 1 - IoU of a class if exactly the pixels of the mask `wrong` are wrong about it."""
    predicted = labelled ^ wrong
    return 1 - (labelled & predicted).sum() / (labelled | predicted).sum()


def _brute_force(logits, label, num_classes):
    """Return the mean over classes of the integral over t in 0..1 of the set function of {error >= t}."""
    logits, known = np.asarray(logits, np.float64), label < num_classes
    probabilities = np.exp(logits - logits.max(axis=-1, keepdims=True))
    probabilities = (probabilities / probabilities.sum(axis=-1, keepdims=True))[known]
    label = label[known]
    losses = []
    for number in np.unique(label):
        labelled = label == number
        errors = np.abs(labelled - probabilities[:, number])
        levels = np.unique(np.append(errors, 0.0))
        losses.append(
            sum((high - low) * _set_function(errors >= high, labelled) for low, high in itertools.pairwise(levels))
        )
    return np.mean(losses) if losses else 0.0


def _random(seed, size=(2, 3, 4), num_classes=3):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (*size, num_classes)).astype(np.float32)
    label = rng.integers(0, num_classes + 1, size)
    return logits, np.where(label == num_classes, 255, label)


_FAST = {"xla_backend_optimization_level": 0}
_loss = jax.jit(jax.value_and_grad(lovasz_softmax), compiler_options=_FAST)


def test_hard_predictions_have_one_minus_iou():
    label = jnp.array([[[0, 0, 0, 1, 255]]])
    logits = 100.0 * jax.nn.one_hot(jnp.array([[[0, 0, 1, 1, 2]]]), 3)
    np.testing.assert_allclose(_loss(logits, label)[0], 1 - (2 / 3 + 1 / 2) / 2, rtol=1e-6)


def test_one_pixel_has_its_error():
    logits = jnp.log(jnp.array([[[[0.3, 0.7]]]]))
    np.testing.assert_allclose(_loss(logits, jnp.array([[[0]]]))[0], 0.7, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**31), ties=st.booleans())
def test_equals_the_integral_over_level_sets(seed, ties):
    logits, label = _random(seed)
    if ties:
        logits = np.round(logits / 2)
    found, _ = _loss(logits, label)
    np.testing.assert_allclose(found, _brute_force(logits, label, 3), atol=1 / lovasz.STEPS)


@pytest.mark.parametrize("seed", range(3))
def test_gradient_is_that_of_the_definition(seed):
    logits, label = _random(seed)
    _, gradient = _loss(logits, label)
    rng = np.random.default_rng(seed)
    for _ in range(5):
        direction = rng.normal(0, 1, logits.shape)
        ahead, behind = (_brute_force(logits + sign * 1e-6 * direction, label, 3) for sign in (1, -1))
        np.testing.assert_allclose(np.sum(gradient * direction), (ahead - behind) / 2e-6, rtol=1e-3, atol=1e-5)


def test_many_pixels_keep_their_digits():
    """Differences of IoU between neighbours are near float32's resolution of IoU itself."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (1, 256, 256, 2)).astype(np.float32)
    label = np.where(rng.random((1, 256, 256)) < 0.3, 1, 0)
    errors = 1 - np.take_along_axis(np.asarray(jax.nn.softmax(logits.astype(np.float64))), label[..., None], -1).ravel()
    order = np.argsort(-errors)
    losses = []
    for number in (0, 1):
        labelled = (label.ravel() == number)[order]
        hits = labelled.sum() - np.cumsum(labelled)
        jaccard = 1 - hits / (labelled.sum() + np.cumsum(~labelled))
        losses.append(np.sum(errors[order] * np.diff(jaccard, prepend=0)))
    np.testing.assert_allclose(_loss(logits, label)[0], np.mean(losses), rtol=1e-4)


@pytest.mark.parametrize("form", [lovasz._slopes_by_counts, lovasz._slopes_by_sort])
def test_order_is_exact_where_errors_are_a_step_apart(form):
    rng = np.random.default_rng(0)
    errors = rng.permutation(lovasz.STEPS)[:50].astype(np.float32)[:, None] / lovasz.STEPS
    is_class = rng.random((50, 1)) < 0.4
    found = jax.jit(form)(errors, is_class, np.ones((50, 1), bool))[:, 0]
    order = np.argsort(-errors[:, 0])
    wrong = np.arange(50)[:, None] >= np.arange(50)[None]  # row j: the first j + 1 pixels
    jaccard = [_set_function(row, is_class[order, 0]) for row in wrong]
    np.testing.assert_allclose(found[order], np.diff(jaccard, prepend=0), rtol=1e-5)


def test_accelerators_sort_and_processors_count():
    logits, label = _random(0)
    text = {
        name: jax.export.export(jax.jit(lovasz_softmax), platforms=(name,))(logits, label).mlir_module()
        for name in ("cpu", "tpu", "cuda")
    }
    assert [name for name in text if "stablehlo.sort" in text[name]] == ["tpu", "cuda"]
    by_counts, by_sort = (
        jax.jit(form)(*_facts(logits, label)) for form in (lovasz._slopes_by_counts, lovasz._slopes_by_sort)
    )
    errors, _, known = _facts(logits, label)
    np.testing.assert_allclose(
        *(np.sum(x * errors * known, (0, 1, 2)) for x in (by_counts, by_sort)), atol=1 / lovasz.STEPS
    )


def _facts(logits, label):
    """Return the errors of each class, whether a pixel is labelled with it, and whether with any."""
    is_class = label[..., None] == np.arange(logits.shape[-1])
    probabilities = np.asarray(jax.nn.softmax(logits))
    return np.where(is_class, 1 - probabilities, probabilities), is_class, (label != 255)[..., None]


def test_vmap_takes_each_image_alone():
    logits, label = _random(3)
    each = jax.jit(jax.vmap(lambda x, y: lovasz_softmax(x[None], y[None])), compiler_options=_FAST)
    expected = [_brute_force(logits[i], label[i], 3) for i in range(2)]
    np.testing.assert_allclose(each(logits, label), expected, atol=1 / lovasz.STEPS)
