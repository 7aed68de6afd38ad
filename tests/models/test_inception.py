"""Inception v3: size, names, the way in from a file, and what the two variants and filters differ by.

That it equals the published networks is `test_torch_parity.py`'s.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util
from safetensors.numpy import save_file

from gan_seg_jax.errors import InputError
from gan_seg_jax.models import inception
from gan_seg_jax.models.pretrained import torch_key

PUBLISHED = {  # some keys of the published state dicts
    "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
    "Conv2d_4a_3x3.bn.running_var": (192,),
    "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
    "Mixed_5d.branch_pool.bn.weight": (64,),
    "Mixed_6a.branch3x3dbl_3.conv.weight": (96, 96, 3, 3),
    "Mixed_6c.branch7x7dbl_5.conv.weight": (192, 160, 1, 7),
    "Mixed_6e.branch7x7_3.conv.weight": (192, 192, 7, 1),
    "Mixed_7a.branch7x7x3_4.bn.running_mean": (192,),
    "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
    "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
    "Mixed_7c.branch1x1.bn.bias": (320,),
}


@pytest.fixture(scope="module")
def shapes():
    images = jax.ShapeDtypeStruct((1, 299, 299, 3), jnp.float32)
    return jax.eval_shape(inception.InceptionV3().init, jax.random.key(0), images)


def torch_shapes(shapes):
    order = lambda shape: tuple(shape[axis] for axis in (3, 2, 0, 1)) if len(shape) == 4 else tuple(shape)
    return {torch_key(path[1:]): order(leaf.shape) for path, leaf in traverse_util.flatten_dict(shapes).items()}


def test_size_and_names_are_the_published_ones(shapes):
    count = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))
    assert count(shapes["params"]) == 23_834_568 - 2049 * 1000  # torchvision's, without the classifier
    assert count(shapes["batch_stats"]) == 34_432
    names = torch_shapes(shapes)
    assert len(names) == 94 * 5 and PUBLISHED.items() <= names.items()


@pytest.mark.parametrize("variant", inception.VARIANTS)
@pytest.mark.parametrize("size", [(299, 299), (7, 900)])
def test_images_of_any_size_have_2048_features(shapes, variant, size):
    images = jax.ShapeDtypeStruct((5, *size, 3), jnp.bfloat16)
    module = inception.InceptionV3(variant)
    found = jax.eval_shape(lambda v, x: inception.features(module, v, x), shapes, images)
    assert found.shape == (5, inception.FEATURES) and found.dtype == jnp.float32


def test_every_weight_of_a_file_finds_its_leaf(shapes, tmp_path):
    names = torch_shapes(shapes)
    numbers = {name: number / 64 for number, name in enumerate(names, start=1)}
    content = {name: np.full(shape, numbers[name], np.float16) for name, shape in names.items()}
    unused = ("fc.weight", "fc.bias", "AuxLogits.conv0.conv.weight", "Conv2d_1a_3x3.bn.num_batches_tracked")
    save_file({**content, **{name: np.zeros(1, np.int64) for name in unused}}, tmp_path / "weights.safetensors")
    module, variables = inception.load_inception(str(tmp_path / "weights.safetensors"), variant="torchvision")
    assert module == inception.InceptionV3("torchvision", antialias=False)
    assert jax.tree.structure(variables) == jax.tree.structure(shapes)
    leaves = traverse_util.flatten_dict(variables)
    for path, leaf in traverse_util.flatten_dict(shapes).items():
        assert leaves[path].shape == leaf.shape and leaves[path].dtype == jnp.float32
        assert np.unique(leaves[path]) == numbers[torch_key(path[1:])], path


def test_files_that_do_not_fit_end_in_a_sentence(tmp_path):
    with pytest.raises(InputError, match=r"variant of Inception 'fidd'.*'fid'"):
        inception.load_inception("unread.safetensors", variant="fidd")
    with pytest.raises(InputError, match="pickle"):
        inception.load_inception(str(tmp_path / "pt_inception.pth"))
    save_file({"Conv2d_1a_3x3.conv.weight": np.zeros((32, 3, 3, 3), np.float32)}, tmp_path / "one.safetensors")
    with pytest.raises(InputError, match=r"weights of Inception v3: keys 469 missing .*torchvision's inception_v3"):
        inception.load_inception(str(tmp_path / "one.safetensors"))


def test_padding_counts_in_one_variant_only():
    ones = jnp.ones((1, 4, 5, 2))
    counted = np.asarray(inception.average_pool(ones, count_padding=True))[0, ..., 0] * 9
    np.testing.assert_allclose(counted[:, 0], [4, 6, 6, 4], rtol=1e-6)
    np.testing.assert_allclose(counted[1], [6, 9, 9, 9, 6], rtol=1e-6)
    np.testing.assert_allclose(inception.average_pool(ones, count_padding=False), ones, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["average", "max"])
def test_the_last_block_pools_by_its_variant(pool):
    block = inception.BlockE(pool, count_padding=False)
    x = jnp.asarray(np.random.default_rng(0).uniform(size=(1, 3, 4, 2)), jnp.float32)
    shapes = jax.eval_shape(block.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.1), shapes)
    kernel = np.zeros((1, 1, 2, 192), np.float32)
    kernel[0, 0, 1, 7] = 1.0  # the second channel alone, and the norm leaves it
    norm = {"bn": {"scale": jnp.ones(192), "bias": jnp.zeros(192)}}
    variables["params"]["branch_pool"] = {"conv": {"kernel": jnp.asarray(kernel)}, **norm}
    still = {"mean": jnp.zeros(192), "var": jnp.full(192, 1 - inception.EPSILON)}
    variables["batch_stats"]["branch_pool"] = {"bn": still}
    found = np.asarray(block.apply(variables, x))[0, 1, 1]
    window = np.asarray(x)[0, 0:3, 0:3, 1]
    assert found.shape == (2048,)
    assert found[-192 + 7] == pytest.approx(window.max() if pool == "max" else window.mean(), rel=1e-4)


def test_only_anti_aliasing_sees_more_than_two_pixels_when_halving():
    image = np.random.default_rng(0).uniform(-1, 1, (1, 598, 598, 3)).astype(np.float32)
    pairs = image.reshape(1, 299, 2, 299, 2, 3)
    plain = inception.resize(jnp.asarray(image), antialias=False)
    np.testing.assert_allclose(plain, pairs.mean(axis=(2, 4)), atol=1e-5)
    smooth = inception.resize(jnp.asarray(image), antialias=True)
    taps = np.array([1, 3, 3, 1]) / 8
    expected = np.einsum("ijc,i,j->c", image[0, 9:13, 21:25], taps, taps)
    np.testing.assert_allclose(smooth[0, 5, 11], expected, atol=1e-5)
    np.testing.assert_array_equal(inception.resize(plain, antialias=True), plain)
