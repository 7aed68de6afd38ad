"""The fully connected CRF: the exact form against the definition, the lattice against the exact form."""

import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gan_seg_jax.errors import InputError
from gan_seg_jax.postprocess import crf, lattice
from gan_seg_jax.postprocess.crf import CRFParameters, mean_field

REAL_DATA = pathlib.Path(os.environ.get("GAN_SEG_DATA", pathlib.Path(__file__).parents[2] / ".." / "shared" / "data"))
DEEPLAB, WIDE, NEAR = CRFParameters(), CRFParameters(3.0, 3.0, 5.0, 49.0, 13.0), CRFParameters(3.0, 3.0, 5.0, 5.0, 13.0)
CLASSES = 4
QUICK = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # to compile
BUILD, SIMPLEX = QUICK(lattice.build), QUICK(lattice.simplex)


def drawn(height, width, seed=0, batch=1):
    """Return logits that are not sure, and a smooth image with an edge and noise."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(batch, height, width, CLASSES))
    image = ndimage.gaussian_filter(rng.normal(size=(batch, height, width, 3)), (0, 3, 3, 0)) * 300 + 120
    image[:, :, width // 2 :] += 50
    image += rng.normal(size=image.shape)
    return logits.astype(np.float32), np.clip(image, 0, 255).astype(np.float32)


def unaries(label, classes, seed, confidence=0.7):
    """Return logits as of a network that is right about where things are: blurred truth and blotchy noise."""
    rng = np.random.default_rng(seed)
    one_hot = (label[..., None] == np.arange(classes)).astype(float)
    noise = ndimage.gaussian_filter(rng.normal(size=one_hot.shape), (2, 2, 0))
    scores = ndimage.gaussian_filter(one_hot, (3, 3, 0)) + 1.2 * noise
    return (scores * np.log(confidence * (classes - 1) / (1 - confidence))).astype(np.float32)


def by_definition(logits, image, parameters, iterations):
    """Run mean field on one image in float64 with loops over all pairs of pixels."""
    height, width, classes = logits.shape
    pixels = [(y, x) for y in range(height) for x in range(width)]
    kernels = np.zeros((2, len(pixels), len(pixels)))
    for i, p in enumerate(pixels):
        for j, q in enumerate(pixels):
            space = (p[0] - q[0]) ** 2 + (p[1] - q[1]) ** 2
            colour = np.sum((image[p].astype(float) - image[q]) ** 2)
            kernels[0, i, j] = np.exp(-space / 2 / parameters.gaussian_xy**2)
            kernels[1, i, j] = np.exp(
                -space / 2 / parameters.bilateral_xy**2 - colour / 2 / parameters.bilateral_rgb**2
            )
    total = 0
    for weight, kernel in zip((parameters.gaussian_weight, parameters.bilateral_weight), kernels, strict=True):
        norm = kernel.sum(1)
        total = total + weight * kernel / np.sqrt(norm[:, None] * norm[None, :])
    log_softmax = lambda x: x - np.logaddexp.reduce(x, axis=-1, keepdims=True)
    unary = -log_softmax(logits.reshape(-1, classes).astype(float))
    log_q = -unary
    for _ in range(iterations):
        log_q = log_softmax(-unary + total @ np.exp(log_q))
    return log_q.reshape(logits.shape)


def differences(logits, image, parameters):
    """Return the mean absolute difference of the marginals, and the share of different labels, of the two forms."""
    ours, exact = (np.asarray(mean_field(logits, image, None, parameters, method=m)) for m in ("lattice", "exact"))
    return np.abs(np.exp(ours) - np.exp(exact)).mean(), np.mean(ours.argmax(-1) != exact.argmax(-1))


@pytest.mark.parametrize("parameters", [DEEPLAB, CRFParameters(1.5, 2.0, 0.7, 5.0, 20.0)])
def test_exact_is_the_definition(parameters):
    logits, image = drawn(5, 7)
    found = mean_field(logits, image, None, parameters, iterations=4, method="exact")
    np.testing.assert_allclose(found[0], by_definition(logits[0], image[0], parameters, 4), atol=2e-5)
    assert found.dtype == jnp.float32


def test_tiles_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    values, features = rng.normal(size=(50, 3)).astype(np.float32), rng.normal(size=(50, 5)).astype(np.float32)
    kernel = np.exp(-0.5 * np.sum((features[:, None] - features) ** 2, -1))
    for tile in (1, 7 * 50, 2**24):
        monkeypatch.setattr(crf, "TILE", tile)
        np.testing.assert_allclose(crf.exact(values, features), kernel @ values, atol=1e-5)


@pytest.mark.parametrize("parameters", [DEEPLAB, WIDE, NEAR])
def test_lattice_is_near_exact_on_drawn_images(parameters):
    rng = np.random.default_rng(0)
    label = ndimage.gaussian_filter(rng.normal(size=(64, 64, CLASSES)), (8, 8, 0)).argmax(-1)
    shade = 30 * np.linspace(-1, 1, 64)[:, None] + rng.normal(size=(64, 64))
    colours = np.array([[60, 90, 60], [90, 90, 100], [140, 120, 90], [200, 200, 210]])
    image = colours[label] + shade[..., None] + 0.5 * rng.normal(size=(64, 64, 3))
    marginals, labels = differences(unaries(label, CLASSES, 0)[None], image[None].astype(np.float32), parameters)
    assert marginals <= 0.01 and labels <= 0.01


def test_lattice_where_most_pixels_are_alone():
    """The hardest case: within reach of the kernel, a pixel has one other on average. Labels are not within 1% here."""
    _, image = drawn(64, 64)
    label = (ndimage.gaussian_filter(image[0, :, :, 0], 2) // 40).astype(int) % CLASSES
    marginals, labels = differences(unaries(label, CLASSES, 0)[None], image, DEEPLAB)
    assert marginals <= 0.01 and labels <= 0.02


@pytest.mark.parametrize("parameters", [DEEPLAB, WIDE, NEAR])
@pytest.mark.parametrize(("number", "top", "left"), [(50, 100, 200), (90, 150, 100), (20, 200, 300)])
def test_lattice_is_near_exact_on_photographs(number, top, left, parameters):
    images = sorted((REAL_DATA / "camvid" / "val" / "images").glob("*"))
    if not images:
        pytest.skip(f"camvid is not in {REAL_DATA} (GAN_SEG_DATA names the folder of the real sets)")
    mask = REAL_DATA / "camvid" / "val" / "masks" / f"{images[number].stem}.png"
    image, label = (np.asarray(Image.open(p))[top : top + 64, left : left + 64] for p in (images[number], mask))
    marginals, labels = differences(unaries(label, 11, number)[None], image[None], parameters)
    assert marginals <= 0.01 and labels <= 0.01


@pytest.mark.parametrize("method", crf.METHODS)
class TestBoth:
    """What holds for either form."""

    @pytest.mark.slow
    def test_without_weights_or_iterations_nothing_happens(self, method):
        logits, image = drawn(16, 16)
        plain = jax.nn.log_softmax(logits)
        nothing = CRFParameters(gaussian_weight=0.0, bilateral_weight=0.0)
        np.testing.assert_allclose(mean_field(logits, image, None, nothing, method=method), plain, atol=1e-6)
        np.testing.assert_allclose(mean_field(logits, image, iterations=0, method=method), plain, atol=1e-6)

    def test_classes_may_be_permuted(self, method):
        logits, image = drawn(16, 16)
        order = np.array([2, 0, 3, 1])
        found = mean_field(logits[..., order], image, method=method)
        np.testing.assert_allclose(found, mean_field(logits, image, method=method)[..., order], atol=1e-4)

    @pytest.mark.slow
    @pytest.mark.parametrize("parameters", [DEEPLAB, WIDE])
    def test_padding_is_as_if_cut_off(self, method, parameters):
        logits, image = drawn(24, 32)
        valid = np.zeros((1, 24, 32), bool)
        valid[:, :16, :16] = True  # the size of the other tests' images, whose program it shares
        found = mean_field(logits, image, valid, parameters, method=method)
        cut = mean_field(logits[:, :16, :16], image[:, :16, :16], None, parameters, method=method)
        np.testing.assert_allclose(found[:, :16, :16], cut, atol=1e-4)
        plain = jax.nn.log_softmax(logits)
        np.testing.assert_allclose(found[:, 16:], plain[:, 16:], atol=1e-6)
        np.testing.assert_allclose(found[:, :, 16:], plain[:, :, 16:], atol=1e-6)

    def test_nothing_valid(self, method):
        logits, image = drawn(16, 16)
        found = mean_field(logits, image, np.zeros((1, 16, 16), bool), method=method)
        np.testing.assert_allclose(found, jax.nn.log_softmax(logits), atol=1e-6)

    def test_batch_is_image_by_image(self, method):
        logits, image = drawn(16, 16, batch=2)
        found = mean_field(logits, image, method=method)
        for i in range(2):
            one = mean_field(logits[i : i + 1], image[i : i + 1], method=method)
            np.testing.assert_allclose(np.exp(found[i]), np.exp(one[0]), atol=1e-4)

    def test_gradients_are_finite_differences(self, method):
        logits, image = drawn(16, 16)
        parameters = CRFParameters(0.6, 1.5, 0.8, 20.0, 10.0)
        rng = np.random.default_rng(1)
        wanted, direction = rng.normal(size=(2, *logits.shape)).astype(np.float32)

        def score(logits, parameters):
            log_q = mean_field(logits, image, None, parameters, iterations=3, method=method)
            return jnp.sum(jnp.exp(log_q) * wanted)

        value = QUICK(score)
        slopes = lambda at: (value(*at(0.05)) - value(*at(-0.05))) / 0.1
        by_logits, by_parameters = QUICK(jax.grad(score, (0, 1)))(logits, parameters)
        towards = lambda step: (logits + step * direction, parameters)
        np.testing.assert_allclose(slopes(towards), jnp.sum(by_logits * direction), rtol=0.02)
        for name in ("gaussian_weight", "bilateral_weight"):
            more = lambda step, name=name: (logits, parameters._replace(**{name: getattr(parameters, name) + step}))
            np.testing.assert_allclose(slopes(more), getattr(by_parameters, name), rtol=0.02)
            assert abs(getattr(by_parameters, name)) > 0.05
        assert by_parameters.gaussian_xy == by_parameters.bilateral_xy == by_parameters.bilateral_rgb == 0

    def test_edges_of_the_image_decide(self, method):
        """A noisy unary is cleaned up to the edge, and a line one pixel wide survives since its colour says so."""
        truth = np.zeros((32, 32), int)
        truth[:, 16:] = 1
        truth[8, :16] = 2
        rng = np.random.default_rng(0)
        image = np.array([[60, 90, 60], [150, 150, 160], [220, 40, 40]])[truth] + rng.normal(size=(32, 32, 3))
        logits = 1.5 * np.eye(3)[truth] + rng.normal(size=(32, 32, 3))
        before = np.mean(logits.argmax(-1) == truth)
        parameters = CRFParameters(1.0, 1.0, 6.0, 30.0, 8.0)
        after = mean_field(logits[None], image[None], None, parameters, method=method)[0].argmax(-1)
        assert before < 0.85
        np.testing.assert_array_equal(after, truth)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"parameters": DEEPLAB._replace(gaussian_xy=0.0)}, "gaussian_xy is 0.0"),
            ({"parameters": DEEPLAB._replace(bilateral_rgb=-1.0)}, "bilateral_rgb is -1.0"),
            ({"parameters": DEEPLAB._replace(bilateral_xy=float("nan"))}, "bilateral_xy is nan"),
            ({"parameters": DEEPLAB._replace(bilateral_weight=-4.0)}, "bilateral_weight is -4.0"),
            ({"iterations": -1}, "iterations is -1"),
            ({"image": np.zeros((1, 16, 15, 3))}, r"\(1, 16, 15, 3\)"),
            ({"image": np.zeros((1, 16, 16, 1))}, r"\(1, 16, 16, 1\)"),
            ({"logits": np.zeros((16, 16, 2))}, r"\[b, h, w, k\]"),
            ({"valid": np.ones((1, 16), bool)}, "valid has shape"),
        ],
    )
    def test_bad_arguments_are_refused(self, method, change, message):
        logits, image = drawn(16, 16)
        with pytest.raises(InputError, match=message):
            mean_field(**{"logits": logits, "image": image, "valid": None, "method": method, **change})


def test_unknown_methods_are_refused():
    with pytest.raises(InputError, match="'latice'.*'lattice'"):
        mean_field(*drawn(4, 4), method="latice")


def points(n, spread, seed=0, d=5):
    rng = np.random.default_rng(seed)
    return (spread * rng.normal(size=(n, d))).astype(np.float32)


@pytest.mark.parametrize("d", [2, 3, 5])
def test_corners_interpolate_their_point(d):
    """Barycentric weights are a convex combination, and that of the corners is the point, in the lattice's plane."""
    features = points(200, 3.0, d=d)
    corners, weights = map(np.asarray, SIMPLEX(features))
    assert weights.min() >= -1e-5
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-5)
    full = np.concatenate([corners, -corners.sum(-1, keepdims=True)], -1)
    np.testing.assert_array_equal(full % (d + 1), np.arange(d + 1)[None, :, None] * np.ones_like(full))
    placed = np.einsum("nr,nrd->nd", weights, full)
    distance = np.linalg.norm(placed[:, None] - placed, axis=-1)
    expected = (d + 1) * np.sqrt(2 / 3) * np.linalg.norm(features[:, None] - features, axis=-1)
    np.testing.assert_allclose(distance, expected, atol=1e-3)


@pytest.mark.parametrize(("spread", "scale"), [(5.0, 2), (0.7, 1), (0.1, 0), (1e-6, 0)])
def test_lattice_knows_its_vertices_and_their_neighbours(spread, scale):
    """Isolated points, which have almost 6 vertices each, near ones, crowded ones, and all the same one."""
    n, d = 300, 5
    features = points(n, spread)
    valid = np.arange(n) % 7 != 0
    built = jax.tree.map(np.asarray, BUILD(features, valid))
    sites = np.asarray(SIMPLEX(features * np.float32(lattice.SCALES[scale]))[0])
    step = np.asarray(lattice.steps(d))
    corners, vertices = sites[valid].reshape(-1, d), built.vertices.T[valid].ravel()
    known = {tuple(corner): int(vertex) for corner, vertex in zip(corners, vertices, strict=True)}
    assert [known[tuple(corner)] for corner in corners] == vertices.tolist()
    assert (built.vertices[:, ~valid] == 0).all() and (built.weights[:, ~valid] == 0).all()
    assert sorted(known.values()) == list(range(1, len(known) + 1))
    crowded = scale == 0
    every = {s for k in known for s in [k, *map(tuple, k + step), *map(tuple, k - step)]} if crowded else set(known)
    assert built.count == len(every)
    for site, vertex in known.items():
        for axis in range(d + 1):
            for there, sign in ((built.following, 1), (built.preceding, -1)):
                expected = known.get(tuple(np.array(site) + sign * step[axis]))
                if expected is not None or not crowded:
                    assert there[axis, vertex] == (expected or 0)
                else:
                    assert len(known) < there[axis, vertex] <= built.count


def test_blur_is_symmetric_and_near_the_gaussian_sum():
    n = 400
    features = points(n, 0.7, d=3)
    built = BUILD(features, np.ones(n, bool))
    matrix = np.asarray(QUICK(lattice.blur)(np.eye(n, dtype=np.float32), built))
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-7)
    kernel = np.exp(-0.5 * np.sum((features[:, None] - features) ** 2, -1))
    scaled = lambda m: m / np.sqrt(np.outer(m.sum(0), m.sum(0)))
    values = np.sin(features)
    difference = np.abs(scaled(matrix) @ values - scaled(kernel) @ values)
    assert difference.mean() < 0.015 and difference.max() < 0.06
    weights = np.random.default_rng(0).normal(size=(n, n)).astype(np.float32)
    score = lambda values: jnp.sum(weights * lattice.blur(values, built))
    np.testing.assert_allclose(QUICK(jax.grad(score))(np.eye(n, dtype=np.float32)), matrix @ weights, atol=1e-4)


def test_an_image_of_one_pixel_keeps_its_order():
    logits, image = drawn(1, 1)
    found = np.asarray(mean_field(logits, image, None, DEEPLAB, method="lattice"))
    np.testing.assert_array_equal(np.argsort(found), np.argsort(logits))
    np.testing.assert_allclose(np.exp(found).sum(-1), 1, rtol=1e-5)


def test_other_parameters_do_not_compile_again():
    logits, image = drawn(16, 16)
    compiled = crf._mean_field._cache_size
    mean_field(logits, image, None, DEEPLAB, method="exact")
    before = compiled()
    mean_field(logits, image, None, NEAR, method="exact")
    assert compiled() == before
