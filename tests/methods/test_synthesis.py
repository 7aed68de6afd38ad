"""Images of label maps: the three games by hand, unknown pixels, and what is drawn."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import synthesis as synthesis_config
from gan_seg_jax import config as config_lib
from gan_seg_jax.augment.mixing import labelmix_mask
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.methods import get_method
from gan_seg_jax.optimizers import create_optimizers
from gan_seg_jax.state import Networks, create_state, fold_name, init_variables, variable_shapes
from gan_seg_jax.train_step import train_step
from tests.by_hand import host_stream, prepared

CLASSES, BATCH, SIZE = 3, 2, (24, 32)
G, D = "generator", "discriminator"
FORMS = ("pix2pix", pytest.param("spade", marks=pytest.mark.slow), "oasis")
FAST = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def make_config(words, rates=None, **losses):
    config, form = synthesis_config.get_config(f"{words},smoke"), words.split(",")[0]
    config.num_classes, config.canvas_size, config.crop_size = CLASSES, SIZE, SIZE
    config.augment.flip_horizontal, config.ema_decay = False, 0.0
    if form == "pix2pix":
        config.networks.generator.update(channels=(4, 4), encoder_convs=(0, 0), decoder_convs=(0,), norm="batch")
    else:
        config.networks.generator.update(channels=2, widths=(2, 1), doublings=(0, 1), hidden=4)
        config.networks.generator.spectral = form == "oasis"  # one of them is enough
    config.networks.discriminator.update({"channels": (4,)} if form == "oasis" else {"channels": 4, "layers": 1})
    config.losses.update(losses)
    for role, rate in (rates or {}).items():
        config.optimizers[role].update(name="sgd", learning_rate=rate, beta1=0.0)
    config_lib.check(config)
    return config.lock()


def make_state(config):
    method = get_method(config)
    modules = method.build(config)
    variables = init_variables(method, modules, example_batch(("labelled",), config), config, 0)
    return modules, create_state(variables, modules, create_optimizers(config), seed=0)


def host_batch():
    draw = np.random.default_rng(0)
    label = draw.integers(0, CLASSES, (BATCH, SIZE[0] // 4, SIZE[1] // 4)).astype(np.uint8).repeat(4, 1).repeat(4, 2)
    label[:, :5] = 255
    return {"labelled": host_stream(draw.integers(0, 256, (BATCH, *SIZE, 3), np.uint8), label)}


def setup(config):
    """Return a view and a batch as methods see it."""
    networks = _networks(config.to_json(sort_keys=True), config)
    return Networks(states=networks, rng=jax.random.key(1), step=jnp.int32(0)), prepared(host_batch())


def _networks(key, config, made={}):  # noqa: B006 - a cache: the same networks serve several tests
    if key not in made:
        made[key] = make_state(config)[1].networks
    return made[key]


def evaluate(config, nets, fake, batch):
    """Return losses and metrics."""
    out = FAST(
        lambda fake: get_method(config).losses(nets, fake, batch, jax.random.key(2), config)._replace(nets=None)
    )(fake)
    return out.losses, out.metrics


def bce(scores, target):
    return jnp.mean(jax.nn.softplus(scores) - target * scores)


def l1(a, b):
    return jnp.mean(jnp.abs(a - b))


def by_hand(form, options, x, fake, y, label, judge, mix_key):
    """Return the losses of D and G: judge(arrays) is the discriminator's answer."""
    known = jnp.sum(y, axis=-1)
    if form == "oasis":
        real_logits, fake_logits = (jax.nn.log_softmax(judge(image)) for image in (x, fake))
        counts = jnp.sum(y, axis=(0, 1, 2))
        weight = jnp.sum(y * (1 / counts), axis=-1)  # of each pixel, up to a factor that the mean takes out
        found = lambda logits: -jnp.sum(y * logits[..., :-1], axis=-1)
        classes = lambda logits: jnp.sum(weight * found(logits)) / jnp.sum(weight)
        # The logits themselves, for the consistency.
        real_raw, fake_raw = judge(x), judge(fake)
        from_real = labelmix_mask(mix_key, label, num_classes=CLASSES)[..., None]
        mixed = judge(jnp.where(from_real, x, fake)) - jnp.where(from_real, real_raw, fake_raw)
        consistency = jnp.sum(known * jnp.mean(mixed**2, axis=-1)) / jnp.sum(known)
        loss_d = classes(real_logits) - jnp.sum(known * fake_logits[..., -1]) / jnp.sum(known)
        return loss_d + 10 * consistency, classes(fake_logits)
    if form == "pix2pix":
        real, made = judge(x, y), judge(fake, y)
        distance = jnp.sum(known[..., None] * jnp.abs(x - fake)) / (3 * jnp.sum(known))
        return 0.5 * (bce(real, 1) + bce(made, 0)), bce(made, 1) + 100 * distance
    (real, true_features), (made, made_features) = judge(x, y), judge(fake, y)
    hinges = [
        0.5 * (jnp.mean(jax.nn.relu(1 - r)) + jnp.mean(jax.nn.relu(1 + f))) for r, f in zip(real, made, strict=True)
    ]
    pairs = zip(true_features["features"], made_features["features"], strict=True)
    matching = sum(sum(l1(a, b) for a, b in zip(*scale, strict=True)) for scale in pairs) / 2
    return sum(hinges) / 2, -sum(jnp.mean(f) for f in made) / 2 + 10 * matching


@pytest.mark.parametrize("form", [*FORMS[:2], pytest.param("oasis", marks=pytest.mark.slow)])
def test_step_equals_a_step_by_hand(form):
    rates = {G: 1.0, D: 0.1}
    config = make_config(form, rates)
    if form == "pix2pix":
        config.unlock().networks.generator.dropout = 0.0
    modules, state = make_state(config)
    step = functools.partial(train_step, method=get_method(config), config=config, updates=((D,), (G,)))
    after, _ = FAST(step)(state, host_batch())

    batch = prepared(host_batch())["labelled"]
    label, (generator, critic) = batch["label"], (state.networks[role] for role in (G, D))
    y = jax.nn.one_hot(jnp.where(label == 255, CLASSES, label), CLASSES)
    known = jnp.sum(y, axis=-1, keepdims=True)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0)
    z = jax.random.normal(fold_name(fold_name(key, "forward"), "noise"), (BATCH, config.noise.size))

    def generate(params):
        inputs = (y, z) if form == "oasis" else (y,)
        variables = {"params": params, **generator.collections}
        image, new = modules[G].apply(variables, *inputs, train=True, mutable=["batch_stats"])
        return known * (jnp.tanh(image) if form == "pix2pix" else image), new

    def both(params, stats, fake):
        judge = lambda *seen: modules[D].apply({"params": params, **stats}, *seen, train=True, mutable=["batch_stats"])
        first = (known * batch["image"],) if form == "oasis" else (known * batch["image"], y)
        mix_key = fold_name(jax.random.fold_in(fold_name(key, "losses"), 0), "label_mix")
        answer = lambda *seen: judge(*seen)[0]
        losses = by_hand(form, config.losses, known * batch["image"], fake, y, label, answer, mix_key)
        return losses, judge(*first)[1]

    def first_loss(params, fake):
        losses, new = both(params, critic.collections, fake)
        return losses[0], new

    fake, stats_g = FAST(generate)(generator.params)
    grad_d, stats_d = FAST(jax.grad(first_loss, has_aux=True))(critic.params, fake)
    new_d = jax.tree.map(lambda p, g: p - rates[D] * g, critic.params, grad_d)
    grad_g = FAST(jax.grad(lambda params: both(new_d, stats_d, generate(params)[0])[0][1]))(generator.params)
    new_g = jax.tree.map(lambda p, g: p - rates[G] * g, generator.params, grad_g)

    for role, params, stats in ((D, new_d, None), (G, new_g, stats_g)):
        chex.assert_trees_all_close(after.networks[role].params, params, rtol=2e-3, atol=2e-4)
        moved = jax.tree.map(lambda a, b: jnp.any(a != b), after.networks[role].params, state.networks[role].params)
        assert any(jax.tree.leaves(moved))
        if stats is not None:
            chex.assert_trees_all_close(after.networks[role].collections, stats, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_unknown_pixels_tell_nothing_and_get_no_gradient(form):
    config = make_config(form)
    nets, batch = setup(config)
    fake = jax.random.uniform(jax.random.key(3), (BATCH, *SIZE, 3), minval=-1.0)
    stream = batch["labelled"]

    def judged(fake, image):
        seen = {"labelled": {**stream, "image": image}}
        return get_method(config).losses(nets, fake, seen, jax.random.key(2), config).losses

    gradient = FAST(jax.grad(lambda fake: judged(fake, stream["image"])[G]))(fake)
    judged = FAST(judged)
    np.testing.assert_array_equal(gradient[:, :5], 0.0)
    assert np.mean(np.any(gradient[:, 5:] != 0, axis=-1)) > 0.9
    other = judged(fake.at[:, :5].set(0.7), stream["image"].at[:, :5].set(-0.3))
    assert {role: float(x) for role, x in other.items()} == {
        role: float(x) for role, x in judged(fake, stream["image"]).items()
    }


@pytest.mark.parametrize("form", FORMS)
def test_a_perfect_image_cannot_be_told_apart(form):
    config = make_config(form)
    nets, batch = setup(config)
    _, metrics = evaluate(config, nets, batch["labelled"]["image"], batch)
    assert float(metrics["discriminator_accuracy"]) == pytest.approx(0.5, abs=1e-6)
    assert all(float(metrics[name]) == 0.0 for name in {"l1", "feature_matching"} & metrics.keys())


def test_without_the_game_l1_is_left():
    config = make_config("pix2pix,lambda0")
    nets, batch = setup(config)
    fake = jnp.full((BATCH, *SIZE, 3), 0.25)
    losses, _ = evaluate(config, nets, fake, batch)
    expected = 100 * np.mean(np.abs(np.asarray(batch["labelled"]["image"])[:, 5:] - 0.25))
    np.testing.assert_allclose(losses[G], expected, rtol=1e-5)


def test_augmentation_is_played():
    config = make_config("pix2pix", diff_augment=("brightness", "translation"))
    nets, batch = setup(config)
    fake = jax.random.uniform(jax.random.key(3), (BATCH, *SIZE, 3), minval=-1.0)
    judged = FAST(lambda key: get_method(config).losses(nets, fake, batch, key, config).losses[D])
    assert float(judged(jax.random.key(1))) != float(judged(jax.random.key(2)))


def test_features_of_one_scale_are_matched_too():
    config = make_config("pix2pix", feature_matching=2.0)
    with pytest.raises(InputError, match=r"feature_matching.*patchgan shows no features"):
        make_state(config)
    config.unlock().networks.discriminator.features = True
    nets, batch = setup(config)
    losses, metrics = evaluate(config, nets, -batch["labelled"]["image"], batch)
    assert float(metrics["feature_matching"]) > 0
    expected = metrics["adversarial"] + 100 * metrics["l1"] + 2 * metrics["feature_matching"]
    np.testing.assert_allclose(losses[G], expected, rtol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_made_belongs_to_the_labels_and_to_the_key(form):
    config = make_config(form)
    nets, batch = setup(config)
    make = FAST(lambda key: get_method(config).predict(nets, batch, key, config))
    first, again, other = (make(jax.random.key(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first["label"], batch["labelled"]["label"])
    assert first["image"].shape == (BATCH, *SIZE, 3) and np.all(np.abs(first["image"]) <= 1)
    np.testing.assert_array_equal(first["image"], again["image"])
    drawn = form != "spade"  # dropout, or noise; SPADE without an encoder has none
    assert bool(np.any(first["image"] != other["image"])) == drawn


@pytest.mark.parametrize("form", FORMS)
def test_score_map(form):
    config = make_config(form)
    nets, batch = setup(config)
    image = batch["labelled"]["image"]
    mask = jax.nn.one_hot(batch["labelled"]["label"], CLASSES)
    score = FAST(lambda image: get_method(config).score_map(nets, image, mask, config))
    scores = score(image)
    assert scores.ndim == 3 and len(scores) == BATCH and np.all((scores > 0) & (scores < 1))
    hidden = score(image.at[:, :5].set(0.9))
    np.testing.assert_array_equal(scores, hidden)
    if form == "oasis":
        logits, _ = nets.apply(D, jnp.where(jnp.any(mask > 0, -1, keepdims=True), image, 0.0))
        np.testing.assert_allclose(scores, 1 - jax.nn.softmax(logits)[..., -1], rtol=1e-4)


def change(config, path, value):
    config.unlock()
    config.update_from_flattened_dict({path: value})
    return config


@pytest.mark.parametrize(
    ("form", "path", "value", "words"),
    [
        ("pix2pix", "networks.generator.name", "patchgan", "networks.generator.name.*unet"),
        ("pix2pix", "noise.size", 8, "noise.size is 8.*dropout"),
        ("oasis", "noise.distribution", "gamma", "noise.distribution.*normal"),
        ("spade", "losses.diff_augment", ("cutout",), "feature_matching is 10.*diff_augment"),
        ("spade", "losses.adversarial", "hinges", "hinge"),
    ],
)
def test_bad_values_are_named(form, path, value, words):
    with pytest.raises(InputError, match=words):
        config = change(make_config(form), path, value)
        get_method(config).build(config)


@pytest.mark.parametrize("arg", ["pix2pix,spade", "oasis,lambda0", "spades"])
def test_words_that_do_not_go_together(arg):
    with pytest.raises(InputError):
        synthesis_config.get_config(arg)


@pytest.mark.parametrize("form", synthesis_config.FORMS)
def test_the_paper_forms_can_be_built(form):
    config = synthesis_config.get_config(f"{form},paper")
    config.num_classes = 19
    config_lib.check(config)
    method = get_method(config)
    modules = method.build(config)
    batch = example_batch(("labelled",), config)
    shapes = variable_shapes(method, modules, batch, config)
    counts = {role: sum(leaf.size for leaf in jax.tree.leaves(shapes[role]["params"])) for role in shapes}
    millions = {"pix2pix": (54, 2.8), "spade": (93, 5.6), "oasis": (72, 22)}[form]
    assert counts[G] == pytest.approx(millions[0] * 1e6, rel=0.1)
    assert counts[D] == pytest.approx(millions[1] * 1e6, rel=0.1)
