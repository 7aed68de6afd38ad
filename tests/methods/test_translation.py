"""Views of an example, and the game between them."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import cgan_seg
from configs import translation as translation_config
from gan_seg_jax import config as config_lib
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.methods import translation
from gan_seg_jax.state import Networks, create_state, init_variables
from gan_seg_jax.train_step import train_step

FAST = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
COLORS = ((255, 0, 0), (0, 128, 255), (20, 20, 20))
CLASSES, SIZE = len(COLORS), (24, 32)
D, G = "discriminator", "generator"


def make_config(arg="", **losses):
    config = translation_config.get_config(arg)
    config.num_classes, config.class_colors = CLASSES, COLORS
    config.canvas_size = config.crop_size = SIZE
    config.augment.flip_horizontal = False
    config.networks.generator.update(channels=(4, 6), encoder_convs=(0, 0), decoder_convs=(0,), norm="none")
    config.networks.discriminator.update(channels=4, layers=1, norm="none")
    config.losses.update(losses)
    config_lib.check(config)
    return config.lock()


def make_batch(**more):
    rng = np.random.default_rng(0)
    draw = lambda: rng.integers(0, 256, (2, *SIZE, 3), np.uint8)
    label = rng.integers(0, CLASSES, (2, *SIZE)).astype(np.uint8)
    label[0, :5] = 255
    stream = {
        "image": draw(),
        "target": draw(),
        "label": label,
        "content": np.full((2, 2), SIZE, np.int32),
        "valid": np.ones(2, bool),
        "id": np.arange(2, dtype=np.int32),
    }
    return {"labelled": {**stream, **more}}


def as_methods_see_it(batch):
    stream = batch["labelled"]
    scaled = {name: jnp.array(stream[name] / 127.5 - 1.0, jnp.float32) for name in ("image", "target")}
    return {**stream, **scaled, "label": jnp.array(stream["label"], jnp.int32)}


def make_state(config):
    modules = translation.build(config)
    variables = init_variables(translation, modules, example_batch(("labelled",), config), config, 0)
    return modules, create_state(variables, modules, dict.fromkeys(modules, optax.sgd(1.0)), seed=0)


def in_colors(stream):
    colors = jnp.array(COLORS)[jnp.where(stream["label"] == 255, 0, stream["label"])] / 127.5 - 1.0
    return jnp.where((stream["label"] == 255)[..., None], 0.0, colors)


def test_views_known_answers():
    config, stream = make_config(), as_methods_see_it(make_batch())
    views = {name: translation.view(stream, name, config) for name in translation.VIEWS}
    np.testing.assert_array_equal(views["image"], stream["image"])
    np.testing.assert_array_equal(views["target"], stream["target"])
    np.testing.assert_allclose(views["labels"], in_colors(stream), atol=1e-6)
    grey = stream["image"] @ jnp.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(views["grey"], jnp.stack([grey] * 3, axis=-1), atol=1e-6)
    assert views["low_resolution"].shape == stream["image"].shape
    # A mean of 4 x 4 pixels and more survives, what is finer does not.
    flat = {**stream, "image": jnp.full((1, 8, 12, 3), 0.3)}
    np.testing.assert_allclose(translation.view(flat, "low_resolution", config), 0.3, atol=1e-6)
    board = {**stream, "image": (-1.0) ** jnp.sum(jnp.indices((1, 24, 32, 3))[1:3], axis=0)}
    assert np.max(np.abs(translation.view(board, "low_resolution", config)[:, 4:-4, 4:-4])) < 1e-2


@pytest.mark.parametrize("arg", ["", "labels,gan", "pairs,l1,cgan"])
def test_gradients_equal_those_written_by_hand(arg):
    config = make_config(arg)
    modules, state = make_state(config)
    batch = make_batch()
    step = functools.partial(train_step, method=translation, config=config, updates=((D, G),))
    after, metrics = FAST(step)(state, batch)

    stream = as_methods_see_it(batch)
    image, known = stream["image"], (stream["label"] != 255)[..., None]
    given, target = {
        "": (in_colors(stream), image),
        "labels": (image, in_colors(stream)),
        "pairs": (image, stream["target"]),
    }[arg.split(",")[0]]
    conditional = "gan" not in arg.split(",")

    def scores(params, shown):
        return modules[D].apply({"params": params}, *((given,) if conditional else ()), shown * known, train=True)

    def made(params):
        return jnp.tanh(modules[G].apply({"params": params}, given, train=True))

    def loss_d(params):
        real, fake = scores(params, target), scores(params, made(state.networks[G].params))
        return 0.5 * jnp.mean(jnp.log1p(jnp.exp(-real))) + 0.5 * jnp.mean(jnp.log1p(jnp.exp(fake)))

    def loss_g(params):
        l1 = jnp.sum(jnp.abs(made(params) - target) * known) / (3 * jnp.sum(known))
        gan = jnp.mean(jnp.log1p(jnp.exp(-scores(state.networks[D].params, made(params)))))
        return config.losses.adversarial_weight * gan + config.losses.weights.l1 * l1

    for role, loss in ((D, loss_d), (G, loss_g)):
        params = state.networks[role].params
        value, gradient = FAST(jax.value_and_grad(loss))(params)
        np.testing.assert_allclose(metrics[f"loss/{role}"], value, rtol=1e-5)
        moved = jax.tree.map(jnp.subtract, params, after.networks[role].params)
        # Differences of L1 change sign with the last bit of an image, and weigh 100.
        chex.assert_trees_all_close(moved, gradient, rtol=1e-4, atol=2e-4 if role == G else 1e-6)


def test_pixels_that_do_not_count_look_the_same_and_get_no_gradient():
    config = make_config()
    _, state = make_state(config)
    batch = {"labelled": as_methods_see_it(make_batch())}
    nets = Networks(states=state.networks, rng=jax.random.key(1), step=jnp.int32(0))

    def loss(outputs):
        values = translation.losses(nets, outputs, batch, jax.random.key(2), config).losses
        return values[G], values[D]

    run = FAST(jax.value_and_grad(loss, has_aux=True))
    outputs = jax.random.normal(jax.random.key(3), (2, *SIZE, 3))
    values, gradient = run(outputs)
    np.testing.assert_array_equal(gradient[0, :5], 0.0)
    assert np.all(np.any(gradient[1] != 0, axis=-1))
    assert jax.device_get(run(outputs.at[0, :5].add(7.0))[0]) == jax.device_get(values)


def test_without_weight_the_game_is_the_difference():
    config = make_config("pairs,lambda0")
    config.losses.weights.mse = 2.0
    _, state = make_state(config)
    stream = as_methods_see_it(make_batch())
    nets = Networks(states=state.networks, rng=jax.random.key(1), step=jnp.int32(0))
    outputs = jax.random.normal(jax.random.key(3), (2, *SIZE, 3))
    losses = FAST(lambda x: translation.losses(nets, x, {"labelled": stream}, jax.random.key(2), config).losses)
    found = losses(outputs)
    difference = (jnp.tanh(outputs) - stream["target"])[stream["label"] != 255]
    expected = 100 * jnp.mean(jnp.abs(difference)) + 2 * jnp.mean(difference**2)
    np.testing.assert_allclose(found[G], expected, rtol=1e-6)
    made = FAST(lambda: translation.predict(nets, {"labelled": stream}, jax.random.key(0), config)["image"])()
    assert made.shape == (2, *SIZE, 3) and made.dtype == jnp.float32 and float(jnp.max(jnp.abs(made))) <= 1


def test_words_say_what_they_change():
    directions = {arg: translation_config.get_config(arg) for arg in ("", *translation_config.DIRECTIONS)}
    assert {arg: (config.input, config.target) for arg, config in directions.items()} == {
        "": ("labels", "image"),
        "labels": ("image", "labels"),
        "coloring": ("grey", "image"),
        "enhancing": ("low_resolution", "image"),
        "pairs": ("image", "target"),
    }
    assert directions["pairs"].dataset == "pairs"
    paper = translation_config.get_config("paper,l1,gan,encoder_decoder,pixel")
    assert not paper.losses.conditional and paper.networks.discriminator.layers == 0
    assert paper.networks.generator.skip == "none" and paper.losses.weights.l1 == 100
    with pytest.raises(InputError, match="choose one of"):
        translation_config.get_config("labels,pairs")
    assert set(cgan_seg.PATCHES) <= set(cgan_seg.WORDS)


def test_the_networks_of_the_paper():
    """Those of the released code: 54.4 million parameters and 2.8 million."""
    config = translation_config.get_config("paper")
    config.num_classes, config.class_colors = CLASSES, COLORS
    modules = translation.build(config)
    image = jnp.zeros((1, 256, 256, 3))
    for role, inputs, millions in ((G, (image,), 54.4), (D, (image, image), 2.77)):
        init = functools.partial(modules[role].init, train=False)
        shapes = jax.eval_shape(init, jax.random.key(0), *inputs)
        assert sum(leaf.size for leaf in jax.tree.leaves(shapes["params"])) / 1e6 == pytest.approx(millions, abs=0.05)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config.update(input="labls"), "config.input.*labels"),
        (lambda config: config.update(target="photo"), "config.target"),
        (lambda config: config.update(input="image"), "both 'image'"),
        (lambda config: config.losses.update(adversarial="hinges"), "hinge"),
        (lambda config: config.losses.weights.update(cross_entropy=1.0), "cross_entropy.*l1 or mse"),
        (lambda config: config.update(class_colors=()), "class_colors"),
    ],
)
def test_bad_values_are_named(change, words):
    config = make_config().copy_and_resolve_references()
    with config.unlocked():
        change(config)
    with pytest.raises(InputError, match=words):
        translation.build(config)


def test_examples_without_targets_are_named():
    stream = as_methods_see_it(make_batch())
    del stream["target"]
    with pytest.raises(InputError, match="scenes has no targets"):
        translation.view(stream, "target", make_config())
