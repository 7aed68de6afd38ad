"""Decoders over any backbone (U-Net, FPN, UPerNet, SegFormer, linear, DPT): parameters, sizes, gradients and modes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import MODELS, layers
from gan_seg_jax.models.backbones import BACKBONES
from gan_seg_jax.models.mix_transformer import MixTransformer
from gan_seg_jax.models.vision_transformer import VisionTransformer
from tests.models import network_checks

# Counts of the same networks in segmentation_models.pytorch, transformers and DINOv2.
PARAMETERS = {
    "backbone_unet": ({"num_classes": 1, "backbone": "resnet34"}, 24_436_369),
    "segformer": ({"num_classes": 150}, 3_752_694),
    "linear_head": ({"num_classes": 150}, 22_056_192 + 2 * 384 + 385 * 150),
}
RESNET = {"num_classes": 3, "backbone": "resnet18", "backbone_width": 0.125}
SMALL = {
    "backbone_unet": {**RESNET, "channels": (8, 8, 8, 8, 8)},
    "fpn": {**RESNET, "pyramid_channels": 8, "channels": 8},
    "upernet": {**RESNET, "bins": (1, 2), "channels": 8},
    "segformer": {"num_classes": 3, "backbone": "small_mit", "channels": 8},
    "linear_head": {"num_classes": 3, "backbone": "small_vit"},
    "dpt": {"num_classes": 3, "backbone": "small_vit", "channels": (4, 8, 8, 8), "features": 8},
}
ANY = ("resnet18", "mobilenetv2", "efficientnet_lite0", "convnext_tiny", "mit_b0", "dinov2_small")


@pytest.fixture(autouse=True)
def small_transformers(monkeypatch):
    """Transformers of one block a stage, whose compilation takes seconds."""
    monkeypatch.setitem(BACKBONES, "small_mit", partial(MixTransformer, depths=(1, 1, 1, 1), head_channels=8))
    monkeypatch.setitem(BACKBONES, "small_vit", partial(VisionTransformer, depth=4, heads=2, head_channels=4))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_those_of_other_libraries(name):
    options, count = PARAMETERS[name]
    assert network_checks.shapes(MODELS[name](**options))[1] == count


# A third of the pairs has every decoder and every backbone in it; the others take as long again twice.
PAIRS = [
    pytest.param(name, backbone, marks=[pytest.mark.slow] * ((row + column) % 3 > 0))
    for row, name in enumerate(name for name in SMALL if name != "dpt")
    for column, backbone in enumerate(ANY)
]


@pytest.mark.parametrize(("name", "backbone"), PAIRS)
def test_any_backbone_fits_any_decoder(name, backbone):
    network = MODELS[name](**{**SMALL[name], "backbone": backbone})
    logits = network_checks.shapes(network, 2, 97, 131)[0]
    assert (logits[0] if isinstance(logits[0], tuple) else logits) == (2, 97, 131, 3)


def test_dpt_keeps_the_size_and_names_backbones_with_a_pyramid_of_their_own():
    assert network_checks.shapes(MODELS["dpt"](**SMALL["dpt"]), 2, 97, 131)[0] == (2, 97, 131, 3)
    with pytest.raises(InputError, match="mit_b0 has a pyramid of its own"):
        network_checks.shapes(MODELS["dpt"](**{**SMALL["dpt"], "backbone": "mit_b0"}))
    with pytest.raises(InputError, match="found channels for 2; give four"):
        network_checks.shapes(MODELS["dpt"](**{**SMALL["dpt"], "channels": (8, 8)}))


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != "backbone_unet")) for n in SMALL])
def test_gradient_reaches_every_parameter(name):
    norm = "none" if name in ("segformer", "linear_head") else "batch"  # which would take the biases before it away
    network = MODELS[name](**SMALL[name], norm=norm)
    image = network_checks.image(h=64, w=80) if name == "segformer" else network_checks.image()  # two keys a side
    network_checks.assert_gradient_reaches_every_parameter(network, image)


@pytest.mark.slow
def test_modes_of_a_network_whose_residuals_are_dropped():
    network = MODELS["segformer"](**SMALL["segformer"], drop_path=0.5)
    network_checks.assert_modes(network, network_checks.image())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["segformer", "dpt"])
def test_bfloat16_is_close(name):
    make = lambda dtype: MODELS[name](**SMALL[name], dtype=dtype)
    network_checks.assert_bfloat16_is_close(make, network_checks.image())


def test_windows_side_by_side_are_a_convolution_whose_stride_is_its_kernel():
    x = jax.random.normal(jax.random.key(0), (2, 13, 17, 3))
    made, variables = layers.PatchConv(5, 4).init_with_output(jax.random.key(1), x)
    same = layers.Conv(5, kernel=4, stride=4, padding=0).apply(variables, x)
    assert made.shape == (2, 3, 4, 5)
    np.testing.assert_allclose(made, same, atol=1e-5 * float(jnp.max(jnp.abs(same))))
