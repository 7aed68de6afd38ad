"""The three forms of learning from images without labels, against their equations written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import common, semi_seg
from gan_seg_jax import config as config_lib
from gan_seg_jax.augment import mixing, paired
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.losses.weighted import weighted_sum
from gan_seg_jax.methods import get_method, mean_teacher
from gan_seg_jax.optimizers import create_optimizers
from gan_seg_jax.state import Networks, create_state, fold_name, init_variables, step_key
from gan_seg_jax.train_step import train_step
from tests.by_hand import host_stream, prepared

CLASSES, SIZE = 3, (32, 32)
SEED = 3  # by which the fresh discriminators, all near 0.5, are above 0.49 for one of the two images alone
FAST = {"xla_backend_optimization_level": 0}
FORMS = {  # name -> (words, options that make every term count)
    "advsemiseg": ("advsemiseg", {"self_training_threshold": 0.49}),
    "unlabelled_fakes": ("advsemiseg", {"self_training_threshold": 0.49, "unlabelled_fakes": True}),
    "s4gan": ("s4gan", {"self_training_threshold": 0.49, "adversarial_weight": 0.05}),
    "squared": ("mean_teacher", {"confidence_threshold": 0.4, "consistency_ramp": 0.5}),
    "cross_entropy": ("mean_teacher", {"confidence_threshold": 0.4, "consistency": "cross_entropy"}),
    "classmix": ("mean_teacher", {"confidence_threshold": 0.4, "mixing": "classmix", "consistency": "cross_entropy"}),
}


def make_config(words, **losses):
    config = semi_seg.get_config(f"{words},smoke")
    config.num_classes, config.crop_size, config.canvas_size = CLASSES, SIZE, SIZE
    config.augment.flip_horizontal = False
    config.networks.segmenter.update(channels=(4, 4), encoder_convs=(0, 0), decoder_convs=(0,), norm="none")
    for role, optimizer in config.optimizers.items():
        optimizer.update(name="sgd", learning_rate=1.0, schedule="constant", beta1=0.0)
        if role == "discriminator":
            config.networks.discriminator.channels = 4
            if "dropout" in config.networks.discriminator:
                config.networks.discriminator.dropout = 0.0
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
    return {"labelled": host_stream(image(), label), "unlabelled": host_stream(image(), unknown, (SIZE, (32, 20)))}


_drawn = {}  # variables by method: the other options do not change them


def make_state(config, step=20):
    method = get_method(config)
    modules = method.build(config)
    if method not in _drawn:
        _drawn[method] = init_variables(method, modules, example_batch(method.STREAMS, config), config, SEED)
    averaged = frozenset(role for role in modules if config.ema_decay > 0 and config.networks[role].ema)
    state = create_state(_drawn[method], modules, create_optimizers(config), seed=SEED, ema_roles=averaged)
    for role in averaged:  # a teacher that differs from its student
        network = state.networks[role]
        other = jax.tree.map(lambda x: 1.5 * x + 0.01, network.ema_params)
        state.networks[role] = network.replace(ema_params=other)
    return state.replace(step=jnp.int32(step))


def view(state):
    return Networks(states=state.networks, rng=jax.random.key(1), step=state.step)


def test_logits(seed):
    return 2.0 * jax.random.normal(jax.random.key(seed), (2, *SIZE, CLASSES))


test_logits.__test__ = False


# The equations, in plain arrays. `apply(role, params, *inputs)` runs a network.


def picked(logits, label):
    """Return -log p[label] of each pixel."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), label[..., None], axis=-1)[..., 0]


def mean(values, where):
    return jnp.sum(values * where) / jnp.sum(where)


def supervised(logits, label):
    known = label != 255
    return mean(picked(logits, jnp.where(known, label, 0)), known)


def adversaries_by_hand(params, apply, batch, options):
    """Return the losses of the two GAN forms."""
    x, y, u = batch["labelled"]["image"], batch["labelled"]["label"], batch["unlabelled"]["image"]
    known, inside = y != 255, jnp.arange(SIZE[1]) < batch["unlabelled"]["content"][:, 1, None, None]
    both = known & inside
    truth = jnp.eye(CLASSES)[jnp.where(known, y, 0)] * known[..., None]
    z, z_u = apply("segmenter", params, x), apply("segmenter", params, u)
    p_u = jax.nn.softmax(z_u)
    if options.semi == "advsemiseg":
        d = lambda seen: apply("discriminator", params, seen)[..., 0]
        real, fake, fake_u = d(truth), d(jax.nn.softmax(z) * known[..., None]), d(p_u * both[..., None])
        judge = 0.5 * (mean(jnp.logaddexp(0, -real), known) + mean(jnp.logaddexp(0, fake), known))
        if options.unlabelled_fakes:
            judge += 0.5 * (mean(jnp.logaddexp(0, -real), both) + mean(jnp.logaddexp(0, fake_u), both))
        terms = options.adversarial_weight * mean(jnp.logaddexp(0, -fake), known)
        terms += options.unlabelled_adversarial_weight * mean(jnp.logaddexp(0, -fake_u), both)
        accepted = both & (1 / (1 + jnp.exp(-fake_u)) > options.self_training_threshold)
    else:
        mask = both[..., None]
        real, shown = apply("discriminator", params, x * mask, truth * mask)
        fake, shown_u = apply("discriminator", params, u * mask, p_u * mask)
        judge = 0.5 * jnp.mean(jnp.logaddexp(0, -real) + jnp.logaddexp(0, fake))
        matching = jnp.mean(jnp.abs(shown["features"].mean(0) - shown_u["features"].mean(0)))
        terms = options.feature_matching * matching + options.adversarial_weight * jnp.mean(jnp.logaddexp(0, -fake))
        accepted = jnp.broadcast_to(inside, y.shape) & (
            1 / (1 + jnp.exp(-fake[:, :, None])) > options.self_training_threshold
        )
    trained = mean(picked(z_u, jnp.argmax(z_u, axis=-1)), accepted)
    segmenter = supervised(z, y) + terms + options.self_training_weight * trained
    return {"segmenter": segmenter, "discriminator": judge}, jnp.sum(accepted), jnp.sum(~accepted)


def teacher_by_hand(params, apply, batch, options, teacher, rng, ramp):
    """Return the loss of the mean teacher."""
    u = batch["unlabelled"]["image"]
    inside = jnp.arange(SIZE[1]) < batch["unlabelled"]["content"][:, 1, None, None]
    inside = jnp.broadcast_to(inside, u.shape[:3])
    mask = mixing.cutmix_mask(rng, 2, SIZE, share=0.5)
    if options.mixing == "classmix":
        seen = jnp.where(inside, apply("segmenter", teacher, u).argmax(-1), 255)
        mask = mixing.classmix_mask(rng, seen, num_classes=CLASSES)
    paste = lambda a: jnp.where(mask.reshape(mask.shape + (1,) * (a.ndim - 3)), a, a[jnp.array([1, 0])])
    target = paste(jax.nn.softmax(apply("segmenter", teacher, u)))
    z, known = apply("segmenter", params, paste(u)), paste(inside)
    sure = target.max(-1) > options.confidence_threshold
    if options.consistency == "squared":
        distance = mean(jnp.sum((jax.nn.softmax(z) - target) ** 2, -1), known)
    else:
        distance = mean(picked(z, target.argmax(-1)), known)
    plain = supervised(apply("segmenter", params, batch["labelled"]["image"]), batch["labelled"]["label"])
    loss = plain + options.consistency_weight * ramp * mean(sure, known) * distance
    return {"segmenter": loss}, jnp.sum(sure & known), jnp.sum(~sure & known)


SECOND = ("unlabelled_fakes", "cross_entropy", "classmix")  # differ by one term from a form before them


@pytest.mark.parametrize("form", [pytest.param(form, marks=[pytest.mark.slow] * (form in SECOND)) for form in FORMS])
def test_gradients_are_those_of_the_equations(form):
    config = make_config(FORMS[form][0], **FORMS[form][1])
    # At step 9 of 24 AdvSemiSeg's self-training (from 6) is on, and the ramp (to 12) is not at its end.
    state, batch = make_state(config, step=9), make_batch()
    method, seen = get_method(config), prepared(batch)
    ((_, updates),) = config.phases
    functions = {role: network.apply_fn for role, network in state.networks.items()}
    apply = lambda role, params, *inputs: functions[role]({"params": params[role]}, *inputs, train=True)
    rng = fold_name(jax.random.fold_in(step_key(state), 0), "forward")
    teacher = {"segmenter": state.networks["segmenter"].ema_params}

    def by_hand(params):
        if method is not mean_teacher:
            return adversaries_by_hand(params, apply, seen, config.losses)
        ramp = np.exp(-5 * (1 - 9 / 12) ** 2) if form == "squared" else 1.0
        return teacher_by_hand(params, apply, seen, config.losses, teacher, rng, ramp)

    def compute(state, batch):
        params = {role: network.params for role, network in state.networks.items()}
        losses, yes, no = by_hand(params)
        gradients = {}
        for role in losses:
            alone = lambda own, role=role: by_hand({**params, role: own})[0][role]
            gradients[role] = jax.grad(alone)(params[role])
        new, metrics = train_step(state, batch, method=method, config=config, updates=updates)
        moved = {role: jax.tree.map(jnp.subtract, params[role], new.networks[role].params) for role in gradients}
        return losses, gradients, moved, metrics, (yes, no)

    losses, gradients, moved, metrics, counts = jax.jit(compute, compiler_options=FAST)(state, batch)
    assert all(count > 0 for count in counts)  # both sides of the threshold are there
    assert set(gradients) == set(state.networks)
    for role, loss in losses.items():
        np.testing.assert_allclose(metrics[f"loss/{role}"], loss, rtol=1e-5)
        for path, expected in jax.tree_util.tree_leaves_with_path(gradients[role]):
            found = moved[role]
            for key in path:
                found = found[key.key]
            assert np.any(expected != 0), path
            np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-6, err_msg=f"{role} {path}")


GAN_FORMS = ("advsemiseg", "s4gan")


def judge(config, state, batch, logits, unlabelled_logits):
    @jax.jit
    def losses(nets, outputs, batch):
        out = get_method(config).losses(nets, outputs, batch, jax.random.key(2), config)
        plain = weighted_sum(outputs[0], batch["labelled"]["label"], config.losses)[0]
        return out.losses, out.metrics, plain

    compiled = losses.lower(view(state), (logits, unlabelled_logits), batch).compile(compiler_options=FAST)
    return compiled(view(state), (logits, unlabelled_logits), batch)


@pytest.mark.parametrize("form", GAN_FORMS)
def test_without_weights_it_is_the_supervised_loss(form):
    config = make_config(f"{form},lambda0")
    state, batch = make_state(config), prepared(make_batch())
    found, _, plain = judge(config, state, batch, test_logits(3), test_logits(4))
    assert float(found["segmenter"]) == float(plain)


def test_without_weight_the_teacher_teaches_nothing():
    config = make_config("mean_teacher,lambda0")
    batch = prepared(make_batch())
    outputs = (test_logits(3), test_logits(4), jax.nn.softmax(test_logits(5)), jnp.ones((2, *SIZE)))
    found = mean_teacher.losses(view(make_state(config)), outputs, batch, jax.random.key(0), config)
    plain = weighted_sum(test_logits(3), batch["labelled"]["label"], config.losses)[0]
    assert float(found.losses["segmenter"]) == float(plain)


@pytest.mark.parametrize("form", GAN_FORMS)
def test_ignored_pixels_get_no_gradient(form):
    config = make_config(form, self_training_threshold=0.0)
    state, batch = make_state(config), prepared(make_batch())

    def loss(logits, unlabelled):
        outputs = (logits, unlabelled)
        out = get_method(config).losses(view(state), outputs, batch, jax.random.key(2), config)
        return out.losses["segmenter"]

    gradients = jax.jit(jax.grad(loss, (0, 1)), compiler_options=FAST)(test_logits(3), test_logits(4))
    labelled, unlabelled = (np.any(gradient != 0, axis=-1) for gradient in gradients)
    assert not labelled[:, :5].any() and labelled[:, 5:].all()
    assert not unlabelled[1, :, 20:].any() and unlabelled[:, 5:, :20].all()
    # AdvSemiSeg's discriminator has no opinion on pixels that it does not see; S4GAN's accepts an image as a whole.
    assert unlabelled[0, :5].all() == (form == "s4gan")


@pytest.mark.parametrize("form", GAN_FORMS)
def test_the_discriminator_sees_nothing_where_nothing_is_known(form, monkeypatch):
    config = make_config(form)
    state, batch, seen = make_state(config), prepared(make_batch()), []
    original = Networks.apply

    def recorded(self, role, *inputs, **options):
        seen.append((role, inputs))
        return original(self, role, *inputs, **options)

    monkeypatch.setattr(Networks, "apply", recorded)
    outputs = (test_logits(3), test_logits(4))
    get_method(config).losses(view(state), outputs, batch, jax.random.key(2), config)
    known = np.broadcast_to(np.arange(32)[:, None] >= 5, (2, *SIZE))
    both = known.copy()
    both[1, :, 20:] = False
    assert [role for role, _ in seen] == ["discriminator"] * (3 if form == "advsemiseg" else 2)
    for number, (_, inputs) in enumerate(seen):
        assert len(inputs) == (1 if form == "advsemiseg" else 2)
        expected = known if form == "advsemiseg" and number < 2 else both
        for array in inputs:
            np.testing.assert_array_equal(np.any(array != 0, axis=-1), expected)
    if form == "s4gan":  # image and map of the real pair, then of the fake
        np.testing.assert_allclose(seen[0][1][0], batch["labelled"]["image"] * both[..., None])
        np.testing.assert_allclose(seen[1][1][0], batch["unlabelled"]["image"] * both[..., None])


def test_self_training_starts_late():
    config = make_config("advsemiseg", self_training_threshold=0.0)  # from a quarter of 24 steps on
    batch, options = prepared(make_batch()), config.losses
    for step, begun in ((5, False), (6, True)):
        state = make_state(config, step=step)
        found, terms, plain = judge(config, state, batch, test_logits(3), test_logits(4))
        expected = plain + options.adversarial_weight * terms["adversarial"]
        expected += options.unlabelled_adversarial_weight * terms["adversarial_unlabelled"]
        expected += begun * options.self_training_weight * terms["self_training"]
        np.testing.assert_allclose(found["segmenter"], expected, rtol=1e-6)
        assert float(terms["accepted_share"]) == 1.0 and float(terms["self_training"]) > 0.1


@pytest.mark.parametrize("form", GAN_FORMS)
def test_nothing_is_accepted_by_a_discriminator_that_is_never_sure(form):
    config = make_config(form, self_training_threshold=1.0, self_training_start=0.0)
    state, batch = make_state(config), prepared(make_batch())
    _, metrics, _ = judge(config, state, batch, test_logits(3), test_logits(4))
    assert float(metrics["accepted_share"]) == float(metrics["self_training"]) == 0.0


@pytest.mark.parametrize("form", GAN_FORMS)
@pytest.mark.parametrize(
    ("adversarial", "score", "confidence"),
    [("least_squares", 0.0, 0.0), ("least_squares", 1.0, 1.0), ("non_saturating", -2.0, 0.1192)],
)
def test_confidence_is_the_probability_that_the_game_defines(form, adversarial, score, confidence):
    """Least squares drives the scores of fakes to 0: such a score is doubt, not the half that its sigmoid would be."""
    config = make_config(form, adversarial=adversarial, self_training_threshold=0.2)
    state, batch = make_state(config), prepared(make_batch())
    constant = jax.tree.map(jnp.zeros_like, state.networks["discriminator"].params)
    constant["score"]["bias"] += score
    judge = state.networks["discriminator"].replace(params=constant)
    state = state.replace(networks={**state.networks, "discriminator": judge})
    outputs = (test_logits(3), test_logits(4))
    metrics = get_method(config).losses(view(state), outputs, batch, jax.random.key(2), config).metrics
    np.testing.assert_allclose(metrics["unlabelled_realness"], confidence, atol=1e-4)
    assert float(metrics["accepted_share"]) == (confidence > 0.2)


@pytest.mark.parametrize("form", GAN_FORMS)
def test_score_maps_are_shares(form):
    config = make_config(form)
    batch = prepared(make_batch())
    found = get_method(config).score_map(
        view(make_state(config)), batch["labelled"]["image"], jax.nn.softmax(test_logits(3)), config
    )
    assert found.shape == ((2, *SIZE) if form == "advsemiseg" else (2, 1, 1))
    assert 0 < float(found.min()) <= float(found.max()) < 1


def test_the_teacher_is_a_constant_and_padding_counts_nothing():
    config = make_config("mean_teacher", confidence_threshold=0.0)
    state, batch = make_state(config), prepared(make_batch())
    weight = jnp.ones((2, *SIZE)).at[:, :, 20:].set(0.0)

    def loss(student, target):
        outputs = (test_logits(3), student, target, weight)
        return mean_teacher.losses(view(state), outputs, batch, jax.random.key(0), config).losses["segmenter"]

    student, target = jax.grad(loss, (0, 1))(test_logits(4), jax.nn.softmax(test_logits(5)))
    assert not np.any(target)
    moved = np.any(student != 0, axis=-1)
    assert not moved[:, :, 20:].any() and moved[:, :, :20].all()


def test_a_pupil_that_agrees_has_nothing_to_learn():
    config = make_config("mean_teacher", confidence_threshold=0.0)
    batch, logits = prepared(make_batch()), test_logits(4)
    outputs = (test_logits(3), logits, jax.nn.softmax(logits), jnp.ones((2, *SIZE)))
    metrics = mean_teacher.losses(view(make_state(config)), outputs, batch, jax.random.key(0), config).metrics
    assert float(metrics["consistency"]) == 0.0
    assert float(metrics["confident_share"]) == 1.0
    np.testing.assert_allclose(metrics["teacher_confidence"], jax.nn.softmax(logits).max(-1).mean(), rtol=1e-5)


def test_ramp_known_answers():
    config = make_config("mean_teacher", consistency_ramp=0.5)  # 12 of 24 steps
    found = [float(mean_teacher.ramp(jnp.int32(step), config)) for step in (0, 6, 12, 23)]
    np.testing.assert_allclose(found, [np.exp(-5), np.exp(-1.25), 1.0, 1.0], rtol=1e-6)
    assert mean_teacher.ramp(jnp.int32(0), make_config("mean_teacher")) == 1.0


def test_what_an_image_shows_is_told_without_a_label():
    grey = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 16, 16, 3)
    stream = {
        "image": grey,
        "label": np.full((1, 16, 16), 255, np.uint8),
        "content": np.array([[16, 9]], np.int32),
        "valid": np.ones(1, bool),
        "id": np.zeros(1, np.int32),
    }
    options = common.get_config().augment
    image = paired.prepare(stream, jax.random.key(0), crop_size=(16, 16), options=options, train=False)["image"]
    np.testing.assert_array_equal(paired.shown(image)[0], np.broadcast_to(np.arange(16) < 9, (16, 16)))


@pytest.mark.parametrize(
    ("words", "field", "value", "match"),
    [
        ("s4gan", "losses.semi", "s5gan", r"losses\.semi.*advsemiseg, s4gan"),
        ("s4gan", "losses.semi", "advsemiseg", "fcn_discriminator"),
        ("s4gan", "losses.adversarial", "wasserstein", "use one of minimax, non_saturating, least_squares"),
        ("advsemiseg", "losses.adversarial", "hinge", "'hinge', whose scores are no probability"),
        ("s4gan", "losses.adversarial", "hing", "hinge"),
        ("s4gan", "losses.self_training_threshold", 1.5, "self_training_threshold"),
        ("advsemiseg", "losses.self_training_start", 5000.0, "self_training_start"),
        ("advsemiseg", "losses.diff_augment", ("cutout",), "diff_augment"),
        ("advsemiseg", "losses.feature_matching", 0.1, "feature_matching"),
        ("advsemiseg", "networks.discriminator.resize", False, "resize"),
        ("mean_teacher", "ema_decay", 0.0, "ema_decay"),
        ("mean_teacher", "networks.segmenter.ema", False, "ema"),
        ("mean_teacher", "batch_size", 1, "batch_size is 1.*at least 2"),
        ("mean_teacher", "losses.mixing", "mixup", r"losses\.mixing"),
        ("mean_teacher", "losses.consistency", "l1", "cross_entropy, squared"),
        ("mean_teacher", "losses.cutmix_share", 1.0, "cutmix_share"),
        ("mean_teacher", "losses.confidence_threshold", 1.5, "confidence_threshold"),
        ("mean_teacher", "losses.consistency_ramp", 2.0, "consistency_ramp"),
    ],
)
def test_bad_values_are_named(words, field, value, match):
    config = make_config(words).unlock()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(InputError, match=match):
        get_method(config).build(config)


@pytest.mark.parametrize(
    "words", ["advsemiseg,s4gan", "s4gan,unet,fcn8s", "mean_teacher,random_discriminator", "s5gan"]
)
def test_words_that_contradict(words):
    with pytest.raises(InputError):
        semi_seg.get_config(words)


@pytest.mark.parametrize("form", GAN_FORMS)
def test_controls(form):
    config = semi_seg.get_config(f"{form},random_discriminator,deeplabv3plus")
    config_lib.check(config)
    assert config.phases == ((1, (("segmenter",),)),) and config.init.discriminator == "random"
    assert config.networks.segmenter.name == "deeplabv3plus"
    weights = {name: value for name, value in semi_seg.get_config(f"{form},lambda0").losses.items()}
    assert not any(weights[name] for name in weights if name.endswith(("adversarial_weight", "training_weight")))
    assert weights["feature_matching"] == 0.0
