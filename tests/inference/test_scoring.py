"""Sliding windows, scales, mirror images and the CRF: each against what it must be, computed another way."""

import itertools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gan_seg_jax import parallel
from gan_seg_jax.data import canvas, pipeline
from gan_seg_jax.errors import InputError
from gan_seg_jax.inference import scoring, tiling
from gan_seg_jax.inference.options import Options, read_crf
from gan_seg_jax.postprocess import crf
from tests.red_channel import METHOD, STATE, coded_split, make_config, read_class

# Windows


def test_windows_by_hand():
    assert tiling.starts(10, 4, 0.5) == (0, 2, 4, 6)
    assert tiling.starts(10, 4, 0.0) == (0, 4, 6)  # the last one is flush with the border
    assert tiling.starts(4, 4, 0.5) == (0,)
    assert tiling.starts(5, 4, 0.99) == (0, 1)
    np.testing.assert_allclose(tiling.blending_weights(4), (0.25, 0.75, 0.75, 0.25))
    np.testing.assert_allclose(tiling.blending_weights(3), (1 / 3, 1, 1 / 3), rtol=1e-6)
    np.testing.assert_allclose(tiling.blending_weights(1), (1.0,))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.floats(0, 0.99))
def test_windows_cover_the_axis(length, window, overlap):
    window = min(window, length)
    found = tiling.starts(length, window, overlap)
    assert found[0] == 0 and found[-1] == length - window and list(found) == sorted(set(found))
    assert np.diff(found).max(initial=0) <= max(1, round(window * (1 - overlap))) <= window
    assert tiling.blending_weights(window).min() > 0


@pytest.mark.parametrize("window", [(5, 7), (16, 8), (100, 4), (100, 100)])
@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
def test_windows_are_exact_where_every_pixel_stands_alone(window, overlap):
    """The weights add up to one everywhere."""
    image = jax.random.normal(jax.random.key(0), (2, 17, 23, 3))
    function = lambda x: jnp.concatenate([x, jnp.sin(3 * x)], axis=-1)
    found = jax.jit(lambda x: tiling.blend(function, x, window=window, overlap=overlap, channels=6))(image)
    np.testing.assert_allclose(found, function(image), atol=2e-6)


def test_windows_of_a_local_network_are_exact_but_for_their_borders():
    """A 3x3 mean sees zeros beyond a window; without overlap only pixels at the seams can tell."""
    image = jax.random.uniform(jax.random.key(1), (1, 12, 16, 1))
    mean = lambda x: jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME") / 9
    found = tiling.blend(mean, image, window=(6, 8), overlap=0.0, channels=1)
    wrong = np.abs(found - mean(image))[0, ..., 0] > 1e-6
    seams = np.zeros((12, 16), bool)
    seams[5:7], seams[:, 7:9] = True, True
    np.testing.assert_array_equal(wrong, seams)


# Scales on the host


def test_scales_of_a_fitted_image_are_made_from_the_original():
    image = coded_split(2, errors=0.5).images[1]  # 16 x 24
    views = canvas.scaled_views(image, (10, 20), (0.5, 1.0, 2.0), resize="fit")
    assert set(views) == {"image@0.5", "content@0.5", "image@2.0", "content@2.0"}
    assert views["image@0.5"].shape == (5, 10, 3) and views["content@0.5"].tolist() == [5, 8]
    assert views["image@2.0"].shape == (20, 40, 3) and views["content@2.0"].tolist() == [20, 30]
    right = Image.fromarray(image).resize((30, 20), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(views["image@2.0"][:, :30], right)
    assert not views["image@2.0"][:, 30:].any()


@pytest.mark.parametrize(("scale", "size", "content"), [(0.5, (32, 32), (8, 12)), (1.7, (64, 64), (27, 41))])
def test_images_that_keep_their_scale_are_scaled_themselves(scale, size, content):
    image = coded_split(2, errors=0.5).images[1]
    views = canvas.scaled_views(image, (32, 32), (scale,), resize="none")
    assert views[f"image@{scale}"].shape == (*size, 3) and tuple(views[f"content@{scale}"]) == content
    right = Image.fromarray(image).resize(content[::-1], Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(views[f"image@{scale}"][: content[0], : content[1]], right)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.floats(0.01, 4.0), st.sampled_from(["fit", "none"]))
def test_every_scale_of_every_size_fits_its_canvas(height, width, scale, resize):
    image = np.full((height, width, 3), 255, np.uint8)
    views = canvas.scaled_views(image, canvas.bucket((height, width)), (scale,), resize=resize)
    for name, (rows, columns) in ((name, views[name]) for name in views if name.startswith("content")):
        shown = views[name.replace("content", "image")][..., 0]
        assert (
            rows > 0 and columns > 0 and (shown[:rows, :columns] == 255).all() and shown.sum() == 255 * rows * columns
        )


# The scorer


def first_batch(options, **fields):
    config = make_config(**fields)
    more = {"scales": options.scales, "original": options.crf is not None}
    return config, next(iter(pipeline.eval_batches(coded_split(4, errors=0.3), config, **more)))


def scores(method, options, mesh=None, **fields):
    config, batch = first_batch(options, **fields)
    score = scoring.make_scorer(method, config, options, mesh)
    out_size = batch["label"].shape[1:]
    return batch, np.asarray(jax.jit(lambda stream: score(STATE, stream, out_size))(batch))


def insides(batch):
    """Yield (row, window) of each image at its own size."""
    for row, (height, width) in enumerate(batch["size"]):
        yield row, (slice(0, height), slice(0, width))


def look_left(nets, batch, rng, config):
    """Logits of a method that reads the pixel to the left: what mirrors must not leave as it is."""
    image = batch["labelled"]["image"]
    moved = jnp.pad(image, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1]
    return read_class(nets, {"labelled": {"image": moved}}, rng, config)


LEFT = types.SimpleNamespace(predict=look_left)


def test_mirror_images_are_mirrored_back_and_their_probabilities_averaged():
    batch, found = scores(LEFT, Options(flip=True))
    config = make_config()
    for row, window in insides(batch):
        image = np.asarray(scoring.prepare(batch, config)["image"])[row]
        left, right = np.pad(image, ((0, 0), (1, 1), (0, 0)))[:, :-2], np.pad(image, ((0, 0), (1, 1), (0, 0)))[:, 2:]
        probabilities = [
            jax.nn.softmax(read_class(None, {"labelled": {"image": jnp.array(x)}}, None, config)) for x in (left, right)
        ]
        np.testing.assert_allclose(np.exp(found[row])[window], np.mean(probabilities, axis=0)[window], atol=1e-5)


@pytest.mark.parametrize("resize", ["fit", "none"])
def test_scales_are_resized_to_the_image_and_averaged(resize):
    fields = {"resize": resize, "canvas_size": (14, 20), "crop_size": (14, 20)}
    options = Options(scales=(0.5, 1.0))
    batch, found = scores(METHOD, options, **fields)
    for row, window in itertools.islice(insides(batch), 2):
        each = []
        for scale in options.scales:
            name, content = canvas.view_names(scale)
            rows, columns = batch[content][row]
            image = jnp.asarray(batch[name][row : row + 1, :rows, :columns], jnp.float32) / 127.5 - 1.0
            logits = read_class(None, {"labelled": {"image": image}}, None, make_config())[0]
            size = (*batch["size"][row], 3)
            each.append(jax.nn.softmax(jax.image.resize(logits, size, "bilinear")))
        np.testing.assert_allclose(np.exp(found[row][window]), np.mean(each, axis=0), atol=1e-4)
        np.testing.assert_allclose(np.exp(found[row][window]).sum(axis=-1), 1.0, atol=1e-5)


def test_windows_give_the_probabilities_of_the_whole():
    (batch, plain), (_, found) = scores(METHOD, Options()), scores(METHOD, Options(window=(7, 9)))
    for row, window in insides(batch):
        probabilities = [jax.nn.softmax(x[row][window]) for x in (plain, found)]
        np.testing.assert_allclose(*probabilities, atol=1e-5)


def test_certain_classes_stay_finite():
    """A probability that underflows is the logarithm of 0, which must not spoil its neighbours when it is resized."""
    certain = types.SimpleNamespace(predict=lambda *args: 1e4 * read_class(*args))
    options = Options(scales=(0.5, 1.0), flip=True, window=(8, 8))
    assert np.isfinite(scores(certain, options, resize="fit", canvas_size=(10, 14))[1]).all()


def test_a_network_is_traced_once_for_each_scale():
    """Not once for each window and mirror image, each of which would be compiled by itself."""
    traced = []

    def counting(*args):
        traced.append(args[1]["labelled"]["image"].shape)
        return read_class(*args)

    scores(types.SimpleNamespace(predict=counting), Options(scales=(1.0, 2.0), flip=True))
    assert len(traced) == 2
    traced.clear()
    scores(types.SimpleNamespace(predict=counting), Options(flip=True, window=(8, 8)))
    assert set(traced) == {(4, 8, 8, 3)} and len(traced) <= 2  # jax may trace a loop's body twice


@pytest.mark.parametrize("devices", [None, 2])
def test_the_crf_sees_each_image_at_its_own_size_without_padding(devices, exact_crf):
    parameters = crf.CRFParameters(bilateral_xy=6.0, bilateral_rgb=20.0)
    mesh = None if devices is None else parallel.make_mesh(jax.devices()[:devices])
    fields = {"resize": "fit", "canvas_size": (10, 14), "crop_size": (10, 14)}
    batch, found = scores(METHOD, Options(crf=parameters), mesh, **fields)
    _, plain = scores(METHOD, Options(), **fields)
    split = coded_split(4, errors=0.3)
    for row, window in itertools.islice(insides(batch), 2):
        logits, image = plain[row][window][None], split.images[row][None].astype(np.float32)
        right = crf.mean_field(jnp.array(logits), jnp.array(image), None, parameters, method="exact")[0]
        np.testing.assert_allclose(np.exp(found[row][window]), np.exp(right), atol=1e-4)
        assert np.abs(np.exp(found[row][window]) - jax.nn.softmax(logits[0])).max() > 0.1


# Options


def test_tags_name_what_is_on():
    assert Options().tag == "" and Options(scales=(1,), overlap=0.2).tag == ""
    assert Options(scales=(0.5, 1), flip=True).tag == "scales0.5-1+flip"
    assert Options(window=(3, 4), crf=crf.CRFParameters(), max_hole=2).tag == "window3x4-0.5+crf+max_hole2"
    assert Options(scales=(2,)).views == 1 and Options(scales=(1, 2), flip=True).views == 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"scales": ()},
        {"scales": (0,)},
        {"scales": (-1,)},
        {"scales": (200,)},
        {"scales": (float("nan"),)},
        {"scales": (1, 1.0)},
        {"window": (3,)},
        {"window": (0, 3)},
        {"window": (-1, -1)},
        {"overlap": 1.0},
        {"overlap": -0.1},
        {"overlap": float("nan")},
        {"min_region": -1},
        {"max_hole": -1},
        {"opening": -2},
        {"closing": -1},
        {"crf": crf.CRFParameters(bilateral_xy=0)},
    ],
)
def test_options_out_of_range_are_named(wrong):
    with pytest.raises(InputError, match=next(iter(wrong)).split("_")[0] if "crf" not in wrong else "bilateral_xy"):
        Options(**wrong)


def test_settings_of_the_crf_that_lead_nowhere_are_not_those_of_a_run_without_any(tmp_path):
    assert read_crf(tmp_path) == crf.CRFParameters()
    (tmp_path / "crf.json").symlink_to("nowhere")
    with pytest.raises(InputError, match="crf.json cannot be used"):
        read_crf(tmp_path)
