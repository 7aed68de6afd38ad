"""Norms over a single value: found from shapes, for every network, before the first step."""

import contextlib
import importlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.methods import get_method
from gan_seg_jax.models import MODELS, layers, norms, spade
from gan_seg_jax.models.aspp import ASPP
from gan_seg_jax.models.unet import UNet
from gan_seg_jax.training import checks, start
from tests import tiny_runs
from tests.models.network_checks import fast_compile

K = 3
RESNET = {"num_classes": K, "backbone": "resnet18", "backbone_width": 0.25, "output_stride": 16}
ARGUMENTS = {  # of every network that has norms: its attributes, and the shapes of its inputs for images of 32 x 64
    "fcn": ({"num_classes": K, "backbone": "resnet18", "backbone_width": 0.25, "stride": 8, "head_channels": 8}, (3,)),
    "unet": ({"num_classes": K, "channels": (4, 8, 8, 8, 8), "encoder_convs": 0, "decoder_convs": 0}, (3,)),
    "segnet": ({"num_classes": K, "channels": (4, 8, 8, 8, 8), "convs": (1, 1, 1, 1, 1)}, (3,)),
    "pspnet": ({**RESNET, "bins": (1, 2), "channels": 8}, (3,)),
    "deeplabv1": ({**RESNET, "channels": 8}, (3,)),
    "deeplabv2": (RESNET, (3,)),
    "deeplabv3": ({**RESNET, "aspp_channels": 8}, (3,)),
    "deeplabv3plus": ({**RESNET, "aspp_channels": 8, "low_level_channels": 8, "decoder_channels": 8}, (3,)),
    "fcdensenet": ({"num_classes": K, "layers": (1, 1, 1, 1, 1), "bottleneck": 1, "growth": 4, "stem": 4}, (3,)),
    "backbone_unet": ({"num_classes": K, "backbone": "resnet18", "backbone_width": 0.25, "channels": (8, 8)}, (3,)),
    "fpn": ({"num_classes": K, "backbone": "resnet18", "backbone_width": 0.25, "channels": 8}, (3,)),
    "upernet": ({"num_classes": K, "backbone": "resnet18", "backbone_width": 0.25, "channels": 8}, (3,)),
    "segformer": ({"num_classes": K, "backbone": "resnet18", "backbone_width": 0.25, "channels": 8}, (3,)),
    "linear_head": ({"num_classes": K, "backbone": "resnet18", "backbone_width": 0.25}, (3,)),
    "dpt": ({"num_classes": K, "backbone_width": 0.25, "channels": (8, 8, 8, 8), "features": 8}, (3,)),
    "dcgan_generator": ({"size": (32, 64), "channels": (8, 8, 8, 8, 8)}, None),
    "dense_generator": ({"size": (32, 64), "hidden": (8,)}, None),
    "spade_generator": ({"channels": 2, "widths": (4, 2, 1), "doublings": (1, 1, 1), "hidden": 4}, (K,)),
    "oasis_generator": ({"channels": 2, "widths": (4, 2, 1), "doublings": (1, 1, 1), "hidden": 4}, (K,)),
    "patchgan": ({"channels": 4, "layers": 3}, (3, K)),
    "multiscale_patchgan": ({"channels": 4, "layers": 2}, (3, K)),
    "dcgan_discriminator": ({"channels": 4, "layers": 4}, (3,)),
    "segan_critic": ({"channels": 4}, (3,)),
}
WITHOUT_NORMS = {  # but spectral normalisation, which is of the kernels
    "stylegan2_generator",
    "dense_discriminator",
    "fcn_discriminator",
    "s4gan_discriminator",
    "luc_discriminator",
    "unet_discriminator",
}


def trace(name, batch, norm, *, train=True):
    """Trace a network on `batch` images of 32 x 64, with nothing computed."""
    attributes, channels = ARGUMENTS[name]
    norm = {} if norm is None else {"norm": norm}
    network = MODELS[name](**attributes, **norm)
    if channels is None:
        inputs = [jax.ShapeDtypeStruct((batch, 5), jnp.float32)]
    else:
        inputs = [jax.ShapeDtypeStruct((batch, 32, 64, c), jnp.float32) for c in channels]
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    jax.eval_shape(lambda *x: network.init_with_output(keys, *x, train=train), *inputs)


@contextlib.contextmanager
def counting():
    """Yield a list that gets the number of values each norm layer, Flax's or ours, takes one mean of."""
    counts = []
    train = lambda options: options.get("train", not options.get("use_running_average", True))

    def look(call, args, kwargs, context):
        module, x = context.module, args[0] if args else None
        if isinstance(module, nn.BatchNorm | norms._BatchNorm) and train(kwargs):
            counts.append(x.size // x.shape[-1])
        if isinstance(module, nn.InstanceNorm):
            counts.append(x.shape[1] * x.shape[2])
        if isinstance(module, nn.GroupNorm):
            counts.append(x[0].size // module.num_groups)
        return call(*args, **kwargs)

    with nn.intercept_methods(look):
        yield counts


def test_every_network_is_here():
    assert set(ARGUMENTS) | WITHOUT_NORMS == set(MODELS) and spade.layers is layers


@pytest.mark.parametrize(("norm", "batch"), [("batch", 1), ("instance", 2)])
@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_network_trains_exactly_where_no_norm_sees_a_single_value(name, batch, norm, monkeypatch):
    if (name, norm) == ("dense_generator", "instance"):
        norm = "group"  # of 8 channels, each a group
    try:
        with counting() as counts:
            trace(name, batch, norm)
        assert min(counts) > 1
    except InputError as error:
        assert "one value" in str(error)
        monkeypatch.setattr(norms, "check_values", lambda *_: None)
        monkeypatch.setattr(UNet, "_check_depth", lambda *_, **__: None)
        with counting() as counts:
            trace(name, batch, norm)
        assert min(counts) == 1


# What is known of them: the batch and norms that are refused on these images.
REFUSED = {
    ("deeplabv3", 1, "batch"): "aspp/image/norm the map is 1x1, the batch 1; use batch_size 2 or more",
    ("deeplabv3plus", 1, "batch"): "aspp/image/norm",
    ("segan_critic", 1, "batch"): "norm_5",
    ("segan_critic", 2, "instance"): "norm_5",
    ("segan_critic", 2, "batch"): None,
    ("dense_generator", 1, "batch"): "norm_0",
    ("deeplabv3plus", 2, "batch"): None,
    ("deeplabv3plus", 1, "instance"): None,
    ("deeplabv3plus", 1, "frozen_batch"): None,
    ("deeplabv3plus", 1, "none"): None,
    ("pspnet", 1, "batch"): None,
    ("pspnet", 1, "instance"): None,
}


@pytest.mark.parametrize(("case", "refused"), REFUSED.items())
def test_known_networks(case, refused):
    if refused is None:
        trace(*case)
    else:
        with pytest.raises(InputError, match=refused):
            trace(*case)
        trace(*case, train=False)


@pytest.mark.parametrize(
    ("norm", "batch", "size", "residual", "fitting"),
    [
        ("instance", 4, (128, 128), 0, 7),
        ("batch", 1, (128, 128), 0, 7),
        ("batch", 2, (128, 128), 0, 8),
        ("instance", 4, (128, 128), 1, 6),
        ("batch", 1, (256, 256), 0, 8),
        ("none", 1, (128, 128), 0, 8),
        ("instance", 1, (128, 256), 0, 8),
        ("instance", 1, (96, 128), 1, 6),
        ("layer", 1, (64, 64), 0, 8),
    ],
)
def test_a_u_net_has_as_many_levels_as_fit(norm, batch, size, residual, fitting):
    def levels(count):
        network = UNet(K, channels=(8,) * count, encoder_convs=residual, decoder_convs=0, norm=norm)
        image = jax.ShapeDtypeStruct((batch, *size, 3), jnp.float32)
        return jax.eval_shape(lambda x: network.init_with_output(jax.random.key(0), x, train=True), image)

    levels(fitting)
    if fitting < 8:
        for count in (fitting + 1, 8):
            with pytest.raises(InputError, match=f"UNet has {count} levels, but {fitting} fit a batch of {batch}"):
                levels(count)


def test_the_image_branch_still_sees_the_image_where_a_norm_would_leave_nothing():
    """Under norm "instance" it has a bias instead, so its result is that of a convolution and follows its input."""
    network, x = ASPP(4, rates=(1,), dropout=0.0, norm="instance"), jnp.ones((1, 3, 3, 2))

    @fast_compile
    def look(x):
        variables = network.init(jax.random.key(0), x, train=False)
        _, found = network.apply(variables, x, train=True, mutable=["intermediates"], capture_intermediates=True)
        return variables["params"]["image"]["conv"]["kernel"], found["intermediates"]["image"]["__call__"][0]

    kernel, branch = look(x)
    np.testing.assert_allclose(branch[0, 0, 0], np.maximum(np.sum(kernel, axis=(0, 1, 2)), 0), rtol=1e-6)
    assert np.any(branch > 0)


@pytest.mark.parametrize("name", ["segan", "dcgan:dense"])
def test_a_role_is_named_before_the_first_step(name):
    file, _, words = name.partition(":")
    config = importlib.import_module(f"configs.{file}").get_config(f"{words},smoke")
    config.num_classes = K
    method, role = get_method(config), "generator" if file == "dcgan" else "discriminator"
    shapes = start.state_shapes(method, config)
    checks.check_training(method, config, shapes)
    config.batch_size = 1
    with pytest.raises(InputError, match=rf"^config\.networks\.{role}: .* over one value"):
        checks.check_training(method, config, shapes)
    config.phases = ((1, ()),)  # nothing moves, so nothing is in training mode
    checks.check_training(method, config, shapes)


def test_a_run_is_refused_before_it_begins(tiny, tmp_path):
    args = ["--config=configs/supervised_seg.py:smoke", "--config.dataset=folder", f"--config.data_dir={tiny.data}"]
    fields = {"norm": "instance", "channels": (4,) * 7, "encoder_convs": (0,) * 7, "decoder_convs": (0,) * 6}
    args += [f"--config.networks.segmenter.{name}={value}" for name, value in fields.items()]
    found = tiny_runs.command("main", *args, f"--workdir={tmp_path}")
    assert found.code == 2 and "config.networks.segmenter: UNet has 7 levels, but 6 fit a batch of 4" in found.err
    assert not (tmp_path / "config.json").exists()
