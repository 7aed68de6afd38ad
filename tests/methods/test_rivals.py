"""FixMatch, UniMatch and CPS against their equations written by hand, and what they share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import semi_seg
from gan_seg_jax import config as config_lib
from gan_seg_jax.augment import mixing, photometric
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.losses.weighted import weighted_sum
from gan_seg_jax.methods import consistency, get_method
from gan_seg_jax.models.perturbation import decoded_twice
from gan_seg_jax.optimizers import create_optimizers
from gan_seg_jax.state import create_state, fold_name, init_variables, step_key
from gan_seg_jax.train_step import train_step
from tests.by_hand import host_stream, prepared, view

CLASSES, SIZE, CONTENT = 3, (16, 16), 10  # the second image without a label is CONTENT pixels wide
FAST = {"xla_backend_optimization_level": 0}
SEED = 9  # by which one image of two is mixed in FixMatch
FORMS = ("fixmatch", "unimatch", "cps")


def make_config(words, **losses):
    config = semi_seg.get_config(f"{words},smoke")
    config.num_classes, config.crop_size, config.canvas_size, config.batch_size = CLASSES, SIZE, SIZE, 2
    config.augment.flip_horizontal = False
    config.networks.segmenter.update(channels=(4, 4), encoder_convs=(0, 0), decoder_convs=(0,))
    config.optimizers.segmenter.update(name="sgd", learning_rate=1.0, schedule="constant", beta1=0.0)
    config.losses.update(losses)
    config_lib.check(config)
    return config.lock()


def make_batch(seed=0):
    """Return a batch as the host delivers it: void in the labels, padding at the right of an unlabelled image."""
    rng = np.random.default_rng(seed)
    image = lambda: rng.integers(0, 256, (2, *SIZE, 3), np.uint8)
    label = rng.integers(0, CLASSES, (2, *SIZE)).astype(np.uint8)
    label[:, :5] = 255
    unknown = np.full((2, *SIZE), 255, np.uint8)
    return {"labelled": host_stream(image(), label), "unlabelled": host_stream(image(), unknown, (SIZE, (16, CONTENT)))}


_drawn = {}


def make_state(config):
    method = get_method(config)
    modules = method.build(config)
    if len(modules) not in _drawn:
        batch = example_batch(method.STREAMS, config)
        _drawn[len(modules)] = jax.device_get(init_variables(method, modules, batch, config, SEED))
    variables = jax.tree.map(jnp.array, _drawn[len(modules)])
    return create_state(variables, modules, create_optimizers(config), seed=SEED)


# The equations, in plain arrays. `run(role, images)` is the next pass of a network in training mode.

INSIDE = np.ones((2, *SIZE), bool)
INSIDE[1, :, CONTENT:] = False


def picked(logits, label):
    """Return -log p[label] of each pixel."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[..., None], axis=-1)[..., 0]


def mean(values, where):
    return jnp.sum(values * where) / jnp.sum(where)


def supervised(logits, label):
    return mean(picked(logits, jnp.where(label != 255, label, 0)), label != 255)


def mask_by_hand(key, seen, options):
    draws = [jax.random.uniform(k, (2,)) for k in jax.random.split(jax.random.fold_in(key, 1), 2)]
    share, chance = jnp.array(draws).T
    low, high = options.cutmix_range
    if options.mixing == "cutmix":
        mask = ~mixing.cutmix_mask(key, 2, SIZE, share=low + (high - low) * share)
    else:
        mask = mixing.classmix_mask(key, jnp.where(INSIDE, seen, 255), num_classes=CLASSES)
    return mask | (chance >= options.mixing_probability)[:, None, None]


def paste(mask, array):
    """Return the array with the other one of two examples where the mask does not hold."""
    return jnp.where(mask.reshape(mask.shape + (1,) * (array.ndim - 3)), array, array[::-1])


def taught(logits, label, sure, shown):
    return jnp.sum(picked(logits, label) * (sure & shown)) / jnp.sum(shown)


def darken(image, inside, key):
    return jnp.where(inside[..., None], jax.random.uniform(key) * image - 0.1, 0.0)


def strong_by_hand(key, u, weak, options):
    """Return a mixed strong view, its labels, where they are sure and what shows an image."""
    sure = jax.nn.softmax(weak).max(-1) >= options.confidence_threshold
    label = weak.argmax(-1)
    mask = mask_by_hand(fold_name(key, "mask"), label, options)
    image = photometric.strong_view(u, jnp.array(INSIDE), fold_name(key, "colors"))
    return [paste(mask, array) for array in (image, label, sure, jnp.array(INSIDE))]


def fixmatch_by_hand(run, batch, rng, options):
    x, y, u = batch["labelled"]["image"], batch["labelled"]["label"], batch["unlabelled"]["image"]
    z, weak = jnp.split(run("segmenter", jnp.concatenate([x, u])), 2)
    image, label, sure, shown = strong_by_hand(rng, u, weak, options)
    loss = supervised(z, y) + options.strong_weight * taught(run("segmenter", image), label, sure, shown)
    return {"segmenter": loss}, jnp.sum(sure & shown) / jnp.sum(shown)


def unimatch_by_hand(run, batch, rng, options):
    x, y, u = batch["labelled"]["image"], batch["labelled"]["label"], batch["unlabelled"]["image"]
    key = fold_name(jax.random.fold_in(fold_name(rng, "segmenter"), 0), "features")
    with decoded_twice(options.feature_dropout, key):
        rows = run("segmenter", jnp.stack([x, u], axis=1).reshape(-1, *x.shape[1:]))
    z, weak, perturbed = rows[::4], rows[2::4], rows[3::4]  # rows[1::4] are the labelled images' features, perturbed
    sure = jax.nn.softmax(weak).max(-1) >= options.confidence_threshold
    views = [strong_by_hand(fold_name(rng, name), u, weak, options) for name in ("first", "second")]
    logits = jnp.split(run("segmenter", jnp.concatenate([view[0] for view in views])), 2)
    strong = [taught(part, *view[1:]) for part, view in zip(logits, views, strict=True)]
    loss = supervised(z, y) + options.strong_weight / 2 * sum(strong)
    loss += options.feature_weight * taught(perturbed, weak.argmax(-1), sure, INSIDE)
    return {"segmenter": loss}, jnp.sum(sure & INSIDE) / jnp.sum(INSIDE)


def cps_by_hand(run, batch, rng, options):
    x, y, u = batch["labelled"]["image"], batch["labelled"]["label"], batch["unlabelled"]["image"]
    roles = ("segmenter", "segmenter_aux")
    z, logits = zip(*[(run(role, x), run(role, u)) for role in roles], strict=True)
    labels, shown = [part.argmax(-1) for part in logits], jnp.array(INSIDE)
    if options.mixing == "none":
        logits = [jnp.concatenate(pair) for pair in zip(z, logits, strict=True)]
        labels, shown = [part.argmax(-1) for part in logits], jnp.concatenate([y != 255, shown])
    else:
        mask = mask_by_hand(rng, labels[0], options)
        logits = [run(role, paste(mask, u)) for role in roles]
        *labels, shown = (paste(mask, array) for array in (*labels, shown))
    cross = [mean(picked(part, label), shown) for part, label in zip(logits, labels[::-1], strict=True)]
    losses = {role: supervised(z[n], y) + options.cross_weight * cross[n] for n, role in enumerate(roles)}
    return losses, mean(labels[0] == labels[1], shown)


BY_HAND = {"fixmatch": fixmatch_by_hand, "unimatch": unimatch_by_hand, "cps": cps_by_hand}
CASES = {
    "fixmatch": ("fixmatch", {"confidence_threshold": 0.5, "cutmix_range": (0.1, 0.4)}),
    "unimatch": ("unimatch", {"confidence_threshold": 0.5, "mixing": "classmix", "mixing_probability": 1.0}),
    "cps": ("cps", {}),
    "cps_unmixed": ("cps", {"mixing": "none"}),
}


SECOND = ("fixmatch", "cps_unmixed")  # parts of the others, or nearly


@pytest.mark.parametrize("case", [pytest.param(name, marks=[pytest.mark.slow] * (name in SECOND)) for name in CASES])
def test_gradients_and_statistics_are_those_of_the_equations(case, monkeypatch):
    form, losses = CASES[case]
    if case != "fixmatch":  # what takes longest to compile
        monkeypatch.setattr(photometric, "strong_view", darken)
    config = make_config(form, **losses)
    state, batch, method = make_state(config), make_batch(), get_method(config)
    ((_, updates),) = config.phases
    rng = fold_name(jax.random.fold_in(step_key(state), 0), "forward")

    def by_hand(params):
        statistics = {role: network.collections for role, network in state.networks.items()}

        def run(role, images):
            variables = {"params": params[role], **statistics[role]}
            logits, statistics[role] = state.networks[role].apply_fn(
                variables, images, train=True, mutable=["batch_stats"]
            )
            return logits

        losses, share = BY_HAND[form](run, prepared(batch), rng, config.losses)
        return losses, (share, statistics)

    def compute(state, batch):
        params = {role: network.params for role, network in state.networks.items()}
        losses, aux = by_hand(params)
        gradients = {
            role: jax.grad(lambda own, role=role: by_hand({**params, role: own})[0][role])(params[role])
            for role in losses
        }
        new, metrics = train_step(state, batch, method=method, config=config, updates=updates)
        moved = {role: jax.tree.map(jnp.subtract, params[role], new.networks[role].params) for role in losses}
        found = {role: network.collections for role, network in new.networks.items()}
        return losses, aux, gradients, moved, found, metrics

    losses, (share, statistics), gradients, moved, found, metrics = jax.jit(compute, compiler_options=FAST)(
        state, batch
    )
    assert set(losses) == set(state.networks)
    assert 0.05 < float(share) < 0.95
    np.testing.assert_allclose(metrics["agreement" if form == "cps" else "accepted_share"], share, rtol=1e-5)
    for role, loss in losses.items():
        np.testing.assert_allclose(metrics[f"loss/{role}"], loss, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, statistics)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-6), moved, gradients)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradients))


def logits(seed, count=2):
    return 2.0 * jax.random.normal(jax.random.key(seed), (count, *SIZE, CLASSES))


def lesson(seed):
    label = jnp.array(np.random.default_rng(seed).choice([0, 1, 2, 255], INSIDE.shape))
    return consistency.Lesson(logits(seed), jnp.where(INSIDE, label, 255), jnp.array(INSIDE))


def outputs_of(form):
    if form == "cps":
        return {role: (logits(n), lesson(n)) for n, role in enumerate(("segmenter", "segmenter_aux"))}
    return (logits(0), *(lesson(n) for n in range(3 if form == "unimatch" else 1)))


@pytest.mark.parametrize("form", FORMS)
def test_without_weights_it_is_the_supervised_loss(form):
    config = make_config(f"{form},lambda0")
    batch = prepared(make_batch())
    found = get_method(config).losses(view(make_state(config)), outputs_of(form), batch, jax.random.key(0), config)
    for number, loss in enumerate(found.losses.values()):
        assert float(loss) == float(weighted_sum(logits(number), batch["labelled"]["label"], config.losses)[0])


def test_pixels_without_a_sure_label_get_no_gradient_and_count_in_the_mean():
    given = lesson(1)
    gradient = jax.grad(lambda z: consistency.cross_entropy(given._replace(logits=z)))(given.logits)
    np.testing.assert_array_equal(np.any(gradient != 0, axis=-1), given.label != 255)
    label, shown = np.asarray(given.label), INSIDE
    log_p = np.log(np.exp(given.logits) / np.exp(given.logits).sum(-1, keepdims=True))
    total = sum(-log_p[(*place, label[place])] for place in np.ndindex(label.shape) if label[place] != 255)
    np.testing.assert_allclose(consistency.cross_entropy(given), total / shown.sum(), rtol=1e-5)
    np.testing.assert_allclose(consistency.accepted_share(given), (label != 255).sum() / shown.sum(), rtol=1e-6)
    nothing = given._replace(label=jnp.full_like(given.label, 255), shown=jnp.zeros_like(given.shown))
    assert float(consistency.cross_entropy(nothing)) == float(consistency.accepted_share(nothing)) == 0.0


def test_pseudo_labels():
    shown = jnp.array([[[True, True, True, False]]])
    z = jnp.log(jnp.array([[[[0.9, 0.1], [0.3, 0.7], [0.5, 0.5], [0.0, 1.0]]]]))
    assert consistency.predicted_class(z, shown).tolist() == [[[0, 1, 0, 255]]]
    assert consistency.pseudo_label(z, shown, 0.71).tolist() == [[[0, 255, 255, 255]]]
    assert consistency.pseudo_label(z, shown, 0.0).tolist() == [[[0, 1, 0, 255]]]


def test_masks():
    label = jnp.array(np.random.default_rng(0).integers(0, 3, (200, 20, 30)))
    wanted = (
        {"mixing_probability": 0.25, "cutmix_range": (0.2, 0.4)},
        {"mixing": "none", "mixing_probability": 1.0},
        {"mixing_probability": 0.0},
        {"mixing": "classmix", "mixing_probability": 1.0},
    )
    draw = lambda label: [
        consistency.draw_mask(jax.random.key(0), label, make_config("fixmatch", **options)) for options in wanted
    ]
    masks, whole, never, chosen = (np.asarray(x) for x in jax.jit(draw, compiler_options=FAST)(label))
    pasted = 1 - masks.mean((1, 2))
    np.testing.assert_allclose((pasted > 0).mean(), 0.25, atol=0.08)
    mixed = pasted[pasted > 0]
    assert 0.17 < mixed.min() < 0.25 and 0.35 < mixed.max() < 0.43  # to whole pixels
    assert np.all(whole) and np.all(never)
    for mask, classes in zip(chosen, np.asarray(label), strict=True):  # one class of three
        assert len(np.unique(classes[mask])) == 1 and set(classes[mask]).isdisjoint(classes[~mask])


def test_an_image_is_mixed_with_the_next():
    arrays = jnp.arange(3.0)[:, None, None] * jnp.ones((3, 2, 2))
    mask = jnp.zeros((3, 2, 2), bool).at[:, 0].set(True)
    (found,) = consistency.mix_with_next(mask, arrays)
    np.testing.assert_array_equal(found[:, :, 0], [[0, 1], [1, 2], [2, 0]])


def test_cps_networks_start_apart_and_one_of_them_predicts():
    config = make_config("cps")
    state, batch = make_state(config), prepared(make_batch())
    first, second = (jax.tree.leaves(state.networks[role].params) for role in ("segmenter", "segmenter_aux"))
    assert all(a.shape == b.shape for a, b in zip(first, second, strict=True))
    assert any(np.any(a != b) for a, b in zip(first, second, strict=True))
    found = get_method(config).predict(view(state), batch, jax.random.key(0), config)
    alone, _ = view(state).apply("segmenter", batch["labelled"]["image"])
    np.testing.assert_array_equal(found, alone)


def test_what_is_set_of_one_network_of_cps_is_set_of_both():
    config = semi_seg.get_config("cps,deeplabv3plus")
    config.networks.segmenter.norm = "group"
    config.optimizers.segmenter.learning_rate = 0.5
    config.backbone, config.pretrained.segmenter = "resnet34", "weights.safetensors"
    config = config.copy_and_resolve_references()
    assert config.networks.segmenter_aux == config.networks.segmenter
    assert config.networks.segmenter_aux.backbone == "resnet34"
    assert config.optimizers.segmenter_aux.learning_rate == 0.5
    assert config.pretrained.segmenter_aux == "weights.safetensors"


@pytest.mark.parametrize(
    ("words", "field", "value", "match"),
    [
        ("fixmatch", "batch_size", 1, "batch_size is 1.*at least 2"),
        ("fixmatch", "losses.mixing", "mixup", r"losses\.mixing.*classmix, cutmix, none"),
        ("fixmatch", "losses.confidence_threshold", 1.5, "confidence_threshold"),
        ("unimatch", "losses.cutmix_range", (0.4, 0.2), "cutmix_range"),
        ("unimatch", "losses.cutmix_range", (0.4,), "cutmix_range"),
        ("unimatch", "losses.feature_dropout", 1.0, "feature_dropout"),
        ("cps", "losses.mixing_probability", 1.5, "mixing_probability"),
    ],
)
def test_bad_values_are_named(words, field, value, match):
    config = make_config(words).unlock()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=match):
        get_method(config).build(config)


@pytest.mark.parametrize("form", FORMS)
def test_there_is_no_discriminator_to_be_random(form):
    with pytest.raises(InputError, match=f"no meaning with {form}"):
        semi_seg.get_config(f"{form},random_discriminator")
