"""The networks: sizes, parameters, modes and derivatives."""

import sys

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl import flags
from ml_collections import config_flags

from configs import cgan_seg, networks, supervised_seg
from gan_seg_jax import config as config_lib
from gan_seg_jax.errors import InputError
from gan_seg_jax.models import MODELS, PatchGAN, UNet, build_network

PIX2PIX = {
    "channels": (64, 128, 256, 512, 512, 512, 512, 512),
    "encoder_convs": 0,
    "decoder_convs": 0,
    "skip": "concat",
    "dropout": 0.5,
    "kernel_init": 0.02,
}
SMALL = {"channels": (4, 8, 8), "encoder_convs": (0, 1, 2), "decoder_convs": 1, "skip": "concat"}


def keys(seed=0):
    params, dropout = jax.random.split(jax.random.key(seed))
    return {"params": params, "dropout": dropout}


def initialize(network, *inputs):
    return jax.jit(lambda *x: network.init(keys(), *x, train=False))(*inputs)


def shapes(network, *sizes):
    """Return the shape of the output and the number of parameters, without computing anything."""
    inputs = [jax.ShapeDtypeStruct(size, jnp.float32) for size in sizes]
    out, variables = jax.eval_shape(lambda *x: network.init_with_output(keys(), *x, train=True), *inputs)
    assert out.dtype == jnp.float32
    return out.shape, sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


NAMES = (
    "fcn32s",
    "fcn16s",
    "fcn8s",
    "unet",
    "segnet",
    "pspnet",
    "deeplabv1",
    "deeplabv2",
    "deeplabv3",
    "deeplabv3plus",
    "fcdensenet56",
    "fcdensenet67",
    "fcdensenet103",
    "unet_lite0",
    "deeplabv3plus_lite0",
    "fpn_lite0",
    "upernet_convnext_tiny",
    "segformer_b0",
    "dinov2_small",
    "dpt_dinov2_small",
)
WITHOUT_PAPER = NAMES[NAMES.index("unet_lite0") :]
OTHERS = {
    "dcgan_generator",
    "dense_generator",
    "stylegan2_generator",
    "spade_generator",
    "oasis_generator",
    "patchgan",
    "multiscale_patchgan",
    "dcgan_discriminator",
    "dense_discriminator",
    "fcn_discriminator",
    "s4gan_discriminator",
    "luc_discriminator",
    "unet_discriminator",
    "segan_critic",
}
WITH_BACKBONE = [name for name in NAMES if name.startswith(("fcn", "pspnet", "deeplab")) or name in WITHOUT_PAPER]


def test_models_are_named():
    assert tuple(networks.NETWORKS) == NAMES and set(networks.PAPERS) == set(NAMES) - set(WITHOUT_PAPER)
    assert {networks.NETWORKS[name]().name for name in NAMES} == MODELS.keys() - OTHERS


def segmenter(name, *words, **changes):
    """Return the network that the words of `configs/supervised_seg.py` ask for, with 4 classes."""
    options = supervised_seg.get_config(",".join((name, *words))).networks.segmenter
    options.update(changes)
    return build_network(options, dtype="float32", num_classes=4)


@pytest.mark.parametrize(
    "words",
    [
        pytest.param((), id="small"),
        pytest.param(("smoke",), id="smoke", marks=pytest.mark.slow),  # traced in methods/test_refinement.py
        pytest.param(("paper",), id="paper"),
    ],
)
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in ("fcdensenet67", "fcdensenet103"))) for name in NAMES],
)
def test_networks_of_the_config_keep_the_size(name, words):
    if "paper" in words and name in WITHOUT_PAPER:
        with pytest.raises(InputError, match=f"{name} has no paper's recipe"):
            supervised_seg.get_config(f"{name},paper")
        return
    config = supervised_seg.get_config(",".join((name, *words)))
    config_lib.check(config)
    size = (2, *config.crop_size, 3) if words else (2, 97, 158, 3)
    image = jax.ShapeDtypeStruct(size, jnp.float32)
    outputs, _ = jax.eval_shape(lambda x: segmenter(name, *words).init_with_output(keys(), x, train=True), image)
    logits, auxiliary = outputs if isinstance(outputs, tuple) else (outputs, {})
    for out in (logits, *auxiliary.values()):
        assert (out.shape, out.dtype) == ((*size[:3], 4), jnp.float32)


@pytest.fixture
def parse(monkeypatch):
    """Return a function from command-line arguments to the config, by the flags of the commands."""

    def run(*argv):
        values = flags.FlagValues()
        config_flags.DEFINE_config_file("config", None, lock_config=True, flag_values=values)
        monkeypatch.setattr(sys, "argv", ["main", *argv])  # where ml_collections looks for the overrides
        values(sys.argv)
        return values["config"].value

    return run


@pytest.mark.parametrize("name", WITH_BACKBONE)
def test_backbone_is_one_field_for_config_and_network(name, parse):
    """Through the flags, in the network, in config.json, and in what is read back from it."""
    path = f"--config=configs/supervised_seg.py:{name},smoke"
    config = parse(path, "--config.backbone=resnet34")
    assert config.backbone == config.networks.segmenter.backbone == "resnet34"
    assert config_lib.digest(config) != config_lib.digest(parse(path))
    written = config_lib.to_json(config)
    assert written["backbone"] == written["networks"]["segmenter"]["backbone"] == "resnet34"
    restored = config_lib.from_json(written)
    assert config_lib.to_json(restored) == written
    assert build_network(restored.networks.segmenter, dtype="float32", num_classes=4).backbone == "resnet34"
    other = parse(path, "--config.networks.segmenter.backbone=resnet34")
    assert config_lib.digest(other) == config_lib.digest(config)


@pytest.mark.parametrize("name", sorted(set(NAMES) - set(WITH_BACKBONE)))
def test_networks_without_a_backbone_have_no_such_field(name, parse):
    with pytest.raises(AttributeError, match="backbone"):
        parse(f"--config=configs/supervised_seg.py:{name}", "--config.backbone=resnet34")


def test_words_of_the_config_that_do_not_fit_are_named():
    with pytest.raises(InputError, match="'deplabv3'. Did you mean 'deeplabv3'"):
        supervised_seg.get_config("deplabv3")
    with pytest.raises(InputError, match=r"2 networks \(fcn8s, unet\); give one"):
        supervised_seg.get_config("unet,fcn8s")


def test_the_config_without_words_is_the_unet():
    plain = config_lib.to_json(supervised_seg.get_config())
    assert plain == config_lib.to_json(supervised_seg.get_config("unet"))
    assert plain["networks"]["segmenter"]["channels"] == [24, 48, 96, 192, 256]
    small = [supervised_seg.get_config(name) for name in NAMES]
    assert len({str(config_lib.to_json(config)["optimizers"]) for config in small}) == 1  # a fair table


def test_the_recipe_leaves_the_network_and_its_weights_as_they_are():
    for module, words, role in ((supervised_seg, "unet_lite0", "segmenter"), (cgan_seg, "lite0", "generator")):
        plain, tuned = module.get_config(words), module.get_config(f"{words},recipe")
        config_lib.check(tuned)
        assert tuned.networks.to_dict() == plain.networks.to_dict()
        assert tuned.pretrained.to_dict() == plain.pretrained.to_dict() == {role: "pip:efficientnet_lite0"}
        options = tuned.optimizers[role]
        assert (options.name, options.learning_rate, options.schedule) == ("adamw", 2e-3, "poly")
        assert options.head_factor == 2.5 and module.get_config("recipe").optimizers[role].head_factor == 1.0
        assert tuned.losses.weights.lovasz == tuned.losses.weights.cross_entropy == 1.0
        assert tuned.ema_decay and tuned.losses.class_weighting
        with pytest.raises(InputError, match="paper and recipe stand behind the config's colon"):
            module.get_config("paper,recipe")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("deeplabv1", (321, 20, 6000, "sgd", 1e-3, "step", 10.0, 5e-4)),
        ("deeplabv2", (321, 10, 20_000, "sgd", 2.5e-4, "poly", 10.0, 5e-4)),
        ("deeplabv3", (513, 16, 30_000, "sgd", 0.007, "poly", 1.0, 1e-4)),
        ("deeplabv3plus", (513, 16, 30_000, "sgd", 0.007, "poly", 1.0, 1e-4)),
        ("pspnet", (473, 16, 30_000, "sgd", 0.01, "poly", 10.0, 1e-4)),
        ("segnet", (360, 12, 40_000, "sgd", 0.1, "constant", 1.0, 5e-4)),
    ],
)
def test_recipes_are_the_papers(name, expected):
    config = supervised_seg.get_config(f"{name},paper")
    options = config.optimizers.segmenter
    found = (config.crop_size[0], config.batch_size, config.steps, options.name, options.learning_rate)
    assert (*found, options.schedule, options.head_factor, options.l2) == expected
    assert (options.beta1, options.poly_power) == (0.9, 0.9)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_network_learns_one_batch(name):
    """Two images of blocks of four classes: below 10% of the first loss, without dropout."""
    has_dropout = "dropout" in MODELS[networks.NETWORKS[name]().name].__dataclass_fields__
    network = segmenter(name, **({"dropout": 0.0} if has_dropout else {}))
    blocks = jnp.array([[[0, 1], [2, 3]], [[3, 3], [1, 0]]])
    label = jnp.repeat(jnp.repeat(blocks, 32, axis=1), 32, axis=2)  # even one score per 32 x 32 pixels can tell
    colors = jnp.array([[0.8, 0.0, -0.5], [-0.8, 0.5, 0.0], [0.0, -0.8, 0.8], [0.3, 0.8, -0.8]])
    image = jnp.clip(colors[label] + 0.1 * jax.random.normal(jax.random.key(1), (2, 64, 64, 3)), -1, 1)
    variables = initialize(network, image)
    optimizer = optax.adam(2e-3)

    @jax.jit
    def step(params, stats, moments):
        def loss(params):
            outputs, updates = network.apply(
                {"params": params, "batch_stats": stats}, image, train=True, mutable=["batch_stats"]
            )
            logits = outputs[0] if isinstance(outputs, tuple) else outputs
            return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean(), updates.get("batch_stats", {})

        (value, stats), gradient = jax.value_and_grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), stats, moments, value

    state = (variables["params"], variables.get("batch_stats", {}), optimizer.init(variables["params"]))
    first, last = None, float("inf")
    for _ in range(300):
        *state, value = step(*state)
        first, last = first or float(value), float(value)
        if last < 0.1 * first:
            break
    assert last < 0.1 * first


@pytest.mark.parametrize("size", [(256, 256), (37, 53)])
def test_unet_of_pix2pix_has_its_parameters(size):
    assert shapes(UNet(3, **PIX2PIX), (2, *size, 3)) == ((2, *size, 3), 54_414_531)


@pytest.mark.parametrize("size", [(144, 192), (145, 191), (1, 1), (17, 3)])
def test_default_unet_maps_any_size_to_itself(size):
    assert shapes(UNet(11), (2, *size, 3)) == ((2, *size, 11), 4_744_643)


@pytest.mark.parametrize(("skip", "count"), [("concat", 6_889), ("add", 6_169), ("none", 6_169)])
def test_unet_counts_by_skip(skip, count):
    assert shapes(UNet(5, **(SMALL | {"skip": skip})), (1, 20, 30, 3))[1] == count


@pytest.mark.parametrize(
    ("options", "output", "count"),
    [
        ({}, (30, 30), 2_768_705),  # 70x70 patches, the published 2.769 M
        ({"norm": "spectral"}, (30, 30), 2_767_809),
        ({"norm": "instance"}, (30, 30), 2_769_601),
        ({"layers": 0}, (256, 256), 9_025),
        ({"layers": 1}, (126, 126), 139_585),
        ({"layers": 4, "channels": 32}, (14, 14), 1_745_313),
    ],
)
def test_patchgan_has_its_parameters(options, output, count):
    shape, parameters = shapes(PatchGAN(**options), (2, 256, 256, 3), (2, 256, 256, 3))
    assert (shape, parameters) == ((2, *output, 1), count)


@pytest.mark.parametrize("size", [(75, 61), (97, 128)])
def test_patchgan_takes_odd_sizes_and_any_number_of_inputs(size):
    for channels in [(14,), (3, 11), (3, 5, 6)]:
        shape, parameters = shapes(PatchGAN(8), *[(2, *size, c) for c in channels])
        assert shape == (2, size[0] // 8 - 2, size[1] // 8 - 2, 1)
        assert parameters == shapes(PatchGAN(8), (2, 64, 64, 14))[1]


@pytest.mark.parametrize("layers", [0, 1, 2, 3])
def test_patchgan_sees_its_patch(layers):
    """One score depends on exactly the pixels of its receptive field: 1, 16, 34 and 70."""
    field = {0: 1, 1: 16, 2: 34, 3: 70}[layers]
    network = PatchGAN(2, layers=layers, norm="none", kernel_init="he")
    x = jax.random.normal(jax.random.key(0), (1, 96, 96, 1))
    variables = initialize(network, x)
    gradient = jax.grad(
        lambda x: (s := network.apply(variables, x, train=False))[0, s.shape[1] // 2, s.shape[2] // 2, 0]
    )
    rows = np.flatnonzero(np.any(np.asarray(jax.jit(gradient)(x))[0, :, :, 0] != 0, axis=1))
    assert rows[-1] - rows[0] + 1 == field


def test_patchgan_too_small_an_input_is_named():
    with pytest.raises(InputError, match="24x24, found 16x64"):
        PatchGAN().init(keys(), jnp.zeros((1, 16, 64, 3)), train=True)


def test_unet_attributes_that_do_not_fit_are_named():
    image = jnp.zeros((1, 16, 16, 3))
    with pytest.raises(InputError, match="encoder_convs has 2 entries"):
        UNet(3, encoder_convs=(1, 1)).init(keys(), image, train=True)
    with pytest.raises(InputError, match="multiply"):
        UNet(3, skip="multiply").init(keys(), image, train=True)


@pytest.mark.parametrize("options", [{}, {"skip": "add", "norm": "group"}, {"norm": "instance", "encoder_convs": 0}])
def test_unet_is_equivariant_to_the_order_of_the_batch(options):
    network = UNet(5, **(SMALL | options))
    image = jax.random.normal(jax.random.key(1), (3, 19, 22, 3))
    variables = initialize(network, image)
    apply = jax.jit(lambda x: network.apply(variables, x, train=False))
    np.testing.assert_allclose(apply(image[::-1]), apply(image)[::-1], atol=1e-5)


def test_unet_pads_odd_sizes_with_zeros_at_the_bottom_and_right():
    network = UNet(5, channels=(4, 8), encoder_convs=1)
    image = jax.random.normal(jax.random.key(1), (1, 15, 13, 3))
    variables = initialize(network, image)
    padded = jnp.pad(image, ((0, 0), (0, 1), (0, 1), (0, 0)))
    apply = jax.jit(lambda x: network.apply(variables, x, train=False))
    np.testing.assert_allclose(apply(image), apply(padded)[:, :15, :13], atol=1e-5)


def test_modes_dropout_and_statistics():
    network = UNet(5, **SMALL, dropout=0.5)
    image = jax.random.normal(jax.random.key(1), (2, 16, 24, 3))
    variables = initialize(network, image)

    @jax.jit
    def train(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return network.apply(variables, image, train=True, rngs=rngs, mutable=["batch_stats"])

    first, again, other = train(0), train(0), train(1)
    np.testing.assert_array_equal(first[0], again[0])
    assert np.any(first[0] != other[0])
    assert jax.tree.structure(first[1]["batch_stats"]) == jax.tree.structure(variables["batch_stats"])
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), first[1]["batch_stats"], variables["batch_stats"])
    assert all(jax.tree.leaves(moved))
    jax.eval_shape(lambda: network.apply(variables, image, train=False))  # inference needs no key


def test_bfloat16_computes_in_it_and_returns_float32():
    image = jax.random.normal(jax.random.key(1), (2, 16, 24, 3))
    full, half = (UNet(5, **SMALL, dtype=dtype) for dtype in (jnp.float32, jnp.bfloat16))
    variables = initialize(full, image)
    assert jax.tree.map(jnp.shape, initialize(half, image)) == jax.tree.map(jnp.shape, variables)
    expected, actual = (jax.jit(lambda v, n=n: n.apply(v, image, train=False))(variables) for n in (full, half))
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(actual, expected, atol=0.05 * float(jnp.max(jnp.abs(expected))))
    assert not np.array_equal(actual, expected)


def test_unet_learns_one_batch():
    network = UNet(3, channels=(8, 16), encoder_convs=1)
    image = jax.random.uniform(jax.random.key(1), (2, 15, 18, 3), minval=-1)
    label = jnp.argmax(image, axis=-1)
    variables = initialize(network, image)
    optimizer = optax.adam(1e-2)

    @jax.jit
    def step(params, stats, moments):
        def loss(params):
            logits, updates = network.apply(
                {"params": params, "batch_stats": stats}, image, train=True, mutable=["batch_stats"]
            )
            return optax.softmax_cross_entropy_with_integer_labels(logits, label).mean(), (
                updates["batch_stats"],
                logits,
            )

        gradient, (stats_, logits) = jax.grad(loss, has_aux=True)(params)
        updates, moments = optimizer.update(gradient, moments)
        return optax.apply_updates(params, updates), stats_, moments, jnp.mean(jnp.argmax(logits, -1) == label)

    params, stats, moments = variables["params"], variables["batch_stats"], optimizer.init(variables["params"])
    for _ in range(100):
        params, stats, moments, accuracy = step(params, stats, moments)
    assert float(accuracy) > 0.95


def test_gradient_penalty_of_patchgan_equals_finite_differences():
    network = PatchGAN(4, layers=1, norm="spectral", kernel_init="he")
    image, mask = (jax.random.normal(jax.random.key(i), (2, 8, 8, c)) for i, c in ((1, 3), (2, 2)))
    variables = initialize(network, image, mask)

    @jax.jit
    def penalty(params):
        def total(mask):
            return jnp.sum(jnp.tanh(network.apply(variables | {"params": params}, image, mask, train=False)))

        return jnp.sum(jax.grad(total)(mask) ** 2)

    params, unflatten = jax.flatten_util.ravel_pytree(variables["params"])
    gradient = jax.jit(jax.grad(lambda p: penalty(unflatten(p))))(params)
    slope = jnp.linalg.norm(gradient)
    step = 1e-2 * gradient / slope
    difference = penalty(unflatten(params + step)) - penalty(unflatten(params - step))
    assert float(difference) / 2e-2 == pytest.approx(float(slope), rel=3e-2)


def test_spectral_discriminator_scores_both_halves_of_a_batch_alike():
    network = PatchGAN(4, norm="spectral")
    real, fake = (jax.random.normal(jax.random.key(i), (2, 32, 40, 5)) for i in (1, 2))
    variables = initialize(network, real)
    apply = jax.jit(lambda x: network.apply(variables, x, train=True, mutable=["batch_stats"])[0])
    together, apart = apply(jnp.concatenate([real, fake])), [apply(real), apply(fake)]
    np.testing.assert_allclose(together, jnp.concatenate(apart), atol=1e-5)
