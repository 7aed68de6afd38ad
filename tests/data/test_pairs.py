"""Folders of pairs: the layout, the split of train, what is refused, and the way to the device."""

import pickle

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from configs import common
from gan_seg_jax.data import pairs, pipeline
from gan_seg_jax.data.splits import Rules
from gan_seg_jax.errors import InputError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def picture(seed, size=(6, 8)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "set"
    for number, split in enumerate(("train", "val", "test")):
        for seed, name in enumerate("abc", start=10 * number):
            save(root / split / "images" / f"{name}.png", picture(seed))
            save(root / split / "targets" / f"{name}.png", 255 - picture(seed))
    return root


def message(root):
    with pytest.raises(InputError) as caught:
        pairs.open_pairs(root)
    return str(caught.value)


def test_a_folder_is_read_as_laid_out(root):
    dataset = pairs.open_pairs(str(root))
    assert list(dataset.splits) == ["train", "val", "test"] and dataset.info.num_classes == 1
    test = pickle.loads(pickle.dumps(dataset.splits["test"]))
    assert (test.name, len(test), test.info) == ("test", 3, dataset.info)
    example = test[1]
    assert example["id"] == "b" and not np.any(example["label"]) and example["label"].shape == (6, 8)
    np.testing.assert_array_equal(example["image"], picture(21))
    np.testing.assert_array_equal(example["target"], 255 - picture(21))
    np.testing.assert_array_equal(test.sizes(), [(6, 8)] * 3)


def test_without_val_a_tenth_of_train_validates_with_its_targets(tmp_path):
    for seed in range(20):
        for kind in ("images", "targets"):
            save(tmp_path / "train" / kind / f"{seed}.png", picture(seed))
    splits = pairs.open_pairs(tmp_path).splits
    assert {name: len(split) for name, split in splits.items()} == {"train": 18, "val": 2}
    assert not set(splits["train"].ids) & set(splits["val"].ids)
    for split in splits.values():
        for example in (split[index] for index in range(len(split))):
            np.testing.assert_array_equal(example["image"], picture(int(example["id"])))
            np.testing.assert_array_equal(example["target"], example["image"])


def test_images_alone_are_pairs_without_targets(tmp_path):
    for seed in range(3):
        save(tmp_path / "train" / "images" / f"{seed}.png", picture(seed))
    assert "target" not in pairs.open_pairs(tmp_path).splits["train"][0]


def test_endings_may_differ(root):
    (root / "train" / "targets" / "a.png").unlink()
    save(root / "train" / "targets" / "a.jpg", picture(3))
    assert pairs.open_pairs(root).splits["train"][0]["target"].shape == (6, 8, 3)


def test_what_is_wrong_is_told_at_once(root):
    (root / "train" / "targets" / "a.png").unlink()
    save(root / "val" / "targets" / "b.png", picture(0, (6, 9)))
    (root / "test" / "targets" / "c.png").write_bytes(b"no image")
    found = message(root)
    assert "3 problems in 17 files" in found
    assert "train/images/a.png: image without a target" in found
    assert "val/targets/b.png (6 x 9, image 6 x 8): target of another size" in found
    assert "test/targets/c.png" in found


def test_folders_that_are_missing(root, tmp_path):
    assert "train/targets" in message(tmp_path / "nothing")
    assert "data_dir is empty" in message("")
    for path in (root / "val" / "targets").iterdir():
        path.unlink()
    (root / "val" / "targets").rmdir()
    assert "val/targets cannot be listed" in message(root)


def test_the_same_image_in_two_splits_is_refused_unless_it_is_allowed(root):
    (root / "test" / "images" / "a.png").write_bytes((root / "train" / "images" / "b.png").read_bytes())
    assert "1 image is in two splits (1 of train and test), such as train/images/b.png" in message(root)
    assert len(pairs.open_pairs(root, rules=Rules(allow_duplicates=True)).splits["test"]) == 3


def test_a_rotation_that_a_target_may_or_may_not_have_is_refused(root):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(picture(0)).save(root / "train" / "images" / "a.png", exif=exif)
    assert "train/images/a.png (EXIF orientation 3, target 1): EXIF rotation that the target" in message(root)


def test_targets_of_sixteen_bits_count_for_the_bits_in_use(root):
    for kind, value in (("images", 4095), ("targets", 65535)):
        Image.fromarray(np.full((6, 8), value, np.uint16)).save(root / "train" / kind / "a.png")
    example = pairs.open_pairs(root).splits["train"][0]
    assert (example["image"][0, 0, 0], example["target"][0, 0, 0]) == (4095 >> 8, 255)


def test_a_target_that_changes_later_is_named(root):
    train = pairs.open_pairs(root).splits["train"]
    save(root / "train" / "targets" / "a.png", picture(0, (7, 8)))
    with pytest.raises(InputError, match="targets/a.png.*changed"):
        train[0]


def test_batches_hold_targets_on_the_image_s_canvas(root):
    config = common.get_config()
    config.update(dataset="pairs", data_dir=str(root), batch_size=2, canvas_size=(12, 14))
    dataset = pipeline.open_dataset(config)
    pipeline.resolve_classes(config, dataset)
    assert config.num_classes == 1
    trained = next(pipeline.train_batches(dataset, config, ("labelled",)))["labelled"]
    scored = list(pipeline.eval_batches(dataset.splits["val"], config, canvas_label=True))
    for batch in (trained, *scored):
        assert batch["target"].shape == (2, 12, 14, 3) and batch["target"].dtype == np.uint8
        height, width = batch["content"][0]  # 6 x 8 fits as 10 x 14: 2 rows are padding
        assert (height, width) == (10, 14) and not np.any(batch["target"][:, height:])
        sums = batch["target"].astype(int) + batch["image"]
        assert np.all(np.abs(sums[:, :height] - 255) <= 1)  # rounding, once for each
    assert np.all(scored[0]["canvas_label"][:, :10] == 0) and np.all(scored[0]["canvas_label"][:, 10:] == 255)


def test_windows_of_images_that_keep_their_scale_are_those_of_their_targets(root):
    config = ConfigDict(common.get_config())
    config.update(dataset="pairs", data_dir=str(root), batch_size=3, canvas_size=(4, 5), resize="none")
    batch = next(pipeline.train_batches(pipeline.open_dataset(config), config, ("labelled",)))["labelled"]
    np.testing.assert_array_equal(batch["target"], 255 - batch["image"])
