"""From edges to regions to classes: the descriptors by hand, the learnt rule, and each way to cut an image."""

import numpy as np
import pytest
from skimage import color

from gan_seg_jax.baselines import BASELINES, dbscan, edges, regions, slic

DETECTORS = {name: BASELINES[name] for name in ("sobel", "roberts", "canny")}
SEGMENTERS = {"slic": slic.segment, "dbscan": dbscan.segment} | {
    name: lambda image, module=module: edges.segment(module.detect, 0.03, image) for name, module in DETECTORS.items()
}
COLOURS = np.array([[40, 90, 200], [120, 120, 120], [40, 140, 40]], np.uint8)


def two_halves(size=(60, 80), column=41):
    label = np.zeros(size, np.uint8)
    label[:, column:] = 1
    return COLOURS[label], label


def noisy_scene(seed, size=(60, 80)):
    rng = np.random.default_rng(seed)
    label = np.zeros(size, np.uint8)
    label[int(size[0] * rng.uniform(0.4, 0.6)) :] = 1
    row, column = (int(rng.uniform(0.1, 0.6) * n) for n in size)
    label[row : row + size[0] // 3, column : column + size[1] // 3] = 2
    return {"image": np.clip(COLOURS[label] + rng.normal(0, 3, (*size, 3)), 0, 255).astype(np.uint8), "label": label}


def test_descriptors_of_a_rectangle_and_of_a_line():
    image = np.full((40, 60, 3), 100, np.uint8)
    image[10:20, 30:50] = (200, 30, 60)
    cut = np.zeros((40, 60), int)
    cut[10:20, 30:50] = 1
    cut[30, :] = 2
    described = regions.describe(image, cut)
    assert described.shape == (3, 14) and described.dtype == np.float32
    lab = color.rgb2lab(image)[15, 40] / 100
    np.testing.assert_allclose(described[1, :3], lab, atol=1e-5)
    np.testing.assert_allclose(described[:, 3:6][1:], 0, atol=1e-6)  # of one colour
    np.testing.assert_allclose(described[1, 7:9], [15 / 40, 40 / 60], atol=1e-6)  # its centre
    np.testing.assert_allclose(described[1, 9:11], [10 / 12**0.5 / 40, 20 / 12**0.5 / 60], atol=1e-6)
    np.testing.assert_allclose(described[1, 11], np.log(200 / 2400), atol=1e-6)
    np.testing.assert_allclose(described[1, 12], 0.5, atol=1e-6)  # 10 to 20 pixels
    np.testing.assert_allclose(described[1, 13], 12 / (4 * np.pi), atol=1e-5)  # a rectangle is not quite an ellipse
    np.testing.assert_allclose(described[2, 12], 1 / 60, atol=1e-6)
    assert described[1, 6] > described[0, 6] > 0  # edges are where the rectangle is


def test_a_region_may_be_one_pixel():
    described = regions.describe(np.zeros((2, 2, 3), np.uint8), np.arange(4).reshape(2, 2))
    assert np.isfinite(described).all()
    np.testing.assert_allclose(described[:, 12], 1)


def test_the_rule_names_regions_by_colour_and_by_place():
    def examples(images):
        return [{"image": image, "label": label} for image, label in images]

    columns = lambda image: np.tile(np.arange(image.shape[1]) // 10, (image.shape[0], 1))
    image, label = two_halves(column=40)
    rule = regions.fit(columns, examples([(image, label)] * 4), num_classes=2, seed=0)
    np.testing.assert_array_equal(regions.name_regions(rule, image, columns(image)), label)
    grey = np.full_like(image, 90)
    rule = regions.fit(columns, examples([(grey, label)] * 4), num_classes=2, seed=0)
    np.testing.assert_array_equal(regions.name_regions(rule, grey, columns(grey)), label)


def test_the_majority_of_the_known_pixels_counts():
    cut = lambda image: np.repeat([[0], [1]], 5, axis=0).repeat(10, axis=1)
    image = np.zeros((10, 10, 3), np.uint8)
    image[5:] = 255
    label = np.full((10, 10), 255, np.uint8)
    label[:5, :3], label[:5, 3], label[9, 9] = 1, 2, 0
    rule = regions.fit(cut, [{"image": image, "label": label}] * 3, num_classes=3, seed=0)
    np.testing.assert_array_equal(regions.name_regions(rule, image, cut(image)), np.where(cut(image) == 0, 1, 0))


@pytest.mark.parametrize("name", SEGMENTERS)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (17, 5), (60, 80)])
def test_every_pixel_is_in_a_region_and_no_number_is_left_out(name, size):
    for image in (np.zeros((*size, 3), np.uint8), np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)):
        cut = SEGMENTERS[name](image)
        assert cut.shape == size
        np.testing.assert_array_equal(np.unique(cut), np.arange(cut.max() + 1))


@pytest.mark.parametrize("name", SEGMENTERS)
def test_no_region_lies_across_a_clear_edge(name):
    image, label = two_halves()
    cut = SEGMENTERS[name](image)
    slack = 2 if name == "canny" else 1  # a pixel or two at the edge, where the gradient is wide
    left, right = cut[:, : 41 - slack], cut[:, 41 + slack :]
    assert cut.max() >= 1
    assert not set(np.unique(left)) & set(np.unique(right))


@pytest.mark.parametrize("name", DETECTORS)
def test_an_edge_is_found_thin_and_where_it_is(name):
    image, _ = two_halves()
    (found,) = DETECTORS[name].detect(image, (0.03,))[1]
    assert found.dtype == bool
    rows, columns = np.nonzero(found[3:-3])
    assert set(columns) <= {39, 40, 41, 42}
    width = 2 if name == "canny" else 1  # scikit-image keeps both of two equal pixels
    np.testing.assert_array_equal(found[3:-3].sum(axis=1), width)
    turned = DETECTORS[name].detect(image.transpose(1, 0, 2), (0.03,))[1][0]
    np.testing.assert_array_equal(turned[:, 3:-3].sum(axis=0), width)


@pytest.mark.parametrize("name", ["sobel", "roberts"])
@pytest.mark.parametrize("slope", [(1, 1), (1, -1), (2, 1), (1, 3)])
def test_edges_are_thinned_across_themselves(name, slope):
    y, x = np.mgrid[:50, :50] - 25
    distance = (slope[0] * y + slope[1] * x) / np.hypot(*slope)
    image = np.repeat((255 / (1 + np.exp(-distance)))[..., None], 3, axis=-1).astype(np.uint8)
    found = DETECTORS[name].detect(image, (0.02,))[1][0][4:-4, 4:-4]
    assert np.abs(distance[4:-4, 4:-4][found]).max() < 2
    along = found.any(axis=1 if abs(slope[0]) < abs(slope[1]) else 0)
    assert along[12:-12].all() and found.sum() < 2.2 * len(along)


def test_the_threshold_separates_faint_texture_from_edges():
    examples = [noisy_scene(seed) for seed in range(6)]
    for name, detector in DETECTORS.items():
        model = detector.fit(examples, num_classes=3, seed=0)
        assert model.threshold < detector.thresholds[-1]
        assert model.threshold > detector.thresholds[0] or name == "canny"  # its smoothing removes the texture
        found = detector.boundaries(model, noisy_scene(100)["image"])
        assert 0.01 < found.mean() < 0.15


@pytest.mark.parametrize("name", sorted(set(BASELINES) - {"kmeans", "majority"}))
def test_regions_and_their_names_are_learnt(name):
    model = BASELINES[name].fit([noisy_scene(seed) for seed in range(12)], num_classes=3, seed=0)
    scenes = [noisy_scene(seed) for seed in range(100, 104)]
    right = [np.mean(BASELINES[name].predict(model, scene["image"]) == scene["label"]) for scene in scenes]
    assert np.mean(right) > 0.93


def test_images_are_chosen_by_the_seed():
    assert regions.choose_images(5, seed=0) == [0, 1, 2, 3, 4]
    one, other = (regions.choose_images(1000, seed=seed, limit=20) for seed in (0, 1))
    assert one == sorted(set(one)) and len(one) == 20 and one != other
    assert one == regions.choose_images(1000, seed=0, limit=20)
