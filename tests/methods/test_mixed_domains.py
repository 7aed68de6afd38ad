"""Self-training on images mixed of two domains, against its equations written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import adapt_seg
from gan_seg_jax import config as config_lib
from gan_seg_jax.augment import mixing, photometric
from gan_seg_jax.errors import InputError
from gan_seg_jax.losses.weighted import weighted_sum
from gan_seg_jax.methods import mixed_domains, two_domains
from gan_seg_jax.optimizers import create_optimizers
from gan_seg_jax.state import create_state, fold_name, step_key
from gan_seg_jax.train_step import train_step
from tests.by_hand import draw_variables, host_stream, prepared, view

CLASSES, SIZE = 3, (16, 24)
FAST = {"xla_backend_optimization_level": 0}
PADDING, VOID = 18, 4  # the target's second image ends at this column; the source's labels begin at this row


def make_config(words="", *, norm="none", **losses):
    config = adapt_seg.get_config(f"self_training,{words},smoke")
    config.num_classes, config.crop_size, config.canvas_size = CLASSES, SIZE, SIZE
    config.augment.flip_horizontal = False
    config.networks.segmenter.update(channels=(4, 4), encoder_convs=(0, 1), decoder_convs=(0,), norm=norm)
    config.optimizers.segmenter.update(name="sgd", learning_rate=1.0, schedule="constant", beta1=0.0)
    config.losses.update(losses)
    config_lib.check(config)
    return config.lock()


def make_batch():
    """Return a batch as the host delivers it: void above in the source, padding at the right of a target image."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, (2, *SIZE)).astype(np.uint8)
    label[:, :VOID] = 255
    image = lambda: rng.integers(0, 256, (2, *SIZE, 3), np.uint8)
    unknown = np.full((2, *SIZE), 255, np.uint8)
    content = (SIZE, (SIZE[0], PADDING))
    return {"labelled": host_stream(image(), label), "target": host_stream(image(), unknown, content)}


def make_state(config):
    """Return a state whose teacher differs from its student."""
    modules = mixed_domains.build(config)
    variables = draw_variables(mixed_domains, modules, prepared(make_batch()), config)
    state = create_state(variables, modules, create_optimizers(config), seed=0, ema_roles=frozenset(modules))
    network = state.networks["segmenter"]
    other = jax.tree.map(lambda x: 1.5 * x + 0.01, network.ema_params)
    return state.replace(networks={"segmenter": network.replace(ema_params=other)})


def shown():
    inside = np.ones((2, *SIZE), bool)
    inside[1, :, PADDING:] = False
    return inside


def cross_entropies(logits, label):
    """Return the cross-entropy of each pixel [b, h, w], 0 where the label is 255."""
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.where(label == 255, 0, label)[..., None], -1)
    return -picked[..., 0] * (label != 255)


def by_hand(params, apply, teacher, batch, rng, config):
    """Return the loss and each image's share of pixels of which the teacher is sure, in plain arrays."""
    (x, y), u = (batch["labelled"][name] for name in ("image", "label")), batch["target"]["image"]
    inside, options = shown(), config.losses
    p = jax.nn.softmax(apply(teacher, u))
    sure = jnp.stack(
        [jnp.mean(p[n, :, :width].max(-1) > options.confidence_threshold) for n, width in ((0, 24), (1, 18))]
    )
    mask = mixing.classmix_mask(fold_name(rng, "classes"), y, num_classes=CLASSES)
    image = jnp.where(mask[..., None], x, u)
    view = mixed_domains.STRONG_VIEW
    image = photometric.strong_view(image, mask | inside, fold_name(rng, "colors"), options=view)
    label = jnp.where(mask, y, jnp.where(inside, p.argmax(-1), 255))
    each = cross_entropies(apply(params, image), label)
    weighted = jnp.stack([jnp.sum(each[n] * jnp.where(mask[n], 1.0, sure[n])) for n in range(2)]).sum()
    supervised = cross_entropies(apply(params, x), y).sum() / (y != 255).sum()
    return supervised + options.self_training_weight * weighted / (label != 255).sum(), sure


def test_gradients_are_those_of_the_equations():
    config = make_config(confidence_threshold=0.42, self_training_weight=0.7)
    state, batch = make_state(config), make_batch()
    network, seen = state.networks["segmenter"], prepared(batch)
    apply = lambda params, image: network.apply_fn({"params": params}, image, train=True)
    rng = fold_name(jax.random.fold_in(step_key(state), 0), "forward")

    def compute(state, batch):
        params = state.networks["segmenter"].params
        loss = lambda params: by_hand(params, apply, network.ema_params, seen, rng, config)
        (value, sure), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        new, metrics = train_step(state, batch, method=mixed_domains, config=config, updates=(("segmenter",),))
        moved = jax.tree.map(jnp.subtract, params, new.networks["segmenter"].params)
        return value, sure, gradient, moved, metrics

    value, sure, gradient, moved, metrics = jax.jit(compute, compiler_options=FAST)(state, batch)
    assert 0 < sure.min() < sure.max() < 1, sure  # each image has a weight of its own
    np.testing.assert_allclose(metrics["loss/segmenter"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["accepted_share"], sure.mean(), rtol=1e-5)
    for (path, expected), found in zip(
        jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(moved), strict=True
    ):
        assert np.any(expected != 0), path
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6, err_msg=str(path))


def test_classes_are_pasted_with_their_labels_and_weights():
    config, batch = make_config(confidence_threshold=0.6), prepared(make_batch())
    probabilities = np.zeros((2, *SIZE, CLASSES), np.float32)
    probabilities[..., 1] = 1.0
    probabilities[0, :8] = 0.5, 0.25, 0.25  # unsure in half of the first image
    source, image = batch["labelled"], batch["target"]["image"]
    mix = jax.jit(lambda p: mixed_domains.mix(source, image, p, jax.random.key(3), config), compiler_options=FAST)
    lesson = mix(probabilities)
    np.testing.assert_allclose(lesson.accepted, [0.5, 1.0])
    np.testing.assert_allclose(lesson.confidence, [0.75, 1.0])
    taught = np.where(shown(), probabilities.argmax(-1), 255)
    for row in range(2):
        label, given = np.asarray(lesson.label[row]), np.asarray(source["label"][row])
        (pasted,) = {c for c in range(CLASSES) if np.all(label[given == c] == c)}  # floor(3 / 2) classes
        mask = given == pasted
        np.testing.assert_array_equal(label, np.where(mask, given, taught[row]))
        np.testing.assert_array_equal(lesson.weight[row], np.where(mask, 1.0, lesson.accepted[row]))
        # Padding is seen only where nothing was pasted over it; void is never pasted.
        np.testing.assert_array_equal(np.any(lesson.image[row] != 0, axis=-1), mask | shown()[row])
        assert not np.any((label == 255) & shown()[row])
        plain = np.where(mask[..., None], source["image"][row], image[row])
        assert np.corrcoef(lesson.image[row].ravel(), plain.ravel())[0, 1] > 0.6  # the colours alone are others


def test_what_is_pasted_and_what_the_teacher_says_are_constants():
    config, batch = make_config(confidence_threshold=0.3), prepared(make_batch())
    nets = view(make_state(config))
    logits = [jax.random.normal(jax.random.key(n), (2, *SIZE, CLASSES)) for n in range(3)]

    def loss(source, mixed, taught):
        lesson = mixed_domains.mix(
            batch["labelled"], batch["target"]["image"], jax.nn.softmax(taught), jax.random.key(3), config
        )
        out = mixed_domains.losses(nets, (source, mixed, lesson), batch, jax.random.key(2), config)
        return out.losses["segmenter"], lesson

    run = jax.jit(jax.grad(loss, (0, 1, 2), has_aux=True), compiler_options=FAST)
    (source, mixed, taught), lesson = run(*logits)
    assert not np.any(taught)
    np.testing.assert_array_equal(np.any(source != 0, axis=-1), batch["labelled"]["label"] != 255)
    np.testing.assert_array_equal(np.any(mixed != 0, axis=-1), lesson.label != 255)


def test_without_weight_it_is_the_supervised_loss():
    config, batch = make_config("lambda0"), prepared(make_batch())
    source, mixed = (jax.random.normal(jax.random.key(n), (2, *SIZE, CLASSES)) for n in range(2))
    ones, label = jnp.ones((2, *SIZE)), batch["labelled"]["label"]
    lesson = mixed_domains.Lesson(batch["target"]["image"], label, ones, ones[:, 0, 0], ones[:, 0, 0])
    found = mixed_domains.losses(view(make_state(config)), (source, mixed, lesson), batch, jax.random.key(2), config)
    assert float(found.losses["segmenter"]) == float(weighted_sum(source, label, config.losses)[0])


@pytest.mark.slow
@pytest.mark.parametrize("statistics", ["both", "target"])
def test_its_statistics_are_those_of_all_adaptation(statistics):
    config = make_config(norm="batch").unlock()
    config.statistics = statistics
    nets, batch = view(make_state(config), ("segmenter",)), prepared(make_batch())
    found, expected = (
        method.forward(nets, batch, jax.random.key(0), config)[1].collections["segmenter"]
        for method in (mixed_domains, two_domains)
    )
    assert jax.tree.leaves(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_bad_values_are_named():
    for field, value, message in (
        ("ema_decay", 0.0, r"config\.ema_decay is 0\.0.*the teacher is the average"),
        ("losses.confidence_threshold", 1.5, r"confidence_threshold is 1\.5.*0 to 1"),
        ("statistics", "source", "statistics 'source'.*target"),
    ):
        config = make_config().unlock()
        config.update_from_flattened_dict({field: value})
        with pytest.raises(InputError, match=message):
            mixed_domains.build(config)
    for word in ("multi", "random_discriminator"):
        with pytest.raises(InputError, match=f"{word} has no meaning with self_training"):
            adapt_seg.get_config(f"self_training,{word}")
