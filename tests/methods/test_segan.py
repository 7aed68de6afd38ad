"""SegAN: the distance by hand, what the critic sees, its bound, and what happens without a supervised loss."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import segan as segan_config
from gan_seg_jax import config as config_lib
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.losses.weighted import weighted_sum
from gan_seg_jax.methods import segan
from gan_seg_jax.optimizers import create_optimizers
from gan_seg_jax.state import create_state, init_variables
from gan_seg_jax.train_step import train_step
from tests.by_hand import host_stream, pixels, prepared, view

CLASSES, BATCH, SIZE = 3, 4, (32, 48)
S, C = "segmenter", "discriminator"
FAST = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def make_config(words="smoke", **losses):
    config = segan_config.get_config(words)
    config.num_classes, config.canvas_size, config.crop_size = CLASSES, SIZE, SIZE
    config.augment.flip_horizontal = False
    config.networks.segmenter.update(channels=(4, 4), encoder_convs=(0, 0), decoder_convs=(0,))
    config.networks.discriminator.update(channels=2)
    config.losses.update(losses)
    config_lib.check(config)
    return config.lock()


def plain_descent(config):
    """Return the config with plain descent, rate 1, and no bound."""
    config = config.copy_and_resolve_references().unlock()
    for role in (S, C):
        config.optimizers[role].update(name="sgd", learning_rate=1.0, beta1=0.0, clip_weights=0.0)
    return config.lock()


@functools.cache
def first_variables(words):
    """Return the variables of every config's networks, which are the same here but for what the critic sees."""
    config = make_config(words)
    return init_variables(segan, segan.build(config), example_batch(("labelled",), config), config, 0)


def make_state(config):
    modules = segan.build(config)
    return modules, create_state(
        first_variables("legacy,smoke" if config.losses.legacy else "smoke"), modules, create_optimizers(config), seed=0
    )


def host_batch():
    draw = np.random.default_rng(0)
    label = draw.integers(0, CLASSES, (BATCH, *SIZE)).astype(np.uint8)
    label[:, :5] = 255
    return {"labelled": host_stream(draw.integers(0, 256, (BATCH, *SIZE, 3), np.uint8), label)}


def setup(config):
    """Return a view in inference mode and a batch as methods see it."""
    _, state = make_state(config)
    return view(state), prepared(host_batch())


def losses(config, nets, batch, logits):
    return segan.losses(nets, logits, batch, jax.random.key(2), config)._replace(nets=None)


def evaluate(config, nets, batch, logits):
    return FAST(lambda *args: losses(config, *args))(nets, batch, logits)


def test_step_equals_a_step_by_hand():
    """With the weights of the scales and the Dice loss of the released code."""
    config = plain_descent(make_config("legacy,smoke", adversarial_weight=1.5))
    modules, state = make_state(config)
    step = functools.partial(train_step, method=segan, config=config, updates=((C,), (S,)))
    after, metrics = FAST(step)(state, host_batch())

    host, (segmenter, critic) = host_batch()["labelled"], (state.networks[role] for role in (S, C))
    image, label = pixels(host["image"]), jnp.asarray(host["label"], jnp.int32)
    truth, known = jax.nn.one_hot(label, CLASSES), (label != 255)[..., None]

    def segment(params):
        variables = {"params": params, **segmenter.collections}
        logits, new = modules[S].apply(variables, image, train=True, mutable=["batch_stats"])
        return jnp.where(known, jax.nn.softmax(logits), 0.0), new

    def features(params, mask):
        seen = jnp.concatenate([image * mask[..., 1:2], image * mask[..., 2:3]], axis=-1)
        return modules[C].apply({"params": params, **critic.collections}, seen, train=True, mutable=["batch_stats"])

    def distance(params, mask):
        (true, new), (guess, _) = features(params, truth), features(params, mask)
        units = [part[0].size for part in true]
        weights = [w * n / sum(units) for w, n in zip((1, 1, 2, 2, 2, 2, 4), units, strict=True)]
        pairs = zip(weights, true, guess, strict=True)
        return sum(w * jnp.mean(jnp.abs(a - b)) for w, a, b in pairs), new

    mask, stats_s = FAST(segment)(segmenter.params)
    (value, stats_c), climb = FAST(jax.value_and_grad(distance, has_aux=True))(critic.params, mask)
    new_c = jax.tree.map(jnp.add, critic.params, climb)

    def descend(params):
        mask, _ = segment(params)
        hits, sizes = jnp.sum(mask * truth, (0, 1, 2)), jnp.sum(mask + truth, (0, 1, 2))
        dice = 1 - jnp.mean(2 * hits / sizes)
        return 1.5 * distance(new_c, mask)[0] + dice

    new_s = jax.tree.map(jnp.subtract, segmenter.params, FAST(jax.grad(descend))(segmenter.params))
    np.testing.assert_allclose(metrics["loss/discriminator"], -value, rtol=1e-5)
    close = functools.partial(chex.assert_trees_all_close, rtol=1e-3, atol=2e-5)
    close(after.networks[C].params, new_c)
    close(after.networks[S].params, new_s)
    close(after.networks[C].collections, stats_c)
    close(after.networks[S].collections, stats_s)


@pytest.mark.slow
@pytest.mark.parametrize("moving", [C, S])
def test_only_what_is_named_moves_and_the_critic_is_clamped(moving):
    config = make_config()
    _, state = make_state(config)
    step = functools.partial(train_step, method=segan, config=config, updates=((moving,),))
    after, metrics = FAST(step)(state, host_batch())
    still = S if moving == C else C
    assert metrics["skipped"] == 0
    chex.assert_trees_all_equal(after.networks[still], state.networks[still])
    same = jax.tree.map(lambda a, b: bool((a == b).all()), after.networks[moving], state.networks[moving])
    flags = jax.tree.leaves_with_path((same.params, same.collections))
    assert not [path for path, flag in flags if flag and "bias" not in jax.tree_util.keystr(path)]
    largest = max(float(jnp.max(jnp.abs(leaf))) for leaf in jax.tree.leaves(after.networks[moving].params))
    assert (largest <= 0.05 + 1e-6) == (moving == C)


def test_the_critic_sees_every_class_but_the_first():
    image, mask = jnp.array([0.5, -1.0, 0.25]).reshape(1, 1, 1, 3), jnp.array([0.7, 0.2, 0.1]).reshape(1, 1, 1, 3)
    expected = [0.1, -0.2, 0.05, 0.05, -0.1, 0.025]
    np.testing.assert_allclose(segan.masked(image, mask).ravel(), expected, rtol=1e-6)
    for words, colors in (("smoke", 4), ("legacy,smoke", 3)):
        assert first_variables(words)[C]["params"]["conv_0"]["kernel"].shape[2] == colors * (CLASSES - 1)


def test_the_critic_sees_the_mask_of_grey_pixels():
    losses_of_grey = []
    for words in ("smoke", "legacy,smoke"):
        config = make_config(words)
        nets, batch = setup(config)
        grey = {"labelled": {**batch["labelled"], "image": jnp.zeros((BATCH, *SIZE, 3))}}
        output = evaluate(config, nets, grey, jnp.zeros((BATCH, *SIZE, CLASSES)))
        losses_of_grey.append(float(output.metrics["adversarial"]))
    assert losses_of_grey[0] > 0.01 and losses_of_grey[1] == 0.0


def test_ignored_pixels_get_no_gradient():
    config = make_config("legacy,smoke")
    nets, batch = setup(config)
    logits = jax.random.normal(jax.random.key(3), (BATCH, *SIZE, CLASSES))
    gradient = FAST(jax.grad(lambda z: losses(config, nets, batch, z).losses[S]))(logits)
    np.testing.assert_array_equal(gradient[:, :5], 0.0)
    assert np.all(np.any(gradient[:, 5:] != 0, axis=-1))


def test_a_perfect_prediction_is_at_distance_zero():
    config = make_config()
    nets, batch = setup(config)
    label = batch["labelled"]["label"]
    logits = 200.0 * jax.nn.one_hot(jnp.where(label == 255, 1, label), CLASSES)
    output = evaluate(config, nets, batch, logits)
    assert float(output.metrics["adversarial"]) == pytest.approx(0.0, abs=1e-6)
    assert float(evaluate(config, nets, batch, -logits).metrics["adversarial"]) > 0.01


def test_without_any_supervised_loss_the_critic_alone_teaches():
    config = make_config()
    nets, batch = setup(config)
    logits = jax.random.normal(jax.random.key(3), (BATCH, *SIZE, CLASSES))
    output = evaluate(config, nets, batch, logits)
    assert not any(config.losses.weights.values())
    assert float(output.losses[S]) == -float(output.losses[C]) == float(output.metrics["adversarial"])
    image, label = batch["labelled"]["image"], batch["labelled"]["label"]
    image = jnp.concatenate([image, jnp.ones((BATCH, *SIZE, 1))], axis=-1)
    masks = jax.nn.one_hot(label, CLASSES), jax.nn.softmax(logits) * (label != 255)[..., None]
    seen = [jnp.concatenate([image * mask[..., c : c + 1] for c in range(1, CLASSES)], axis=-1) for mask in masks]
    true, guess = (nets.apply(C, x)[0] for x in seen)
    expected = np.mean([np.mean(np.abs(a - b)) for a, b in zip(true, guess, strict=True)])
    np.testing.assert_allclose(output.losses[S], expected, rtol=1e-5)


def test_without_weight_the_game_is_the_supervised_loss():
    config = make_config("lambda0,smoke")
    nets, batch = setup(config)
    logits = jax.random.normal(jax.random.key(3), (BATCH, *SIZE, CLASSES))
    found = evaluate(config, nets, batch, logits).losses[S]
    assert float(found) == float(weighted_sum(logits, batch["labelled"]["label"], config.losses)[0]) > 0


def test_bad_values_are_named():
    config = make_config().unlock()
    config.networks.discriminator.name = "patchgan"
    with pytest.raises(InputError, match=r"networks\.discriminator\.name is 'patchgan'.*segan_critic"):
        segan.build(config)
    config = make_config().unlock()
    config.num_classes = 1
    with pytest.raises(InputError, match="num_classes is 1"):
        segan.build(config)
