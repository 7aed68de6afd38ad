"""Images made of noise: the losses by hand, holes in the masks, what is drawn of what, options that cannot be."""

import functools
import zlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import dcgan
from gan_seg_jax import config as config_lib
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.losses import segmentation
from gan_seg_jax.methods import unconditional
from gan_seg_jax.optimizers import create_optimizers
from gan_seg_jax.state import create_state, init_variables
from gan_seg_jax.train_step import train_step
from tests.by_hand import host_stream, pixels, prepared, view

CLASSES, BATCH, SIZE = 3, 3, (24, 32)
G, D = "generator", "discriminator"
RATE = 0.1  # of plain descent; at 1 two steps of a critic leave values of 1e4, whose small neighbours are all rounding
FAST = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def make_config(words="smoke", **losses):
    config = dcgan.get_config(words)
    config.num_classes, config.canvas_size, config.crop_size = CLASSES, SIZE, SIZE
    config.augment.flip_horizontal = False
    config.noise.size = 5
    if "dense" in words:
        config.networks.generator.hidden, config.networks.discriminator.hidden = (8, 8), (8,)
    else:
        small = {"kernel_init": "0.3"} if "stylegan2" not in words else {"mapping_layers": 1, "style_size": 6}
        config.networks.generator.update(channels=(8, 4), **small)
        config.networks.discriminator.update(channels=4, layers=2, kernel_init="0.3")
    config.losses.update(losses)
    for role in (G, D):
        config.optimizers[role].update(name="sgd", learning_rate=RATE, beta1=0.0)
    config_lib.check(config)
    return config.lock()


VARIABLES = {}  # of networks that have been initialised


def make_state(config):
    modules, key = unconditional.build(config), config.networks.to_json()
    if key not in VARIABLES:
        VARIABLES[key] = init_variables(unconditional, modules, example_batch(("labelled",), config), config, 0)
    return modules, create_state(VARIABLES[key], modules, create_optimizers(config), seed=7)


def host_batch(rounds=1):
    draw = np.random.default_rng(0)
    lead = (BATCH,) if rounds == 1 else (rounds, BATCH)
    label = draw.integers(0, CLASSES, (*lead, *SIZE)).astype(np.uint8)
    label[..., :5, :] = 255
    label[..., 0, 5:, :9] = 255  # a hole that only the first row has
    return {"labelled": host_stream(draw.integers(0, 256, (*lead, *SIZE, 3), np.uint8), label)}


def setup(config):
    """Return a view in inference mode and a batch as methods see it."""
    _, state = make_state(config)
    return view(state), prepared(host_batch())


def losses(config, nets, batch, outputs):
    return unconditional.losses(nets, outputs, batch, jax.random.key(2), config)._replace(nets=None)


def evaluate(config, nets, batch, outputs):
    return FAST(lambda *args: losses(config, *args))(nets, batch, outputs)


# The step by hand: from the networks' `apply` alone.


def noise_of(number, seed=7):
    """Return the noise of a slice of the first step."""
    named = lambda key, name: jax.random.fold_in(key, zlib.crc32(name.encode()))
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 0), number)
    return jax.random.normal(named(named(key, "forward"), "noise"), (BATCH, 5))


@jax.custom_jvp
def likeliest(logits):
    """Return the one-hot map of the likeliest class, whose slope is said to be that of softmax."""
    return (logits == logits.max(axis=-1, keepdims=True)).astype(jnp.float32)


@likeliest.defjvp
def _(logits, slopes):
    return likeliest(*logits), jax.jvp(jax.nn.softmax, logits, slopes)[1]


def by_hand(modules, state, host, config, *, joint, d_loss, g_loss, rounds=1):
    """Return the parameters of both networks after one step of plain descent."""
    descend = lambda params, slopes: jax.tree.map(lambda x, slope: x - RATE * slope, params, slopes)
    g, d = state.networks[G], state.networks[D]
    g_params, d_params, stats_g, stats_d = g.params, d.params, g.collections, d.collections
    for number in range(rounds):
        piece = host["labelled"] if rounds == 1 else jax.tree.map(lambda x, n=number: x[n], host["labelled"])
        image, label = pixels(piece["image"]), jnp.asarray(piece["label"], jnp.int32)
        known, truth = (label != 255)[..., None], jax.nn.one_hot(label, CLASSES)
        noise = noise_of(number)

        def generate(params, stats, noise=noise, known=known):
            made, new = modules[G].apply({"params": params, **stats}, noise, train=True, mutable=list(stats))
            return ((made[0], jnp.where(known, likeliest(made[1]), 0.0)) if joint else (made,)), new

        def score(params, seen, stats):
            return modules[D].apply({"params": params, **stats}, *seen, train=True, mutable=list(stats))

        real = (image, truth) if joint else (image,)

        def judge(params, fake, real=real, stats=stats_d):
            (real_scores, new), (fake_scores, _) = score(params, real, stats), score(params, fake, stats)
            slope = jax.grad(lambda *seen: score(params, seen, stats)[0].sum(), tuple(range(len(real))))(*real)
            return d_loss(real_scores, fake_scores, slope), new

        fake, new_stats_g = FAST(generate)(g_params, stats_g)
        grads, new_stats_d = FAST(jax.grad(judge, has_aux=True))(d_params, fake)
        d_params = descend(d_params, grads)

        def please(params, stats=stats_g, stats_d=stats_d, d_params=d_params, image=image):
            fake, _ = generate(params, stats)
            return g_loss(score(d_params, fake, stats_d)[0], fake[0], image)

        if number == rounds - 1:
            g_params = descend(g_params, FAST(jax.grad(please))(g_params))
        stats_g, stats_d = new_stats_g, new_stats_d
    return g_params, d_params, stats_g, stats_d


def test_step_of_images_equals_a_step_by_hand():
    config = make_config(mse_weight=0.5, adversarial_weight=0.7)
    modules, state = make_state(config)
    step = functools.partial(train_step, method=unconditional, config=config, updates=((D,), (G,)))
    after, metrics = FAST(step)(state, host_batch())
    d_loss = lambda real, fake, slope: 0.5 * (jnp.log1p(jnp.exp(-real)).mean() + jnp.log1p(jnp.exp(fake)).mean())
    g_loss = lambda scores, made, image: 0.7 * jnp.log1p(jnp.exp(-scores)).mean() + 0.5 * ((made - image) ** 2).mean()
    expected = by_hand(modules, state, host_batch(), config, joint=False, d_loss=d_loss, g_loss=g_loss)
    assert metrics["skipped"] == 0
    assert_equal(after, expected)


def test_step_of_pairs_equals_a_step_by_hand():
    """The Wasserstein game with R1 on two slices: the critic moves on each, the generator on the last."""
    config = make_config("joint,smoke", adversarial="wasserstein", r1=0.03).unlock()
    config.rounds, config.penalty_every, config.networks.discriminator.norm = 2, 2, "none"
    modules, state = make_state(config.lock())
    step = functools.partial(train_step, method=unconditional, config=config, updates=((D,), (G,)), penalty=True)
    after, metrics = FAST(step)(state, host_batch(rounds=2))

    def d_loss(real, fake, slope):
        squared = sum(jnp.sum(part**2, axis=(1, 2, 3)) for part in slope)
        return 0.5 * (fake.mean() - real.mean()) + 2 * 0.03 * 0.5 * squared.mean()

    g_loss = lambda scores, made, image: -scores.mean()
    expected = by_hand(modules, state, host_batch(rounds=2), config, joint=True, d_loss=d_loss, g_loss=g_loss, rounds=2)
    assert metrics["skipped"] == 0
    assert_equal(after, expected)


def assert_equal(after, expected):
    found = (*(after.networks[role].params for role in (G, D)), *(after.networks[role].collections for role in (G, D)))
    chex.assert_trees_all_close(found, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("moving", [D, G])
def test_only_what_is_named_moves(moving):
    config = make_config()
    _, state = make_state(config)
    step = functools.partial(train_step, method=unconditional, config=config, updates=((moving,),))
    after, _ = FAST(step)(state, host_batch())
    still = G if moving == D else D
    chex.assert_trees_all_equal(after.networks[still], state.networks[still])
    same = jax.tree.map(lambda a, b: bool((a == b).all()), after.networks[moving], state.networks[moving])
    assert not any(jax.tree.leaves((same.params, same.collections)))


@pytest.mark.slow
def test_styles_are_trained_and_averaged():
    """A step of both players, on pairs."""
    config = make_config("stylegan2,joint,smoke").unlock()
    config.ema_decay = 0.9
    config.optimizers.generator.update(name="adam", learning_rate=0.002)
    modules = unconditional.build(config.lock())
    variables = init_variables(unconditional, modules, example_batch(("labelled",), config), config, 0)
    state = create_state(variables, modules, create_optimizers(config), seed=7, ema_roles=frozenset({G}))
    step = functools.partial(train_step, method=unconditional, config=config, updates=((D,), (G,)))
    after, metrics = FAST(step)(state, host_batch())
    assert metrics["skipped"] == 0
    old, new = (each.networks[G].params for each in (state, after))
    assert all(np.any(a != b) for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True))
    expected = jax.tree.map(lambda a, b: (2 * a + 9 * b) / 11, old, new)  # of the first step
    chex.assert_trees_all_close(after.networks[G].ema_params, expected, atol=1e-6)


# What the players see.


@pytest.mark.parametrize("words", ["joint,smoke", "joint,dense,smoke"])
def test_holes_are_the_same_in_both_and_get_no_gradient(words):
    config = make_config(words)
    nets, batch = setup(config)
    label, image = batch["labelled"]["label"], batch["labelled"]["image"]
    logits = jax.random.normal(jax.random.key(3), (BATCH, *SIZE, CLASSES))
    loss = lambda logits: losses(config, nets, batch, (image, logits)).losses[G]
    gradient = FAST(jax.grad(loss))(logits)
    np.testing.assert_array_equal(gradient[label == 255], 0.0)
    assert np.mean(np.any(gradient[label != 255] != 0, axis=-1)) > 0.9
    truth = 100.0 * jax.nn.one_hot(jnp.where(label == 255, 0, label), CLASSES)
    output = evaluate(config, nets, batch, (image, truth))
    assert float(output.metrics["discriminator_accuracy"]) == pytest.approx(0.5)


def test_images_need_no_labels():
    config = make_config(mse_weight=0.1)
    nets, batch = setup(config)
    made = jnp.zeros_like(batch["labelled"]["image"])
    blank = {"labelled": {**batch["labelled"], "label": jnp.full_like(batch["labelled"]["label"], 255)}}
    with_labels, without = (evaluate(config, nets, each, made).losses for each in (batch, blank))
    chex.assert_trees_all_equal(with_labels, without)


def test_other_games_and_stabilisers_are_played():
    config = make_config(adversarial="relativistic", diff_augment=("translation", "cutout"), instance_noise=0.1)
    nets, batch = setup(config)
    output = evaluate(config, nets, batch, jnp.zeros_like(batch["labelled"]["image"]))
    assert all(np.isfinite(value) for value in output.losses.values())
    assert float(output.losses[G]) == float(output.metrics["adversarial"])


def test_without_weight_the_game_is_the_mse():
    config = make_config(adversarial_weight=0.0, mse_weight=1.0)
    nets, batch = setup(config)
    made = jax.random.uniform(jax.random.key(3), (BATCH, *SIZE, 3))
    found = evaluate(config, nets, batch, made).losses[G]
    assert float(found) == float(segmentation.mse(made, batch["labelled"]["image"]))


def test_feature_matching_compares_means():
    config = make_config(adversarial_weight=0.0, feature_matching=2.0).unlock()
    config.networks.discriminator = {"name": "patchgan", "channels": 4, "layers": 1, "norm": "none", "features": True}
    nets, batch = setup(config.lock())
    image = batch["labelled"]["image"]
    made = jax.random.uniform(jax.random.key(3), image.shape)
    variables = {"params": nets.states[D].params}
    features = [nets.states[D].apply_fn(variables, x, train=False)[1]["features"] for x in (image, made)]
    distances = [jnp.mean((a.mean(0) - b.mean(0)) ** 2) for a, b in zip(*features, strict=True)]
    found = evaluate(config, nets, batch, made).losses[G]
    np.testing.assert_allclose(found, 2.0 * sum(distances) / len(distances), rtol=1e-5)
    shuffled = evaluate(config, nets, batch, made[::-1]).losses[G]  # nothing is paired
    np.testing.assert_allclose(found, shuffled, rtol=1e-5)


# What comes out.


@pytest.mark.parametrize(("words", "names"), [("smoke", {"image"}), ("joint,smoke", {"image", "label"})])
def test_predict_draws_from_the_key_alone(words, names):
    config = make_config(words)
    nets, batch = setup(config)
    other = {"labelled": {**batch["labelled"], "image": -batch["labelled"]["image"]}}
    predict = FAST(lambda batch, key: unconditional.predict(nets, batch, key, config))
    first, again = (predict(each, jax.random.key(0)) for each in (batch, other))
    anew = predict(batch, jax.random.key(1))
    assert set(first) == names
    assert first["image"].shape == (BATCH, *SIZE, 3) and first["image"].dtype == jnp.float32
    assert float(jnp.max(jnp.abs(first["image"]))) <= 1.0
    chex.assert_trees_all_equal(first, again)
    assert not np.allclose(first["image"], anew["image"], atol=1e-3)
    assert not np.allclose(first["image"][0], first["image"][1], atol=1e-3)
    if "label" in names:
        assert first["label"].shape == (BATCH, *SIZE) and first["label"].dtype == jnp.int32
        assert set(np.unique(first["label"])) <= set(range(CLASSES))


@pytest.mark.parametrize(
    ("words", "network", "size"),
    [
        ("smoke", {}, (1, 1)),
        ("joint,dense,smoke", {}, (1, 1)),
        ("joint,smoke", {"name": "patchgan", "channels": 4, "layers": 1, "norm": "none", "features": True}, (10, 14)),
        ("smoke", {"name": "multiscale_patchgan", "channels": 4, "layers": 1, "scales": 2}, (10, 14)),
    ],
)
def test_score_map(words, network, size):
    config = make_config(words).unlock()
    config.networks.discriminator = network or config.networks.discriminator
    nets, batch = setup(config.lock())
    mask = segmentation.one_hot(batch["labelled"]["label"], CLASSES)
    view = FAST(lambda nets, image, mask: unconditional.score_map(nets, image, mask, config))
    found = view(nets, batch["labelled"]["image"], mask)
    assert found.shape == (BATCH, *size)
    assert np.all((found > 0) & (found < 1))


# What cannot be.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise.distribution": "gauss"}, r"noise\.distribution 'gauss'.*normal"),
        ({"noise.distribution": "truncated_normal", "noise.truncation": -1.0}, r"noise\.truncation is -1"),
        ({"noise.size": 0}, r"noise\.size is 0"),
        ({"networks.generator.name": "unet"}, r"networks\.generator\.name 'unet'.*dcgan_generator"),
        ({"losses.adversarial": "softplus"}, "adversarial loss 'softplus'"),
        ({"losses.diff_augment": ("colour",)}, "'colour'.*cutout"),
        ({"networks.generator.heads": "both"}, "heads of DCGANGenerator 'both'.*joint"),
        ({"losses.feature_matching": 1.0}, r"losses\.feature_matching is 1.*features"),
    ],
)
def test_bad_values_are_named(change, message):
    config = make_config().unlock()
    config.update_from_flattened_dict(change)
    with pytest.raises(InputError, match=message):
        modules = unconditional.build(config)
        init_variables(unconditional, modules, example_batch(("labelled",), config), config, 0)


def test_words_that_exclude_each_other():
    with pytest.raises(InputError, match="paper"):
        dcgan.get_config("paper,wgan")
    for other in ("dense", "wgan", "paper"):
        with pytest.raises(InputError, match=f"'stylegan2' and '{other}'"):
            dcgan.get_config(f"stylegan2,{other}")
    assert dcgan.get_config("paper,joint").networks.generator.heads == "joint"


def test_controls():
    config = dcgan.get_config("lambda0,smoke")
    assert config.losses.adversarial_weight == 0 and config.losses.mse_weight == 1
    config = dcgan.get_config("random_discriminator,joint,smoke")
    assert config.phases == ((1, (("generator",),)),) and config.init.discriminator == "random"
    with pytest.raises(InputError, match="every weight of its losses is 0"):
        unconditional.build(make_config(adversarial_weight=0.0))
