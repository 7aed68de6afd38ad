"""Decoding an encoder's features twice: as they are, and without some of their channels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import networks, supervised_seg
from gan_seg_jax.errors import InputError
from gan_seg_jax.models import build_network
from gan_seg_jax.models.perturbation import EncoderFeatures, decoded_twice

QUICK = ("unet", "segnet", "deeplabv3plus")  # the others are slow


class Mapper(nn.Module):
    """An encoder of two maps, and no decoder."""

    @nn.compact
    def __call__(self, image):
        maps = {"c1": image, "c2": 2.0 * image[:, ::2, ::2], "places": jnp.arange(len(image))}
        return EncoderFeatures()(maps)


@pytest.mark.parametrize("rate", [0.5, 0.25])
def test_whole_channels_are_dropped_and_the_others_make_up_for_them(rate):
    image = 1.0 + jax.random.uniform(jax.random.key(0), (3, 4, 4, 400))
    with decoded_twice(rate, jax.random.key(1)):
        found = Mapper().apply({}, image)
    np.testing.assert_array_equal(found["places"], [0, 0, 1, 1, 2, 2])  # no feature
    kept = []
    for name, plain in (("c1", image), ("c2", 2.0 * image[:, ::2, ::2])):
        np.testing.assert_array_equal(found[name][::2], plain)
        ratio = np.asarray(found[name][1::2] / plain).round(5)
        assert np.all(ratio == ratio[:, :1, :1])  # a channel as a whole
        ratio = ratio[:, 0, 0]
        np.testing.assert_allclose(np.unique(ratio), [0, 1 / (1 - rate)], atol=1e-5)
        np.testing.assert_allclose(ratio.mean(), 1.0, atol=0.06)
        kept += [tuple(row > 0) for row in ratio]
    assert len(set(kept)) == 6  # another draw for every example and every map
    assert len(Mapper().apply({}, image)["c1"]) == 3  # nothing outside of the block


def test_an_example_draws_by_its_row():
    image = jnp.ones((4, 2, 2, 16))
    with decoded_twice(0.5, jax.random.key(1)):
        first, second = (Mapper().apply({}, scale * image)["c1"][1::2] for scale in (1.0, 3.0))
    np.testing.assert_array_equal(3.0 * first, second)


def test_a_network_without_an_encoder_is_refused():
    with pytest.raises(InputError, match="no encoder whose features"), decoded_twice(0.5, jax.random.key(0)):
        nn.Dense(3).init(jax.random.key(0), jnp.ones((1, 2)))


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in networks.NETWORKS]
)
def test_every_network_can_be_decoded_twice(name):
    """Its output has twice the rows and its parameters are the same."""
    options = supervised_seg.get_config(f"{name},smoke").networks.segmenter
    network = build_network(options, dtype="float32", num_classes=4)
    rngs = {"params": jax.random.key(0), "dropout": jax.random.key(1)}

    def run(image, rate):
        if not rate:
            return network.init_with_output(rngs, image, train=True)
        with decoded_twice(rate, jax.random.key(2)):
            return network.init_with_output(rngs, image, train=True)

    image = jax.ShapeDtypeStruct((2, 64, 96, 3), jnp.float32)
    (plain, variables), (twice, same) = (jax.eval_shape(lambda x, r=r: run(x, r), image) for r in (0.0, 0.5))
    assert variables == same
    assert [(4, *x.shape[1:]) for x in jax.tree.leaves(plain)] == [x.shape for x in jax.tree.leaves(twice)]


@pytest.mark.parametrize("words", ["unet", *(pytest.param(n, marks=pytest.mark.slow) for n in QUICK[1:])])
def test_every_other_row_is_as_if_nothing_were_perturbed(words):
    options = supervised_seg.get_config(f"{words},smoke").networks.segmenter
    small = {"unet": {"channels": (4, 8), "encoder_convs": (0, 1), "decoder_convs": (1,)}}
    small |= {"deeplabv3plus": {"backbone_width": 0.125, "aspp_channels": 8}}
    small |= {"segnet": {"channels": (4, 8), "convs": (1, 1)}}
    options.update(small[words])
    network = build_network(options, dtype="float32", num_classes=3)
    image = jax.random.uniform(jax.random.key(0), (2, 32, 32, 3), minval=-1.0)

    def run(image):
        variables = network.init(jax.random.key(0), image, train=False)
        plain = network.apply(variables, image, train=False)
        with decoded_twice(0.5, jax.random.key(2)):
            return plain, network.apply(variables, image, train=False)

    plain, twice = jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})(image)
    np.testing.assert_allclose(twice[::2], plain, rtol=1e-5, atol=1e-6)
    assert np.abs(twice[1::2] - plain).max() > 1e-3
