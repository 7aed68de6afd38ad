"""What the doctor finds in small sets, each with one thing wrong, and that the sound set has nothing."""

import os
import shlex
import subprocess

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.data import class_weights, folder
from gan_seg_jax.errors import InputError
from gan_seg_jax.inspection import problems, survey, twins
from tests import tiny_runs

CLASSES = "0 sky 10 20 30\n1 road 40 50 60\n2 car 70 80 90\n"
COLORS = ((10, 20, 30), (40, 50, 60), (70, 80, 90))
NEEDS_LIBRARY = pytest.mark.skipif(not twins.can_search(), reason="ImageHash, the extra `inspect`, is not installed")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)


def draw(seed: int) -> np.ndarray:
    """Return a smooth image that looks like no other."""
    noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((64, 48), Image.Resampling.BICUBIC))


def mask(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, (48, 64), np.uint8)


@pytest.fixture
def root(tmp_path):
    """A set that nothing is wrong with."""
    root, seed = tmp_path / "my set", 0
    for split in ("train", "val", "test"):
        for number in range(10):
            seed += 1
            save(root / split / "images" / f"{split}{number}.png", draw(seed))
            save(root / split / "masks" / f"{split}{number}.png", mask(seed))
    (root / "classes.txt").write_text(CLASSES)
    return root


def found(root) -> dict[str, problems.Problem]:
    """Return the problems by name; a set with errors is one that training refuses, and only such a set."""
    listed = problems.find(survey.survey(root))
    order = [problem.severity for problem in listed]
    assert order == sorted(order, key=["error", "warning", "note"].index)
    try:
        folder.open_folder(root)
    except InputError:
        assert "error" in order
    else:
        assert "error" not in order
    return {problem.name: problem for problem in listed if problem.name != "near-duplicates-not-searched"}


def names(problem) -> list[str]:
    return [path for path, _ in problem.files]


def mend(problem, tmp_path) -> None:
    """Run the command that is to mend a problem."""
    listed = tmp_path / "files.lst"
    listed.write_bytes(b"".join(os.fsencode(path) + b"\0" for path in names(problem)))
    subprocess.run(["sh", "-c", problem.command.replace("{files}", str(listed))], check=True)


def test_nothing_is_found_in_a_sound_set(root):
    assert found(root) == {}


def test_facts_of_a_set(root):
    save(root / "train" / "masks" / "train0.png", np.full((48, 64), 255))
    facts = survey.as_json(survey.survey(root))
    train = facts["splits"]["train"]
    assert facts["classes"] == ["sky", "road", "car"]
    assert (train["images"], train["masks"], train["sizes"]) == (10, 10, [[(48, 64), 10]])
    assert (train["kinds"], train["modes"], train["bits"]) == ([["PNG", 10]], [["RGB", 10]], [[8, 10]])
    assert train["void"] == pytest.approx(0.1)
    labels = np.stack([mask(seed) for seed in range(2, 11)])
    assert train["class_pixels"] == [int(np.sum(labels == value)) for value in range(3)]
    assert train["images_with_class"] == [9, 9, 9]
    assert [value for value, _ in train["mask_values"]] == [0, 1, 2, 255]
    mean = np.mean(1 / np.array(train["class_pixels"]))
    expected = 1 / np.array(train["class_pixels"]) / mean
    np.testing.assert_allclose(facts["class_weights"]["inverse"], expected, rtol=1e-3)
    assert set(facts["class_weights"]) == set(class_weights.RULES)
    assert facts["files"]["train/masks/train0.png"]["pixels"] == [[255, 48 * 64]]


def test_damaged_files_are_set_aside_with_their_partners(root, tmp_path):
    for path in (root / "train" / "images" / "train3.png", root / "val" / "masks" / "val1.png"):
        path.write_bytes(path.read_bytes()[:200])
    (root / "train" / "images" / "train4.png").write_bytes(b"")
    problem = found(root)
    assert names(problem["damaged-masks"]) == ["val/masks/val1.png", "val/images/val1.png"]
    assert problem["damaged-masks"].count == 1
    for name in ("damaged-masks", "damaged-images"):  # the second kind of damaged images is another entry
        mend(problem[name], tmp_path)
    assert not (root / "val" / "images" / "val1.png").exists()
    assert (tmp_path / "my set-set-aside" / "val" / "masks" / "val1.png").is_file()
    mend(found(root)["damaged-images"], tmp_path)
    assert not any(problem.severity == "error" for problem in found(root).values())


def test_masks_that_are_no_ids(root):
    Image.fromarray(np.full((48, 64), 300, np.uint16)).save(root / "train" / "masks" / "train0.png")
    save(root / "train" / "masks" / "train1.png", draw(500))
    Image.fromarray(mask(1)).save(root / "train" / "masks" / "train2.png", format="JPEG")
    save(root / "train" / "masks" / "train3.png", mask(1) + 7)
    problem = found(root)
    assert names(problem["deep-masks"]) == ["train/masks/train0.png"] and "300" in problem["deep-masks"].files[0][1]
    assert names(problem["colour-masks"]) == ["train/masks/train1.png"]
    assert names(problem["lossy-masks"]) == ["train/masks/train2.png"]
    assert problem["values"].files == (("train/masks/train3.png", "values 7, 8, 9"),)


def test_pairs_that_do_not_fit(root, tmp_path):
    save(root / "val" / "masks" / "val2.png", mask(1)[:-1])
    (root / "train" / "masks" / "train5.png").unlink()
    save(root / "train" / "masks" / "other.png", mask(1))
    problem = found(root)
    assert problem["sizes-differ"].files == (("val/masks/val2.png", "47 x 64, image 48 x 64"),)
    assert names(problem["images-without-mask"]) == ["train/images/train5.png"]
    assert names(problem["masks-without-image"]) == ["train/masks/other.png"]
    mend(problem["images-without-mask"], tmp_path)
    assert (root / "unlabeled" / "images" / "train5.png").is_file()
    assert "images-without-mask" not in found(root)


def test_equal_images_go_from_train_and_stay_in_test(root, tmp_path):
    save(root / "train" / "images" / "train0.png", draw(25))  # as test4
    save(root / "train" / "images" / "train1.bmp", draw(25))
    (root / "train" / "images" / "train1.png").unlink()
    problem = found(root)
    both = ["train/images/train0.png", "train/images/train1.bmp"]
    assert names(problem["in-two-splits"]) == [*both, "train/masks/train0.png", "train/masks/train1.png"]
    assert problem["in-two-splits"].count == 2 and "equal-images" in problem
    assert len(problem["contradictory-labels"].files) == 3
    mend(problem["in-two-splits"], tmp_path)
    assert "in-two-splits" not in found(root) and (root / "test" / "images" / "test4.png").is_file()


@NEEDS_LIBRARY
def test_images_that_look_the_same(root):
    brighter = np.clip(draw(25).astype(int) * 0.7, 0, 255)
    save(root / "train" / "images" / "train0.jpg", brighter)
    (root / "train" / "images" / "train0.png").unlink()
    problem = found(root)["near-duplicates-between-splits"]
    assert problem.severity == "warning" and problem.count == 1 and "between train and test" in problem.title
    assert problem.files[0][0] == "train/images/train0.jpg" and "test/images/test4.png" in problem.files[0][1]


def test_without_the_library_it_is_said(root, monkeypatch):
    monkeypatch.setattr(twins, "can_search", lambda: False)
    (problem,) = problems.find(survey.survey(root))
    assert problem.name == "near-duplicates-not-searched" and "gan_seg_jax[inspect]" in problem.meaning


def test_near_pairs_are_counted_and_the_nearest_kept(monkeypatch):
    monkeypatch.setattr(twins, "MOST_PAIRS", 3)
    prints = {str(number): np.array([number, 0, 0, 0], np.uint64) for number in range(300)}
    splits = {"train": [str(number) for number in range(299)], "val": ["299"]}
    same = twins.find(splits, {name: name for name in prints}, prints)
    assert same.counts == {("train", "train"): 299 * 298 // 2, ("train", "val"): 299}
    assert [pair.splits for pair in same.near] == [("train", "val")] * 3
    assert [pair.bits for pair in same.near] == [1, 1, 1]  # 299 is 0b100101011


def test_classes_and_labels(root):
    for number in range(10):
        label = np.zeros((48, 64)) if number < 9 else np.full((48, 64), 255)
        save(root / "train" / "masks" / f"train{number}.png", label)
        save(root / "test" / "masks" / f"test{number}.png", np.full((48, 64), 255))
    problem = found(root)
    assert problem["absent-from-train"].title == "2 classes without a pixel in train: road, car"
    assert problem["constant-masks"].title == "9 of 10 masks of train hold a single class"
    assert names(problem["void-masks"]) == ["train/masks/train9.png"]
    assert "test" in problem["nothing-labelled"].title and problem["nothing-labelled"].severity == "warning"


def test_black_and_white_masks(root):
    for number in range(10):
        save(root / "train" / "masks" / f"train{number}.png", 255 * (mask(number) > 0))
    assert "Usual cause: 0/255 masks" in found(root)["values"].meaning


def test_forms_of_images(root):
    exif = Image.Exif()
    exif[0x0112] = 3
    grey = np.repeat(draw(60)[:, :, :1], 3, axis=2)
    save(root / "train" / "images" / "train0.png", grey)
    save(root / "train" / "images" / "train1.png", draw(61)[:, :, 0])
    save(root / "train" / "images" / "train2.png", draw(62), exif=exif)
    save(root / "train" / "masks" / "train2.png", mask(1))
    save(root / "train" / "images" / "train3.png", np.dstack([draw(63), draw(64)[:, :, :1]]))
    Image.fromarray(draw(65)[:, :, 0].astype(np.uint16) * 250).save(root / "train" / "images" / "train4.png")
    listed = problems.find(survey.survey(root))
    problem = {one.name: one for one in listed}
    assert names(problem["grey-as-colour"]) == ["train/images/train0.png"]
    assert problem["grey-and-colour"].title == "3 grey images among 27 in colour"
    assert problem["exif"].files == (("train/images/train2.png", "orientation 3"),)
    assert names(problem["alpha"]) == ["train/images/train3.png"]
    assert names(problem["mixed-bit-depths"]) == ["train/images/train4.png"]


def test_names_of_videos_in_two_splits_are_a_hint(root):
    for split, prefix in (("train", "clip1"), ("train", "clip2"), ("test", "clip2")):
        for number in range(2):
            name = f"{prefix}_{split}{number}.png"
            os.rename(
                root / split / "images" / f"{split}{number + 2 * int(prefix[-1])}.png", root / split / "images" / name
            )
            os.rename(
                root / split / "masks" / f"{split}{number + 2 * int(prefix[-1])}.png", root / split / "masks" / name
            )
    problem = found(root)["same-prefix"]
    assert problem.severity == "note" and problem.files == (("clip2", "2 in train, 2 in test"),)


def test_what_cannot_be_listed_is_said_and_the_rest_is_looked_at(root):
    (root / "classes.txt").unlink()
    (root / "val" / "masks").rename(root / "val" / "labels")
    save(root / "test" / "images" / "test0.jpg", draw(1))
    seen = survey.survey(root)
    refused = [problem for problem in problems.find(seen) if problem.name == "refused"]
    said = " ".join(problem.title for problem in refused)
    assert "classes.txt does not exist" in said and "val/masks cannot be listed" in said and "the same id" in said
    assert len(seen.images("val")) == 10 and seen.info is None and "test" not in seen.splits


def test_few_images_and_missing_splits(root):
    for path in (*(root / "val").rglob("*.png"), *(root / "test").rglob("*.png")):
        path.unlink()
    for split in ("val", "test"):
        for kind in ("images", "masks"):
            (root / split / kind).rmdir()
        (root / split).rmdir()
    for number in range(5, 10):
        for kind in ("images", "masks"):
            (root / "train" / kind / f"train{number}.png").unlink()
    assert set(found(root)) == {"no-val", "no-test", "few-in-train"}


def prepared(problem, root):
    """Run the command that makes a new set of one, and return what the doctor finds in that."""
    words = shlex.split(problem.command.partition(" && ")[0])
    assert words[:2] == ["gan-seg", "prepare"]
    outcome = tiny_runs.command("prepare", *words[2:])
    assert outcome.code == 0, outcome.err
    return found(root.with_name(f"{root.name}-prepared"))


def rewrite(root, make, *, ending=".png"):
    """Make other masks of all of a set."""
    for path in sorted(root.glob("*/masks/*")):
        made = make(np.asarray(Image.open(path)))
        path.unlink()
        made.save(path.with_suffix(ending))


def white(label):
    return Image.fromarray(255 * (label > 0).astype(np.uint8))


MADE = {  # what the masks of a set are made -> how, their ending, the problem that is found
    "colours": (lambda label: Image.fromarray(np.array(COLORS, np.uint8)[label]), ".png", "colour-masks"),
    "black and white": (white, ".png", "values"),
    "JPEG": (lambda label: white(label[::16, ::16].repeat(16, 0).repeat(16, 1)), ".jpg", "images-without-mask"),
    "objects": (lambda label: Image.fromarray(label.astype(np.uint16) * 300), ".png", "deep-masks"),
    "ids from one": (lambda label: Image.fromarray(label + 1), ".png", "values"),
}


@pytest.mark.parametrize("made", MADE)
def test_prepare_mends_masks_of_one_kind(made, root):
    make, ending, problem = MADE[made]
    if made not in ("colours", "ids from one"):
        (root / "classes.txt").write_text("0 sky 0 0 0\n1 road 255 255 255\n")
    rewrite(root, make, ending=ending)
    after = prepared(found(root)[problem], root)
    assert not [one for one in after.values() if one.severity == "error"]


def test_prepare_mends_names_of_masks(root):
    for path in root.glob("*/masks/*"):
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    assert prepared(found(root)["images-without-mask"], root) == {}


def test_masks_of_several_kinds_have_no_command(root):
    save(root / "train" / "masks" / "train1.png", draw(500))
    assert found(root)["colour-masks"].command == ""


def test_black_and_white_masks_among_ids(root):
    save(root / "train" / "masks" / "train0.png", 255 * (mask(1) > 0))
    assert names(found(root)["black-and-white-masks"]) == ["train/masks/train0.png"]
    (root / "classes.txt").write_text(CLASSES + "255 void 0 0 0\n")
    assert "black-and-white-masks" not in found(root)
