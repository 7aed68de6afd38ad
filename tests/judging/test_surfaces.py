"""HD95 and ASSD against distances known by hand and against distance transforms; empty classes; means over images."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gan_seg_jax import metrics
from gan_seg_jax.judging import per_image
from gan_seg_jax.judging.surfaces import surface_distances
from tests import tiny_runs


def square(top, left, size=4, shape=(12, 20)):
    label = np.zeros(shape, np.uint8)
    label[top : top + size, left : left + size] = 1
    return label


def by_transforms(truth, found, spacing):
    """Return HD95 and ASSD of two bool maps, by MONAI's way: erosion, and the distance transform of each surface."""
    edges = [mask ^ ndimage.binary_erosion(mask) for mask in (truth, found)]
    there, back = (
        ndimage.distance_transform_edt(~edge, sampling=spacing)[other]
        for edge, other in zip(edges, edges[::-1], strict=True)
    )
    return max(np.percentile(there, 95), np.percentile(back, 95)), np.concatenate([there, back]).mean()


def test_single_pixels_have_the_distance_of_their_centres():
    label, prediction = square(1, 1, size=1), square(4, 5, size=1)
    np.testing.assert_allclose(surface_distances(label, prediction, num_classes=2)[1], [5, 5])
    scaled = surface_distances(label, prediction, num_classes=2, spacing=(2.0, 0.25))
    np.testing.assert_allclose(scaled[1], np.hypot(6, 1))


def test_a_moved_square():
    """By one to the right: of 12 surface pixels 4 on the left and the 2 inner ones on the right are 1 away."""
    found = surface_distances(square(4, 4), square(4, 5), num_classes=2)[1]
    np.testing.assert_allclose(found, [1.0, 0.5])
    np.testing.assert_array_equal(surface_distances(square(4, 4), square(4, 4), num_classes=2), np.zeros((2, 2)))


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.7, 2.5)])
def test_the_same_as_by_distance_transforms(spacing):
    rng = np.random.default_rng(0)
    for _ in range(5):
        maps = [ndimage.zoom(rng.integers(0, 3, (5, 6)), 6, order=0).astype(np.uint8) for _ in range(2)]
        found = surface_distances(*maps, num_classes=3, spacing=spacing)
        for number in range(3):
            right = by_transforms(maps[0] == number, maps[1] == number, spacing)
            np.testing.assert_allclose(found[number], right, rtol=1e-12)


def test_classes_that_are_in_one_or_in_none():
    found = surface_distances(square(4, 4), np.zeros((12, 20), np.uint8), num_classes=3, spacing=(0.5, 0.5))
    np.testing.assert_allclose(found[1], np.hypot(6, 10))  # the diagonal
    assert np.isnan(found[2]).all() and found[0, 0] >= 0
    swapped = surface_distances(np.zeros((12, 20), np.uint8), square(4, 4), num_classes=2)
    np.testing.assert_allclose(swapped[1], np.hypot(12, 20))


def test_void_is_void_in_both():
    label, prediction = square(4, 4), square(4, 4)
    prediction[10, 15] = 1  # far off, but where nothing is known
    label[9:, 12:] = 255
    np.testing.assert_array_equal(surface_distances(label, prediction, num_classes=2), np.zeros((2, 2)))
    label[:] = 255
    assert np.isnan(surface_distances(label, prediction, num_classes=2)).all()
    with pytest.raises(ValueError, match="one shape"):
        surface_distances(label, prediction[1:], num_classes=2)


def test_scores_of_images_and_their_means():
    truth = [square(4, 4), square(4, 4), np.zeros((12, 20), np.uint8)]
    found = [square(4, 4), square(4, 5), square(0, 0, size=1)]
    measured, counts = per_image.ImageScores(3), []
    for place, (label, prediction) in enumerate(zip(truth, found, strict=True)):
        measured.add(place, label, prediction)
        confusion = np.zeros((3, 3), np.int64)
        np.add.at(confusion, (label, prediction), 1)
        counts.append(metrics.class_counts(confusion))
    counts = np.array(counts)
    scores = measured.scores(counts)
    np.testing.assert_allclose(scores[:, 1], [[1, 1, 0, 0], [0.6, 0.75, 1, 0.5], [0, 0, *[np.hypot(12, 20)] * 2]])
    assert np.isnan(scores[:, 2]).all()
    means = per_image.means(scores, counts, ("sky", "road", "car"), measured.unit)
    assert means["unit"] == "pixels" and means["dice_per_class"]["road"] == pytest.approx(1.75 / 3)
    assert means["images_per_class"] == {"sky": 3, "road": 3, "car": 0}
    assert means["one_sided_per_class"] == {"sky": 0, "road": 1, "car": 0}
    assert means["hd95_per_class"]["car"] is None and means["assd_per_class"]["road"] == pytest.approx(
        (0.5 + np.hypot(12, 20)) / 3
    )
    rows = per_image.rows(scores, counts, ("a", "b", "c"), ("sky", "road", "car"))
    assert rows[0] == per_image.COLUMNS and len(rows) == 7
    assert rows[4] == ("b", 1, "road", "0.6", "0.75", "1", "0.5", 16, 16)
    assert per_image.means_table(means).splitlines()[3].split() == ["road", "0.5833", "8.108", "7.941", "3", "1"]


def test_evaluate_writes_the_scores_of_each_image(tiny, tmp_path):
    run, data = shutil.copytree(tiny.cgan, tmp_path / "run"), shutil.copytree(tiny.data, tmp_path / "data")
    lines = [f"test,{number:03d},0.5,0.5" for number in range(tiny_runs.COUNTS["test"])]
    (data / "spacing.csv").write_text("\n".join(["split,id,row_mm,column_mm", *lines]))
    arguments = (f"--workdir={run}", f"--data_dir={data}", "--per_image")
    outcome = tiny_runs.command("evaluate", *arguments)
    assert outcome.code == 0 and "HD95 (mm)" in outcome.out and "per_image-test.csv" in outcome.out, outcome.err
    rows = list(csv.DictReader((run / "per_image-test.csv").open()))
    scores = json.loads((run / "evaluation-test.json").read_text())
    assert tuple(rows[0]) == per_image.COLUMNS and {row["image"] for row in rows} == {f"{n:03d}" for n in range(6)}
    assert scores["per_image"]["unit"] == "mm"
    # IoU over the split from the images' own: what is shared, and what both have.
    for name, value in scores["iou_per_class"].items():
        own = [{key: float(row[key]) for key in per_image.COLUMNS[3:]} for row in rows if row["class"] == name]
        shared = [row["dice"] * (row["true_pixels"] + row["predicted_pixels"]) / 2 for row in own]
        whole = sum(row["true_pixels"] + row["predicted_pixels"] for row in own) - sum(shared)
        assert (sum(shared) / whole if whole else None) == pytest.approx(value, abs=1e-4)
        mean = np.mean([row["hd95"] for row in own])
        assert scores["per_image"]["hd95_per_class"][name] == pytest.approx(mean, rel=1e-4)
    # By hand, of one image.
    out = tmp_path / "out"
    tiny_runs.command("predict", f"--workdir={run}", f"--input={data}/test/images/002.png", f"--output={out}")
    label, mask = (np.array(Image.open(path)) for path in (data / "test/masks/002.png", out / "masks/002.png"))
    right = surface_distances(label, mask, num_classes=3, spacing=(0.5, 0.5))
    for row in rows:
        if row["image"] == "002":
            found = [float(row["hd95"]), float(row["assd"])]
            np.testing.assert_allclose(found, right[int(row["class_id"])], rtol=1e-4)
    (data / "spacing.csv").write_text("\n".join(["split,id,row_mm,column_mm", *lines[1:]]))
    outcome = tiny_runs.command("evaluate", *arguments)
    assert outcome.code == 2 and "says nothing of test/images/000.png" in outcome.err
