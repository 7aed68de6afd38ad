"""Polygons, run lengths and shapes: COCO and labelme."""

import base64
import io
import json
import sys

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.errors import InputError
from gan_seg_jax.preparing import coco
from tests.preparing.sources import photo, read, run, save

SHAPE = (20, 30)
COCO = {"format": "coco", "images": "{split}2017", "annotations": "annotations/instances_{split}2017.json"}


def box(left, top, right, bottom):
    """A polygon around pixels left..right-1 and top..bottom-1."""
    return [left, top, right, top, right, bottom, left, bottom]


def drawn(*boxes):
    label = np.zeros(SHAPE, np.uint8)
    for value, left, top, right, bottom in boxes:
        label[top:bottom, left:right] = value
    return label


def message(source, **options) -> str:
    with pytest.raises(InputError) as caught:
        run(source, **options)
    return str(caught.value)


def row(number, image, category, region, crowd=0):
    return {"id": number, "image_id": image, "category_id": category, "segmentation": region, "iscrowd": crowd}


@pytest.fixture(name="source")
def make_source(tmp_path):
    pytest.importorskip("pycocotools", reason="the extra coco is not installed")
    source = tmp_path / "source"
    runs = [20 * 20, 3, 17, 3, 20 * 8 + 17]  # columns 20 and 21, rows 0..2, down each column
    rows = {
        "train": [
            row(1, 7, 3, [box(2, 2, 8, 8), box(20, 10, 24, 14)]),
            row(2, 7, 90, {"size": list(SHAPE), "counts": runs}, crowd=1),
        ],
        "val": [row(3, 8, 90, [box(5, 5, 10, 10)])],
    }
    for number, split in enumerate(("train", "val"), start=7):
        save(source / f"{split}2017" / f"{number:012d}.jpg", photo(number, SHAPE))
        write(source, split, rows[split], number)
    return source


def write(source, split, rows, number):
    image = {"id": number, "file_name": f"{number:012d}.jpg", "height": SHAPE[0], "width": SHAPE[1]}
    categories = [{"id": 90, "name": "toothbrush"}, {"id": 3, "name": "car"}]
    path = source / "annotations" / f"instances_{split}2017.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": [image], "annotations": rows, "categories": categories}))


def test_coco(source, tmp_path):
    save(source / "val2017" / "x.jpg", photo(99, SHAPE))
    found = run(source, **COCO)
    out = tmp_path / "out"
    assert found["classes"] == ["background", "car", "toothbrush"]
    expected = drawn((1, 2, 2, 8, 8), (1, 20, 10, 24, 14), (255, 20, 0, 22, 3))
    np.testing.assert_array_equal(read(out, "train", "000000000007"), expected)
    np.testing.assert_array_equal(read(out, "val", "000000000008"), drawn((2, 5, 5, 10, 10)))
    assert found["left_out"]["images that the annotations do not list"]["such_as"] == ["val2017/x.jpg"]
    run(source, **COCO, crowd="class", output=str(tmp_path / "b"))
    expected[expected == 255] = 2
    np.testing.assert_array_equal(read(tmp_path / "b", "train", "000000000007"), expected)


@pytest.mark.parametrize(("overlap", "value"), [("small", 2), ("order", 1), ("void", 255)])
def test_objects_over_each_other(source, tmp_path, overlap, value):
    rows = [row(1, 7, 90, [box(4, 4, 6, 6)]), row(2, 7, 3, [box(2, 2, 8, 8)]), row(3, 7, 3, [box(2, 2, 4, 8)])]
    write(source, "train", rows, 7)
    found = message(source, **COCO)
    assert "train2017/000000000007.jpg: has objects of different classes" in found and "--overlap=small" in found
    found = run(source, **COCO, overlap=overlap, output=str(tmp_path / "b"))
    np.testing.assert_array_equal(
        read(tmp_path / "b", "train", "000000000007"), drawn((1, 2, 2, 8, 8), (value, 4, 4, 6, 6))
    )
    assert found["notes"] == {"overlapping_pixels": 4}


def test_crowds_are_void_only_where_no_object_is(source, tmp_path):
    runs = {"size": list(SHAPE), "counts": [0, 600]}
    write(source, "train", [row(1, 7, 3, [box(2, 2, 8, 8)]), row(2, 7, 3, runs, crowd=1)], 7)
    run(source, **COCO)
    expected = np.where(drawn((1, 2, 2, 8, 8)), 1, 255)
    np.testing.assert_array_equal(read(tmp_path / "out", "train", "000000000007"), expected)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (row(1, 7, 4, [box(2, 2, 8, 8)]), "category_id 4, which is none"),
        (row(1, 9, 3, [box(2, 2, 8, 8)]), "annotations of image 9, which it does"),
        (row(1, 7, 3, [[1, 2, 3, 4]]), "a polygon needs three points"),
        (row(1, 7, 3, [1, 2, 3, 4]), "a polygon needs three points"),
        (row(1, 7, 3, []), "has no region (a box alone says too little)"),
        (row(1, 7, 3, {"size": [5, 5], "counts": [25]}), "another size than its image"),
        (row(1, 7, 3, {"size": list(SHAPE), "counts": [5]}), "are no numbers that add up to 20 x 30"),
        (row(1, 7, 3, {"size": list(SHAPE), "counts": "xyz~~~"}), "are no numbers that add up"),
        ({"id": 1}, "is no file of annotations of COCO"),
    ],
)
def test_annotations_that_are_wrong(source, wrong, words):
    write(source, "train", [wrong], 7)
    assert words in message(source, **COCO)


def test_run_lengths_are_those_of_the_package():
    mask = pytest.importorskip("pycocotools.mask", reason="the extra coco is not installed")
    pixels = np.random.default_rng(0).random((64, 40)) < np.linspace(0, 1, 40) ** 4
    pixels[:, 20] = True
    counts = coco.run_lengths(mask.encode(np.asfortranarray(pixels.astype(np.uint8)))["counts"])
    np.testing.assert_array_equal(np.repeat(np.arange(len(counts)) % 2, counts).reshape(40, 64).T, pixels)


def test_files_of_annotations_that_are_wrong(source):
    path = source / "annotations" / "instances_train2017.json"
    text = path.read_text()
    path.write_text(text.replace("000000000007.jpg", "../secret.jpg"))
    assert "has a wrong file_name" in message(source, **COCO)
    path.write_text(text.replace('"car"', '"bus"'))
    assert "other categories than another split's file" in message(source, **COCO)
    path.write_text("[" * 100000)
    assert "nested too deeply" in message(source, **COCO)
    path.write_text("[]")
    assert "is no file of annotations of COCO" in message(source, **COCO)
    path.unlink()
    assert "has no folder" in message(source, **COCO) or "does not exist" in message(source, **COCO)


def test_coco_without_its_package(source, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    found = message(source, **COCO)
    assert found == 'This format needs pycocotools, which is not installed: pip install "gan_seg_jax[coco]".'


def labelme(path, shapes, image="a.jpg", shape=SHAPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"label": name, "points": points, "shape_type": kind, **more} for name, kind, points, more in shapes]
    path.write_text(
        json.dumps(
            {"shapes": rows, "imagePath": image, "imageHeight": shape[0], "imageWidth": shape[1], "imageData": None}
        )
    )


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_labelme(tmp_path):
    source = tmp_path / "source"
    save(source / "images" / "a.jpg", photo(0, SHAPE))
    save(source / "images" / "b.jpg", photo(1, SHAPE))
    polygon = [[2, 2], [7, 2], [7, 7], [2, 7]]
    shapes = [
        ("dog", "polygon", polygon, {}),
        ("cat", "rectangle", [[14, 12], [10, 10]], {}),
        ("__ignore__", "circle", [[24, 5], [24, 7]], {}),
        ("cat", "mask", [[1, 15], [3, 17]], {"mask": png(np.eye(3, dtype=bool))}),
    ]
    labelme(source / "json" / "a.json", shapes, "..\\images\\a.jpg")
    labelme(source / "json" / "b.json", [], "../images/b.jpg")
    found = run(source, format="labelme", annotations="json")
    assert found["classes"] == ["background", "cat", "dog"]
    label = read(tmp_path / "out", "train", "a")
    expected = drawn((2, 2, 2, 8, 8), (1, 10, 10, 15, 13))
    expected[[15, 16, 17], [1, 2, 3]] = 1
    np.testing.assert_array_equal(np.where(label == 255, 0, label), expected)
    assert label[5, 24] == label[3, 24] == label[7, 24] == 255 and 13 <= np.count_nonzero(label == 255) <= 21
    assert not read(tmp_path / "out", "train", "b").any()
    run(source, format="labelme", annotations="json", class_names="background,dog,cat,cow", output=str(tmp_path / "b"))
    assert read(tmp_path / "b", "train", "a")[2, 2] == 1
    found = message(source, format="labelme", annotations="json", class_names="background,dog")
    assert "labels that are no classes: cat" in found


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (("a", "line", [[1, 1], [5, 5]], {}), "is a line, which has no area"),
        (("a", "polygon", [[1, 1], [5, 5]], {}), "is a polygon of 2 points"),
        (("a", "polygon", [[1], [5, 5]], {}), "has points that are none"),
        (("a", "mask", [[1, 1], [5, 5]], {"mask": "??"}), "is a mask without pixels"),
        ((3, "polygon", [], {}), "is not written by labelme"),
    ],
)
def test_shapes_that_are_wrong(tmp_path, shape, words):
    source = tmp_path / "source"
    save(source / "a.jpg", photo(0, SHAPE))
    labelme(source / "a.json", [shape])
    found = message(source, format="labelme", class_names="background,a")
    assert "a.json" in found and words in found


def test_an_image_of_labelme_that_is_not_there_or_of_another_size(tmp_path):
    source = tmp_path / "source"
    labelme(source / "a.json", [])
    assert "a.jpg: does not exist" in message(source, format="labelme", class_names="background,a")
    save(source / "a.jpg", photo(0, (20, 31)))
    found = message(source, format="labelme", class_names="background,a", output=str(tmp_path / "b"))
    assert "a.json (20 x 30, image 20 x 31): mask of another size" in found
