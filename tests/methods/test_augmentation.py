"""Which rows are made, of what, and that only the segmenter moves by what is then in the batch."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from configs import augment_seg, dcgan
from gan_seg_jax import config as config_lib
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference.load import example_batch
from gan_seg_jax.methods import augmentation
from gan_seg_jax.optimizers import create_optimizers
from gan_seg_jax.state import Networks, create_state, fold_name, init_variables
from gan_seg_jax.train_step import train_step
from tests.by_hand import host_stream, prepared

CLASSES, BATCH, SIZE = 3, 4, (16, 24)
FAST = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
SMALL = {
    "pix2pix": {"channels": (4, 4), "encoder_convs": (0, 0), "decoder_convs": (0,)},
    "oasis": {"channels": 2, "widths": (2, 1), "doublings": (0, 1), "hidden": 4},
    "joint": {"channels": (4, 4)},
}


def make_config(arm, **synthetic):
    config = augment_seg.get_config(f"{arm},smoke")
    config.num_classes, config.canvas_size, config.crop_size = CLASSES, SIZE, SIZE
    config.augment.flip_horizontal = False
    config.networks.segmenter.update(channels=(4, 4), encoder_convs=(0, 0), decoder_convs=(0,))
    config.optimizers.segmenter.update(name="sgd", learning_rate=1.0, beta1=0.0, schedule="constant")
    if arm in SMALL:
        config.networks.generator.update(SMALL[arm])
        config.init.generator = "random"
    config.synthetic.update(synthetic)
    config_lib.check(config)
    return config.lock()


def make_state(config):
    modules = augmentation.build(config)
    variables = init_variables(augmentation, modules, example_batch(("labelled",), config), config, 0)
    return modules, create_state(variables, modules, create_optimizers(config), seed=0)


def host_batch():
    draw = np.random.default_rng(0)
    label = draw.integers(0, CLASSES, (BATCH, *SIZE)).astype(np.uint8)
    label[:, :4] = 255
    return {"labelled": host_stream(draw.integers(0, 256, (BATCH, *SIZE, 3), np.uint8), label)}


def seen_pair():
    """Return image and label as methods see them."""
    found = prepared(host_batch())["labelled"]
    return found["image"], found["label"]


def mixed(config, seeds=(0,)):
    """Return the mixed batch of each seed, and the batch that they were made of."""
    _, state = make_state(config)
    nets = Networks(states=state.networks, rng=jax.random.key(7), step=jnp.int32(0))
    image, label = seen_pair()
    mix = FAST(lambda key: augmentation.mixed(nets.replace(rng=key), image, label, key, config)[:2])
    return [mix(jax.random.key(seed)) for seed in seeds], (image, label)


@pytest.mark.parametrize("arm", ["pix2pix", pytest.param("oasis", marks=pytest.mark.slow)])
def test_label_to_image_rows_keep_their_masks(arm):
    [(image, label), (other, _)], (real, truth) = mixed(make_config(arm), seeds=(0, 1))
    np.testing.assert_array_equal(label, truth)
    np.testing.assert_array_equal(image[1::2], real[1::2])
    made = image[::2]  # every second row
    np.testing.assert_array_equal(made[:, :4], 0.0)  # no label: mid grey
    assert np.all(np.any(made[:, 4:] != real[::2, 4:], axis=-1)) and np.all(np.abs(made) <= 1)
    assert np.any(made != other[::2]), "dropout or noise is drawn anew"


def test_joint_rows_bring_their_own_masks():
    [(image, label)], (real, truth) = mixed(make_config("joint", share=0.75))
    np.testing.assert_array_equal(image[3:], real[3:])
    np.testing.assert_array_equal(label[3:], truth[3:])
    assert np.all((label[:3] >= 0) & (label[:3] < CLASSES)) and np.any(label[0] != label[1])
    assert image.dtype == real.dtype and label.dtype == truth.dtype


def test_share_zero_is_the_control_without_a_generator():
    step = {}
    for arm, synthetic in (("joint", {"share": 0.0}), ("repeat", {})):
        config = make_config(arm, **synthetic)
        _, state = make_state(config)
        update = functools.partial(train_step, method=augmentation, config=config, updates=(("segmenter",),))
        step[arm], _ = FAST(update)(state, host_batch())
    chex.assert_trees_all_equal(step["joint"].networks["segmenter"].params, step["repeat"].networks["segmenter"].params)
    assert set(step["repeat"].networks) == {"segmenter"}


def test_step_equals_a_step_by_hand():
    config = make_config("oasis", share=0.5)
    modules, state = make_state(config)
    update = functools.partial(train_step, method=augmentation, config=config, updates=(("segmenter",),))
    after, metrics = FAST(update)(state, host_batch())

    image, label = seen_pair()
    generator, segmenter = state.networks["generator"], state.networks["segmenter"]
    key = fold_name(jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0), "forward")
    y = jax.nn.one_hot(jnp.where(label == 255, CLASSES, label), CLASSES)
    z = jax.random.normal(fold_name(key, "noise"), (2, config.noise.size))  # of rows 0 and 2
    variables = {"params": generator.params, **generator.collections}
    made = FAST(lambda: modules["generator"].apply(variables, y[::2], z, train=False))()
    made *= jnp.sum(y[::2], -1)[..., None]
    x = jnp.stack([made[0], image[1], made[1], image[3]])

    def loss(params):
        variables = {"params": params, **segmenter.collections}
        logits, _ = modules["segmenter"].apply(variables, x, train=True, mutable=["batch_stats"])
        return -jnp.sum(y * jax.nn.log_softmax(logits)) / jnp.sum(y)

    value, grad = FAST(jax.value_and_grad(loss))(segmenter.params)
    expected = jax.tree.map(jnp.subtract, segmenter.params, grad)
    np.testing.assert_allclose(metrics["loss/segmenter"], value, rtol=1e-5)
    chex.assert_trees_all_close(after.networks["segmenter"].params, expected, rtol=1e-4, atol=1e-5)
    for name in ("params", "collections"):
        now, before = (getattr(s.networks["generator"], name) for s in (after, state))
        chex.assert_trees_all_equal(now, before)


@pytest.mark.parametrize("arm", ["pix2pix", "repeat"])
def test_unknown_pixels_get_no_gradient(arm):
    config = make_config(arm)
    _, state = make_state(config)
    nets = Networks(states=state.networks, rng=jax.random.key(1), step=jnp.int32(0))
    _, label = seen_pair()
    loss = lambda z: augmentation.losses(nets, (z, label), None, jax.random.key(2), config).losses["segmenter"]
    gradient = FAST(jax.grad(loss))(jax.random.normal(jax.random.key(3), (BATCH, *SIZE, CLASSES)))
    np.testing.assert_array_equal(gradient[:, :4], 0.0)
    assert np.all(np.any(gradient[:, 4:] != 0, axis=-1))


@pytest.mark.parametrize(
    ("arm", "path", "value", "words"),
    [
        ("joint", "networks.generator.heads", "image", "heads.*joint"),
        ("joint", "noise.size", 0, "noise.size is 0"),
        ("oasis", "networks.generator.name", "patchgan", "networks.generator.name.*oasis_generator"),
        ("oasis", "synthetic.share", 0.1, "share is 0.1.*batch of 4"),
        ("oasis", "synthetic.folder", "made", "synthetic.folder is 'made'"),
    ],
)
def test_bad_values_are_named(arm, path, value, words):
    config = ConfigDict(make_config(arm)).unlock()
    config.update_from_flattened_dict({path: value})
    with pytest.raises(InputError, match=words):
        augmentation.build(config)


def test_a_share_needs_something_that_makes_pairs():
    config = ConfigDict(make_config("repeat")).unlock()
    config.synthetic.share = 0.5
    with pytest.raises(InputError, match="share is 0.5.*neither a generator nor"):
        augmentation.build(config)


@pytest.mark.parametrize("arg", ["pix2pix,joint", "joint,stylegan2", "geometric,oasis", "unet,segnet", "dcgan"])
def test_words_that_do_not_go_together(arg):
    with pytest.raises(InputError):
        augment_seg.get_config(arg)


def test_arms_differ_in_what_the_batch_holds_only():
    arms = {arm: augment_seg.get_config(f"{arm},smoke") for arm in augment_seg.ARMS}
    for arm, config in arms.items():
        config_lib.check(config)
        assert (config.steps, config.batch_size) == (arms["repeat"].steps, arms["repeat"].batch_size)
        assert config.networks.segmenter == arms["repeat"].networks.segmenter
        assert (config.synthetic.share > 0) == (arm in augment_seg.GENERATORS) == ("generator" in config.networks)
        assert (config.augment == arms["repeat"].augment) == (arm != "geometric")


def test_the_generator_that_is_trained_first_is_the_one_that_makes_pairs():
    config = augment_seg.get_config("joint").lock()
    config.networks.generator.channels, config.noise.size = (64, 32), 7
    prior = config.prior_runs.generator
    assert prior.networks.generator.channels == (64, 32) and prior.noise.size == 7
    assert augment_seg.get_config("stylegan2").prior_runs.generator == dcgan.get_config("stylegan2,joint")
    config = augment_seg.get_config("pix2pix").lock()
    config.sample_as_trained = False
    assert not config.prior_runs.generator.sample_as_trained
