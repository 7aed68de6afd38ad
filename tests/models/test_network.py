"""What networks say of themselves: what they make, what their fields may be, and whether they are bound to a size."""

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from configs import common, discriminators, networks
from gan_seg_jax.errors import InputError
from gan_seg_jax.methods import generators
from gan_seg_jax.models import MODELS, build_network, check, network, that_make
from tests.test_methods import CONFIGS, load

COUNT, LAYERS = network.COUNT, network.LAYERS


@pytest.mark.parametrize(
    ("numbers", "value", "allowed"),
    [
        (COUNT, 1, True),
        (COUNT, 0, False),
        (COUNT, (3, 2**16), True),
        (COUNT, (3, 2**16 + 1), False),
        (COUNT, (), False),
        (COUNT, (1,) * 64, True),
        (COUNT, (1,) * 65, False),
        (LAYERS, 0, True),
        (LAYERS, -1, False),
        (LAYERS, (), True),
        (network.SHARE, 0.0, True),
        (network.SHARE, 1.0, False),
        (network.FACTOR, float("nan"), False),
        (network.Numbers(distinct=True), (2, 2), False),
        (network.Numbers(distinct=True), (2, 3), True),
    ],
)
def test_numbers(numbers, value, allowed):
    assert numbers.allow(value) is allowed


@pytest.mark.parametrize(
    ("name", "field", "value", "expected"),
    [
        ("unet", "channels", (4, 8), ""),
        ("unet", "channels", 4, "whole numbers, at least 1 and at most 65536"),
        ("unet", "channels", "x", "whole numbers"),
        ("unet", "channels", (4, 8.5), "whole numbers"),
        ("unet", "encoder_convs", 0, ""),
        ("unet", "encoder_convs", True, "whole numbers, at least 0 and at most 256"),
        ("unet", "auxiliary", 1, "true or false"),
        ("unet", "skip", 0.5, "text"),
        ("unet", "kernel_init", "he", ""),
        ("unet", "kernel_init", 0.02, ""),
        ("unet", "kernel_init", -0.02, "numbers, at least 0"),
        ("unet", "logits_init", None, ""),
        ("unet", "dropout", 1, "less than 1"),
        ("deeplabv2", "channels", 0, ""),
        ("deeplabv1", "channels", 0, "at least 1"),
        ("deeplabv1", "backbone_width", 1, ""),
    ],
)
def test_what_a_field_may_be(name, field, value, expected):
    found = MODELS[name].expected(field, value)
    assert expected in found and (found == "") is (expected == "")


@pytest.mark.parametrize("name", MODELS)
def test_every_field_has_a_kind_that_is_checked(name):
    """Values of another kind are refused, whatever the field; its own default is not."""
    for field, default in MODELS[name].__dataclass_fields__.items():
        if field in MODELS[name].fields():
            assert MODELS[name].expected(field, default.default) == "", field
            assert MODELS[name].expected(field, {}) and MODELS[name].expected(field, ((1,),)), field


def test_each_says_what_it_makes():
    assert all(model.MAKES for model in MODELS.values())
    assert generators.LABEL_TO_IMAGE == ("unet", "spade_generator", "oasis_generator")
    assert generators.UNCONDITIONAL == ("dcgan_generator", "dense_generator", "stylegan2_generator")
    assert set(that_make(network.SEGMENTATION)) == {networks.NETWORKS[name]().name for name in networks.NETWORKS}
    assert all(issubclass(MODELS[name], network.Discriminator) for name in that_make(network.SCORES))


@pytest.mark.parametrize("name", [*that_make(network.SCORES), *that_make(network.CLASS_SCORES), "segan_critic"])
def test_only_weights_of_sized_networks_depend_on_the_size(name):
    small = {"channels": (4, 4)} if name == "unet_discriminator" else {"hidden": (4,)} if "dense" in name else {}
    derived = {"num_classes": 3} if name == "unet_discriminator" else {}
    module = build_network(ConfigDict({"name": name, "ema": False, **small}), dtype="float32", **derived)

    def shapes(height):
        image = jax.ShapeDtypeStruct((2, height, 64, 3), jnp.float32)
        variables = jax.eval_shape(lambda x: module.init(jax.random.key(0), x, train=False), image)
        return jax.tree.map(lambda leaf: leaf.shape, variables)

    assert (shapes(64) != shapes(96)) is MODELS[name].SIZED


@pytest.mark.parametrize(
    ("fields", "mixes", "bounded"),
    [
        ({"name": "patchgan", "norm": "batch"}, True, False),
        ({"name": "patchgan", "norm": "batch", "spectral": True}, True, True),
        ({"name": "patchgan", "norm": "spectral"}, False, True),
        ({"name": "patchgan", "norm": "instance"}, False, False),
        ({"name": "multiscale_patchgan", "norm": "instance"}, False, True),  # spectral by default
        ({"name": "multiscale_patchgan", "norm": "instance", "spectral": False}, False, False),
        ({"name": "dcgan_discriminator", "norm": "batch"}, True, False),
        ({"name": "luc_discriminator", "norm": "spectral"}, False, True),
    ],
)
def test_what_a_discriminator_says_of_its_norm(fields, mixes, bounded):
    module = build_network(ConfigDict({"ema": False, **fields}), dtype="float32")
    assert (module.mixes_examples, module.bounded) == (mixes, bounded)


@pytest.mark.parametrize("name", networks.FIELDS)
def test_the_papers_values_are_the_defaults(name):
    """So a default stands in one place, and every field of the network can be set by the config."""
    attributes = MODELS[name].__dataclass_fields__
    assert set(networks.FIELDS[name]) == set(MODELS[name].fields())
    assert networks.FIELDS[name] == {field: attributes[field].default for field in networks.FIELDS[name]}


@pytest.mark.parametrize(
    ("options", "sizes"),
    [
        (common.unet(), ()),
        (common.patchgan(), ("channels",)),
        (discriminators.luc(), ("width",)),
        (discriminators.fcn(), ("channels",)),
        (discriminators.multiscale(), ("channels",)),
        (discriminators.image_level(), ("channels",)),
    ],
    ids=lambda value: value.name if isinstance(value, ConfigDict) else "",
)
def test_words_differ_from_the_defaults_in_widths_alone(options, sizes):
    attributes = MODELS[options.name].__dataclass_fields__

    def plain(value):
        value = str(value) if isinstance(value, float) and not isinstance(value, bool) else value
        return set(value) if isinstance(value, tuple) and len(set(value)) == 1 else {value}

    differing = {
        field
        for field, value in options.items()
        if field not in ("name", "ema") and plain(value) != plain(attributes[field].default)
    }
    assert differing == set(sizes)


@pytest.mark.parametrize("name", CONFIGS)
def test_shipped_configs_pass(name):
    check(load(name))


def test_what_is_wrong_is_named():
    config = load("cgan_seg").unlock()
    config.networks.generator.name = "unett"
    with pytest.raises(InputError, match=r"config\.networks\.generator\.name is 'unett'; expected one of fcn, unet"):
        check(config)
    config = load("cgan_seg").unlock()
    config.networks.generator.chanels = (1,)
    with pytest.raises(InputError, match=r"Unknown config field 'networks\.generator\.chanels'. Did you mean"):
        check(config)
    config = load("cgan_seg").unlock()
    config.pretrained.segmenter = ""
    with pytest.raises(InputError, match=r"config\.pretrained is 'segmenter'; expected roles"):
        check(config)
    config = load("cgan_seg").unlock()
    config.pretrained.generator = "pip:vgg19"
    with pytest.raises(InputError, match=r"config\.pretrained\.generator is 'pip:vgg19'; expected one of pip:eff"):
        check(config)
