"""Every config trains its method: only the roles of the phase move, and one compilation serves every step."""

import functools
import importlib
import types
from pathlib import Path

import jax
import numpy as np
import pytest

from configs.discriminators import DISCRIMINATORS
from gan_seg_jax import config as config_lib
from gan_seg_jax import phases
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.methods import METHODS, get_method
from gan_seg_jax.optimizers import create_optimizers
from gan_seg_jax.state import Method, create_state, inference_view, init_variables, variable_shapes
from gan_seg_jax.train_step import train_step
from gan_seg_jax.training import checks

FORMS = {  # of the configs that have several: the words behind the colon
    "cgan_seg": ("", "colors"),
    "dcgan": ("", "joint", "dense,joint", "stylegan2,joint", "wgan"),
    "semi_seg": ("advsemiseg", "s4gan", "mean_teacher", "fixmatch", "unimatch", "cps"),
    "refine_seg": ("unet", "joint"),
    "synthesis": ("pix2pix", "spade", "oasis"),
    "augment_seg": ("pix2pix", "joint"),
    "adapt_seg": ("", "multi", "advent,multi", "minent", "self_training"),
    "segan": ("", "legacy"),
}
NO_METHODS = (
    "__init__",
    "common",
    "networks",
    "discriminators",
    "classical",
    "auto",
)  # parts, no method of the step, or another config
CONFIGS = [
    f"{path.stem}:{words}".rstrip(":")
    for path in sorted((Path(__file__).resolve().parents[1] / "configs").glob("*.py"))
    if path.stem not in NO_METHODS
    for words in FORMS.get(path.stem, ("",))
]
# Every discriminator by its word, and the other configs that take these.
GAMES = (
    *(f"adversarial_seg:{word}" for word in DISCRIMINATORS),
    "cgan_seg:paper,luc_small",
    "refine_seg:joint,unet,image_level",
)
QUICK = ("dcgan",)  # the others are slow; configs of segmentation train in other tests
FAST = {"xla_backend_optimization_level": 0}  # compile quickly, run slowly


def load(name):
    """Return the smoke form of a config for four classes; `name` may have words behind a colon."""
    file, _, words = name.partition(":")
    config = importlib.import_module(f"configs.{file}").get_config(f"{words},smoke")
    config.num_classes, config.ema_decay = 4, 0.9
    config.class_colors = ((0, 0, 0), (200, 0, 0), (0, 200, 0), (0, 0, 200))
    config_lib.check(config)
    return config.lock()


def test_every_method_has_a_config():
    assert {get_method(load(name)) for name in CONFIGS} == set(METHODS.values())


def test_two_values_of_method_stand_for_two_methods_each():
    words = {"semi_seg:advsemiseg": "advsemiseg", "semi_seg:s4gan": "s4gan", "synthesis:oasis": "oasis"}
    words |= {"synthesis:spade": "synthesis", "synthesis:pix2pix": "synthesis"}
    assert {name: get_method(load(name)) for name in words} == {name: METHODS[found] for name, found in words.items()}
    config = load("supervised_seg").unlock()
    config.method = "semi_supervise"
    with pytest.raises(InputError, match="Did you mean 'semi_supervised'"):
        get_method(config)


@pytest.mark.parametrize(
    ("name", "method", "message"),
    [
        ("dcgan", "synthesis", r"'synthesis', which reads a field that this config does not have: image_l1"),
        ("supervised_seg", "semi_supervised", r"Unknown losses\.semi ''"),
        ("supervised_seg", "synthesis", r"does not have"),
    ],
)
def test_a_method_over_the_config_of_another_is_refused_in_a_sentence(name, method, message):
    config = load(name).unlock()
    config.method = method
    with pytest.raises(InputError, match=message):
        checks.build(get_method(config), config.lock())


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_file_begins_with_what_it_trains_when_to_choose_it_and_the_equation(name):
    first, choice, equation = METHODS[name].__doc__.split("\n\n")[:3]
    assert "trains a" in first and "\n" not in first
    assert choice.startswith("Choose it ") and "\n" not in choice
    assert all(line.startswith("    ") for line in equation.splitlines()) and "=" in equation


@pytest.mark.parametrize("file", sorted({name.partition(":")[0] for name in CONFIGS}))
def test_a_configs_file_begins_likewise(file):
    first, empty, choice, equation, *_ = importlib.import_module(f"configs.{file}").__doc__.splitlines()
    assert "trains " in first and not empty and choice.startswith("Choose it ") and equation.startswith("    ")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_every_name_of_the_protocol(name):
    """What has no meaning for it is None, so that nobody has to ask whether it is there."""
    method, protocol = METHODS[name], {*vars(Method), *Method.__annotations__}
    optional = {"score_map", "discriminator_inputs"}
    for attribute in {each for each in protocol if not each.startswith("_")} | optional:
        value = vars(method)[attribute]
        assert (
            callable(value) or (value is None and attribute in optional) or attribute in ("TASK", "STREAMS", "FIELDS")
        )
    assert method.score_map is not None or method.discriminator_inputs is None
    assert method.TASK != "translation" or (callable(method.view) and callable(method.known))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in QUICK)) for name in CONFIGS]
)
def test_method_trains(name):
    """With U-Nets of two levels: their depth is not the method's, and takes three quarters of the time to compile."""
    config = load(name).unlock()
    for network in config.networks.values():
        if network.name == "unet":
            network.channels, network.encoder_convs = network.channels[:2], network.encoder_convs[:2]
            network.decoder_convs = network.decoder_convs[:1]
    config.lock()
    method = get_method(config)
    modules = method.build(config)
    variables = init_variables(method, modules, example_batch(method.STREAMS, config), config, 0)
    averaged = frozenset(role for role in modules if config.networks[role].ema)
    state = create_state(variables, modules, create_optimizers(config), seed=0, ema_roles=averaged)
    h, w = config.canvas_size
    rng = np.random.default_rng(0)
    stream = {
        "image": rng.integers(0, 256, (2, h, w, 3), np.uint8),
        "label": rng.integers(0, 4, (2, h, w)).astype(np.uint8),
        "content": np.full((2, 2), (h, w), np.int32),
        "valid": np.ones(2, bool),
        "id": np.arange(2, dtype=np.int32),
    }
    if config.rounds > 1:
        stream = {name: np.stack([value] * config.rounds) for name, value in stream.items()}
    for _, updates in phases.phase_ends(config):
        traces = []

        def step(state, batch, updates=updates, traces=traces):
            traces.append(updates)
            return train_step(state, batch, method=method, config=config, updates=updates)

        compiled = jax.jit(step, compiler_options=FAST)
        before = state
        for _ in range(2):
            state, metrics = compiled(state, dict.fromkeys(method.STREAMS, stream))
        assert len(traces) == 1
        assert all(np.isfinite(value) for value in metrics.values()), metrics
        moving = {role for group in updates for role in group}
        for role in modules:
            same = jax.tree.map(
                lambda a, b: bool((a == b).all()),
                (before.networks[role].params, before.networks[role].collections),
                (state.networks[role].params, state.networks[role].collections),
            )
            assert all(jax.tree.leaves(same)) == (role not in moving), role


GAME, SUPERVISED = ("adversarial_weight", "feature_matching"), "weights.l1"
LOSSES = {  # the form -> who learns, and from what: fields of config.losses, each enough by itself
    "supervised_seg": ("segmenter", SUPERVISED),
    "adversarial_seg": ("segmenter", *GAME, SUPERVISED),
    "cgan_seg": ("generator", *GAME, SUPERVISED),
    "segan": ("segmenter", "adversarial_weight", SUPERVISED),
    "semi_seg:advsemiseg": (
        "segmenter",
        "adversarial_weight",
        "unlabelled_adversarial_weight",
        "self_training_weight",
        SUPERVISED,
    ),
    "semi_seg:s4gan": ("segmenter", *GAME, "self_training_weight", SUPERVISED),
    "semi_seg:mean_teacher": ("segmenter", "consistency_weight", SUPERVISED),
    "semi_seg:fixmatch": ("segmenter", "strong_weight", SUPERVISED),
    "semi_seg:unimatch": ("segmenter", "strong_weight", "feature_weight", SUPERVISED),
    "semi_seg:cps": ("segmenter", "cross_weight", SUPERVISED),
    "refine_seg:unet,joint": ("refiner", *GAME, SUPERVISED),
    "refine_seg:unet": ("segmenter", SUPERVISED),  # of its first stage, which has no game
    "adapt_seg": ("segmenter", "adversarial_weight", SUPERVISED),
    "adapt_seg:multi": ("segmenter", "adversarial_weight", "adversarial_weight_aux", SUPERVISED),
    "adapt_seg:advent": ("segmenter", "adversarial_weight", "entropy_weight", SUPERVISED),
    "adapt_seg:minent": ("segmenter", "entropy_weight", SUPERVISED),
    "adapt_seg:self_training": ("segmenter", "self_training_weight", SUPERVISED),
    "augment_seg:repeat": ("segmenter", SUPERVISED),
    "translation": ("generator", *GAME, SUPERVISED),
    "dcgan": ("generator", *GAME, "mse_weight"),
    "synthesis:pix2pix": ("generator", *GAME, "image_l1"),
    "synthesis:oasis": ("generator", "adversarial_weight"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_method_that_would_learn_nothing_is_refused(name):
    config, (role, *fields) = load(name).unlock(), LOSSES[name]
    build = get_method(config).build
    config.losses.weights.update(dict.fromkeys(config.losses.weights, 0.0))
    for field in fields:
        config.update_from_flattened_dict({f"losses.{field}": 0.0})
    with pytest.raises(InputError, match=f"Nothing is left for the {role} to learn from"):
        build(config)
    for field in fields:
        one = config.copy_and_resolve_references()
        one.update_from_flattened_dict({f"losses.{field}": 1.0})
        build(one)


@pytest.mark.parametrize("name", GAMES)
def test_every_discriminator_plays(name):
    """A step and a picture of it, abstractly: the shapes fit."""
    config = load(name)
    method, (h, w) = get_method(config), config.canvas_size
    modules, optimizers = method.build(config), create_optimizers(config)
    variables = variable_shapes(method, modules, example_batch(method.STREAMS, config), config)
    state = jax.eval_shape(lambda values: create_state(values, modules, optimizers, seed=0), variables)
    stream = {
        "image": jax.ShapeDtypeStruct((2, h, w, 3), np.uint8),
        "label": jax.ShapeDtypeStruct((2, h, w), np.uint8),
        "content": jax.ShapeDtypeStruct((2, 2), np.int32),
        "valid": jax.ShapeDtypeStruct((2,), bool),
        "id": jax.ShapeDtypeStruct((2,), np.int32),
    }
    ((_, updates),) = phases.phase_ends(config)
    step = functools.partial(train_step, method=method, config=config, updates=updates)
    _, metrics = jax.eval_shape(step, state, {"labelled": stream})
    assert metrics["loss/discriminator"].shape == ()
    image, mask = (jax.ShapeDtypeStruct((2, h + 16, w + 32, n), np.float32) for n in (3, config.num_classes))
    look = lambda state, *seen: method.score_map(inference_view(state, jax.random.key(0)), *seen, config)
    assert len(jax.eval_shape(look, state, image, mask).shape) == 3


def test_discriminators_by_the_config_are_those_of_the_paper():
    words = ("", "luc_large", "luc_small")
    found = [load(f"adversarial_seg:{word}".rstrip(":")).networks.discriminator for word in words]
    assert [(network.name, network.get("field")) for network in found] == [
        ("patchgan", None),
        ("luc_discriminator", "large"),
        ("luc_discriminator", "small"),
    ]
    assert found[0].norm == "spectral"
    for words in ("adversarial_seg:luc_large,fcn", "cgan_seg:patch16,fcn", "refine_seg:patchgan,multiscale"):
        with pytest.raises(InputError, match="choose one of"):
            load(words)


def test_a_role_without_a_loss_is_named():
    config = load("supervised_seg")
    method = get_method(config)
    modules = method.build(config)
    batch = example_batch(method.STREAMS, config)
    state = create_state(init_variables(method, modules, batch, config, 0), modules, {}, seed=0)
    h, w = config.canvas_size
    stream = {
        "image": np.zeros((2, h, w, 3), np.uint8),
        "label": np.zeros((2, h, w), np.uint8),
        "content": np.full((2, 2), (h, w), np.int32),
        "valid": np.ones(2, bool),
        "id": np.arange(2, dtype=np.int32),
    }
    forgetful = types.SimpleNamespace(**vars(method))
    forgetful.losses = lambda *args: method.losses(*args)._replace(losses={})
    with pytest.raises(InputError, match="moves segmenter"):
        step = lambda state: train_step(
            state, {"labelled": stream}, method=forgetful, config=config, updates=(("segmenter",),)
        )
        jax.eval_shape(step, state)
