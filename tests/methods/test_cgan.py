"""The forms of `cgan`: colours or probabilities, with or without the image, every size of patch."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import cgan_seg, networks
from gan_seg_jax import config as config_lib
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.losses.weighted import weighted_sum
from gan_seg_jax.methods import cgan
from gan_seg_jax.models.discriminators import PatchGAN
from gan_seg_jax.state import Networks, create_state
from gan_seg_jax.train_step import train_step
from gan_seg_jax.training import checks, start
from tests.by_hand import draw_variables

FAST = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
COLORS = ((255, 0, 0), (0, 128, 255), (20, 20, 20))
CLASSES, SIZE = len(COLORS), (24, 32)
D, G = "discriminator", "generator"


def make_config(arg="", *, output=None, **losses):
    config = cgan_seg.get_config(arg)
    config.num_classes, config.class_colors = CLASSES, COLORS
    config.canvas_size = config.crop_size = SIZE
    config.augment.flip_horizontal = False
    config.networks.generator.update(channels=(4, 6), encoder_convs=(0, 0), decoder_convs=(0,), norm="none")
    config.networks.discriminator.update(channels=4, layers=min(config.networks.discriminator.layers, 1), norm="none")
    config.losses.update(losses)
    config.output = output or config.output
    config_lib.check(config)
    return config.lock()


def make_batch():
    rng = np.random.default_rng(0)
    label = rng.integers(0, CLASSES, (2, *SIZE)).astype(np.uint8)
    label[0, :5] = 255
    stream = {
        "image": rng.integers(0, 256, (2, *SIZE, 3), np.uint8),
        "label": label,
        "valid": np.ones(2, bool),
        "content": np.full((2, 2), SIZE, np.int32),
        "id": np.arange(2, dtype=np.int32),
    }
    return {"labelled": stream}


def as_methods_see_it(batch):
    stream = batch["labelled"]
    image = (2.0 * stream["image"].astype(np.float32) - 255.0) / 255.0
    return {"labelled": {**stream, "image": jnp.array(image), "label": jnp.array(stream["label"], jnp.int32)}}


def make_state(config, optimizer=None):
    modules = cgan.build(config)
    variables = draw_variables(cgan, modules, example_batch(("labelled",), config), config, 0)
    return modules, create_state(variables, modules, dict.fromkeys(modules, optimizer or optax.sgd(1.0)), seed=0)


def view(state):
    return Networks(states=state.networks, rng=jax.random.key(1), step=jnp.int32(0))


def evaluate(config, state, outputs):
    """Return losses and metrics of what the generator returned."""

    def losses(outputs):
        found = cgan.losses(view(state), outputs, as_methods_see_it(make_batch()), jax.random.key(2), config)
        return found.losses, found.metrics

    return FAST(losses)(outputs)


@pytest.mark.parametrize("arg", ["colors", "gan", "l1,cgan", "l1", "cgan,encoder_decoder", "l1,gan,colors,pixel"])
def test_gradients_equal_those_written_by_hand(arg):
    config = make_config(arg)
    modules, state = make_state(config)
    batch = make_batch()
    step = functools.partial(train_step, method=cgan, config=config, updates=((D, G),))
    after, metrics = FAST(step)(state, batch)

    seen = as_methods_see_it(batch)["labelled"]
    image, known = seen["image"], (seen["label"] != 255)[..., None]
    one_hot = jnp.where(known, jax.nn.one_hot(seen["label"], CLASSES), 0.0)
    in_colors, conditional = "colors" in arg, "gan" not in arg.split(",")
    truth = one_hot @ (jnp.array(COLORS) / 127.5 - 1.0) if in_colors else one_hot

    def scores(params, mask):
        inputs = (image, mask) if conditional else (mask,)
        return modules[D].apply({"params": params}, *inputs, train=True)

    def made(params):
        outputs = modules[G].apply({"params": params}, image, train=True)
        return (jnp.tanh(outputs) if in_colors else jax.nn.softmax(outputs)) * known

    def loss_d(params):
        fake = made(state.networks[G].params)
        real, fake = scores(params, truth), scores(params, fake)
        return 0.5 * jnp.mean(jnp.log1p(jnp.exp(-real))) + 0.5 * jnp.mean(jnp.log1p(jnp.exp(fake)))

    def loss_g(params):
        fake = made(params)
        l1 = jnp.sum(jnp.abs(fake - truth)) / (jnp.sum(known) * truth.shape[-1])
        gan = jnp.mean(jnp.log1p(jnp.exp(-scores(state.networks[D].params, fake))))
        return config.losses.adversarial_weight * gan + config.losses.weights.l1 * l1

    for role, loss in ((D, loss_d), (G, loss_g)):
        params = state.networks[role].params
        value, gradient = FAST(jax.value_and_grad(loss))(params)
        np.testing.assert_allclose(metrics[f"loss/{role}"], value, rtol=1e-5)
        moved = jax.tree.map(jnp.subtract, params, after.networks[role].params)
        chex.assert_trees_all_close(moved, gradient, rtol=1e-4, atol=1e-6 * (1 + 100 * (role == G)))


@pytest.mark.parametrize("output", cgan.OUTPUTS)
@pytest.mark.parametrize("conditional", [True, False])
def test_ignored_pixels_look_the_same_and_get_no_gradient(output, conditional):
    config = make_config("l1,cgan", output=output, conditional=conditional)
    _, state = make_state(config)

    def loss(outputs):
        values = cgan.losses(view(state), outputs, as_methods_see_it(make_batch()), jax.random.key(2), config).losses
        return values[G], values[D]

    run = FAST(jax.value_and_grad(loss, has_aux=True))
    outputs = jax.random.normal(jax.random.key(3), (2, *SIZE, CLASSES))
    values, gradient = run(outputs)
    np.testing.assert_array_equal(gradient[0, :5], 0.0)
    assert np.all(np.any(gradient[1] != 0, axis=-1))
    # What is made where nothing is known changes no score, neither of real nor of fake.
    assert jax.device_get(run(outputs.at[0, :5].add(7.0))[0]) == jax.device_get(values)


@pytest.mark.parametrize("output", cgan.OUTPUTS)
def test_without_weight_the_game_is_the_supervised_loss(output):
    config = make_config("l1", output=output)
    assert config.losses.adversarial_weight == 0
    _, state = make_state(config)
    outputs = jax.random.normal(jax.random.key(3), (2, *SIZE, CLASSES))
    label = as_methods_see_it(make_batch())["labelled"]["label"]
    if output == "probabilities":
        expected = weighted_sum(outputs, label, config.losses)[0]
    else:
        target = jnp.array(COLORS)[jnp.where(label == 255, 0, label)] / 127.5 - 1.0
        expected = 100 * jnp.mean(jnp.abs(jnp.tanh(outputs) - target)[label != 255])
    np.testing.assert_allclose(evaluate(config, state, outputs)[0][G], expected, rtol=1e-6)


def test_heads_in_colours_are_weighed_and_not_shown():
    config = make_config("l1", output="colors")
    _, state = make_state(config)
    made, head = jax.random.normal(jax.random.key(3), (2, 2, *SIZE, 3))
    alone, whole, of_head = (evaluate(config, state, x) for x in (made, (made, {"low": head}), head))
    weight = config.losses.auxiliary_weight
    np.testing.assert_allclose(whole[0][G], alone[0][G] + weight * of_head[0][G], rtol=1e-6)
    np.testing.assert_allclose(whole[0][D], alone[0][D], rtol=1e-6)
    np.testing.assert_allclose(whole[1]["auxiliary/low"], of_head[0][G], rtol=1e-6)


@pytest.mark.parametrize("output", cgan.OUTPUTS)
def test_a_perfect_map_looks_like_the_truth(output):
    config = make_config("cgan", output=output)
    _, state = make_state(config)
    label = as_methods_see_it(make_batch())["labelled"]["label"]
    outputs = 100.0 * jax.nn.one_hot(jnp.where(label == 255, 0, label), CLASSES)
    if output == "colors":
        colors = jnp.clip(jnp.array(COLORS)[jnp.where(label == 255, 0, label)] / 127.5 - 1.0, -1 + 1e-7, 1 - 1e-7)
        outputs = jnp.arctanh(colors)
    accuracy = evaluate(config, state, outputs)[1]["discriminator_accuracy"]
    assert float(accuracy) == pytest.approx(0.5, abs=0.01)


def test_colours_are_decoded_by_the_nearest():
    config = make_config(output="colors")
    palette = np.array(COLORS) / 127.5 - 1.0
    rng = np.random.default_rng(0)
    image = rng.uniform(-0.99, 0.99, (1, 4, 5, 3)).astype(np.float32)
    nets = type("Fixed", (), {"apply": lambda self, role, image: (jnp.arctanh(image), self)})()
    logits = cgan.predict(nets, {"labelled": {"image": image}}, None, config)
    nearest = np.argmin(np.linalg.norm(image[..., None, :] - palette, axis=-1), axis=-1)
    assert logits.shape == (1, 4, 5, CLASSES)
    np.testing.assert_array_equal(np.argmax(logits, axis=-1), nearest)


@pytest.mark.parametrize("arg", ["gan", "colors", ""])
def test_the_picture_of_the_discriminator_shows_what_it_sees(arg):
    config = make_config(arg)
    modules, state = make_state(config)
    batch = as_methods_see_it(make_batch())["labelled"]
    label = jnp.where(batch["label"] == 255, 0, batch["label"])
    score_map = FAST(lambda image, mask: cgan.score_map(view(state), image, mask, config))
    maps = score_map(batch["image"], jax.nn.one_hot(label, CLASSES))
    shown = jnp.array(COLORS)[label] / 127.5 - 1.0 if arg == "colors" else jax.nn.one_hot(label, CLASSES)
    inputs = (shown,) if arg == "gan" else (batch["image"], shown)
    scores = FAST(lambda *inputs: modules[D].apply({"params": state.networks[D].params}, *inputs, train=False))(*inputs)
    np.testing.assert_allclose(maps, jax.nn.sigmoid(scores[..., 0]), atol=1e-6)


@pytest.mark.parametrize(("word", "field"), [("pixel", 1), ("patch16", 16), ("patch70", 70), ("patch286", 286)])
def test_a_score_sees_as_many_pixels_as_its_word_says(word, field):
    layers = cgan_seg.get_config(word).networks.discriminator.layers
    network = PatchGAN(channels=1, layers=layers, norm="none", kernel_init=0.5)
    size = 640 if layers == 5 else 160  # far larger than a patch: the field is not cut off at the border
    image = jnp.zeros((1, size, size, 1))
    shapes = jax.eval_shape(lambda: network.init(jax.random.key(0), image, train=False))
    params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.5), shapes)  # all positive: nothing cancels
    scores = lambda x: network.apply(params, x, train=False)
    height, width = jax.eval_shape(scores, image).shape[1:3]
    one = FAST(jax.grad(lambda x: jnp.log(scores(x)[0, height // 2, width // 2, 0])))(image)[0, :, :, 0]
    rows, columns = np.flatnonzero(np.any(one != 0, axis=1)), np.flatnonzero(np.any(one != 0, axis=0))
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (field, field)


def test_words_say_what_they_change():
    default, paper = cgan_seg.get_config(), cgan_seg.get_config("paper")
    assert cgan_seg.get_config("l1,cgan") == paper
    weights = {arg: cgan_seg.get_config(arg).losses for arg in ("l1", "cgan", "gan", "l1,gan")}
    found = {arg: (x.adversarial_weight, x.weights.l1, x.conditional) for arg, x in weights.items()}
    assert found == {
        "l1": (0.0, 100.0, True),
        "cgan": (1.0, 0.0, True),
        "gan": (1.0, 0.0, False),
        "l1,gan": (1.0, 100.0, False),
    }
    assert cgan_seg.get_config("encoder_decoder").networks.generator.skip == "none"
    assert default.losses.conditional and default.output == "probabilities"
    assert min(cgan_seg.get_config("smoke,patch286").crop_size) == 96


@pytest.mark.parametrize("network", ["patchgan", pytest.param("multiscale_patchgan", marks=pytest.mark.slow)])
def test_features_are_matched_where_a_discriminator_shows_them(network):
    config = make_config(feature_matching=2.0).copy_and_resolve_references().unlock()
    if network == "patchgan":
        config.networks.discriminator.features = True
    else:
        config.networks.discriminator = {"name": network, "channels": 4, "layers": 1, "scales": 2}
    modules, state = make_state(config.lock())
    seen = as_methods_see_it(make_batch())
    nets = Networks(states=state.networks, rng=jax.random.key(1), step=jnp.int32(0))
    outputs, _ = cgan.forward(nets, seen, jax.random.key(2), config)
    found = cgan.losses(nets, outputs, seen, jax.random.key(2), config)
    assert float(found.metrics["feature_matching"]) > 0
    mask = jax.nn.one_hot(seen["labelled"]["label"], CLASSES)
    maps = cgan.score_map(nets, seen["labelled"]["image"], mask, config)
    assert maps.ndim == 3 and np.all((maps > 0) & (maps < 1))


@pytest.mark.parametrize("arg", ["cgan,gan", "pixel,patch70"])
def test_words_that_exclude_each_other(arg):
    with pytest.raises(InputError, match="choose one of"):
        cgan_seg.get_config(arg)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config.update(output="colours"), "output.*'colors'"),
        (lambda config: config.losses.update(adversarial="hinges"), "hinge"),
        (
            lambda config: config.update_from_flattened_dict(
                {
                    "losses.adversarial_weight": 0.0,
                    "losses.weights.l1": 0.0,
                    "losses.weights.cross_entropy": 0.0,
                }
            ),
            "every weight of its losses is 0",
        ),
        (lambda config: config.losses.weights.update(dice=1.0), "weights.dice.*l1 or mse"),
        (lambda config: config.update(class_colors=(*COLORS[:2], COLORS[0])), "class_colors.*2 different"),
        (lambda config: config.update(class_colors=COLORS[:2]), "class_colors"),
    ],
)
def test_bad_values_are_named(change, words):
    config = make_config("colors").copy_and_resolve_references()
    with config.unlocked():
        change(config)
    with pytest.raises(InputError, match=words):
        cgan.build(config)


def test_the_generator_over_lite0_starts_from_the_weights_of_a_package():
    config = cgan_seg.get_config("lite0")
    assert (config.networks.generator.name, config.networks.generator.backbone) == (
        "backbone_unet",
        "efficientnet_lite0",
    )
    assert config.pretrained.generator == "pip:efficientnet_lite0"
    assert cgan_seg.get_config("lite0,smoke").pretrained.generator == ""
    assert {**cgan_seg.get_config("lite0").losses} == {**cgan_seg.get_config().losses}
    with pytest.raises(InputError, match="encoder_decoder and lite0"):
        cgan_seg.get_config("lite0,encoder_decoder")


QUICK = ("fcn8s", "pspnet", "fcdensenet56", "fpn_lite0", "segformer_b0")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in sorted(cgan_seg.GENERATORS)]
)
def test_every_network_of_supervised_seg_can_be_the_generator(name):
    config = cgan_seg.get_config(f"{name},smoke")
    expected = networks.NETWORKS[cgan_seg.GENERATORS[name]]()
    assert config.networks.generator.name == expected.name
    config.num_classes = CLASSES
    config_lib.check(config)
    checks.check_training(cgan, config, start.state_shapes(cgan, config))
