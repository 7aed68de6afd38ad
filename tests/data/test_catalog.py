"""Facts of the known data sets."""

import dataclasses
import os
import pathlib
import pickle

import pytest

from gan_seg_jax import labels
from gan_seg_jax.data import catalog

REAL_DATA = pathlib.Path(os.environ.get("GAN_SEG_DATA", pathlib.Path(__file__).parents[2] / ".." / "shared" / "data"))


def test_class_counts_are_the_published_ones():
    counts = {name: info.num_classes for name, info in catalog.CATALOG.items()}
    assert counts == {
        **{"camvid": 11, "facades": 12, "dsb2018": 2, "isbi_em": 2, "voc2012": 21, "cityscapes": 19},
        **{"oxford_iiit_pet": 2, "isic2016": 2, "isic2017": 2, "isic2018": 2, "stanford_background": 8},
    }
    assert labels.IGNORE == 255


@pytest.mark.parametrize("name", catalog.CATALOG)
def test_facts_are_consistent(name):
    info = catalog.CATALOG[name]
    assert info.name == name
    assert info.protocol.endswith(".")
    assert len(set(info.class_colors)) == info.num_classes
    assert all(str(count) in info.protocol or name.startswith("isic") for _, count in info.counts)
    assert all(len(color) == 3 and all(0 <= value <= 255 for value in color) for color in info.class_colors)
    assert pickle.loads(pickle.dumps(info)) == info


@pytest.mark.parametrize("name", ["camvid", "facades", "dsb2018", "isbi_em"])
def test_facts_agree_with_the_files(name):
    classes = REAL_DATA / name / "classes.txt"
    if not classes.is_file():
        pytest.skip(f"{name} is not in {REAL_DATA} (GAN_SEG_DATA names the folder of the real sets)")
    rows = [line.split() for line in classes.read_text().splitlines() if line and not line.startswith("#")]
    rows = [row for row in rows if row[0] != "255"]
    info = catalog.CATALOG[name]
    assert tuple(row[1] for row in rows) == info.class_names
    assert tuple(tuple(map(int, row[2:])) for row in rows) == info.class_colors


@pytest.mark.parametrize(
    "change",
    [{"class_names": ()}, {"class_names": ("a", "b", "c")}, {"class_names": ("a", "a")}],
    ids=["no classes", "a colour missing", "equal names"],
)
def test_inconsistent_facts_are_refused(change):
    info = catalog.DatasetInfo("toy", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
    with pytest.raises(ValueError, match="toy"):
        dataclasses.replace(info, **change)


def test_the_palette_is_the_one_of_voc():
    colors = dict(zip(catalog.CATALOG["voc2012"].class_names, catalog.palette(21), strict=True))
    assert colors["background"] == (0, 0, 0) and colors["aeroplane"] == (128, 0, 0) and colors["bicycle"] == (0, 128, 0)
    assert colors["person"] == (192, 128, 128) and colors["tvmonitor"] == (0, 64, 128)
    assert catalog.palette(256)[255] == (224, 224, 192)
