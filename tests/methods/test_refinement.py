"""Refinement of a segmenter's result, stage by stage, against its equations written by hand."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import networks, refine_seg
from gan_seg_jax import config as config_lib
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.losses.weighted import weighted_sum
from gan_seg_jax.methods import refinement
from gan_seg_jax.models import build_network
from gan_seg_jax.state import Networks, fold_name, inference_view, step_key, variable_shapes
from gan_seg_jax.train_step import train_step
from gan_seg_jax.training import start
from tests.by_hand import host_stream, make_state, prepared, view

CLASSES, SIZE = 3, (24, 32)
FAST = {"xla_backend_optimization_level": 0}
ALL = ("noise", "image", "features", "probabilities")  # in an order of their own


def make_config(words="unet", *, inputs=ALL, residual=True, logits_init="0.5", **losses):
    config = refine_seg.get_config(f"{words},smoke")
    config.num_classes, config.crop_size, config.canvas_size = CLASSES, SIZE, SIZE
    config.augment.flip_horizontal = False
    config.refiner_inputs, config.refiner_residual, config.noise_channels = inputs, residual, 2
    tiny = {"channels": (4, 4), "encoder_convs": (0, 0), "decoder_convs": (0,), "norm": "none"}
    config.networks.segmenter.update(tiny)
    config.networks.refiner.update(tiny, logits_init=logits_init)
    config.networks.discriminator.update(channels=4, layers=1, norm="none", kernel_init="0.2")
    for optimizer in config.optimizers.values():
        optimizer.update(name="sgd", learning_rate=1.0, schedule="constant", beta1=0.0)
    config.losses.update(accuracy_bound=1.0)
    config.losses.update(losses)
    config_lib.check(config)
    return config.lock()


def make_batch(seed=0):
    """Return a batch as the host delivers it, with void above."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, CLASSES, (2, *SIZE)).astype(np.uint8)
    label[:, :5] = 255
    return {"labelled": host_stream(rng.integers(0, 256, (2, *SIZE, 3), np.uint8), label)}


def random_logits(seed):
    return 2.0 * jax.random.normal(jax.random.key(seed), (2, *SIZE, CLASSES))


def judge(config, nets, batch, segmenter, refiner):
    outputs = refinement.Outputs(segmenter, {}, refiner)
    return refinement.losses(nets, outputs, batch, jax.random.key(2), config)


def entropy(logits, label):
    known = label != 255
    picked = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.where(known, label, 0)[..., None], -1)[..., 0]
    return -jnp.sum(picked * known) / jnp.sum(known)


def by_hand(params, functions, batch, config, noise, *, together, alone):
    """Return the loss of each role, in plain arrays."""
    image, label = batch["labelled"]["image"], batch["labelled"]["label"]
    logits, sown = functions["segmenter"]({"params": params["segmenter"]}, image, train=True, mutable=["intermediates"])
    own = entropy(logits, label)
    if alone:
        return {"segmenter": own}
    features = sown["intermediates"]["decoder"][0]
    parts = {
        "probabilities": jax.nn.softmax(logits),
        "features": jax.image.resize(features, (*features.shape[:1], *SIZE, features.shape[-1]), "bilinear"),
        "image": image,
        "noise": noise,
    }
    seen = jnp.concatenate([part for name, part in parts.items() if name in config.refiner_inputs], axis=-1)
    refined = functions["refiner"]({"params": params["refiner"]}, seen, train=True)
    refined = refined + logits if config.refiner_residual else refined
    known = (label != 255)[..., None]
    truth = jnp.eye(CLASSES)[jnp.where(label == 255, 0, label)] * known
    d = lambda mask: functions["discriminator"]({"params": params["discriminator"]}, image, mask, train=True)
    real, fake = d(truth), d(jax.nn.softmax(refined) * known)
    through = entropy(refined, label) + config.losses.adversarial_weight * jnp.mean(jnp.logaddexp(0, -fake))
    return {
        "discriminator": 0.5 * jnp.mean(jnp.logaddexp(0, -real) + jnp.logaddexp(0, fake)),
        "refiner": through + own,
        "segmenter": through + own if together else own,
    }


CASES = [
    (0, ALL, True),
    (1, ALL, True),
    (2, ALL, True),
    pytest.param(2, ("probabilities",), False, marks=pytest.mark.slow),
    pytest.param(1, ("image",), True, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("stage", "inputs", "residual"), CASES)
def test_gradients_are_those_of_the_equations(stage, inputs, residual):
    config = make_config(inputs=inputs, residual=residual, adversarial_weight=0.7)
    state, batch = make_state(config), make_batch()
    updates, seen = config.phases[stage][1], prepared(batch)
    functions = {role: network.apply_fn for role, network in state.networks.items()}
    key = fold_name(fold_name(jax.random.fold_in(step_key(state), 0), "forward"), "refiner")
    noise = jax.random.normal(key, (2, *SIZE, 2))
    options = {"together": stage == 2, "alone": stage == 0}

    def compute(state, batch):
        before = params = {role: network.params for role, network in state.networks.items()}
        gradients, losses = {}, {}
        for group in updates:  # each judged by what the groups before it have become
            now = params
            for role in group:
                alone = lambda own, role=role, now=now: by_hand(
                    {**now, role: own}, functions, seen, config, noise, **options
                )[role]
                losses[role], gradients[role] = jax.value_and_grad(alone)(now[role])
                params = {**params, role: jax.tree.map(jnp.subtract, now[role], gradients[role])}
        new, metrics = train_step(state, batch, method=refinement, config=config, updates=updates)
        moved = {role: jax.tree.map(jnp.subtract, before[role], new.networks[role].params) for role in before}
        return losses, gradients, moved, metrics

    losses, gradients, moved, metrics = jax.jit(compute, compiler_options=FAST)(state, batch)
    assert set(gradients) == {role for group in updates for role in group}
    for role in moved:
        if role not in gradients:
            assert not any(np.any(leaf) for leaf in jax.tree.leaves(moved[role])), role
            continue
        np.testing.assert_allclose(metrics[f"loss/{role}"], losses[role], rtol=1e-5)
        for path, expected in jax.tree_util.tree_leaves_with_path(gradients[role]):
            found = moved[role]
            for key in path:
                found = found[key.key]
            assert np.any(expected != 0), path
            np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-6, err_msg=f"{role} {path}")


def test_before_it_moves_the_refiner_changes_nothing():
    config = make_config(logits_init="0.0")
    state, batch = make_state(config), prepared(make_batch())
    for moving in ((), ("segmenter", "refiner")):
        outputs, _ = refinement.forward(view(state, moving), batch, jax.random.key(0), config)
        np.testing.assert_array_equal(outputs.refiner, outputs.segmenter)
    assert refine_seg.get_config().networks.refiner.logits_init == "0.0"


def test_over_a_segmenter_that_stays_the_refiner_sees_what_is_scored():
    config = make_config()
    state, batch = make_state(config), prepared(make_batch())
    raw = state.networks["segmenter"]
    averaged = raw.replace(ema_params=jax.tree.map(lambda x: 1.5 * x + 0.01, raw.params), ema_collections={})
    state = state.replace(networks={**state.networks, "segmenter": averaged})

    def logits(nets):
        outputs, _ = refinement.forward(nets, batch, jax.random.key(0), config)
        return np.asarray(outputs.segmenter), np.asarray(outputs.refiner)

    scored = logits(inference_view(state, jax.random.key(1)))
    for found, expected in zip(logits(view(state, ("discriminator", "refiner"))), scored, strict=True):
        np.testing.assert_array_equal(found, expected)
    own = raw.apply_fn({"params": raw.params}, batch["labelled"]["image"], train=True)
    np.testing.assert_array_equal(logits(view(state, ("discriminator", "refiner", "segmenter")))[0], own)
    assert np.any(own != scored[0])


def test_a_refiner_that_begins_at_zero_learns():
    config = make_config(logits_init="0.0")
    state = make_state(config)
    step = jax.jit(
        lambda state, batch: train_step(state, batch, method=refinement, config=config, updates=config.phases[1][1]),
        compiler_options=FAST,
    )
    after = state
    for _ in range(2):
        after, metrics = step(after, make_batch())
    assert metrics["cross_entropy/refiner"] < metrics["cross_entropy/segmenter"]
    moved = jax.tree.map(
        lambda a, b: np.any(a != b), state.networks["refiner"].params, after.networks["refiner"].params
    )
    assert all(jax.tree.leaves(moved))


def test_without_weight_the_game_counts_nothing():
    config = make_config("unet,lambda0")
    state, batch = make_state(config), prepared(make_batch())
    found = judge(config, view(state, ("refiner", "segmenter")), batch, random_logits(3), random_logits(4)).losses
    own, refined = (weighted_sum(random_logits(i), batch["labelled"]["label"], config.losses)[0] for i in (3, 4))
    assert float(found["refiner"]) == float(refined + own)
    assert found["segmenter"] is found["refiner"]  # one object: pulled back once
    found = judge(config, view(state), batch, random_logits(3), random_logits(4)).losses
    assert float(found["segmenter"]) == float(own)


def test_alone_the_segmenter_is_supervised_and_nobody_plays(monkeypatch):
    config = make_config()
    nets, batch = view(make_state(config), ("segmenter",)), prepared(make_batch())
    monkeypatch.setattr(Networks, "apply", None)
    found = judge(config, nets, batch, random_logits(3), random_logits(4))
    assert list(found.losses) == ["segmenter"]
    plain = weighted_sum(random_logits(3), batch["labelled"]["label"], config.losses)[0]
    assert float(found.losses["segmenter"]) == float(plain)
    assert set(found.metrics) == {"cross_entropy/segmenter"}


def test_ignored_pixels_get_no_gradient():
    config = make_config(adversarial_weight=1.0)
    nets, batch = view(make_state(config)), prepared(make_batch())
    loss = lambda *logits: judge(config, nets, batch, *logits).losses["refiner"]
    gradients = jax.jit(jax.grad(loss, (0, 1)), compiler_options=FAST)(random_logits(3), random_logits(4))
    for gradient in gradients:
        found = np.any(gradient != 0, axis=-1)
        assert not found[:, :5].any() and found[:, 5:].all()


def test_the_discriminator_sees_image_and_known_pixels(monkeypatch):
    config = make_config()
    nets, batch, seen = view(make_state(config)), prepared(make_batch()), []
    original = Networks.apply

    def recorded(self, role, *inputs, **options):
        seen.append((role, inputs))
        return original(self, role, *inputs, **options)

    monkeypatch.setattr(Networks, "apply", recorded)
    judge(config, nets, batch, random_logits(3), random_logits(4))
    assert [role for role, _ in seen] == ["discriminator"] * 2
    label = np.asarray(batch["labelled"]["label"])
    truth = np.eye(256)[label][..., :CLASSES]
    for (_, (image, mask)), expected in zip(seen, (truth, jax.nn.softmax(random_logits(4))), strict=True):
        np.testing.assert_array_equal(image, batch["labelled"]["image"])
        np.testing.assert_allclose(mask, expected * (label != 255)[..., None], atol=1e-6)


@pytest.mark.parametrize(
    ("inputs", "channels"),
    [(("probabilities",), 3), (("features",), 4), (("image", "probabilities"), 6), (("noise", "image"), 5), (ALL, 12)],
)
def test_what_the_refiner_sees(inputs, channels):
    config = make_config(inputs=inputs)
    batch = example_batch(refinement.STREAMS, config)
    shapes = variable_shapes(refinement, refinement.build(config), batch, config)
    assert shapes["refiner"]["params"]["down_0"]["kernel"].shape[2] == channels


def test_noise_is_drawn_from_the_key_alone():
    config = make_config(inputs=("noise",), residual=False)
    nets, batch = view(make_state(config)), prepared(make_batch())
    one, again, other = (refinement.predict(nets, batch, jax.random.key(i), config) for i in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != other)
    assert np.any(one[0] != one[1])


def test_a_discriminator_that_is_too_good_rests():
    config = make_config(accuracy_bound=0.85)
    nets, batch = view(make_state(config)), prepared(make_batch())
    accept = judge(config, nets, batch, random_logits(3), random_logits(4))
    assert bool(accept.accept["discriminator"]) == (float(accept.metrics["discriminator_accuracy"]) <= 0.85)
    assert refine_seg.get_config().losses.accuracy_bound == 0.85


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_every_network_shows_its_features(name):
    config = refine_seg.get_config(f"{name},smoke")
    network = build_network(config.networks.segmenter, dtype="float32", num_classes=CLASSES)
    image = jnp.zeros((2, *config.crop_size, 3))

    run = lambda: network.init_with_output(jax.random.key(0), image, train=False, mutable=True)
    sown = jax.eval_shape(run)[1]["intermediates"]
    assert sown["decoder"][0].ndim == 4
    deepest = sown["backbone"] if "backbone" in sown else sown
    assert deepest["encoder"][0].shape[1] < config.crop_size[0] / 4


def test_bad_values_are_named():
    for inputs, message in ((("pixels",), r"refiner_inputs.*'pixels'.*probabilities"), ((), "is empty")):
        config = make_config().unlock()
        config.refiner_inputs = inputs
        with pytest.raises(InputError, match=message):
            refinement.build(config)
    config.refiner_inputs, config.noise_channels = ("noise",), 0
    with pytest.raises(InputError, match="noise_channels is 0"):
        refinement.build(config)
    with pytest.raises(InputError, match="2 ways"):
        refine_seg.get_config("frozen,joint")


def test_the_forms():
    stages, frozen, joint = (refine_seg.get_config(word) for word in ("", "frozen", "joint"))
    assert [updates for _, updates in stages.phases] == [refine_seg.SEGMENTER, refine_seg.GAN, refine_seg.BOTH]
    assert not any("segmenter" in group for _, updates in frozen.phases for group in updates)
    assert frozen.prior_runs.segmenter.networks.segmenter.name == stages.networks.segmenter.name == "deeplabv3plus"
    assert not stages.prior_runs and not joint.prior_runs
    assert joint.phases == ((1, refine_seg.BOTH),)
    assert refine_seg.get_config("frozen,segnet").prior_runs.segmenter.networks.segmenter.name == "segnet"


def test_score_maps_are_shares():
    config = make_config()
    image = prepared(make_batch())["labelled"]["image"]
    found = refinement.score_map(view(make_state(config)), image, jax.nn.softmax(random_logits(3)), config)
    assert found.ndim == 3 and len(found) == 2
    assert 0 < float(found.min()) <= float(found.max()) < 1


def test_the_segmenter_that_is_trained_first_is_the_one_that_is_refined():
    config = refine_seg.get_config("frozen").lock()
    config.backbone, config.networks.segmenter.output_stride = "resnet50", 8
    config.pretrained.segmenter, config.optimizers.segmenter.learning_rate = "weights.safetensors", 0.5
    prior = config.prior_runs.segmenter
    assert (prior.networks.segmenter.backbone, prior.networks.segmenter.output_stride) == ("resnet50", 8)
    assert prior.backbone == "resnet50" and prior.pretrained.segmenter == "weights.safetensors"
    assert prior.optimizers.segmenter.learning_rate == 0.5
    assert start._pretrained({}, config, Path("run")) == {}  # they were read at the start of the prior run
