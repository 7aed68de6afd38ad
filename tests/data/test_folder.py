"""Folder sets: the layout, the split of train, the check of every file, its cache, and the real sets."""

import io
import json
import os
import pathlib
import pickle
import shutil
import time
import unicodedata

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.data import catalog, classes, folder, images, remembered
from gan_seg_jax.data.splits import Rules
from gan_seg_jax.errors import InputError

REAL_DATA = pathlib.Path(os.environ.get("GAN_SEG_DATA", pathlib.Path(__file__).parents[2] / ".." / "shared" / "data"))
CLASSES = "# id name R G B\n0 sky 10 20 30\n1 road 40 50 60  # grey\n\n2 traffic light 70 80 90\n"
COLORS = ((10, 20, 30), (40, 50, 60), (70, 80, 90))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gan_seg_jax" / "checks"


def save(path: pathlib.Path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def make_mask(seed: int, num_classes: int = 3, shape=(6, 8)) -> np.ndarray:
    mask = np.random.default_rng(seed).integers(0, num_classes, shape, np.uint8)
    mask[0, :num_classes] = range(num_classes)
    return mask


def make_split(root: pathlib.Path, split: str, names):
    other = {"val": 100, "test": 200}.get(split, 0)  # no image is in two splits
    for seed, name in enumerate(names):
        save(root / split / "images" / f"{name}.png", np.full((6, 8, 3), seed + other))
        save(root / split / "masks" / f"{name}.png", make_mask(seed))


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "set"
    for split in ("train", "val", "test"):
        make_split(root, split, "abc")
    (root / "classes.txt").write_text(CLASSES)
    return root


def message(root, **options) -> str:
    with pytest.raises(InputError) as caught:
        folder.open_folder(root, **options)
    return str(caught.value)


def test_a_folder_is_read_as_laid_out(root):
    dataset = folder.open_folder(str(root))
    assert dataset.info.name == "folder"
    assert dataset.info.class_names == ("sky", "road", "traffic light")
    assert dataset.info.class_colors == COLORS
    assert list(dataset.splits) == ["train", "val", "test"]
    train = dataset.splits["train"]
    assert (train.name, len(train), train.info) == ("train", 3, dataset.info)
    example = train[1]
    assert example["id"] == "b"
    assert example["image"].dtype == example["label"].dtype == np.uint8
    np.testing.assert_array_equal(example["image"], np.full((6, 8, 3), 1))
    np.testing.assert_array_equal(example["label"], make_mask(1))
    assert [item["id"] for item in train] == ["a", "b", "c"]
    with pytest.raises(IndexError):
        train[3]


def test_a_split_can_be_sent_to_worker_processes(root):
    train = folder.open_folder(root).splits["train"]
    copy = pickle.loads(pickle.dumps(train))
    assert len(copy) == 3
    np.testing.assert_array_equal(copy[2]["label"], train[2]["label"])


def test_sizes_are_those_of_the_labels(root):
    save(root / "val" / "images" / "d.png", np.zeros((9, 4)))
    save(root / "val" / "masks" / "d.png", np.zeros((9, 4)))
    val = folder.open_folder(root).splits["val"]
    sizes = val.sizes()
    assert sizes.dtype == np.int32
    np.testing.assert_array_equal(sizes, [example["label"].shape for example in val])


def test_images_without_labels_are_all_ignore(root):
    save(root / "unlabeled" / "images" / "u.jpg", np.zeros((5, 7, 3)))
    split = folder.open_folder(root).splits["unlabelled"]
    assert (len(split), split.name) == (1, "unlabelled")
    np.testing.assert_array_equal(split[0]["label"], np.full((5, 7), 255))
    np.testing.assert_array_equal(split.sizes(), [[5, 7]])


def test_other_files_are_left_out_counted_and_named(root, capsys):
    (root / "notes.md").write_text("x")
    (root / "unlabelled").mkdir()
    (root / "train" / "photo.jpg").write_text("x")
    (root / "train" / "instances").mkdir()
    (root / "train" / "images" / ".hidden.png").write_text("x")
    (root / "train" / "images" / "._a.png").write_text("x")
    (root / "train" / "images" / "Thumbs.db").write_text("x")
    (root / "train" / "images" / "folder.png").mkdir()
    (root / "train" / "images" / "around").symlink_to(root)
    save(root / "train" / "masks" / "left over.png", np.full((2, 2), 99))
    save(root / "val" / "images" / "d.gif", np.zeros((6, 8)))
    for _ in range(2):  # checked, then from the cache
        assert folder.open_folder(root).splits["train"].ids == ("a", "b", "c")
        said = capsys.readouterr().err
        assert said.startswith(f"left out in {root}: ")
        for words in (
            "folders inside of a folder of files: 2 (train/images/around, train/images/folder.png)",
            ".webp: 2 (train/images/Thumbs.db, val/images/d.gif)",
            "files that do not end in .png .jpg",
            "beside the folders that are read: 3 (train/instances, train/photo.jpg, unlabelled)",
            "masks without an image: 1 (train/masks/left over.png)",
        ):
            assert words in said
        assert "notes" not in said and "hidden" not in said


def test_nothing_is_said_of_a_set_that_is_read_whole(root, capsys):
    folder.open_folder(root)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("ending", ["jpg", "JPG", "jpeg", "PNG", "jpe", "jfif", "TIFF", "tif", "bmp", "webp"])
def test_endings_of_images(root, ending):
    (root / "train" / "images" / "a.png").rename(root / "train" / "images" / f"a.{ending}")
    assert folder.open_folder(root).splits["train"][0]["id"] == "a"


@pytest.mark.parametrize("ending", ["tif", "TIFF", "bmp"])
def test_endings_of_masks(root, ending):
    (root / "val" / "masks" / "b.png").unlink()
    save(root / "val" / "masks" / f"b.{ending}", make_mask(1))
    np.testing.assert_array_equal(folder.open_folder(root).splits["val"][1]["label"], make_mask(1))


def test_names_that_look_alike_are_pairs_whatever_the_form_of_unicode(root):
    for kind, form in (("images", "NFC"), ("masks", "NFD")):
        path = root / "train" / kind / "a.png"
        path.rename(path.with_name(unicodedata.normalize(form, "zürich_é.png")))
    train = folder.open_folder(root).splits["train"]
    assert train.ids == ("b", "c", unicodedata.normalize("NFC", "zürich_é"))
    np.testing.assert_array_equal(train[2]["label"], make_mask(0))


def test_names_that_differ_in_letter_case_are_named(root):
    (root / "train" / "images" / "a.png").rename(root / "train" / "images" / "A.PNG")
    assert "train/images/A.PNG (train/masks/a.png): image and mask differ in letter case" in message(root)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_rotation_that_a_mask_may_or_may_not_have_is_refused(root, orientation):
    """Where both are square, or a mirrored or upside-down picture has the size of the stored one."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    size = (6, 6) if orientation > 4 else (6, 8)
    save(root / "train" / "images" / "d.jpg", np.zeros((*size, 3)), exif=exif)
    save(root / "train" / "masks" / "d.png", np.zeros(size))
    assert f"train/images/d.jpg (EXIF orientation {orientation}, mask 1): EXIF rotation that the mask" in message(root)
    save(root / "train" / "masks" / "d.png", np.zeros(size), exif=exif)
    assert len(folder.open_folder(root).splits["train"]) == 4, "both have it"


def test_one_number_of_bits_for_a_whole_set(root):
    """A dark image of a camera with 12 bits stays dark beside the others, and none is black."""
    for name, top in (("a", 4095), ("b", 1000)):
        Image.fromarray(np.full((6, 8), top, np.uint16)).save(root / "train" / "images" / f"{name}.png")
    dataset = folder.open_folder(root)
    assert dataset.info.image_bits == 12
    assert [dataset.splits["train"][index]["image"][0, 0, 0] for index in (0, 1)] == [255, 1000 >> 4]
    Image.fromarray(np.full((6, 8), 65535, np.uint16)).save(root / "test" / "images" / "a.png")
    assert folder.open_folder(root).splits["train"][0]["image"][0, 0, 0] == 4095 >> 8
    assert folder.open_folder(root, rules=Rules(image_bits=16)).info.image_bits == 16


def test_bits_that_cannot_be_meant_are_refused_before_training(root):
    Image.fromarray(np.full((6, 8), 4095, np.uint16)).save(root / "test" / "images" / "a.png")
    assert "values up to 4095, beyond the 10 bits of config.image_bits; give --config.image_bits=12" in message(
        root, rules=Rules(image_bits=10)
    )


def test_the_digest_of_a_set_is_that_of_its_contents(root, tmp_path, monkeypatch):
    digests = folder.open_folder(root).digests
    reads = count_reads(monkeypatch)
    shutil.copytree(root, tmp_path / "copy")  # other times, another place
    assert folder.open_folder(tmp_path / "copy").digests == folder.open_folder(root).digests == digests
    assert all(path.startswith(str(tmp_path / "copy")) for path in reads)
    save(root / "train" / "masks" / "b.png", make_mask(9))
    assert folder.open_folder(root).digests != digests


def test_a_limit_of_pixels_holds_for_what_is_remembered(root):
    folder.open_folder(root)
    text = message(root, rules=Rules(max_pixels=47))
    assert "18 problems in 18 files" in text and "train/images/a.png" in text and "has 6 x 8 pixels" in text


@pytest.mark.parametrize("place", ["train/images/a.png", "val/masks/b.png", "classes.txt"])
def test_pipes_in_the_place_of_files_are_not_waited_for(root, place):
    (root / place).unlink()
    os.mkfifo(root / place)
    assert f"{place.rpartition('/')[2]}" in message(root) and "named pipe" in message(root)


# Between splits.


def test_the_same_image_in_two_splits_is_refused_unless_it_is_allowed(root, monkeypatch):
    (root / "test" / "images" / "b.png").write_bytes((root / "train" / "images" / "a.png").read_bytes())
    save(root / "val" / "images" / "c.bmp", np.full((6, 8, 3), 2))  # the pixels of train's c in another container
    (root / "val" / "images" / "c.png").unlink()
    for _ in range(2):  # checked, then from the cache
        text = message(root)
        assert "2 images are in two splits (1 of train and val, 1 of train and test)" in text
        assert "such as train/images/c.png and val/images/c.bmp, which are equal" in text
        assert "--config.allow_duplicates" in text
    reads = count_reads(monkeypatch)
    assert len(folder.open_folder(root, rules=Rules(allow_duplicates=True)).splits["test"]) == 3
    assert not reads


def test_an_unlabelled_image_of_another_split_is_a_duplicate(root):
    (root / "unlabeled" / "images").mkdir(parents=True)
    (root / "unlabeled" / "images" / "z.png").write_bytes((root / "test" / "images" / "a.png").read_bytes())
    assert "1 image is in two splits (1 of test and unlabelled)" in message(root)


def test_equal_images_inside_of_a_split_are_no_matter(root):
    save(root / "train" / "images" / "b.png", np.full((6, 8, 3), 0))
    assert len(folder.open_folder(root).splits["train"]) == 3


def test_equal_images_of_train_are_not_torn_apart(tmp_path):
    names = [f"{number:03}" for number in range(30)]
    make_split(tmp_path / "set", "train", names)
    (tmp_path / "set" / "classes.txt").write_text(CLASSES)
    for name in ("000", "001", "002"):  # 000 would be one of val
        save(tmp_path / "set" / "train" / "images" / f"{name}.png", np.full((6, 8, 3), 99))
    val = folder.open_folder(tmp_path / "set").splits["val"].ids
    assert len(val) == 3 and len({"000", "001", "002"} & set(val)) in (0, 3)


def test_a_group_is_in_one_split(root, tmp_path):
    rules = Rules(group_pattern=r"^(p\d)_")
    for split, patients in (("train", "12"), ("val", "3"), ("test", "3")):
        for number, patient in zip("abc", patients * 3, strict=False):
            for kind in ("images", "masks"):
                path = root / split / kind / f"{number}.png"
                path.rename(path.with_name(f"p{patient}_{number}.png"))
    text = message(root, rules=rules)
    assert "groups of config.group_pattern that are in two splits: 1, such as 'p3' of val/images/p3_a.png and" in text
    shutil.rmtree(root / "val")
    splits = folder.open_folder(root, rules=rules).splits
    assert {image_id[:2] for image_id in splits["train"].ids} == {"p1"} and splits["val"].ids == ("p2_b",)


@pytest.mark.parametrize("ignore", ["", "255 void 0 0 0\n"])
@pytest.mark.parametrize("carved", [False, True])
def test_a_val_without_a_labelled_pixel_is_refused_and_a_test_is_told(root, carved, ignore, capsys):
    (root / "classes.txt").write_text(CLASSES + ignore)
    for path in (root / "test" / "masks").glob("*.png"):
        save(path, np.full((6, 8), 255))
    folder.open_folder(root)
    assert "no pixel of test is labelled" in capsys.readouterr().err
    if carved:
        shutil.rmtree(root / "val")
        save(root / "train" / "masks" / f"{folder.open_folder(root).splits['val'].ids[0]}.png", np.full((6, 8), 255))
    for path in (root / "val" / "masks").glob("*.png"):
        save(path, np.full((6, 8), 255))
    assert "no pixel of val is labelled" in message(root)


def test_links_to_files_and_folders_are_followed(root, tmp_path):
    (root / "train").rename(tmp_path / "elsewhere")
    (root / "train").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(root)
    assert len(folder.open_folder(tmp_path / "link").splits["train"]) == 3


def test_a_name_that_is_no_utf8_works_and_can_be_named(root):
    for kind in ("images", "masks"):
        source = root / "train" / kind / "a.png"
        os.rename(source, os.fsencode(source.parent) + b"/\xff\xfe.png")
    for _ in range(2):  # checked, then from the cache
        train = folder.open_folder(root).splits["train"]
        assert train[len(train) - 1]["label"].shape == (6, 8)
        pickle.loads(pickle.dumps(train))
    os.remove(os.fsencode(root / "train" / "masks") + b"/\xff\xfe.png")
    text = message(root)
    assert r"train/images/\xff\xfe.png: image without a mask" in text
    text.encode()


def test_a_mask_of_a_rotated_photograph_has_the_rotated_size(root):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(root / "train" / "images" / "d.jpg", np.zeros((8, 6, 3)), exif=exif)
    save(root / "train" / "masks" / "d.png", np.zeros((6, 8)))
    assert folder.open_folder(root).splits["train"][3]["image"].shape == (6, 8, 3)
    save(root / "train" / "masks" / "d.png", np.zeros((8, 6)))
    assert "train/masks/d.png (8 x 6, image 6 x 8): mask on its side" in message(root)


# Without val: a tenth of train.


@pytest.mark.parametrize(("count", "expected"), [(2, 1), (3, 1), (19, 1), (20, 2), (57, 5)])
def test_without_val_a_tenth_of_train_validates(tmp_path, count, expected):
    names = [f"{number:03}" for number in range(count)]
    make_split(tmp_path / "set", "train", names)
    (tmp_path / "set" / "classes.txt").write_text(CLASSES)
    splits = folder.open_folder(tmp_path / "set").splits
    assert list(splits) == ["train", "val"]
    assert len(splits["val"]) == expected
    assert sorted(splits["train"].ids + splits["val"].ids) == names
    assert splits["train"].ids == tuple(sorted(splits["train"].ids))
    assert splits["val"][0]["label"].shape == (6, 8)


def test_the_choice_of_val_depends_on_the_ids_alone(tmp_path):
    chosen = []
    for name in ("one", "two"):
        make_split(tmp_path / name, "train", [f"{number:03}" for number in range(30)])
        (tmp_path / name / "classes.txt").write_text(CLASSES)
        chosen.append(folder.open_folder(tmp_path / name).splits["val"].ids)
    assert chosen[0] == chosen[1] == ("000", "010", "023")


def test_a_single_image_cannot_be_split(tmp_path):
    make_split(tmp_path / "set", "train", "a")
    (tmp_path / "set" / "classes.txt").write_text(CLASSES)
    assert "its train is a single image" in message(tmp_path / "set")


# The target of an adaptation: labels come from elsewhere.


def without_train_masks(root):
    for path in (root / "train" / "masks").iterdir():
        path.unlink()
    (root / "train" / "masks").rmdir()


def test_a_target_needs_no_masks_in_train(root):
    without_train_masks(root)
    assert "train/masks cannot be listed" in message(root)
    splits = folder.open_folder(root, target=True).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 3, "val": 3, "test": 3}
    np.testing.assert_array_equal(splits["train"][1]["image"], np.full((6, 8, 3), 1))
    assert (splits["train"][1]["label"] == 255).all() and (splits["val"][1]["label"] != 255).any()


def test_a_target_needs_no_train_where_unlabeled_is(root):
    (root / "train").rename(root / "unlabeled")
    assert "no folder train/images" in message(root)
    assert set(folder.open_folder(root, target=True).splits) == {"val", "test", "unlabelled"}
    (root / "unlabeled").rename(root / "other")
    assert "no folder train/images or unlabeled/images" in message(root, target=True)


def test_a_target_without_labels_in_train_needs_val(root):
    (root / "val").rename(root / "other")
    assert len(folder.open_folder(root, target=True).splits["val"]) == 1, "of train, whose masks are there"
    without_train_masks(root)
    assert "has no val, and no train/masks" in message(root, target=True)


def test_masks_of_a_target_are_all_there_or_none(root):
    (root / "train" / "masks" / "b.png").unlink()
    assert "train/images/b.png: image without a mask" in message(root, target=True)


# classes.txt


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "found no class"),
        ("# nothing\n", "found no class"),
        ("0 only 0 0 0\n", "at least two classes"),
        ("1 a 0 0 0\n2 b 0 0 0\n", "found ids 1, 2.*without gaps"),
        ("0 a 0 0 0\n2 b 0 0 0\n", "found ids 0, 2"),
        ("0 a 0 0 0\n1 b 0 0\n", "line 2 .'1 b 0 0'.*`id name R G B`"),
        ("0 a 0 0 0\n1 0 0 0\n", "line 2"),
        ("0 a 0 0 0\nx b 0 0 0\n", "line 2"),
        ("0 a 0 0 0\n-1 b 0 0 0\n", "line 2"),
        ("0 a 0 0 0\n256 b 0 0 0\n", "line 2"),
        ("0 a 0 0 0\n1 b 0 0 256\n", "line 2"),
        ("0 a 0 0 0\n1 b 0 0 1.5\n", "line 2"),
        ("0 a 0 0 0\n0 b 0 0 0\n", "line 2.*twice"),
        ("0 a 0 0 0\n1 a 0 0 0\n", "line 2.*twice"),
        ("0,a,0,0,0\n", "line 1"),
        (f"0 {'a' * 101} 0 0 0\n1 b 0 0 0\n", "line 1.*more than 100 letters"),
        ("0 a 0 0 0\n1 b 0 0 0\n" + "# comment\n" * 110_000, "more than 1048576 bytes"),
    ],
)
def test_bad_classes_are_named_with_their_line(root, text, words):
    (root / "classes.txt").write_text(text)
    with pytest.raises(InputError, match=f"classes.txt.*{words}"):
        folder.open_folder(root)


def test_names_of_classes_that_look_the_same_are_the_same(tmp_path):
    (tmp_path / "classes.txt").write_text("0 cafe\u0301 0 0 0\n1 caf\u00e9 1 1 1\n")
    with pytest.raises(InputError, match=r"line 2 .*there twice"):
        classes.read_classes(tmp_path / "classes.txt")


def test_classes_may_come_from_other_systems_and_in_any_order(tmp_path):
    path = tmp_path / "classes.txt"
    path.write_bytes(b"\xef\xbb\xbf255 void 0 0 0\r\n1\tb  3 2 1\r\n\r\n0 a 0 0 0 # x\r\n")
    info, void_color = classes.read_classes(path)
    assert (info.class_names, info.class_colors, void_color) == (("a", "b"), ((0, 0, 0), (3, 2, 1)), (0, 0, 0))


def test_names_of_classes_hold_nothing_that_a_terminal_obeys(tmp_path):
    (tmp_path / "classes.txt").write_text("0 a\x1b[31m\x07b 0 0 0\n1 \u202e円 0 0 0\n2 x\x85y 0 0 0\n")
    info, _ = classes.read_classes(tmp_path / "classes.txt")
    assert info.class_names == (r"a\x1b[31m\x07b", r"\u202e円", "x y")


@pytest.mark.parametrize("content", [b"\xff\xfe0\0", None], ids=["not text", "folder"])
def test_classes_that_cannot_be_read(root, content):
    (root / "classes.txt").unlink()
    if content is None:
        (root / "classes.txt").mkdir()
    else:
        (root / "classes.txt").write_bytes(content)
    assert "classes.txt" in message(root)


def test_a_known_set_brings_its_classes_and_is_told_apart(root):
    info = catalog.DatasetInfo("known", ("sky", "road", "traffic light"), COLORS)
    assert folder.open_folder(root, info=info).info is info
    (root / "classes.txt").unlink()
    assert folder.open_folder(root, info=info).info is info
    (root / "classes.txt").write_text("0 a 0 0 0\n1 b 1 1 1\n2 c 2 2 2\n")
    assert "names a, b, c, but known has the classes sky, road" in message(root, info=info)


# Folders that cannot be used.


def test_missing_empty_and_no_folders(root, tmp_path):
    assert "data_dir is empty" in message("")
    assert "does not exist" in message(tmp_path / "nowhere")
    assert "is not a folder" in message(root / "classes.txt")
    (tmp_path / "new").mkdir()
    assert "is empty" in message(tmp_path / "new")
    assert "no folder train/images (it has images, masks)" in message(root / "train")
    (tmp_path / "loop").symlink_to("loop")
    assert "is not a folder" in message(tmp_path / "loop")
    (root / "classes.txt").unlink()
    assert "classes.txt does not exist; write it: a line `id name R G B`" in message(root)


@pytest.mark.parametrize("split", ["train", "val", "test", "unlabeled"])
def test_a_split_without_images(root, split):
    for file in (root / split / "images").glob("*"):
        file.unlink()
    (root / split / "images").mkdir(exist_ok=True, parents=True)
    assert f"{split}/images holds no image" in message(root)


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_split_without_a_folder(root, kind):
    (root / "val" / kind).rename(root / "val" / "other")
    assert f"val/{kind} cannot be listed" in message(root)


def test_two_files_of_one_id(root):
    save(root / "train" / "images" / "a.jpg", np.zeros((6, 8, 3)))
    assert "train/images holds a.jpg and a.png, which have the same id" in message(root)


def test_a_loop_of_links_is_named(root):
    (root / "train" / "images" / "d.png").symlink_to("d.png")
    save(root / "train" / "masks" / "d.png", make_mask(0))
    assert "train/images/d.png: is damaged" in message(root)


def test_files_and_folders_without_permission(root):
    (root / "train" / "images" / "a.png").chmod(0)
    if os.access(root / "train" / "images" / "a.png", os.R_OK):
        pytest.skip("this user (root) may read every file")
    assert "train/images/a.png: may not be read" in message(root)
    (root / "train" / "images").chmod(0)
    assert "cannot be listed" in message(root)
    (root / "train" / "images").chmod(0o700)


# Files that cannot be used: all are counted, the first are named.


def test_images_without_masks_are_named_and_counted(root):
    make_split(root, "train", [f"n{number}" for number in range(7)])
    for number in range(7):
        (root / "train" / "masks" / f"n{number}.png").unlink()
    text = message(root)
    assert f"{root}: 7 problems in 25 files." in text
    assert "train/images/n0.png, train/images/n1.png" in text
    assert "n4.png and 2 more: image without a mask; add masks/ID.png" in text
    assert "n5" not in text


def test_a_jpeg_mask_does_not_count_as_a_mask(root):
    (root / "val" / "masks" / "b.png").rename(root / "val" / "masks" / "b.jpg")
    assert "val/images/b.png: image without a mask" in message(root)


def test_different_problems_are_told_at_once(root):
    save(root / "train" / "masks" / "a.png", np.zeros((5, 8)))
    save(root / "val" / "masks" / "a.png", np.full((6, 8), 7))
    (root / "test" / "images" / "a.png").write_bytes(b"")
    text = message(root)
    assert "3 problems in 18 files" in text
    assert "train/masks/a.png (5 x 8, image 6 x 8): mask of another size than its image" in text
    assert "val/masks/a.png (value 7): values outside the 3 classes (0 to 2, 255 = ignore)" in text
    assert "test/images/a.png: is empty" in text


def write_png(pixels) -> bytes:
    with io.BytesIO() as buffer:
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (write_png(np.full((6, 8, 3), COLORS[0], np.uint8)), "colour image (RGB); a mask must"),
        (write_png(np.zeros((6, 8, 4), np.uint8)), "alpha"),
        (write_png(np.full((6, 8), 256, np.uint16)), "numbers from 256 to 256 (16 bits)"),
        (write_png(np.zeros((6, 8), np.uint8))[:-20], "cut short"),
        (b"x", "expected a PNG"),
    ],
    ids=["RGB", "RGBA", "16 bits", "truncated", "text"],
)
def test_masks_of_other_kinds_are_named(root, content, words):
    (root / "test" / "masks" / "c.png").write_bytes(content)
    text = message(root)
    assert "test/masks/c.png: " in text
    assert words in text


def masks_everywhere(root, change):
    for seed, path in enumerate(sorted(root.glob("*/masks/*.png"))):
        save(path, change(make_mask(seed)))


GREYS = np.array(Image.fromarray(np.array([COLORS], np.uint8)).convert("L"))[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda mask: (mask > 0) * 255, "values 0, 255.*0/255 masks; write the id"),
        (lambda mask: np.full_like(mask, 255), "value 255, and 255 means ignore"),
        (lambda mask: GREYS[mask], "colour-coded masks that were saved as grey"),
        (lambda mask: mask + 1, "count from 1; subtract 1"),
        (lambda mask: np.where(mask == 0, mask, 3), "count from 1; subtract 1 and write 255"),
        (lambda mask: np.linspace(0, 255, mask.size).reshape(mask.shape), "0/255 masks that were resized"),
        (lambda mask: mask * 40, r"\(values 40, 80\).*Usual causes"),
    ],
    ids=["0/255", "all ignore", "grey colours", "from 1", "one class more", "smooth", "anything"],
)
def test_values_outside_the_classes_come_with_the_usual_cause(root, change, words):
    masks_everywhere(root, change)
    with pytest.raises(InputError, match=f"train/masks/a.png.*{words}"):
        folder.open_folder(root)


def test_ignore_alone_is_believed_where_it_is_named_outside_train(root):
    for path in (root / "val" / "masks").glob("*.png"):
        save(path, np.where(make_mask(0) == 0, 0, 255))
    assert "val/masks/a.png" in message(root)
    (root / "classes.txt").write_text(CLASSES + "255 void 0 0 0\n")
    assert len(folder.open_folder(root).splits["val"]) == 3


def test_masks_with_ignore_or_a_single_class_are_sound(root):
    save(root / "train" / "masks" / "a.png", np.full((6, 8), 255))
    save(root / "train" / "masks" / "b.png", np.zeros((6, 8)))
    assert np.all(folder.open_folder(root).splits["train"][0]["label"] == 255)


def test_palettes_count_by_index_unless_their_colours_say_otherwise(root):
    def save_palette(colors):
        mask = Image.fromarray(make_mask(0))
        mask.putpalette([value for color in colors for value in color])
        mask.save(root / "train" / "masks" / "a.png")

    save_palette(COLORS)
    np.testing.assert_array_equal(folder.open_folder(root).splits["train"][0]["label"], make_mask(0))
    save_palette([(128, 0, 0), (0, 128, 0), (0, 0, 128)])
    np.testing.assert_array_equal(folder.open_folder(root).splits["train"][0]["label"], make_mask(0))
    save_palette([COLORS[1], COLORS[0], COLORS[2]])
    assert "train/masks/a.png: palette mask in which the indices stand for other classes" in message(root)


# The cache of the check.


def count_reads(monkeypatch) -> list[str]:
    reads = []
    for name in ("inspect_image", "inspect_mask"):
        inspect = getattr(images, name)
        monkeypatch.setattr(
            images, name, lambda path, inspect=inspect, **options: (reads.append(path), inspect(path, **options))[1]
        )
    return reads


def test_only_new_changed_and_unsound_files_are_read_again(root, monkeypatch, cache):
    reads = count_reads(monkeypatch)
    folder.open_folder(root)
    assert len(reads) == 18
    reads.clear()
    sizes = folder.open_folder(root).splits["val"].sizes()
    assert not reads
    np.testing.assert_array_equal(sizes, [[6, 8]] * 3)
    save(root / "train" / "masks" / "b.png", np.full((6, 8), 9))
    for _ in range(2):
        assert "(value 9)" in message(root)
    assert reads == [str(root / "train" / "masks" / "b.png")]
    reads.clear()
    (root / "val" / "images" / "a.png").write_bytes(b"x")
    for _ in range(2):
        assert "val/images/a.png" in message(root)
    assert reads == [str(root / "val" / "images" / "a.png")] * 2
    assert len(list(cache.iterdir())) == 1


def test_other_classes_are_compared_with_what_is_remembered(root):
    folder.open_folder(root)
    (root / "classes.txt").write_text("0 a 0 0 0\n1 b 1 1 1\n")
    text = message(root)
    assert "train/masks/a.png (value 2)" in text
    assert "values outside the 2 classes" in text


@pytest.mark.parametrize("damage", ["text", "list", "schema", "entry"])
def test_a_damaged_cache_is_not_used(root, cache, damage):
    folder.open_folder(root)
    (path,) = cache.iterdir()
    content = json.loads(path.read_text())
    content["schema"] += damage == "schema"
    content["files"]["train/images/a.png"] = content["files"]["train/images/a.png"][: 2 if damage == "entry" else None]
    path.write_text({"text": "{", "list": "[1]"}.get(damage, json.dumps(content)))
    assert len(folder.open_folder(root).splits["train"]) == 3
    assert json.loads(path.read_text())["schema"] == remembered.SCHEMA


def test_without_a_place_for_the_cache_it_works(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert len(folder.open_folder(root).splits["train"]) == 3


# Later.


def test_a_file_that_goes_or_changes_later_is_named(root):
    train = folder.open_folder(root).splits["train"]
    (root / "train" / "images" / "a.png").unlink()
    (root / "train" / "masks" / "b.png").write_bytes(b"")
    save(root / "train" / "masks" / "c.png", np.full((6, 8), 3))
    for index, words in enumerate(
        ["images/a.png: does not exist", "masks/b.png: is empty", "masks/c.png: has changed"]
    ):
        with pytest.raises(InputError, match=words):
            train[index]


# Real sets.


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("camvid", {"train": 367, "val": 101, "test": 233}),
        ("facades", {"train": 400, "val": 100, "test": 106}),
        ("dsb2018", {"train": 586, "val": 78, "test": 65}),
        ("isbi_em", {"train": 20, "val": 5, "test": 5, "unlabelled": 30}),
    ],
)
def test_real_sets(name, counts):
    if not (REAL_DATA / name).is_dir():
        pytest.skip(f"{name} is not in {REAL_DATA} (GAN_SEG_DATA names the folder of the real sets)")
    dataset = folder.open_folder(REAL_DATA / name, info=catalog.CATALOG[name])
    start = time.process_time()  # of this process: the machine may be busy
    again = folder.open_folder(REAL_DATA / name)
    assert time.process_time() - start < 0.3
    assert {split: len(files) for split, files in again.splits.items()} == counts
    assert again.info.class_names == dataset.info.class_names
    for split in dataset.splits.values():
        for index in (0, len(split) // 2, len(split) - 1):
            example = split[index]
            assert example["image"].shape[:2] == example["label"].shape == tuple(split.sizes()[index])
            assert set(np.unique(example["label"])) <= {*range(dataset.info.num_classes), 255}
