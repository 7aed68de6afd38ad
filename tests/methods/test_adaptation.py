"""Adaptation by a discriminator of the output, or by its entropy, against their equations written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import adapt_seg, networks
from gan_seg_jax import config as config_lib
from gan_seg_jax.errors import InputError
from gan_seg_jax.losses.weighted import weighted_sum
from gan_seg_jax.methods import get_method, two_domains
from gan_seg_jax.models import build_network
from gan_seg_jax.state import Networks
from gan_seg_jax.train_step import train_step
from tests.by_hand import host_stream, make_state, prepared, view

CLASSES, SIZE = 3, (32, 64)  # two scores an image
FAST = {"xla_backend_optimization_level": 0}


def make_config(words="", *, norm="none", statistics="target", **losses):
    config = adapt_seg.get_config(f"{words},smoke")
    config.num_classes, config.crop_size, config.canvas_size = CLASSES, SIZE, SIZE
    config.augment.flip_horizontal, config.statistics = False, statistics
    config.networks.segmenter.update(channels=(4, 4), encoder_convs=(0, 1), decoder_convs=(0,), norm=norm)
    for role, optimizer in config.optimizers.items():
        optimizer.update(name="sgd", learning_rate=1.0, schedule="constant", beta1=0.0)
        if role != "segmenter":
            config.networks[role].channels = 4
    assert set(losses) <= set(config.losses)
    config.losses.update(losses)
    config_lib.check(config)
    return config.lock()


def make_batch(seed=0):
    """Return a batch as the host delivers it: void above in the source, padding at the right of a target image."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES, (2, *SIZE)).astype(np.uint8)
    label[:, :5] = 255
    image = lambda: rng.integers(0, 256, (2, *SIZE, 3), np.uint8)
    unknown = np.full((2, *SIZE), 255, np.uint8)
    return {"labelled": host_stream(image(), label), "target": host_stream(image(), unknown, (SIZE, (32, 50)))}


def random_logits(seed):
    return 2.0 * jax.random.normal(jax.random.key(seed), (2, *SIZE, CLASSES))


def judge(config, nets, batch, *logits):
    return get_method(config).losses(nets, logits, batch, jax.random.key(2), config)


def both_known():
    """Return where nothing is void or padding in either domain, bool [2, 32, 64, 1]."""
    known = np.ones((2, *SIZE, 1), bool)
    known[:, :5] = known[1, :, 50:] = False
    return known


def information(logits):
    """Return the weighted self-information of three classes."""
    p = jax.nn.softmax(logits)
    return -p * jnp.log(p) / np.log(3)


def by_hand(params, apply, batch, options, levels, maps):
    """Return the loss of each role, in plain arrays; `maps` makes of logits what the discriminators see."""
    label = batch["labelled"]["label"]
    source, target = (apply("segmenter", params, batch[name]["image"]) for name in ("labelled", "target"))
    source, target = (out if levels == 2 else (out, {}) for out in (source, target))
    source, target = ((out[0], *out[1].values()) for out in (source, target))

    def cross_entropy(logits):
        known = label != 255
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.where(known, label, 0)[..., None], -1)[..., 0]
        return -jnp.sum(picked * known) / jnp.sum(known)

    loss = cross_entropy(source[0]) + (options.auxiliary_weight * cross_entropy(source[1]) if levels == 2 else 0.0)
    shown = np.ones((2, *SIZE))
    shown[1, :, 50:] = 0
    for logits, name in zip(target, ("entropy_weight", "entropy_weight_aux"), strict=False):
        if name in options:
            loss += options[name] * jnp.sum(information(logits).sum(-1) * shown) / shown.sum()
    losses = {}
    for level, role in enumerate(("discriminator", "discriminator_aux")[:levels]):
        if role not in params:
            continue
        weight = options["adversarial_weight" + ("_aux" if level else "")]
        real, fake = (
            apply(role, params, maps(domain[level]) * both_known()) for domain in (source, target)
        )  # logits: large for the source
        if options.adversarial == "least_squares":
            losses[role] = 0.5 * jnp.mean((real - 1) ** 2 + fake**2)
            loss += weight * 0.5 * jnp.mean((fake - 1) ** 2)
        else:
            losses[role] = 0.5 * jnp.mean(jnp.logaddexp(0, -real) + jnp.logaddexp(0, fake))
            loss += weight * jnp.mean(jnp.logaddexp(0, -fake))
    return {**losses, "segmenter": loss}


MAPS = {"adaptation": jax.nn.softmax, "advent": information}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        pytest.param("", "non_saturating", marks=pytest.mark.slow),
        pytest.param("", "least_squares", marks=pytest.mark.slow),
        pytest.param("multi", "non_saturating", marks=pytest.mark.slow),
        ("advent", "non_saturating"),
        pytest.param("advent,multi", "least_squares", marks=pytest.mark.slow),
        pytest.param("minent,multi", "", marks=pytest.mark.slow),
    ],
)
def test_gradients_are_those_of_the_equations(words, name):
    # Weights at which the terms are no rounding error beside the supervised loss.
    game = {"adversarial": name, "adversarial_weight": 0.7, "adversarial_weight_aux": 0.3} if name else {}
    entropy = {"entropy_weight": 0.5} if "ent" in words else {}
    entropy |= {"entropy_weight_aux": 0.2} if entropy and "multi" in words else {}
    config = make_config(words, **game, **entropy)
    state, batch, method = make_state(config), make_batch(), get_method(config)
    levels = 1 + ("multi" in words)
    by_levels = lambda params: by_hand(params, apply, seen, config.losses, levels, MAPS[config.method])
    ((_, updates),) = config.phases
    functions = {role: network.apply_fn for role, network in state.networks.items()}
    apply = lambda role, params, *inputs: functions[role]({"params": params[role]}, *inputs, train=True)
    seen = prepared(batch)

    def compute(state, batch):
        params = {role: network.params for role, network in state.networks.items()}
        losses = by_levels(params)
        gradients = {}
        for role in losses:
            alone = lambda own, role=role: by_levels({**params, role: own})[role]
            gradients[role] = jax.grad(alone)(params[role])
        new, metrics = train_step(state, batch, method=method, config=config, updates=updates)
        moved = {role: jax.tree.map(jnp.subtract, params[role], new.networks[role].params) for role in gradients}
        return losses, gradients, moved, metrics

    losses, gradients, moved, metrics = jax.jit(compute, compiler_options=FAST)(state, batch)
    assert set(gradients) == set(state.networks)
    for role, loss in losses.items():
        np.testing.assert_allclose(metrics[f"loss/{role}"], loss, rtol=1e-5)
        for path, expected in jax.tree_util.tree_leaves_with_path(gradients[role]):
            found = moved[role]
            for key in path:
                found = found[key.key]
            assert np.any(expected != 0), path
            np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6, err_msg=f"{role} {path}")


@pytest.mark.parametrize("form", ["adaptsegnet", "advent", "minent"])
def test_without_weight_it_is_the_supervised_loss(form):
    config = make_config(f"{form},lambda0")
    found = judge(config, view(make_state(config)), prepared(make_batch()), random_logits(3), random_logits(4))
    label = prepared(make_batch())["labelled"]["label"]
    assert float(found.losses["segmenter"]) == float(weighted_sum(random_logits(3), label, config.losses)[0])


def test_without_weights_two_levels_are_the_supervised_loss():
    config = make_config("multi,lambda0")
    outputs = [(random_logits(i), {"auxiliary": random_logits(i + 5)}) for i in (3, 4)]
    batch = prepared(make_batch())
    found = judge(config, view(make_state(config)), batch, *outputs).losses["segmenter"]
    main, aux = (weighted_sum(random_logits(i), batch["labelled"]["label"], config.losses)[0] for i in (3, 8))
    assert float(found) == float(main + jnp.float32(0.1) * aux)


def test_padding_and_void_get_no_gradient():
    config = make_config(adversarial_weight=1.0)
    nets, batch = view(make_state(config)), prepared(make_batch())
    loss = lambda *logits: judge(config, nets, batch, *logits).losses["segmenter"]
    gradients = jax.jit(jax.grad(loss, (0, 1)), compiler_options=FAST)(random_logits(3), random_logits(4))
    source, target = (np.any(gradient != 0, axis=-1) for gradient in gradients)
    assert not source[:, :5].any() and source[:, 5:].all()
    np.testing.assert_array_equal(target, both_known()[..., 0])


def test_the_entropy_of_the_target_alone_counts_without_its_padding():
    config = make_config("minent", entropy_weight=2.0)
    nets, batch = view(make_state(config)), prepared(make_batch())
    found = judge(config, nets, batch, random_logits(3), random_logits(4))
    shown = np.arange(SIZE[1]) < np.array([64, 50])[:, None, None]
    expected = np.sum(information(random_logits(4)).sum(-1) * shown) / np.sum(shown * np.ones((2, *SIZE)))
    np.testing.assert_allclose(found.metrics["entropy"], expected, rtol=1e-5)
    supervised = weighted_sum(random_logits(3), batch["labelled"]["label"], config.losses)[0]
    np.testing.assert_allclose(found.losses["segmenter"], supervised + 2.0 * expected, rtol=1e-5)
    term = lambda *logits: judge(config, nets, batch, *logits).metrics["entropy"]
    source, target = jax.grad(term, (0, 1))(random_logits(3), random_logits(4))
    assert not np.any(source)
    np.testing.assert_array_equal(np.any(target != 0, axis=-1), shown & np.ones((2, *SIZE), bool))


@pytest.mark.parametrize("form", ["adaptsegnet", "advent"])
def test_the_discriminator_sees_the_same_nothing_in_both_domains(form, monkeypatch):
    config = make_config(form)
    nets, batch, seen = view(make_state(config)), prepared(make_batch()), []
    original = Networks.apply

    def recorded(self, role, *inputs, **options):
        seen.append((role, inputs))
        return original(self, role, *inputs, **options)

    monkeypatch.setattr(Networks, "apply", recorded)
    judge(config, nets, batch, random_logits(3), random_logits(4))
    assert [role for role, _ in seen] == ["discriminator", "discriminator"]
    for (_, (found,)), logits in zip(seen, (random_logits(3), random_logits(4)), strict=True):
        np.testing.assert_allclose(found, MAPS[config.method](logits) * both_known(), atol=1e-6)


@pytest.mark.slow
def test_the_segmenter_is_moved_by_the_target_alone():
    config = make_config(adversarial_weight=1.0)
    nets, batch = view(make_state(config)), prepared(make_batch())
    term = lambda *logits: judge(config, nets, batch, *logits).metrics["adversarial"]
    source, target = jax.grad(term, (0, 1))(random_logits(3), random_logits(4))
    assert not np.any(source) and np.any(target)


@pytest.mark.slow
@pytest.mark.parametrize("statistics", two_domains.STATISTICS)
def test_whose_statistics_are_kept(statistics):
    config = make_config(norm="batch", statistics=statistics)
    state, batch = make_state(config), prepared(make_batch())
    _, nets = two_domains.forward(view(state, ("segmenter",)), batch, jax.random.key(0), config)
    network = state.networks["segmenter"]
    collections = network.collections
    for name in ("labelled", "target") if statistics == "both" else ("target",):
        variables = {"params": network.params, **collections}
        _, collections = network.apply_fn(variables, batch[name]["image"], train=True, mutable=["batch_stats"])
    leaves = jax.tree_util.tree_leaves_with_path(nets.collections["segmenter"])
    assert leaves
    for path, found in leaves:
        expected = collections
        for key in path:
            expected = expected[key.key]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_second_level_needs_a_second_head():
    config = make_config("multi").unlock()
    config.networks.segmenter.auxiliary = False
    with pytest.raises(InputError, match="unet has none"):
        make_state(config)
    with pytest.raises(InputError, match=r"segnet has no auxiliary head.*deeplabv2"):
        adapt_seg.get_config("multi,segnet")


def test_bad_values_are_named():
    config = make_config(statistics="target").unlock()
    config.statistics = "source"
    with pytest.raises(InputError, match=r"statistics 'source'.*target"):
        get_method(config).build(config)
    config = make_config("minent", entropy_weight_aux=0.1)
    with pytest.raises(InputError, match=r"entropy_weight_aux is 0.1.*multi"):
        make_state(config)
    with pytest.raises(InputError, match="2 domains"):
        adapt_seg.get_config("night,rain")
    with pytest.raises(InputError, match=r"advent and minent.*choose one"):
        adapt_seg.get_config("advent,minent")
    with pytest.raises(InputError, match="no meaning with minent"):
        adapt_seg.get_config("minent,random_discriminator")


def test_the_controls():
    assert make_config("multi,lambda0").losses.adversarial_weight_aux == 0.0
    assert not set(make_config("minent,lambda0").losses) & set(two_domains.LOSSES)
    config = make_config("multi,random_discriminator")
    assert config.phases == ((1, (("segmenter",),)),)
    assert config.init.discriminator == config.init.discriminator_aux == "random"


@pytest.mark.parametrize("name", adapt_seg.MULTI)
def test_auxiliary_heads_have_logits_of_every_pixel(name):
    config = adapt_seg.get_config(f"multi,{name},smoke")
    network = build_network(config.networks.segmenter, dtype="float32", num_classes=CLASSES)
    image = jnp.zeros((2, *config.crop_size, 3))
    logits, heads = jax.eval_shape(lambda: network.init_with_output(jax.random.key(0), image, train=False)[0])
    assert logits.shape == heads["auxiliary"].shape == (2, *config.crop_size, CLASSES)
    options = networks.NETWORKS[name]()  # as it is without the word
    if name not in ("pspnet", "upernet_convnext_tiny"):
        plain = build_network(options, dtype="float32", num_classes=CLASSES)
        assert jax.eval_shape(lambda: plain.init_with_output(jax.random.key(0), image, train=False)[0]).shape
