"""`adversarial` against its equations written by hand; what its discriminator sees, and what follows."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import adversarial_seg
from gan_seg_jax import config as config_lib
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.losses.weighted import weighted_sum
from gan_seg_jax.methods import adversarial
from gan_seg_jax.models import build_network
from gan_seg_jax.state import Networks, create_state
from gan_seg_jax.train_step import train_step
from tests.by_hand import draw_variables, host_stream, make_state, prepared

CLASSES, SIZE = 3, (24, 32)
FAST = {"xla_backend_optimization_level": 0}
S, D = "segmenter", "discriminator"


def make_config(**losses):
    config = adversarial_seg.get_config("smoke")
    config.num_classes, config.crop_size = CLASSES, SIZE
    config.networks.segmenter.update(channels=(4, 4), encoder_convs=(0, 0), decoder_convs=(0,), norm="none")
    config.networks.discriminator.update(channels=4, layers=1)
    config.losses.update(losses)
    config_lib.check(config)
    return config.lock()


def setup(config, seed=0):
    modules = adversarial.build(config)
    variables = draw_variables(adversarial, modules, example_batch(("labelled",), config), config, seed)
    state = create_state(variables, modules, {}, seed=seed)
    keys = jax.random.split(jax.random.key(seed), 2)
    image = jax.random.uniform(keys[0], (2, 24, 32, 3), minval=-1)
    label = jax.random.randint(keys[1], (2, 24, 32), 0, CLASSES).at[:, :5].set(255)
    nets = Networks(states=state.networks, rng=jax.random.key(1), step=jnp.int32(0))
    return nets, {"labelled": {"image": image, "label": label, "valid": jnp.ones(2, bool), "id": jnp.arange(2)}}


def evaluate(config, nets, batch, logits):
    return adversarial.losses(nets, logits, batch, jax.random.key(2), config)


def host_batch():
    """Return a batch as the host delivers it, with void above."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, (2, *SIZE)).astype(np.uint8)
    label[:, :5] = 255
    return {"labelled": host_stream(rng.integers(0, 256, (2, *SIZE, 3), np.uint8), label)}


def by_hand(params, functions, batch, options):
    """Return the loss of each network, in plain arrays."""
    image, label = batch["labelled"]["image"], batch["labelled"]["label"]
    logits = functions[S]({"params": params[S]}, image, train=True)
    known, true = label != 255, jnp.where(label == 255, 0, label)[..., None]
    log_p = logits - jnp.log(jnp.sum(jnp.exp(logits), -1, keepdims=True))
    entropy = -jnp.sum(jnp.take_along_axis(log_p, true, -1)[..., 0] * known) / jnp.sum(known)
    p, truth = jnp.exp(log_p), jnp.eye(CLASSES)[true[..., 0]]
    if options.truth_softness:
        fixed = jax.lax.stop_gradient(p)
        p_true = jnp.take_along_axis(fixed, true, -1)
        raised = jnp.where(p_true < options.truth_softness, options.truth_softness, p_true)
        truth = jnp.where(truth == 1, raised, fixed * (1 - raised) / (1 - p_true))

    def scores(mask):
        mask = mask * known[..., None]
        products = [image[..., c : c + 1] * mask for c in range(3)]
        inputs = {"mask": [mask], "image_mask": [image, mask], "product": products}[options.discriminator_input]
        found = functions[D]({"params": params[D]}, jnp.concatenate(inputs, -1), train=True)
        return found.mean((1, 2, 3)) if options.image_level else found

    real, fake = scores(truth), scores(p)
    return {
        D: 0.5 * jnp.mean(jnp.log(1 + jnp.exp(-real))) + 0.5 * jnp.mean(jnp.log(1 + jnp.exp(fake))),
        S: entropy + options.adversarial_weight * jnp.mean(jnp.log(1 + jnp.exp(-fake))),
    }


@pytest.mark.parametrize(
    ("sees", "softness", "image_level"), [("mask", 0.0, True), ("image_mask", 0.9, False), ("product", 0.9, True)]
)
def test_gradients_are_those_of_the_equations(sees, softness, image_level):
    options = {"discriminator_input": sees, "truth_softness": softness, "image_level": image_level}
    config = make_config(**options, adversarial_weight=0.7).unlock()
    config.augment.flip_horizontal = False
    # Scores that differ from patch to patch: the mean of their losses is then not the loss of their mean.
    config.networks.discriminator.update(norm="none", kernel_init="0.3")
    for optimizer in config.optimizers.values():
        optimizer.update(name="sgd", learning_rate=1.0, schedule="constant", beta1=0.0)
    state, batch, ((_, updates),) = make_state(config.lock()), host_batch(), config.phases
    functions = {role: network.apply_fn for role, network in state.networks.items()}

    def compute(state, batch):
        params, losses, gradients = {role: network.params for role, network in state.networks.items()}, {}, {}
        for role in (D, S):  # in turn: the segmenter is judged by what the discriminator has become
            alone = lambda own, role=role, now=params: by_hand(
                {**now, role: own}, functions, prepared(batch), config.losses
            )[role]
            losses[role], gradients[role] = jax.value_and_grad(alone)(params[role])
            params = {**params, role: jax.tree.map(jnp.subtract, params[role], gradients[role])}
        new, metrics = train_step(state, batch, method=adversarial, config=config, updates=updates)
        moved = {r: jax.tree.map(jnp.subtract, state.networks[r].params, new.networks[r].params) for r in (D, S)}
        return losses, gradients, moved, metrics

    losses, gradients, moved, metrics = jax.jit(compute, compiler_options=FAST)(state, batch)
    for role in (D, S):
        np.testing.assert_allclose(metrics[f"loss/{role}"], losses[role], rtol=1e-5)
        assert all(np.any(leaf) for leaf in jax.tree.leaves(gradients[role]))
        chex.assert_trees_all_close(moved[role], gradients[role], rtol=2e-3, atol=2e-6)


def test_softened_truth_known_answers():
    fake = jnp.array([[[[0.5, 0.3, 0.2], [0.95, 0.04, 0.01], [1.0, 0.0, 0.0], [0.2, 0.4, 0.4]]]])
    real = jax.nn.one_hot(jnp.array([[[0, 0, 0, 7]]]), 3)  # the last is ignored
    expected = [[[[0.9, 0.06, 0.04], [0.95, 0.04, 0.01], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]]]
    np.testing.assert_allclose(adversarial.soften(real, fake, 0.9), expected, atol=1e-6)


def test_softened_truth_is_a_distribution_and_a_constant():
    fake = jax.nn.softmax(4 * jax.random.normal(jax.random.key(0), (2, 3, 4, 5)))
    real = jax.nn.one_hot(jax.random.randint(jax.random.key(1), (2, 3, 4), 0, 5), 5)
    soft = adversarial.soften(real, fake, 0.7)
    np.testing.assert_allclose(jnp.sum(soft, -1), 1.0, atol=1e-5)
    assert float(jnp.min(jnp.sum(soft * real, -1))) >= 0.7 - 1e-6
    gradient = jax.grad(lambda fake: jnp.sum(adversarial.soften(real, fake, 0.7) ** 2))(fake)
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize(("sees", "channels"), [("mask", 3), ("image_mask", 6), ("product", 9)])
def test_what_the_discriminator_sees(sees, channels):
    config = make_config(discriminator_input=sees)
    nets, _ = setup(config)
    kernel = nets.states["discriminator"].params["conv_0"]["kernel"]
    assert kernel.shape[2] == channels


def test_product_is_every_colour_times_every_class():
    config = make_config(discriminator_input="product")
    image, mask = jnp.array([0.5, -1.0, 0.25]).reshape(1, 1, 1, 3), jnp.array([0.2, 0.8]).reshape(1, 1, 1, 2)
    (product,) = adversarial._inputs(image, mask, config.losses).maps
    np.testing.assert_allclose(product.ravel(), [0.1, 0.4, -0.2, -0.8, 0.05, 0.2], rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"truth_softness": 0.9}, {"discriminator_input": "mask", "image_level": True}])
def test_ignored_pixels_get_no_gradient(options):
    config = make_config(**options)
    nets, batch = setup(config)
    logits = jax.random.normal(jax.random.key(3), (2, 24, 32, CLASSES))
    gradient = jax.jit(jax.grad(lambda z: evaluate(config, nets, batch, z).losses["segmenter"]))(logits)
    np.testing.assert_array_equal(gradient[:, :5], 0.0)
    assert np.all(np.any(gradient[:, 5:] != 0, axis=-1))


def test_without_weight_the_game_is_the_supervised_loss():
    config = make_config(adversarial_weight=0.0)
    nets, batch = setup(config)
    logits = jax.random.normal(jax.random.key(3), (2, 24, 32, CLASSES))
    found = evaluate(config, nets, batch, logits).losses["segmenter"]
    assert float(found) == float(weighted_sum(logits, batch["labelled"]["label"], config.losses)[0])


@pytest.mark.parametrize("name", ["least_squares", "hinge", "wasserstein", "relativistic", "minimax"])
def test_every_game_is_played(name):
    config = make_config(adversarial=name, adversarial_weight=1.0)
    nets, batch = setup(config)
    logits = jax.random.normal(jax.random.key(3), (2, 24, 32, CLASSES))
    output = evaluate(config, nets, batch, logits)
    assert all(np.isfinite(value) for value in [*output.losses.values(), *output.metrics.values()])
    plain = weighted_sum(logits, batch["labelled"]["label"], config.losses)[0]
    expected = plain + output.metrics["adversarial"]
    np.testing.assert_allclose(output.losses["segmenter"], expected, rtol=1e-6)


def test_a_perfect_prediction_looks_like_the_truth():
    config = make_config()
    nets, batch = setup(config)
    label = batch["labelled"]["label"]
    logits = 100.0 * jax.nn.one_hot(jnp.where(label == 255, 0, label), CLASSES)
    output = evaluate(config, nets, batch, logits)
    assert float(output.metrics["discriminator_accuracy"]) == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize(
    ("field", "value", "match"),
    [
        ("discriminator_input", "pixels", "discriminator_input"),
        ("truth_softness", 1.5, "truth_softness is 1.5; give a share"),
        ("truth_softness", 1.0, "truth_softness is 1.0"),
        ("truth_softness", -0.1, "truth_softness is -0.1"),
    ],
)
def test_bad_values_are_named(field, value, match):
    config = make_config().unlock()
    config.losses[field] = value
    with pytest.raises(InputError, match=match):
        adversarial.build(config)


def test_heads_are_trained_too():
    config = adversarial_seg.get_config("pspnet,smoke")
    config.num_classes = CLASSES
    network = build_network(config.networks.segmenter, dtype="float32", num_classes=CLASSES)
    image = jnp.zeros((2, *config.crop_size, 3))
    variables = jax.eval_shape(lambda: network.init(jax.random.key(0), image, train=False))
    logits = jax.eval_shape(lambda v: network.apply(v, image, train=False), variables)
    assert isinstance(logits, tuple) and "auxiliary" in logits[1]
    small = make_config()
    nets, batch = setup(small)
    logits = jax.random.normal(jax.random.key(0), (2, 24, 32, CLASSES))
    outputs = (jnp.ones_like(logits), {"auxiliary": logits})
    loss = lambda outputs: evaluate(small, nets, batch, outputs).losses["segmenter"]
    gradient = jax.grad(loss)(outputs)[1]["auxiliary"]
    assert np.any(gradient != 0)
