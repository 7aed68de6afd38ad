"""Polygons hold the centres of a region's pixels and no others, in GeoJSON and in COCO; areas count them."""

import numpy as np
import pytest
from skimage import draw

from gan_seg_jax.errors import InputError
from gan_seg_jax.postprocess import polygons
from gan_seg_jax.postprocess.areas import class_areas

RING = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 1, 2, 1, 0, 0],
        [0, 1, 1, 1, 0, 0],
        [0, 0, 0, 0, 0, 2],
    ],
    np.uint8,
)


def inside(ring, shape):
    """Return bool [h, w]: whether the centre of a pixel is in a ring of x, y."""
    return draw.polygon2mask(shape, np.array(ring)[:, ::-1] - 0.5)


def area(ring):
    x, y = np.array(ring).T
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2


def test_a_ring_has_a_hole_and_a_pixel_is_a_diamond():
    background, ring, middle, corner = polygons.regions(RING)
    assert [region.class_id for region in (background, ring, middle, corner)] == [0, 1, 2, 2]
    assert [len(region.holes) for region in (background, ring, middle, corner)] == [1, 1, 0, 0]
    assert corner.box == (5, 4, 1, 1) and corner.pixels == 1
    assert sorted(corner.outer[:-1]) == [[5.0, 4.5], [5.5, 4.0], [5.5, 5.0], [6.0, 4.5]]
    assert corner.outer[0] == corner.outer[-1]


def test_what_touches_at_a_corner_alone_is_two_regions():
    assert len(polygons.regions(np.array([[1, 0], [0, 1]], np.uint8))) == 4


@pytest.mark.parametrize("seed", range(3))
def test_polygons_give_the_label_map_again(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (5, 7)).astype(np.uint8).repeat(2, 0).repeat(3, 1)
    labels[rng.random(labels.shape) < 0.1] = 2
    found = polygons.geojson(labels, ("a", "b", "c"))
    again = np.full(labels.shape, 255, np.uint8)
    assert found["type"] == "FeatureCollection"
    for feature in found["features"]:
        outer, *holes = feature["geometry"]["coordinates"]
        assert area(outer) > 0 and all(area(hole) < 0 for hole in holes)
        assert all(ring[0] == ring[-1] for ring in (outer, *holes))
        mask = inside(outer, labels.shape)
        for hole in holes:
            mask &= ~inside(hole, labels.shape)
        assert mask.sum() == feature["properties"]["pixels"] and (again[mask] == 255).all()
        again[mask] = feature["properties"]["class_id"]
        assert feature["properties"]["class"] == "abc"[feature["properties"]["class_id"]]
    np.testing.assert_array_equal(again, labels)


def test_straight_sides_have_no_points_between():
    (whole,) = polygons.regions(np.ones((30, 40), np.uint8))
    assert len(whole.outer) == 9  # each corner is cut
    assert area(whole.outer) == 30 * 40 - 4 / 8


def test_noise_has_too_many_regions(monkeypatch):
    monkeypatch.setattr(polygons, "MOST_REGIONS", 3)
    coco = polygons.Coco(("sky", "road", "car"))
    with pytest.raises(InputError, match="has 4 regions; expected at most 3"):
        coco.add("a.png", RING)
    assert coco.to_json()["images"] == []


def test_coco():
    coco = polygons.Coco(("sky", "road", "car"))
    coco.add("deep/a.jpg", RING)
    coco.add("b.png", np.full((2, 3), 1, np.uint8))
    found = coco.to_json()
    assert found["categories"][2] == {"id": 2, "name": "car"}
    assert found["images"] == [
        {"id": 1, "file_name": "deep/a.jpg", "height": 5, "width": 6},
        {"id": 2, "file_name": "b.png", "height": 2, "width": 3},
    ]
    background, ring, middle, corner, whole = found["annotations"]
    assert [part["id"] for part in found["annotations"]] == [1, 2, 3, 4, 5] and whole["image_id"] == 2
    assert ring["bbox"] == [1, 1, 3, 3] and ring["area"] == 8 and ring["iscrowd"] == 0
    for part, class_id in ((background, 0), (ring, 1)):  # with holes: run lengths, down the columns, outside first
        counts = part["segmentation"]["counts"]
        flat = np.repeat(np.arange(len(counts)) % 2, counts)
        mask = flat.reshape(5, 6, order="F").astype(bool)
        right = RING == class_id
        np.testing.assert_array_equal(mask, right)
        assert part["segmentation"]["size"] == [5, 6]
    (flat,) = whole["segmentation"]
    assert len(flat) % 2 == 0 and inside(np.reshape(flat, (-1, 2)), (2, 3)).all()


def test_areas_of_classes():
    found = class_areas(RING, ("sky", "road", "car", "tree"), (0.5, 0.25))
    assert found["road"] == {"pixels": 8, "share": 8 / 30, "mm2": 1.0}
    assert found["tree"] == {"pixels": 0, "share": 0.0, "mm2": 0.0}
    assert class_areas(RING, ("sky", "road", "car"))["car"] == {"pixels": 2, "share": 2 / 30}
