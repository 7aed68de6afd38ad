"""Data sets that everybody knows, as small archives in the official layout."""

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.data import catalog, folder, pairs
from gan_seg_jax.data.splits import Rules
from gan_seg_jax.errors import InputError
from gan_seg_jax.prepare import report
from gan_seg_jax.preparing import isic
from tests.preparing import sources
from tests.preparing.sources import SHAPE, photo, read, run, save


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def message(source, **options) -> str:
    with pytest.raises(InputError) as caught:
        run(source, **options)
    return str(caught.value)


def opened(out, name) -> catalog.Dataset:
    """The prepared folder as --config.dataset=NAME opens it."""
    return folder.open_folder(out, info=catalog.CATALOG[name], name=name, rules=Rules())


def palette_mask(path, label):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(label, np.uint8))
    image.putpalette(np.array(catalog.palette(256), np.uint8).tobytes())
    image.save(path)


def voc_label(seed):
    label = np.random.default_rng(seed).integers(0, 21, SHAPE, np.uint8)
    label[0] = 255
    return label


@pytest.fixture
def voc2012(tmp_path):
    root = tmp_path / "source" / "VOCdevkit" / "VOC2012"
    names = {"train": ["2007_000032", "2007_000039"], "val": ["2007_000033"], "test": ["2008_000006"]}
    for seed, name in enumerate([*names["train"], *names["val"], *names["test"], "2009_000001"]):
        save(root / "JPEGImages" / f"{name}.jpg", photo(seed))
        if not name.startswith("2008"):
            palette_mask(root / "SegmentationClass" / f"{name}.png", voc_label(seed))
            palette_mask(root / "SegmentationObject" / f"{name}.png", voc_label(seed))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, ids in {**names, "trainval": names["train"] + names["val"]}.items():
        (lists / f"{split}.txt").write_text("\n".join(ids) + "\n")
    return root


def test_voc(voc2012, tmp_path, capsys):
    source = tmp_path / "source"
    found = run(source, format="voc")
    out = tmp_path / "out"
    np.testing.assert_array_equal(read(out, "train", "2007_000039"), voc_label(1))
    assert (out / "val/images/2007_000033.jpg").read_bytes() == (voc2012 / "JPEGImages/2007_000033.jpg").read_bytes()
    assert found["official_counts"] == {"train": 1464, "val": 1449}
    assert found["splits"]["val"]["void"] == 8 and found["classes"][15] == "person"
    assert {why: part["such_as"] for why, part in found["left_out"].items()} == {
        "lists that join others": ["ImageSets/Segmentation/trainval.txt"],
        "lists of images without masks (labels that are withheld)": ["ImageSets/Segmentation/test.txt"],
        "images and masks in no list": ["2008_000006", "2009_000001"],
    }
    assert len(opened(out, "voc2012").splits["val"]) == 1
    assert "train: 2 images; void 16.7% of the pixels" in report(found, str(out))
    assert "warning: train has 2 images, officially 1464." in capsys.readouterr().err


def test_voc_in_colors_and_odd_sets(voc2012, tmp_path):
    colors = np.array(catalog.palette(256), np.uint8)
    save(voc2012 / "SegmentationClass" / "2007_000032.png", colors[voc_label(0)])
    run(tmp_path / "source", format="voc")
    np.testing.assert_array_equal(read(tmp_path / "out", "train", "2007_000032"), voc_label(0))
    (voc2012 / "JPEGImages" / "2007_000039.jpg").unlink()
    found = message(tmp_path / "source", format="voc", output=str(tmp_path / "b"))
    assert "train.txt: names '2007_000039', which is not in JPEGImages" in found
    (voc2012.parent / "VOC2007" / "SegmentationClass").mkdir(parents=True)
    assert "several sets (VOCdevkit/VOC2007, VOCdevkit/VOC2012)" in message(tmp_path / "source", format="voc")
    assert "has no folder SegmentationClass" in message(voc2012 / "JPEGImages", format="voc")


@pytest.mark.parametrize("where", ["Segmentation/trainaug.txt", "SegmentationAug/train_aug.txt"])
def test_voc_with_the_labels_of_sbd(voc2012, tmp_path, capsys, where):
    lists, masks = voc2012 / "ImageSets", voc2012 / "SegmentationClassAug"
    (lists / where).parent.mkdir(exist_ok=True)
    names = ("2007_000032", "2007_000039", "2008_000006")  # the last has labels of SBD alone, the first of VOC alone
    (lists / where).write_text("".join(f"/JPEGImages/{n}.jpg /SegmentationClassAug/{n}.png\n" for n in names))
    for seed, name in enumerate([*names, "2007_000033"]):
        if seed:
            save(masks / f"{name}.png", voc_label(10 + seed) % 21)  # without void, as those of SBD
    found = run(tmp_path / "source", format="voc", trainaug=True)
    labels = [read(tmp_path / "out", "train", name) for name in names]
    for label, expected in zip(labels, [voc_label(0), voc_label(11) % 21, voc_label(12) % 21], strict=True):
        np.testing.assert_array_equal(label, expected)
    np.testing.assert_array_equal(read(tmp_path / "out", "val", "2007_000033"), voc_label(2))
    assert found["left_out"]["lists whose place trainaug takes"]["such_as"] == ["ImageSets/Segmentation/train.txt"]
    report(found, "out")
    assert "warning: train has 3 images, officially 10582." in capsys.readouterr().err


def test_voc_with_the_labels_of_sbd_needs_them(voc2012, tmp_path):
    options = {"format": "voc", "trainaug": True}
    assert "has no folder SegmentationClassAug" in message(tmp_path / "source", **options)
    (voc2012 / "SegmentationClassAug").mkdir()
    assert "has no trainaug.txt or train_aug.txt in ImageSets/Segmentation or" in message(
        tmp_path / "source", **options
    )
    (voc2012 / "ImageSets/Segmentation/trainaug.txt").write_text("2007_000032\n2007_000033\n")
    found = message(tmp_path / "source", **options)
    assert "trainaug.txt: '2007_000033' is in ImageSets/Segmentation/val.txt as well" in found


def test_cvat(tmp_path):
    source = tmp_path / "source"
    (source / "ImageSets" / "Segmentation").mkdir(parents=True)
    (source / "ImageSets" / "Segmentation" / "default.txt").write_text("\n".join("abcd"))
    (source / "labelmap.txt").write_text("# label:color_rgb:parts:actions\ncar:250,50,83::\nbackground:0,0,0::\n")
    label = np.arange(48).reshape(SHAPE) % 2
    for name in "abcd":
        save(source / "SegmentationClass" / f"{name}.png", np.array([(0, 0, 0), (250, 50, 83)])[label])
    assert "no folder JPEGImages" in message(source, format="cvat")
    for seed, name in enumerate("abcd"):
        save(source / "photos" / f"{name}.jpg", photo(seed))
    found = run(source, format="cvat", images="photos", val_fraction=0.25)
    assert found["classes"] == ["background", "car"] and found["splits"]["val"]["images"] == 1
    (name,) = sources.names(tmp_path / "out", "val")
    np.testing.assert_array_equal(read(tmp_path / "out", "val", name), label)
    (source / "labelmap.txt").write_text("car:250,50::\n")
    assert "expected `label:R,G,B::`" in message(source, format="cvat", images="photos")


@pytest.mark.parametrize("kind", ["labelIds", "labelTrainIds"])
def test_cityscapes(tmp_path, kind):
    source, label = tmp_path / "source", (np.arange(48) % 34).reshape(SHAPE)
    for seed, (split, city) in enumerate(
        [("train", "aachen"), ("train", "bochum"), ("val", "lindau"), ("test", "berlin")]
    ):
        name = f"{city}_000000_000019"
        save(source / f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png", photo(seed))
        saved = label if kind == "labelIds" else np.where(label < 19, label, 255)
        save(source / f"gtFine/{split}/{city}/{name}_gtFine_{kind}.png", saved)
        save(source / f"gtFine/{split}/{city}/{name}_gtFine_color.png", photo(seed))
    found = run(source, format="cityscapes")
    out = tmp_path / "out"
    assert sources.names(out, "train") == ["aachen_000000_000019", "bochum_000000_000019"]
    made = read(out, "val", "lindau_000000_000019")
    ids = {7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5, 19: 6, 20: 7, 21: 8, 22: 9, 23: 10, 24: 11, 25: 12, 26: 13, 27: 14}
    ids |= {28: 15, 31: 16, 32: 17, 33: 18} if kind == "labelIds" else {}
    ids = ids if kind == "labelIds" else {n: n for n in range(19)}
    np.testing.assert_array_equal(made, np.vectorize(lambda value: ids.get(value, 255))(label))
    assert found["left_out"] == {"without fine labels": {"count": 1, "such_as": ["leftImg8bit/test"]}}
    assert opened(out, "cityscapes").info.size == (1024, 2048)
    save(source / f"gtFine/train/aachen/aachen_000000_000019_gtFine_{kind}.png", label + 20)
    assert "): numbers outside of the 19 classes" in message(source, format="cityscapes", output=str(tmp_path / "b"))


def test_pix2pix_halves(tmp_path):
    source, label = tmp_path / "source", np.kron(np.arange(6).reshape(2, 3) % 3, np.ones((16, 16), int))
    classes = sources.classes(tmp_path / "classes.txt", "0 a 0 0 170\n1 b 255 255 0\n2 c 170 0 0\n")
    colors = np.array([(0, 0, 170), (255, 255, 0), (170, 0, 0)], np.uint8)[label]
    for seed, split in enumerate(["train", "train", "val"]):
        save(source / split / f"{seed}.png", np.hstack([photo(seed, label.shape), colors]))
    assert "--image_side is missing; expected one of: left, right" in message(source, format="pix2pix")
    found = run(source, format="pix2pix", image_side="left")
    out = tmp_path / "out"
    np.testing.assert_array_equal(read(out, "train", "1", "images"), photo(1, label.shape))
    np.testing.assert_array_equal(read(out, "train", "1", "targets"), colors)
    assert found["classes"] == [] and not (out / "classes.txt").exists()
    assert list(pairs.open_pairs(out, rules=Rules()).splits) == ["train", "val"]
    options = {"format": "pix2pix", "image_side": "left", "classes": str(classes), "mask_values": "colors"}
    run(source, **options, output=str(tmp_path / "b"))
    np.testing.assert_array_equal(read(tmp_path / "b", "val", "2"), label)
    save(source / "val" / "2.jpg", np.hstack([photo(2, label.shape), colors]), quality=90)
    (source / "val" / "2.png").unlink()
    assert "val/2.jpg: was compressed with losses" in message(source, **options, output=str(tmp_path / "c"))
    run(source, **options, unknown="nearest", max_ambiguous=0.3, output=str(tmp_path / "d"))
    made = read(tmp_path / "d", "val", "2")
    assert np.all((made == label) | (made == 255)) and np.mean(made == 255) < 0.2
    save(source / "val" / "3.png", photo(9, (6, 7)))
    assert "val/3.png: is 7 pixels wide" in message(
        source, format="pix2pix", image_side="left", output=str(tmp_path / "e")
    )


def test_oxford_iiit_pet(tmp_path):
    source, trimap = tmp_path / "source", np.arange(48).reshape(SHAPE) % 3 + 1
    for seed, name in enumerate(["Abyssinian_1", "Abyssinian_2", "pug_1", "pug_9"]):
        save(source / "images" / f"{name}.jpg", photo(seed))
        save(source / "annotations" / "trimaps" / f"{name}.png", trimap)
        (source / "annotations" / "trimaps" / f"._{name}.png").write_bytes(b"Mac OS X")
    (source / "images" / "Abyssinian_1.mat").write_bytes(b"x")
    (source / "annotations" / "trainval.txt").write_text("Abyssinian_1 1 1 1\nAbyssinian_2 1 1 1\n")
    (source / "annotations" / "test.txt").write_text("#Image CLASS-ID SPECIES BREED ID\npug_1 5 2 3\n")
    found = run(source, format="oxford_iiit_pet")
    out = tmp_path / "out"
    np.testing.assert_array_equal(read(out, "test", "pug_1"), np.array([9, 1, 0, 255])[trimap])
    assert found["left_out"]["images in no list"]["such_as"] == ["pug_9"]
    assert len(opened(out, "oxford_iiit_pet").splits["test"]) == 1
    found = run(source, format="oxford_iiit_pet", border="class", output=str(tmp_path / "b"))
    np.testing.assert_array_equal(read(tmp_path / "b", "test", "pug_1"), np.array([9, 1, 0, 2])[trimap])
    assert found["classes"] == ["background", "pet", "border"]
    (source / "annotations" / "test.txt").write_text("pug_7 5 2 3\n")
    assert "test.txt: names 'pug_7', which is not in images" in message(source, format="oxford_iiit_pet")


@pytest.mark.parametrize("year", isic.PARTS)
def test_isic(tmp_path, year):
    source = tmp_path / "source"
    suffix = "Segmentation" if year == "isic2016" else "segmentation"
    for seed, (images, labels) in enumerate(isic.PARTS[year].values()):
        for number in range(2):
            name = f"ISIC_{seed}{number}"
            save(source / images / f"{name}.jpg", photo(10 * seed + number))
            save(source / images / f"{name}_superpixels.png", photo(10 * seed + number))
            save(source / labels / f"{name}_{suffix}.png", 255 * (photo(seed)[..., 0] % 2))
    run(source, format="isic")
    data = opened(tmp_path / "out", year)
    expected = dict.fromkeys(isic.PARTS[year], 2) | ({"train": 1, "val": 1} if year == "isic2016" else {})
    assert {name: len(split) for name, split in data.splits.items()} == expected
    np.testing.assert_array_equal(read(tmp_path / "out", "train", "ISIC_01"), photo(0)[..., 0] % 2)
    assert "holds none of these folders" in message(source / isic.PARTS[year]["train"][0], format="isic")


def test_stanford_background(tmp_path):
    source, label = tmp_path / "source", np.arange(48).reshape(SHAPE) % 9 - 1
    for number in range(5):
        save(source / "images" / f"{number}.jpg", photo(number))
        (source / "labels").mkdir(exist_ok=True)
        text = "\n".join(" ".join(map(str, row)) for row in label) + "\n"
        (source / "labels" / f"{number}.regions.txt").write_text(text)
        (source / "labels" / f"{number}.surfaces.txt").write_text(text)
    run(source, format="stanford_background", test_fraction=0.2, seed=3)
    data = opened(tmp_path / "out", "stanford_background")
    assert len(data.splits["test"]) == 1 and len(data.splits["train"]) + len(data.splits["val"]) == 4
    np.testing.assert_array_equal(data.splits["train"][0]["label"], np.where(label < 0, 255, label))
    (source / "labels" / "4.regions.txt").write_text("0 1\n2\n")
    assert "labels/4.regions.txt: is no table" in message(
        source, format="stanford_background", output=str(tmp_path / "b")
    )
