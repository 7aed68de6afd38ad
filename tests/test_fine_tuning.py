"""Backbones that are treated differently from the head: slower, more slowly the deeper, and frozen first."""

import functools
from types import SimpleNamespace

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from configs import common, refine_seg
from gan_seg_jax.models.backbones import BACKBONES, create_backbone
from gan_seg_jax.models.depths import depths
from gan_seg_jax.optimizers import create_optimizer
from gan_seg_jax.phases import frozen_backbones
from gan_seg_jax.state import create_state, init_variables
from gan_seg_jax.train_step import train_step
from tests import tiny_methods
from tests.tiny_methods import CASES, prepared, tiny_config

FROZEN, STEPS = 3, 10
LAYOUTS = {type(create_backbone(name)): name for name in reversed(BACKBONES)}  # a backbone of each


@functools.cache
def parameters(name):
    """Return the shapes of a backbone's parameters."""
    backbone = create_backbone(name, module_name=None)
    image = jnp.zeros((1, 64, 64, 3))
    return jax.eval_shape(lambda: backbone.init(jax.random.key(0), image, train=False))["params"]


# Depths


def by_depth(names):
    """Return depth -> the first parts of the paths there."""
    found = depths(traverse_util.unflatten_dict({tuple(name.split("/")): np.zeros(shape) for name, shape in names}))
    return {depth: {path[0] for path in found if found[path] == depth} for depth in set(found.values())}


@pytest.mark.parametrize("name", [*LAYOUTS.values(), "resnet50_deep", "vgg16_bn"])
def test_every_backbone_has_a_stem_and_many_layers_above_it(name):
    found = depths(parameters(name))
    counts = {"resnet18": 9, "resnet50_deep": 17, "vgg16": 13, "vgg16_bn": 13, "mobilenetv2": 18}
    layers = set(found.values()) - {0}
    assert layers == set(range(1, counts.get(name, len(layers)) + 1)) and len(layers) >= 9
    assert all(found[path] for path, leaf in traverse_util.flatten_dict(parameters(name)).items() if leaf.ndim > 1)


def test_the_layers_of_a_resnet_are_its_stem_and_its_blocks():
    found = {path[0]: depth for path, depth in depths(parameters("resnet18")).items()}
    order = ["conv1", *(f"layer{stage}_{block}" for stage in (1, 2, 3, 4) for block in (0, 1))]
    assert found == {**{name: 9 - number for number, name in enumerate(order)}, "bn1": 9}


def test_a_norm_with_a_name_of_its_own_belongs_to_its_convolution():
    found = {path[0]: depth for path, depth in depths(parameters("vgg16_bn")).items()}
    assert found["features_0"] == found["features_1"] == 13 and found["features_40"] == found["features_41"] == 1


def test_depths_of_a_vision_transformer_are_those_of_beit():
    blocks = [(f"blocks_{n}/attn_qkv/kernel", (2, 2)) for n in range(12)] + [("blocks_11/norm1/scale", (2,))]
    rest = [("pos_embed", (1, 5, 2)), ("cls_token", (1, 1, 2)), ("patch_embed/proj/kernel", (2, 2, 3, 2))]
    found = by_depth([*blocks, *rest, ("norm/scale", (2,)), ("norm/bias", (2,))])
    ends = {0: {"norm"}, 13: {"pos_embed", "cls_token", "patch_embed"}}
    assert found == {**ends, **{12 - n: {f"blocks_{n}"} for n in range(12)}}


def test_depths_follow_the_stages_of_other_layouts():
    convnext = [("stem_0/kernel", (4, 4, 3, 2)), ("stages_1/downsample_1/kernel", (2, 2, 2, 2))]
    convnext += [(f"stages_{stage}/blocks_{n}_conv_dw/kernel", (7, 7, 1, 2)) for stage in (0, 1) for n in (0, 1)]
    found = depths(traverse_util.unflatten_dict({tuple(k.split("/")): np.zeros(s) for k, s in convnext}))
    assert [found[tuple(name.split("/"))] for name, _ in convnext] == [6, 3, 5, 4, 2, 1]
    mit = [("patch_embed1/proj/kernel", (7, 7, 3, 2)), ("block1_0/attn_q/kernel", (2, 2)), ("norm1/scale", (2,))]
    mit += [("patch_embed2/proj/kernel", (3, 3, 2, 2)), ("block2_0/attn_q/kernel", (2, 2)), ("norm2/scale", (2,))]
    assert by_depth(mit) == {
        4: {"patch_embed1"},
        3: {"block1_0", "norm1"},
        2: {"patch_embed2"},
        1: {"block2_0", "norm2"},
    }


# Rates


def test_each_parameter_has_the_rate_of_its_depth():
    options = common.adam(name="sgd", learning_rate=0.1, beta1=0.0, weight_decay=0.5, head_factor=4.0)
    options.update(backbone_factor=0.2, layer_decay=0.5)
    kernel = {"kernel": jnp.ones((1, 1))}
    backbone = {"conv1": kernel, "layer1_0": {"conv1": kernel}, "layer1_1": {"conv1": kernel, "bn1": jnp.ones(1)}}
    params = {"backbone": backbone, "logits": kernel}
    tx = create_optimizer(options, 100)
    changes, _ = jax.jit(tx.update)(jax.tree.map(jnp.ones_like, params), tx.init(params), params)
    found = {path: float(value.sum()) for path, value in traverse_util.flatten_dict(changes, sep="/").items()}
    expected = {
        "backbone/conv1/kernel": 0.2 * 0.5**3 * 1.5,  # 1.5: the gradient 1 and the weight 1 times its decay
        "backbone/layer1_0/conv1/kernel": 0.2 * 0.5**2 * 1.5,
        "backbone/layer1_1/conv1/kernel": 0.2 * 0.5 * 1.5,
        "backbone/layer1_1/bn1": 0.2 * 0.5,
        "logits/kernel": 4.0 * 1.5,
    }
    assert found == pytest.approx({path: -0.1 * value for path, value in expected.items()}, rel=1e-6)


# Frozen at first


class Body(nn.Module):
    """What a backbone has that could move or be random: weights, BatchNorm and dropout."""

    @nn.compact
    def __call__(self, x, *, train):
        x = nn.BatchNorm(momentum=0.9, use_running_average=not train)(nn.Dense(5)(x))
        return nn.Dropout(0.3)(jnp.tanh(x), deterministic=not train)


class Parted(nn.Module):
    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(tiny_methods.CLASSES, name="head")(Body(name="backbone")(x, train=train))


OPTIONS = {"learning_rate": 0.1, "beta1": 0.9, "schedule": "poly", "weight_decay": 0.3, "l2": 0.1, "clip_norm": 0.05}
CONFIG = tiny_config(ema_decay=0.9)


@functools.cache
def begin():
    """Return the method and its state before the first step."""
    modules = {"segmenter": Parted()}
    method = SimpleNamespace(**{**vars(CASES["supervised"].method), "build": lambda config: modules})
    variables = init_variables(method, modules, prepared(CASES["supervised"].batch()), CONFIG, 0)
    optimizers = {"segmenter": create_optimizer(common.adam(**OPTIONS, backbone_frozen_steps=FROZEN), STEPS)}
    return method, create_state(variables, modules, optimizers, seed=0, ema_roles=frozenset(modules))


@functools.cache
def states():
    """Return the states after each step, frozen ones first, and the metrics of each step."""
    method, state = begin()
    found, measured = [state], []
    for frozen, count in ((frozenset({"segmenter"}), FROZEN), (frozenset(), 2)):
        options = {"method": method, "config": CONFIG, "updates": (("segmenter",),), "frozen": frozen}
        step = jax.jit(functools.partial(train_step, **options))
        for _ in range(count):
            state, metrics = step(state, CASES["supervised"].batch(seed=len(found)))
            found.append(state)
            measured.append(metrics)
    return [state.networks["segmenter"] for state in found], measured


def kept(network):
    """Return all that a network keeps of its backbone but the moments."""
    trees = (network.params, network.collections["batch_stats"], network.ema_params)
    return [tree["backbone"] for tree in (*trees, network.ema_collections["batch_stats"])]


def test_a_frozen_backbone_keeps_every_bit():
    networks, measured = states()
    for network in networks[1 : FROZEN + 1]:
        chex.assert_trees_all_equal(kept(network), kept(networks[0]))
        assert not np.array_equal(network.params["head"]["kernel"], networks[0].params["head"]["kernel"])
        assert not np.array_equal(network.ema_params["head"]["kernel"], networks[0].ema_params["head"]["kernel"])
    for old, new in zip(kept(networks[FROZEN]), kept(networks[FROZEN + 1]), strict=True):
        for path, value in traverse_util.flatten_dict(new).items():
            assert not np.array_equal(value, traverse_util.flatten_dict(old)[path]), path
    assert [int(metrics["skipped"]) for metrics in measured] == [0] * len(measured)


@pytest.mark.slow
def test_the_head_of_a_frozen_backbone_learns_from_its_inference():
    """By hand: features of the running averages, without dropout; clipping by the gradient of the head alone."""
    networks, measured = states()
    first, tx = networks[0], create_optimizer(common.adam(**OPTIONS), STEPS)
    params = {"head": first.params["head"]}
    state = tx.init(params)
    body = {"params": first.params["backbone"], "batch_stats": first.collections["batch_stats"]["backbone"]}
    for number in range(FROZEN):
        batch = prepared(CASES["supervised"].batch(seed=number + 1))["labelled"]
        features = Body().apply(body, batch["image"], train=False)

        def loss(params, features=features, label=batch["label"]):
            return tiny_methods.cross_entropy(features @ params["head"]["kernel"] + params["head"]["bias"], label)

        gradient = jax.grad(loss)(params)
        norm = np.sqrt(sum(float((leaf**2).sum()) for leaf in jax.tree.leaves(gradient)))
        np.testing.assert_allclose(measured[number]["grad_norm/segmenter"], norm, rtol=1e-5)
        changes, state = tx.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, changes)
        chex.assert_trees_all_close(networks[number + 1].params["head"], params["head"], rtol=1e-5, atol=1e-6)


def test_a_thawed_backbone_takes_the_first_steps_of_adam_at_the_rate_of_the_run():
    """Its first update is the rate times the gradient's sign: neither zeros nor the head's count are in its moments."""
    networks, _ = states()
    old, new = (networks[number].params["backbone"]["Dense_0"]["kernel"] for number in (FROZEN, FROZEN + 1))
    rate = 0.1 * (1 - FROZEN / STEPS) ** 0.9
    np.testing.assert_allclose(np.abs((new - old) / rate + 0.3 * old), 1.0, rtol=1e-3)
    again = networks[FROZEN + 2].params["backbone"]["Dense_0"]["kernel"]
    assert np.all(np.abs((again - new) / (0.1 * (1 - (FROZEN + 1) / STEPS) ** 0.9) + 0.3 * new) < 1.5)


def test_steps_are_counted_from_the_first_one_of_the_role():
    config = refine_seg.get_config()
    config.steps, config.phases = 40, ((10, (("discriminator",),)), (20, (("refiner",),)), (10, (("segmenter",),)))
    for role in config.networks:
        config.optimizers[role] = common.adam()
    config.optimizers.refiner.backbone_frozen_steps = 5
    config.optimizers.segmenter.backbone_frozen_steps = 100
    found = [frozen_backbones(config, step) for step in range(40)]
    assert [step for step in range(40) if "refiner" not in found[step]] == list(range(15, 40))
    assert all("segmenter" in roles and "discriminator" not in roles for roles in found)
