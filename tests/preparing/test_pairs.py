"""Folders of images and masks under other names, and every meaning that the values of masks may have."""

import os

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.data import folder
from gan_seg_jax.errors import InputError
from tests.preparing import sources
from tests.preparing.sources import SHAPE, photo, read, run, save

COLORS = np.array([(10, 20, 30), (40, 50, 60), (200, 0, 0)], np.uint8)
SUFFIX = {"format": "pairs", "images": ".", "masks": ".", "mask_suffix": "_mask"}
PLAIN = {"format": "pairs", "images": "images", "masks": "masks"}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def source(tmp_path):
    """Three images with ids of three classes."""
    root = tmp_path / "source"
    sources.classes(root / "classes.txt")
    for seed, name in enumerate("abc"):
        save(root / "images" / f"{name}.png", photo(seed))
        save(root / "masks" / f"{name}.png", label(seed))
    return root


def label(seed, count=3):
    found = np.random.default_rng(seed).integers(0, count, SHAPE, np.uint8)
    found[0, :count] = range(count)
    return found


def message(source, **options) -> str:
    with pytest.raises(InputError) as caught:
        run(source, **options)
    return str(caught.value)


def test_suffixes_in_one_folder_and_binary_masks(tmp_path):
    source, shapes = tmp_path / "source", {}
    for seed, name in enumerate(["p1/x", "p1/y", "p2/x", "ä b"]):
        save(source / f"{name}.png", photo(seed))
        shapes[name.replace("/", "__")] = label(seed, 2)
        save(source / f"{name}_mask.png", 255 * label(seed, 2))
    (source / "readme.doc").write_text("x")
    (source / "._x_mask.png").write_text("hidden")
    found = run(source, **SUFFIX, mask_values="binary", class_names="background,polyp")
    out = tmp_path / "out"
    assert sources.names(out, "train") == sources.names(out, "train", "masks") == sorted(shapes)
    for image_id, expected in shapes.items():
        np.testing.assert_array_equal(read(out, "train", image_id), expected)
    assert (out / "train/images/p1__x.png").read_bytes() == (source / "p1/x.png").read_bytes()
    assert (out / "classes.txt").read_text() == "# id name R G B\n0 background 0 0 0\n1 polyp 128 0 0\n"
    assert found == {k: v for k, v in sources.record(out).items() if k not in ("complete", "lines_sha256")}
    assert found["left_out"]["files other than *.* of .png .jpg .jpeg .jpe .jfif .tif .tiff .bmp .webp"]["count"] == 1
    assert found["splits"]["train"]["pixels"]["polyp"] == sum(int(shape.sum()) for shape in shapes.values())
    assert found["values"]["255 255 255"] == "polyp"
    data = folder.open_folder(out)
    assert data.info.class_names == ("background", "polyp") and len(data.splits["train"]) == 3


def test_masks_told_from_images_by_their_ending(tmp_path):
    source = tmp_path / "source"
    sources.classes(source / "classes.txt")
    save(source / "all" / "a.jpg", photo(0))
    save(source / "all" / "a.png", label(0))
    both = {"format": "pairs", "images": "all", "masks": "all"}
    assert "--mask_suffix=_mask" in message(source, **both)
    run(source, **both, image_suffix=".jpg", mask_suffix=".png")
    np.testing.assert_array_equal(read(tmp_path / "out", "train", "a"), label(0))


def test_splits_that_the_source_names_and_a_reduced_zero(tmp_path):
    source = tmp_path / "source"
    sources.classes(source / "c.txt")
    for split in ("training", "validation"):
        for seed in range(2):
            save(source / f"images/{split}/{seed}.jpg", photo(10 * seed + len(split)))
            save(source / f"annotations/{split}/{seed}.png", np.arange(48).reshape(SHAPE) % 4)
    ade = {
        "format": "pairs",
        "images": "images/{split}",
        "masks": "annotations/{split}",
        "classes": str(source / "c.txt"),
    }
    assert "has no folder images/train" in message(source, **ade)
    ade |= {"splits": "train=training,val=validation", "reduce_zero_label": True}
    found = run(source, **ade)
    out = tmp_path / "out"
    expected = np.arange(48).reshape(SHAPE) % 4
    np.testing.assert_array_equal(read(out, "val", "1"), np.where(expected == 0, 255, expected - 1))
    assert found["splits"]["val"] == {
        "images": 2,
        "labelled": 2,
        "pixels": {"sky": 24, "road": 24, "car": 24},
        "void": 24,
    }
    assert (out / "classes.txt").read_text().endswith("255 void 224 224 192\n")
    assert "--lists" in message(source, **ade, val_fraction=0.5, output=str(tmp_path / "other"))


def test_colors_exact_nearest_and_void(source, tmp_path):
    sources.classes(source / "classes.txt", "0 sky 10 20 30\n1 road 40 50 60\n2 car 200 0 0\n255 void 0 0 255\n")
    colors = COLORS[label(0)]
    colors[1, 1] = (0, 0, 255)
    save(source / "masks" / "a.png", colors)
    for name in "bc":
        save(source / "masks" / f"{name}.png", COLORS[label(1)])
    run(source, **PLAIN, mask_values="colors")
    expected = label(0)
    expected[1, 1] = 255
    np.testing.assert_array_equal(read(tmp_path / "out", "train", "a"), expected)
    colors[2, 2], colors[3, 3] = (198, 4, 3), (120, 10, 15)
    save(source / "masks" / "a.png", colors)
    assert "--unknown=nearest" in message(source, **PLAIN, mask_values="colors", output=str(tmp_path / "b"))
    options = {"mask_values": "colors", "output": str(tmp_path / "c")}
    found = run(source, **PLAIN, **options, unknown="nearest")
    expected[2, 2], expected[3, 3] = 2, 255
    np.testing.assert_array_equal(read(tmp_path / "c", "train", "a"), expected)
    assert found["notes"] == {"ambiguous_pixels": 1, "nearest_color_pixels": 1}
    strict = {"mask_values": "colors", "unknown": "nearest", "output": str(tmp_path / "d"), **PLAIN}
    assert "masks/a.png (2.1%): more pixels between" in message(source, **strict, max_ambiguous=0.001)
    run(source, **strict, max_ambiguous=0.03)  # on the same folder, since it holds nothing that this would refuse
    run(source, **PLAIN, mask_values="colors", unknown="void", output=str(tmp_path / "e"))
    expected[2, 2] = 255
    np.testing.assert_array_equal(read(tmp_path / "e", "train", "a"), expected)


def test_masks_stored_as_jpeg(tmp_path):
    source, blocks = tmp_path / "source", np.zeros((64, 64), np.uint8)
    blocks[16:48, 20:44] = 1
    save(source / "images" / "a.png", photo(0, (64, 64)))
    save(source / "images" / "b.png", photo(1, (64, 64)))
    for name in "ab":
        save(source / "masks" / f"{name}.jpg", 255 * blocks, quality=70)
    assert "--unknown=nearest" in message(source, **PLAIN, mask_values="binary")
    found = run(source, **PLAIN, mask_values="binary", unknown="nearest", output=str(tmp_path / "b"))
    made = read(tmp_path / "b", "train", "a")
    assert np.all((made == blocks) | (made == 255)) and np.mean(made == 255) < 0.02
    assert 0 < found["notes"]["nearest_color_pixels"]
    sources.classes(source / "classes.txt")
    assert "alters class ids" in message(source, **PLAIN, output=str(tmp_path / "c"))


def test_palettes_are_indices_or_colors(source, tmp_path):
    mask = Image.fromarray(label(0), mode=None)
    mask.putpalette([1, 1, 1, 2, 2, 2, 3, 3, 3])
    mask.save(source / "masks" / "a.png")
    run(source, **PLAIN)
    np.testing.assert_array_equal(read(tmp_path / "out", "train", "a"), label(0))
    mask.putpalette([200, 0, 0, 10, 20, 30, 40, 50, 60])
    for name in "abc":
        mask.save(source / "masks" / f"{name}.png")
    run(source, **PLAIN, mask_values="colors", output=str(tmp_path / "b"))
    np.testing.assert_array_equal(read(tmp_path / "b", "train", "a"), np.array([2, 0, 1])[label(0)])


@pytest.mark.parametrize("deep", [True, False], ids=["16 bits", "colours"])
def test_instances(tmp_path, deep):
    source, objects = tmp_path / "source", np.zeros(SHAPE, np.uint16)
    objects[1:5, 1:4], objects[1:5, 4:7] = 255, 300
    colors = np.zeros((*SHAPE, 3), np.uint8)
    colors[objects == 255], colors[objects == 300] = (0, 0, 255), (9, 0, 0)
    save(source / "images" / "a.png", photo(0))
    save(source / "masks" / "a.png", objects if deep else colors)
    options = {**PLAIN, "mask_values": "instances"}
    assert "--objects is missing; expected one of: foreground, boundary" in message(source, **options)
    assert "makes 3 classes, but there are 2" in message(source, **options, objects="boundary", class_names="a,b")
    run(source, **options, objects="foreground")
    np.testing.assert_array_equal(read(tmp_path / "out", "train", "a"), objects > 0)
    run(source, **options, objects="boundary", output=str(tmp_path / "b"))
    expected = np.where(objects, 2, 0)
    expected[2:4, 2], expected[2:4, 5] = 1, 1
    np.testing.assert_array_equal(read(tmp_path / "b", "train", "a"), expected)
    assert "2 boundary" in (tmp_path / "b" / "classes.txt").read_text()


def test_what_is_ambiguous_is_refused_with_the_flag_that_decides(source, tmp_path):
    for name in "abc":
        save(source / "masks" / f"{name}.png", 255 * (label(0) > 1))
    assert "--mask_values=binary" in message(source, **PLAIN) and "--void=255" in message(source, **PLAIN)
    run(source, **PLAIN, void="255", output=str(tmp_path / "b"))
    save(source / "masks" / "a.png", label(0) + 1)
    found = message(source, **PLAIN, output=str(tmp_path / "c"))
    assert "masks/a.png (value 3): numbers outside of the 3 classes" in found and "--reduce_zero_label" in found
    save(source / "masks" / "a.png", COLORS[label(0)])
    assert "masks/a.png: is a colour image; --mask_values=colors" in message(
        source, **PLAIN, output=str(tmp_path / "d")
    )
    found = message(source, **PLAIN, mask_values="binary", class_names="a,b", output=str(tmp_path / "f"))
    assert "colours that no class has" in found
    for name in "abc":
        save(source / "masks" / f"{name}.png", label(0) > 1)
    found = message(source, **PLAIN, mask_values="binary", class_names="a,b", output=str(tmp_path / "g"))
    assert "holds 0 and 1, not 0 and 255; these are ids" in found
    (source / "classes.txt").unlink()
    assert "--class_names=background" in message(source, **PLAIN, output=str(tmp_path / "e"))
    found = message(source, **PLAIN, mask_values="colors", reduce_zero_label=True, class_names="a,b")
    assert "--reduce_zero_label has no meaning with --mask_values=colors" in found


def test_images_without_masks_and_masks_without_images(source, tmp_path):
    os.rename(source / "masks" / "c.png", source / "masks" / "z.png")
    assert "images/c.png: image without a mask" in message(source, **PLAIN)
    found = run(source, **PLAIN, missing_masks="skip", output=str(tmp_path / "b"))
    assert found["left_out"]["image without a mask"] == {"count": 1, "such_as": ["train/c"]}
    assert found["left_out"]["masks without an image"] == {"count": 1, "such_as": ["masks/z.png"]}
    run(source, **PLAIN, missing_masks="unlabelled", output=str(tmp_path / "c"))
    assert sources.names(tmp_path / "c", "unlabeled") == ["c"] and sources.names(tmp_path / "c", "train") == ["a", "b"]


def _photograph(path, pixels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(path, pixels, exif=exif)


@pytest.mark.parametrize("made_of", ["upright", "stored"])
def test_a_turned_photograph_and_a_mask_of_either_kind(source, tmp_path, made_of):
    pixels = photo(7)
    _photograph(source / "images" / "a.png", pixels, 6)
    upright = label(0) if made_of == "stored" else np.rot90(label(0), -1)
    save(source / "masks" / "a.png", upright)
    found = run(source, **PLAIN)
    assert found["notes"] == {"upright_by_exif": 1}
    np.testing.assert_array_equal(read(tmp_path / "out", "train", "a", "images"), np.rot90(pixels, -1))
    np.testing.assert_array_equal(read(tmp_path / "out", "train", "a"), np.rot90(label(0), -1))
    folder.open_folder(tmp_path / "out")


def test_a_photograph_turned_by_half_asks_for_a_flag(source, tmp_path):
    _photograph(source / "images" / "a.png", photo(7), 3)
    assert "images/a.png: has EXIF orientation 3" in message(source, **PLAIN)
    run(source, **PLAIN, exif="upright", output=str(tmp_path / "b"))
    np.testing.assert_array_equal(read(tmp_path / "b", "train", "a"), label(0))
    run(source, **PLAIN, exif="stored", output=str(tmp_path / "c"))
    np.testing.assert_array_equal(read(tmp_path / "c", "train", "a"), label(0)[::-1, ::-1])


def test_alpha(source, tmp_path):
    pixels = np.dstack([photo(7), np.full(SHAPE, 255, np.uint8)])
    save(source / "images" / "a.png", pixels)
    run(source, **PLAIN)
    pixels[2:4, :, 3] = 0
    save(source / "images" / "a.png", pixels)
    assert "images/a.png: has transparent pixels; --alpha=drop" in message(source, **PLAIN, output=str(tmp_path / "b"))
    run(source, **PLAIN, alpha="void", output=str(tmp_path / "c"))
    expected = label(0)
    expected[2:4] = 255
    np.testing.assert_array_equal(read(tmp_path / "c", "train", "a"), expected)


def test_files_that_do_not_fit_are_all_named(source):
    save(source / "masks" / "a.png", label(0)[:5])
    (source / "images" / "b.png").write_bytes((source / "images" / "b.png").read_bytes()[:-30])
    (source / "images" / "c.png").unlink()
    (source / "images" / "c.png").symlink_to("nowhere.png")
    found = message(source, **PLAIN)
    assert "3 problems in 3 files" in found
    assert "masks/a.png (5 x 8, image 6 x 8): mask of another size" in found and "images/b.png: is damaged" in found
    assert "images/c.png: does not exist" in found


def test_damaged_files_may_be_skipped_but_unclear_ones_not(source, tmp_path):
    (source / "images" / "b.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    found = run(source, **PLAIN, skip_damaged=True)
    (why,) = found["left_out"]
    assert why.startswith("damaged: is damaged or cut short") and found["splits"]["train"]["images"] == 2
    save(source / "masks" / "a.png", label(0) + 9)
    assert "masks/a.png" in message(source, **PLAIN, skip_damaged=True, output=str(tmp_path / "b"))


def test_images_of_sixteen_bits_and_other_kinds_are_kept(source, tmp_path):
    deep = np.arange(48, dtype=np.uint16).reshape(SHAPE) * 80
    save(source / "images" / "a.png", deep)
    run(source, **PLAIN)
    np.testing.assert_array_equal(read(tmp_path / "out", "train", "a", "images"), deep)
    assert folder.open_folder(tmp_path / "out").info.image_bits == 12


def test_two_images_of_one_stem(source):
    save(source / "images" / "a.jpg", photo(3))
    assert "images/a.jpg and images/a.png have the same id" in message(source, **PLAIN)


def test_names_that_no_file_may_have(source):
    for kind in ("images", "masks"):
        os.rename(source / kind / "a.png", source / kind / "a\n.png")
    assert r"images/a\n.png: this name cannot be kept" in message(source, **PLAIN)
