"""The sheet of augmented images: what is on it, when it is drawn, and a step that mixes its images."""

import types

import jax
import numpy as np
import pytest

from configs import supervised_seg
from gan_seg_jax import train_step
from gan_seg_jax.pictures import panels
from gan_seg_jax.training import augmented

SIZE = (16, 24)
COLORS = ((200, 0, 0), (0, 200, 0), (0, 0, 200))


def _config(**augment):
    config = supervised_seg.get_config("smoke")
    config.canvas_size = config.crop_size = SIZE
    config.num_classes, config.class_colors = 3, COLORS
    config.augment.update(flip_horizontal=False, **augment)
    return config


def _split(rows=5, **more):
    """Images of one grey and one class each."""
    grey = lambda row: np.full((*SIZE, 3), 40 * row + 20, np.uint8)
    example = lambda row: {"image": grey(row), "label": np.full(SIZE, row % 3, np.uint8)}
    return [example(row) | {name: make(grey(row)) for name, make in more.items()} for row in range(rows)]


def _cells(sheet, columns=8):
    """Return the pixel in the middle of each cell, [4, columns, 3]."""
    factor = max(1, 128 // max(SIZE))
    height, width = SIZE[0] * factor, SIZE[1] * factor
    left, top = panels.GAP + width // 2, panels.LINE + panels.GAP + height // 2
    rows = top + np.arange(4) * (height + panels.GAP)
    return sheet[rows][:, left + np.arange(columns) * (width + 2)]


def test_the_sheet_shows_images_and_labels_several_times():
    config = _config(cutmix=1.0)
    sheet = augmented.sheet(config, types.SimpleNamespace(splits={"train": _split()}))
    cells = _cells(sheet).astype(int)
    greys, labels = cells[:, ::2, 0], cells[:, 1::2]
    np.testing.assert_array_equal(greys[:, 0], 40 * np.array([0, 1, 2, 4]) + 20)  # spread over the split
    for row, grey in enumerate(greys):
        for draw, value in enumerate(grey):
            assert value in (greys[row, 0], greys[(row + 1) % 4, 0])  # its own or the next one's
            np.testing.assert_array_equal(labels[row, draw], COLORS[(value - 20) // 40 % 3])
    assert np.any(greys[:, 1:] != greys[:, :1])
    paired = augmented.sheet(config, types.SimpleNamespace(splits={"train": _split(target=lambda x: 255 - x)}))
    cells = _cells(paired).astype(int)
    np.testing.assert_array_equal(cells[:, 1::2], 255 - cells[:, ::2])


@pytest.mark.parametrize(
    ("augment", "samples_every", "due"),
    [({}, 12, False), ({"noise": 0.1}, 12, True), ({"scale": (0.5, 2.0)}, 12, True), ({"noise": 0.1}, 0, False)],
)
def test_the_sheet_is_drawn_where_there_is_something_to_see(augment, samples_every, due):
    config = _config(**augment)
    config.samples_every = samples_every
    assert augmented.is_due(config) == due


def test_a_step_mixes_labelled_images_alone():
    config = _config(classmix=1.0)
    label = np.zeros((2, *SIZE), np.uint8)
    label[:, :, 12:] = np.array([1, 2])[:, None, None]
    image = np.stack([np.full((*SIZE, 3), value, np.uint8) for value in (10, 200)])
    stream = {"image": image, "label": label, "content": np.tile(np.int32(SIZE), (2, 1))}
    stream |= {"valid": np.ones(2, bool), "id": np.arange(2, dtype=np.int32)}
    batch = {"labelled": stream, "unlabelled": {**stream, "label": np.full_like(label, 255)}}
    found = jax.jit(lambda batch, key: train_step._prepare(batch, key, config))(batch, jax.random.key(0))
    seen, plain = ((np.asarray(found[name]["image"]) + 1) * 127.5 for name in ("labelled", "unlabelled"))
    np.testing.assert_allclose(plain, image, atol=1e-3)
    pasted = np.abs(seen - image)[..., 0] > 1
    assert all(0 < x.mean() < 1 for x in pasted)  # one of the two classes of the other image
    other = label[::-1]
    np.testing.assert_array_equal(found["labelled"]["label"], np.where(pasted, other, label))
