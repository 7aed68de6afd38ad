"""Augmentation: exact pixels where nothing is scaled, image and label together, void never interpolated."""

import functools

import jax
import ml_collections
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from configs import common, supervised_seg
from gan_seg_jax import config as config_lib
from gan_seg_jax.augment import paired
from gan_seg_jax.augment.fields import POLICIES
from gan_seg_jax.errors import InputError

_OFF = {**supervised_seg.get_config().augment, "flip_horizontal": False}
_GEOMETRY = {"flip_horizontal": True, "flip_vertical": True, "transpose": True, "scale": (0.5, 2.0)}
_COLOUR = {"brightness": 0.4, "contrast": 0.3, "saturation": 0.5}
_WARPS = {"rotation": 30.0, "shear": 15.0, "aspect": 0.3, "translation": 0.2, "elastic": 2.0, "elastic_sigma": 6.0}
_CLASSES = 5


def _options(**changed):
    return ml_collections.ConfigDict(_OFF | changed)


def _stream(seed, size=(24, 32), content=None, batch=4, block=4):
    """Blocks of classes (and void) whose image says the class: red = 50 class + 10, void is 255."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, _CLASSES + 1, (batch, -(-size[0] // block), -(-size[1] // block)))
    label = np.where(blocks == _CLASSES, 255, blocks).repeat(block, axis=1).repeat(block, axis=2).astype(np.uint8)
    label = label[:, : size[0], : size[1]]
    content = np.tile(np.array([size if content is None else content], np.int32), (batch, 1))
    rows, columns = np.arange(size[0])[None, :, None], np.arange(size[1])[None, None, :]
    label[(rows >= content[:, :1, None]) | (columns >= content[:, 1:, None])] = 255
    image = rng.integers(0, 256, (batch, *size, 3)).astype(np.uint8)
    image[..., 0] = np.where(label == 255, 255, 50 * label + 10)
    return {
        "image": image,
        "label": label,
        "content": content,
        "valid": np.ones(batch, bool),
        "id": np.arange(batch, dtype=np.int32),
    }


@functools.cache
def _compiled(crop_size, options, train):
    options = ml_collections.ConfigDict(dict(options))

    def prepare(stream, key):
        return paired.prepare(stream, key, crop_size=crop_size, options=options, train=train)

    return jax.jit(prepare, compiler_options={"xla_backend_optimization_level": 0})


def _prepare(stream, crop_size, options, *, seed=0, train=True):
    """Return the batch as NumPy arrays."""
    prepare = _compiled(crop_size, tuple(sorted(options.items())), train)
    return jax.tree.map(np.asarray, prepare(stream, jax.random.key(seed)))


def _unit(image):
    return (2 * image.astype(np.float32) - 255) / 255


def _variants(*arrays, options):
    """All outcomes that the flips allow, as a list of tuples."""
    found = [arrays]
    if options.flip_vertical:
        found += [tuple(x[::-1] for x in one) for one in found]
    if options.flip_horizontal:
        found += [tuple(x[:, ::-1] for x in one) for one in found]
    if options.transpose:
        found += [tuple(x.swapaxes(0, 1) for x in one) for one in found]
    return found


def _outcomes(stream, batch, options):
    """Return which variant of its source each image is; fails where image and label disagree or none is."""
    outcomes = []
    for i in range(len(batch["image"])):
        variants = _variants(_unit(stream["image"][i]), stream["label"][i], options=options)
        matches = [
            np.allclose(batch["image"][i], x, atol=1e-6) and np.array_equal(batch["label"][i], y) for x, y in variants
        ]
        assert any(matches), f"image {i} is not one of the {len(variants)} allowed variants"
        outcomes.append(matches.index(True))
    return outcomes


def test_off_is_the_identity():
    stream = _stream(0)
    batch = _prepare(stream, (24, 32), _options())
    np.testing.assert_allclose(batch["image"], _unit(stream["image"]), atol=1e-7)
    np.testing.assert_array_equal(np.round((batch["image"] + 1) * 127.5), stream["image"])
    np.testing.assert_array_equal(batch["label"], stream["label"])
    assert (batch["image"].dtype, batch["label"].dtype) == (np.float32, np.int32)
    assert (batch["image"].min(), batch["image"].max()) == (-1.0, 1.0)
    np.testing.assert_array_equal(batch["valid"], stream["valid"])
    np.testing.assert_array_equal(batch["id"], stream["id"])
    assert set(batch) == {"image", "label", "valid", "id"}


@pytest.mark.parametrize("crop_size", [(24, 24), (16, 16)])
@pytest.mark.parametrize("flips", [("flip_horizontal",), ("flip_vertical",), ("transpose",), tuple(_GEOMETRY)[:3]])
def test_flips_equal_numpy(crop_size, flips):
    """The fast path (crop is the canvas) and the general one; a content of the crop's size leaves one window."""
    options = _options(**dict.fromkeys(flips, True))
    stream = _stream(1, (24, 24), content=crop_size, batch=64)
    batch = _prepare(stream, crop_size, options)
    cut = {name: stream[name][:, : crop_size[0], : crop_size[1]] for name in ("image", "label")}
    outcomes = _outcomes(cut, batch, options)
    assert set(outcomes) == set(range(2 ** len(flips)))  # every variant occurs


def test_flip_probability_is_half():
    options = _options(flip_horizontal=True)
    stream = _stream(2, (8, 8), batch=400)
    flipped = np.mean(_outcomes(stream, _prepare(stream, (8, 8), options), options))
    assert abs(flipped - 0.5) < 0.1


def test_crop_is_a_window_of_exact_pixels():
    stream = _stream(3, (24, 32), content=(20, 28), batch=200)
    batch = _prepare(stream, (8, 12), _options())
    starts = set()
    for i in range(200):
        windows = [
            (row, column)
            for row in range(13)
            for column in range(17)
            if np.allclose(batch["image"][i], _unit(stream["image"][i, row : row + 8, column : column + 12]), atol=1e-6)
        ]
        (row, column), *others = windows
        assert not others
        np.testing.assert_array_equal(batch["label"][i], stream["label"][i, row : row + 8, column : column + 12])
        starts.add((row, column))
    assert {row for row, _ in starts} == set(range(13))  # uniform over the content, both ends included
    assert {column for _, column in starts} == set(range(17))


def test_content_smaller_than_the_crop_is_placed_whole():
    stream = _stream(4, (16, 16), content=(8, 12), batch=32)
    batch = _prepare(stream, (20, 24), _options())
    rows = set()
    for i in range(32):
        row, column = (axis.min() for axis in np.nonzero(np.any(batch["image"][i] != 0, axis=-1)))
        expected = np.zeros((20, 24, 3), np.float32)
        expected[row : row + 8, column : column + 12] = _unit(stream["image"][i, :8, :12])
        np.testing.assert_allclose(batch["image"][i], expected, atol=1e-6)
        expected = np.full((20, 24), 255)
        expected[row : row + 8, column : column + 12] = stream["label"][i, :8, :12]
        np.testing.assert_array_equal(batch["label"][i], expected)
        rows.add(row)
    assert len(rows) > 5


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.5, 2.0)])
def test_rows_that_fill_up_a_batch_may_be_empty(scale):
    stream = _stream(5, content=(0, 0))
    batch = _prepare(stream, (16, 16), _options(**_GEOMETRY | _COLOUR | {"scale": scale}))
    assert np.all(batch["image"] == 0)
    assert np.all(batch["label"] == 255)


@pytest.mark.parametrize("train", [True, False])
def test_padding_is_mid_grey_and_ignored(train):
    stream = _stream(5, content=(20, 12))
    stream["label"][:, 22:] = 1  # what the host left in the padding does not matter
    batch = _prepare(stream, (24, 32), _options(**_COLOUR), train=train)
    for name, value in (("image", 0.0), ("label", 255)):
        assert np.all(batch[name][:, 20:] == value)
        assert np.all(batch[name][:, :, 12:] == value)
    np.testing.assert_array_equal(batch["label"][:, :20, :12], stream["label"][:, :20, :12])


def test_evaluation_draws_nothing():
    stream = _stream(6)
    options = _options(**_GEOMETRY, **_COLOUR)
    first, second = (_prepare(stream, (8, 8), options, seed=seed, train=False) for seed in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    np.testing.assert_allclose(first["image"], _unit(stream["image"]), atol=1e-6)
    np.testing.assert_array_equal(first["label"], stream["label"])


@pytest.mark.parametrize("zoom", [0.5, 0.8, 1.5, 2.0])
def test_zoom_equals_pillow(zoom):
    """Up to Pillow's rounding to 8 bits after each axis, and where zoom is no ratio of sizes, to the border."""
    size = (40, 60)
    scaled = tuple(round(n * zoom) for n in size)
    stream = _stream(7, size, batch=2)
    batch = _prepare(stream, scaled, _options(scale=(zoom, zoom)))
    for i in range(2):
        resized = Image.fromarray(stream["image"][i]).resize(scaled[::-1], Image.Resampling.BILINEAR)
        np.testing.assert_allclose((batch["image"][i] + 1) * 127.5, np.asarray(resized), atol=1.1)
        resized = Image.fromarray(stream["label"][i]).resize(scaled[::-1], Image.Resampling.NEAREST)
        assert np.mean(batch["label"][i] != np.asarray(resized)) < 0.02  # ties between two pixels


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([(1.0, 1.0), (0.5, 2.0)]),
    content=st.sampled_from([(32, 32), (20, 28), (9, 32)]),
)
def test_image_and_label_stay_together(seed, scale, content):
    """Red is 50 class + 10: away from borders between classes it must say the label that the pixel has."""
    stream = _stream(seed, (32, 32), content=content)
    batch = _prepare(stream, (24, 24), _options(**_GEOMETRY | {"scale": scale}), seed=seed)
    assert set(np.unique(batch["label"])) <= set(np.unique(stream["label"])) | {255}
    reds = (batch["image"][..., 0] + 1) * 127.5
    for label, red in zip(batch["label"], reds, strict=True):
        padded = np.pad(label, 2, constant_values=255)  # what lies beyond the crop is not known
        shifted = [padded[i : i + 24, j : j + 24] for i in range(5) for j in range(5)]
        inner = (np.min(shifted, axis=0) == np.max(shifted, axis=0)) & (label != 255)
        np.testing.assert_allclose(red[inner], 50 * label[inner] + 10, atol=0.01)


@pytest.mark.parametrize("content", [(48, 48), (30, 42)])
def test_image_and_label_stay_together_when_warped(content):
    """As above; and what is known is shown, what is void or outside stays void."""
    stream = _stream(1, (48, 48), content=content, batch=24, block=12)
    batch = _prepare(stream, (40, 40), _options(**_GEOMETRY | _WARPS | {"scale": (0.8, 1.5), "cutout": 0.3}))
    reds, checked = (batch["image"][..., 0] + 1) * 127.5, 0
    for label, red in zip(batch["label"], reds, strict=True):
        padded = np.pad(label, 3, constant_values=255)
        shifted = [padded[i : i + 40, j : j + 40] for i in range(7) for j in range(7)]
        inner = (np.min(shifted, axis=0) == np.max(shifted, axis=0)) & (label != 255)
        np.testing.assert_allclose(red[inner], 50 * label[inner] + 10, atol=0.05)
        checked += inner.sum()
    assert checked > 24 * 80
    assert np.all(paired.shown(batch["image"])[batch["label"] != 255])
    stream["label"][:, : content[0], : content[1]] = 3  # no void but outside
    batch = _prepare(stream, (40, 40), _options(**_GEOMETRY | _WARPS | {"scale": (0.8, 1.5), "cutout": 0.3}))
    np.testing.assert_array_equal(paired.shown(batch["image"]), batch["label"] == 3)
    assert 0.2 < np.mean(batch["label"] == 3) < 0.95


def test_a_turn_about_the_centre_keeps_distances():
    """A mark half-way to the border comes to lie on a circle, at angles up to the largest, on both sides."""
    stream = _stream(2, (33, 33), batch=200)
    stream["label"][:] = 0
    stream["label"][:, 4:7, 15:18] = 1
    batch = _prepare(stream, (33, 33), _options(rotation=40.0))
    places = [np.mean(np.nonzero(label == 1), axis=1) - 16 for label in batch["label"]]
    np.testing.assert_allclose(np.linalg.norm(places, axis=1), 11, atol=0.6)
    angles = np.degrees([np.arctan2(column, -row) for row, column in places])
    assert -42 < angles.min() < -36 and 36 < angles.max() < 42 and abs(angles.mean()) < 7


def test_a_shift_is_of_whole_pixels():
    stream = _stream(3, (20, 30), batch=200)
    batch = _prepare(stream, (20, 30), _options(translation=0.2))
    found = set()
    for i in range(200):
        rows, columns = (np.flatnonzero(np.any(batch["image"][i] != 0, axis=axes)) for axes in ((1, 2), (0, 2)))
        row, column = rows[0] - (20 - 1 - rows[-1]), columns[0] - (30 - 1 - columns[-1])
        expected = np.roll(_unit(stream["image"][i]), (row, column), axis=(0, 1))
        shown = paired.shown(batch["image"][i])
        np.testing.assert_allclose(batch["image"][i][shown], expected[shown], atol=1e-6)
        assert shown.sum() == (20 - abs(row)) * (30 - abs(column))
        found.add((row, column))
    assert {row for row, _ in found} == set(range(-4, 5)) and {column for _, column in found} == set(range(-6, 7))


def test_aspect_zooms_height_and_width_differently():
    stream = _stream(4, (32, 32), batch=200)
    batch = _prepare(stream, (64, 64), _options(aspect=1.0))
    shown = paired.shown(batch["image"])
    height, width = shown.any(axis=2).sum(axis=1), shown.any(axis=1).sum(axis=1)
    ratio = np.log2(height / width)
    assert -1.05 < ratio.min() < -0.9 and 0.9 < ratio.max() < 1.05 and abs(ratio.mean()) < 0.15
    np.testing.assert_allclose(np.sqrt(height * width), 32, atol=1.5)  # the area stays


def test_what_is_cut_out_is_neither_shown_nor_known():
    stream = _stream(5, batch=100)
    stream["label"][stream["label"] == 255] = 0
    batch = _prepare(stream, (24, 32), _options(cutout=0.5))
    holes = batch["label"] == 255
    np.testing.assert_array_equal(holes, ~paired.shown(batch["image"]))
    np.testing.assert_array_equal(batch["label"][~holes], stream["label"][~holes])
    np.testing.assert_allclose(batch["image"][~holes], _unit(stream["image"])[~holes], atol=1e-6)
    rows, columns = holes.any(axis=2), holes.any(axis=1)
    np.testing.assert_array_equal(holes, rows[:, :, None] & columns[:, None, :])
    assert rows.sum(axis=1).max() == 12 and columns.sum(axis=1).max() == 16


@pytest.mark.parametrize("policy", ["strong", "medical"])  # whose operations are those of all
def test_a_policy_makes_nothing_of_void_known(policy):
    """What is known is shown, what is void in the image or outside of it stays void."""
    stream, options = _stream(7, (48, 48), content=(44, 48), batch=16), _options(**POLICIES[policy])
    for value in (255, 4):
        stream["label"][:] = value
        batch = _prepare(stream, (48, 48), options)
        np.testing.assert_array_equal(batch["label"], np.where(paired.shown(batch["image"]), value, 255))
    assert 0.2 < np.mean(batch["label"] == 4) < 0.95
    stream["label"][:, :, 20:] = 255
    half = _prepare(stream, (48, 48), options)["label"]
    assert np.all(batch["label"][half == 4] == 4) and np.mean(half == 4) < 0.7 * np.mean(batch["label"] == 4)
    assert set(np.unique(half)) == {4, 255}


def test_a_policy_by_its_name_alone_is_refused():
    config = supervised_seg.get_config()
    config.augment.policy = "strong"
    with pytest.raises(InputError, match="none of what it stands for is set"):
        config_lib.check(config)
    for policy in POLICIES:
        config = supervised_seg.get_config()
        common.augment(config, policy)
        config_lib.check(config)
    with pytest.raises(InputError, match="Did you mean 'medical'"):
        common.augment(config, "medicl")


def test_some_operations_are_chosen_for_each_image():
    on = {"rotation": 10.0, "hue": 0.1, "blur": 1.0, "cutout": 0.2, "noise": 0.1}
    options = _options(**on, operations=2)
    chosen = jax.vmap(lambda key: paired._choose(key, options))(jax.random.split(jax.random.key(0), 500))
    assert set(chosen) == set(on)
    chosen = np.stack(list(chosen.values()), axis=1)
    np.testing.assert_array_equal(chosen.sum(axis=1), 2)
    np.testing.assert_allclose(chosen.mean(axis=0), 0.4, atol=0.1)
    assert paired._choose(jax.random.key(0), _options(**on, operations=5)) == {}
    assert set(paired.OPERATIONS) < set(options)
    stream = _stream(6, batch=100)
    stream["label"][stream["label"] == 255] = 0
    batch = _prepare(stream, (24, 32), _options(hue=0.2, cutout=0.3, operations=1))
    cut = np.any(batch["label"] == 255, axis=(1, 2))
    recolored = np.any(np.abs(batch["image"] - _unit(stream["image"]))[..., 1:] > 1e-3, axis=-1)
    recolored = np.any(recolored & (batch["label"] != 255), axis=(1, 2))
    np.testing.assert_array_equal(cut, ~recolored)  # one of the two each
    assert 0.3 < cut.mean() < 0.7


def test_zoom_range_is_used_log_uniformly():
    """A 32-pixel square seen at zoom 0.5..2 in a crop of 64: its area tells the zoom."""
    stream = _stream(8, (32, 32), batch=300)
    batch = _prepare(stream, (64, 64), _options(scale=(0.5, 2.0)))
    side = np.any(batch["image"] != 0, axis=(2, 3)).sum(axis=1)
    zoom = np.log2(side / 32)
    assert -1.05 < zoom.min() < -0.9
    assert 0.9 < zoom.max() < 1.05
    assert abs(zoom.mean()) < 0.15


def test_colour_equals_its_equations():
    stream = _stream(9, batch=1)
    x = stream["image"][0] / 255

    def grey(x):
        return (x @ np.array([0.299, 0.587, 0.114]))[..., None]

    def found(**strengths):
        return (_prepare(stream, (24, 32), _options(**strengths))["image"][0] + 1) / 2

    bright = found(brightness=0.5)
    free = (bright < 1) & (x > 0.1)
    factor = np.median(bright[free] / x[free])
    assert 0.5 <= factor <= 1.5
    np.testing.assert_allclose(bright, np.clip(factor * x, 0, 1), atol=1e-5)
    for name, anchor in (("contrast", grey(x).mean()), ("saturation", grey(x))):
        changed = found(**{name: 0.5})
        free = (changed > 0) & (changed < 1) & (np.abs(x - anchor) > 0.1)
        factors = ((changed - anchor) / (x - anchor))[free]
        assert 0.5 <= np.median(factors) <= 1.5
        np.testing.assert_allclose(changed, np.clip(anchor + np.median(factors) * (x - anchor), 0, 1), atol=1e-4)


def test_colour_changes_the_image_alone():
    stream = _stream(10)
    plain, coloured = (_prepare(stream, (16, 16), _options(**_GEOMETRY, **colour)) for colour in ({}, _COLOUR))
    np.testing.assert_array_equal(plain["label"], coloured["label"])  # nor does it change the geometric draw
    assert np.abs(plain["image"] - coloured["image"]).max() > 0.1
    assert np.abs(coloured["image"]).max() <= 1.0


@pytest.mark.parametrize(("geometry", "crop_size"), [({}, (24, 24)), (_GEOMETRY | _WARPS, (16, 16))])
def test_a_target_has_the_geometry_of_its_image_and_its_own_colours(geometry, crop_size):
    stream = _stream(3, size=(24, 24), content=(20, 22))
    paired = stream | {"target": 255 - stream["image"]}
    found = _prepare(paired, crop_size, _options(**geometry))
    np.testing.assert_allclose(found["target"], -found["image"], atol=1e-5)
    jittered = _prepare(paired, crop_size, _options(**geometry, **_COLOUR))
    np.testing.assert_allclose(jittered["target"], found["target"], atol=1e-5)
    assert np.any(jittered["image"] != found["image"])
    alone = _prepare(stream, crop_size, _options(**geometry))
    assert "target" not in alone
    np.testing.assert_allclose(alone["image"], found["image"], atol=1e-5)


def test_contrast_ignores_padding():
    stream = _stream(11, content=(12, 16))
    cut = stream | {name: stream[name][:, :12, :16] for name in ("image", "label")}
    options = _options(contrast=0.5)
    found = _prepare(stream, (24, 32), options)["image"][:, :12, :16]
    np.testing.assert_allclose(found, _prepare(cut, (12, 16), options)["image"], atol=1e-5)


def test_same_key_same_batch_and_rows_differ():
    stream = _stream(12)
    stream = jax.tree.map(lambda x: np.repeat(x[:1], 8, axis=0), stream)
    options = _options(**_GEOMETRY, **_COLOUR)
    first, second, other = (_prepare(stream, (16, 16), options, seed=seed) for seed in (0, 0, 1))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert not np.array_equal(first["image"], other["image"])
    assert len({image.tobytes() for image in first["image"]}) == 8


def _rare(seed, size=(40, 60), content=None, batch=200):
    """Class 0 with a patch of class 1, about 1% of the pixels, and some void."""
    stream = _stream(seed, size, content=content, batch=batch)
    height, width = size if content is None else content
    rng = np.random.default_rng(seed)
    stream["label"][:] = 0
    stream["label"][:, 0] = 255
    for label in stream["label"]:
        row, column = rng.integers(1, height - 4), rng.integers(0, width - 5)
        label[row : row + 4, column : column + 5] = 1
    return stream


@pytest.mark.parametrize("geometry", [{}, _GEOMETRY])
@pytest.mark.parametrize("content", [None, (36, 48)])
def test_class_balance_shows_rare_classes(geometry, content):
    """Half of the windows are placed around a pixel of the rare class, the others nearly as chance places them."""
    stream = _rare(16, content=content)

    def share(**balance):
        batch = _prepare(stream, (12, 12), _options(**geometry | balance))
        if "scale" not in geometry:
            assert not np.any(np.all(batch["image"] == 0, axis=-1))  # the window stays inside the content
        return np.mean(np.any(batch["label"] == 1, axis=(1, 2)))

    rarely = share()
    assert rarely < 0.35
    assert abs(share(class_balance=1.0) - (0.5 + 0.5 * rarely)) < 0.12


@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.8, 1.25)])
def test_class_balance_keeps_the_pixel_in_the_window(scale):
    """Where all known pixels are of one rare class, every window shows it."""
    stream = _rare(17)
    stream["label"][stream["label"] == 0] = 255
    options = _options(**_GEOMETRY | {"scale": scale, "class_balance": 1.0})
    batch = _prepare(stream, (12, 12), options)
    shown = np.any(batch["label"] == 1, axis=(1, 2))
    assert np.mean(shown) > (0.97 if scale != (1.0, 1.0) else 0.999)  # half a pixel may be cut off
    assert np.all(np.mean(batch["label"] == 1, axis=0) > 0.02)  # anywhere in the window


def test_class_balance_draws_classes_and_pixels_uniformly():
    """Windows of one pixel are the drawn pixel itself."""
    stream = _stream(18, (8, 8), batch=1)
    label = np.full((8, 8), 0)
    label[:, 4:] = np.arange(8)[:, None] // 4 + 1  # 32 of class 0, 16 of 1 and of 2
    label[0, 0], label[7, 7] = 255, 9  # void, and a class of a single pixel
    stream = jax.tree.map(lambda x: np.repeat(x, 4000, axis=0), stream)
    stream["label"][:] = label
    stream["image"][..., 0] = np.arange(64).reshape(8, 8)
    half = _prepare(stream, (1, 1), _options(class_balance=0.5))
    assert abs(np.mean(half["label"] == 9) - (0.5 * 0.25 + 0.5 / 64)) < 0.03
    batch = _prepare(stream, (1, 1), _options(class_balance=1.0))
    place = np.round((batch["image"][:, 0, 0, 0] + 1) * 127.5).astype(int)
    np.testing.assert_array_equal(batch["label"][:, 0, 0], label.ravel()[place])
    found, expected = np.bincount(place, minlength=64) / 4000, np.zeros(64)
    for number in (0, 1, 2, 9):
        expected += np.where(label.ravel() == number, 0.25 / np.sum(label == number), 0)
    assert found[0] == 0  # void
    np.testing.assert_allclose(found, expected, atol=5 * np.sqrt(0.25 / 4000))
    np.testing.assert_allclose(found[expected > 0.2], 0.25, atol=0.04)
    for number in (0, 1, 2):
        np.testing.assert_allclose(found[label.ravel() == number].sum(), 0.25, atol=0.04)


def test_class_balance_ignores_padding_and_falls_back():
    stream = _stream(19, (24, 32), content=(16, 20), batch=64)
    stream["label"][:, 20:] = 3  # what the host left in the padding does not matter
    options = _options(class_balance=1.0)
    batch = _prepare(stream, (8, 8), options)
    assert not np.any(np.all(batch["image"] == 0, axis=-1))
    stream["label"][:, :20] = 255
    unknown = _prepare(stream, (8, 8), options)
    plain = _prepare(stream, (8, 8), _options())
    jax.tree.map(np.testing.assert_array_equal, unknown, plain)  # the ordinary draw
    small = _stream(20, (24, 32), content=(6, 5), batch=64)
    jax.tree.map(
        np.testing.assert_array_equal, _prepare(small, (8, 8), options), _prepare(small, (8, 8), _options())
    )  # every window shows all


def test_without_class_balance_no_draw_changes():
    """The sums of the labels of a crop, as they were before the option existed."""
    stream = _stream(21, content=(20, 28), batch=3)
    stream["label"][:] = (np.arange(24)[:, None] * 7 + np.arange(32)) % 251
    found = []
    for scale in ((1.0, 1.0), (0.5, 2.0)):
        batch = _prepare(stream, (10, 12), _options(flip_horizontal=True, flip_vertical=True, scale=scale))
        found.append(np.sum(batch["label"], axis=(1, 2)).tolist())
    assert found == [[12960, 12720, 12000], [10080, 10108, 7868]]


def test_sharded_batch_draws_the_same():
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("data",))
    stream = _stream(13, batch=4 * len(jax.devices()))
    options = _options(**_GEOMETRY, **_COLOUR)
    sharded = jax.device_put(stream, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    one, many = (_prepare(x, (16, 16), options) for x in (stream, sharded))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-5), one, many)


def test_content_is_traced_so_sizes_do_not_recompile():
    options = _options(**_GEOMETRY)
    calls = []

    @jax.jit
    def prepare(stream, key):
        calls.append(1)
        return paired.prepare(stream, key, crop_size=(16, 16), options=options, train=True)

    for content in ((24, 32), (10, 20)):
        prepare(_stream(14, content=content), jax.random.key(0))
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("changed", "crop_size", "message"),
    [
        ({"transpose": True}, (16, 24), "square"),
        ({"scale": (2.0, 0.5)}, (16, 16), "low <= high"),
        ({"scale": (0.0, 1.0)}, (16, 16), "0 < low"),
        ({"brightness": -0.1}, (16, 16), "brightness is -0.1"),
        ({"class_balance": 1.5}, (16, 16), "class_balance is 1.5"),
        ({"rotation": 200.0}, (16, 16), "rotation is 200.0"),
        ({"shear": 60.0}, (16, 16), "shear is 60.0"),
        ({"elastic": 6.0}, (16, 16), "pictures fold"),
        ({"cutout": 1.0}, (16, 16), "cutout is 1.0"),
        ({"operations": -1}, (16, 16), "operations is -1"),
        ({"cutmix": 0.6, "classmix": 0.6}, (16, 16), "mixed once"),
        ({}, (0, 16), "crop_size"),
    ],
)
def test_bad_options_are_named(changed, crop_size, message):
    config = supervised_seg.get_config()
    config.crop_size = crop_size
    config.augment.update(changed)
    with pytest.raises(InputError, match=message):
        config_lib.check(config)
