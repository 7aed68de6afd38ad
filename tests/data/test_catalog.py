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
    assert counts == {"camvid": 11, "facades": 12, "dsb2018": 2, "isbi_em": 2}
    assert labels.IGNORE == 255


@pytest.mark.parametrize("name", catalog.CATALOG)
def test_facts_are_consistent(name):
    info = catalog.CATALOG[name]
    assert info.name == name
    assert info.protocol.endswith(".")
    assert len(set(info.class_colors)) == info.num_classes
    assert all(len(color) == 3 and all(0 <= value <= 255 for value in color) for color in info.class_colors)
    assert pickle.loads(pickle.dumps(info)) == info


@pytest.mark.parametrize("name", catalog.CATALOG)
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
