"""What a generator has seen is recorded, cannot be exchanged, and keeps leaks out."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from gan_seg_jax.data import provenance
from gan_seg_jax.data.catalog import Dataset
from gan_seg_jax.data.subset import keep_labels
from gan_seg_jax.errors import InputError
from tests import tiny_runs


@dataclasses.dataclass(frozen=True, eq=False)
class NamedSplit(tiny_runs.MemorySplit):
    """A split in memory that knows its ids."""

    @property
    def ids(self):
        return tuple(f"{self.name}-{number}" for number in range(len(self)))


def make_set(train=6, val=3, test=3):
    whole = tiny_runs.memory_set(train=train, val=val, test=test)
    splits = {name: NamedSplit(s.info, name, s.images, s.labels) for name, s in whole.splits.items()}
    return Dataset(whole.info, splits)


def claim(workdir, dataset, *names, sources=None, fresh=True):
    splits = [dataset.splits[name] for name in names or ("train",)]
    return provenance.claim(workdir, splits, sources or {}, fresh=fresh)


def write_made(folder, dataset, split="train", count=2):
    """Write images of a split as if a generator had made them."""
    (folder / "train" / "images").mkdir(parents=True)
    for number in range(count):
        image = 255 - dataset.splits[split][number]["image"]
        Image.fromarray(image).save(folder / "train" / "images" / f"made-{number}.png")
    return folder


def test_a_hash_is_of_pixels_and_shape():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert provenance.image_hash(image) == provenance.image_hash(image[:, ::-1][:, ::-1])  # another memory order
    others = [image + 1, image.reshape(4, 2, 3), image.swapaxes(0, 1), image[:, ::-1]]
    assert len({provenance.image_hash(x) for x in [image, *others]}) == 5
    known = "a79f9612b5ee2d95a50621aabe48727c7083532b063084d1642d2bddf7462bde"  # of b"1,1,3:" and three zeros
    assert provenance.image_hash(np.zeros((1, 1, 3), np.uint8)) == known


def test_hashes_follow_the_split_and_not_its_names():
    split = make_set().splits["train"]
    found = provenance.hashes(split)
    assert found == tuple(provenance.image_hash(image) for image in split.images)
    renamed = NamedSplit(split.info, "other", split.images, tuple(label * 0 for label in split.labels))
    assert provenance.hashes(renamed) == found


def test_own_training_images_are_allowed(tmp_path):
    dataset = make_set()
    digest = claim(tmp_path, dataset)
    assert provenance.digest(tmp_path) == digest
    provenance.check(dataset, {str(tmp_path): digest})
    provenance.check(dataset, {})


def test_a_part_of_them_is_allowed_and_the_whole_for_a_part_is_not(tmp_path):
    dataset = make_set(train=8)
    part = keep_labels(dataset, fraction=0.5)
    digest = claim(tmp_path / "part", part)
    provenance.check(dataset, {str(tmp_path / "part"): digest})
    digest = claim(tmp_path / "whole", dataset)
    hidden = part.splits["unlabelled"].ids
    with pytest.raises(InputError, match="4 images.*4 of unlabelled") as error:
        provenance.check(part, {str(tmp_path / "whole"): digest})
    assert all(name in str(error.value) for name in hidden)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_generator_that_saw_held_out_images_is_refused(tmp_path, split):
    dataset = make_set()
    digest = claim(tmp_path, dataset, "train", split)
    with pytest.raises(InputError, match=rf"3 images.*3 of {split} \({split}-0, {split}-1, {split}-2\)"):
        provenance.check(dataset, {str(tmp_path): digest})


def test_a_renamed_test_image_among_the_training_images_is_found(tmp_path):
    dataset = make_set()
    train, test = dataset.splits["train"], dataset.splits["test"]
    mixed = NamedSplit(train.info, "train", (*train.images, test.images[1]), (*train.labels, test.labels[1]))
    digest = claim(tmp_path, Dataset(dataset.info, {"train": mixed}))
    with pytest.raises(InputError, match=r"1 images.*1 of test \(test-1\)"):
        provenance.check(dataset, {str(tmp_path): digest})


def test_images_of_another_set_are_counted(tmp_path):
    digest = claim(tmp_path, tiny_runs.memory_set(val=4), "val")
    with pytest.raises(InputError, match="that this data set does not have"):
        provenance.check(make_set(train=2, val=2, test=2), {str(tmp_path): digest})


def test_a_source_without_a_record_is_refused(tmp_path):
    with pytest.raises(InputError, match="Nothing says.*train it again"):
        provenance.check(make_set(), {str(tmp_path): None})


@pytest.mark.parametrize("stored", [None, "0" * 64])
def test_an_exchanged_record_is_refused(tmp_path, stored):
    dataset = make_set()
    claim(tmp_path, dataset)
    with pytest.raises(InputError, match="not the one its checkpoints"):
        provenance.check(dataset, {str(tmp_path): stored})


@pytest.mark.parametrize("text", ["", "[]", '{"images": 3, "unknown": []}', "\x00"])
def test_a_damaged_record_is_named(tmp_path, text):
    (tmp_path / provenance.RECORD).write_text(text)
    with pytest.raises(InputError, match=r"training_data.json cannot be read"):
        provenance.check(make_set(), {str(tmp_path): "x"})


def test_a_run_cannot_go_on_with_other_images(tmp_path):
    digest = claim(tmp_path, make_set())
    assert claim(tmp_path, make_set(), fresh=False) == digest
    other = claim(tmp_path / "fresh", make_set(train=5), sources={"gone": None})
    assert claim(tmp_path / "fresh", make_set()) == digest != other, "a start that failed leaves nothing behind"
    seen = claim(tmp_path, make_set(train=5), sources={"gone": None}, fresh=False)
    assert seen == digest, "what was seen stays seen"
    with pytest.raises(InputError, match="1 training images that it did not begin with"):
        claim(tmp_path, make_set(train=7), fresh=False)


def test_what_the_first_weights_have_seen_counts(tmp_path):
    dataset = make_set()
    first = claim(tmp_path / "first", dataset, "train", "test")
    second = claim(tmp_path / "second", dataset, sources={str(tmp_path / "first"): first})
    with pytest.raises(InputError, match="3 of test"):
        provenance.check(dataset, {str(tmp_path / "second"): second})
    third = claim(tmp_path / "third", dataset, sources={str(tmp_path / "nothing"): None})
    with pytest.raises(InputError, match="began with weights of .*nothing"):
        provenance.check(dataset, {str(tmp_path / "third"): third})
    with pytest.raises(InputError, match="not the one its checkpoints"):
        claim(tmp_path / "fourth", dataset, sources={str(tmp_path / "first"): third})


def test_other_processes_leave_the_file_alone(tmp_path):
    splits = [make_set().splits["train"]]
    assert provenance.claim(tmp_path, splits, {}, write=False)
    assert provenance.digest(tmp_path) is None


def test_made_folders_carry_the_record(tmp_path):
    dataset, run, made = make_set(), tmp_path / "run", tmp_path / "made"
    claim(run, dataset)
    write_made(made, dataset)
    provenance.copy(run, made)
    provenance.check(dataset, {str(made): None})
    with pytest.raises(InputError, match="that this data set does not have"):
        provenance.check(make_set(train=3), {str(made): None})


def test_an_image_put_into_a_made_folder_is_found(tmp_path):
    dataset, run, made = make_set(), tmp_path / "run", tmp_path / "made"
    claim(run, dataset)
    write_made(made, dataset)
    provenance.copy(run, made)
    Image.fromarray(dataset.splits["test"][0]["image"]).save(made / "train" / "images" / "made-9.png")
    with pytest.raises(InputError, match="1 training images that the command sample did not write"):
        provenance.check(dataset, {str(made): None})


def test_a_data_set_of_made_images_is_not_scored_by_what_its_generator_has_seen(tmp_path):
    dataset, run, made = make_set(), tmp_path / "run", str(tmp_path / "made")
    claim(run, dataset)
    write_made(tmp_path / "made", dataset)
    provenance.copy(run, tmp_path / "made")
    assert provenance.made_sets("", made, str(run)) == [made]
    own = make_set(train=2)  # the generated images, beside real images that the generator has not seen
    provenance.check(own, {}, [made])
    own.splits["test"] = dataset.splits["train"]
    with pytest.raises(InputError, match=r"6 images.*6 of test \(train-0,"):
        provenance.check(own, {}, [made])


def test_a_generator_of_made_images_has_seen_what_theirs_has(tmp_path):
    dataset, made = make_set(), str(tmp_path / "made")
    claim(tmp_path / "first", dataset)
    write_made(tmp_path / "made", dataset, count=6)
    provenance.copy(tmp_path / "first", tmp_path / "made")
    train = dataset.splits["train"]
    inverse = NamedSplit(train.info, "train", tuple(255 - image for image in train.images), train.labels)
    of_made = Dataset(dataset.info, {**dataset.splits, "train": inverse})
    second = claim(tmp_path / "second", of_made, sources={made: None})
    record = json.loads((tmp_path / "second" / provenance.RECORD).read_text())
    assert set(record["images"]) == {*provenance.hashes(train), *provenance.hashes(inverse)}
    provenance.check(of_made, {str(tmp_path / "second"): second}, [made])
    with pytest.raises(InputError, match="6 images.*that this data set does not have"):
        provenance.check(of_made, {str(tmp_path / "second"): second})


def test_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset = make_set()
    claim(tmp_path / "run", dataset)
    write_made(tmp_path / "made", dataset)
    provenance.copy(tmp_path / "run", tmp_path / "made")
    provenance.check(dataset, {"~/made": None})
    assert provenance.made_sets("~/made") == ["~/made"]


def test_a_changed_copy_is_refused(tmp_path):
    dataset, run, made = make_set(), tmp_path / "run", tmp_path / "made"
    claim(run, dataset, "train", "test")
    write_made(made, dataset)
    provenance.copy(run, made)
    record = json.loads((made / provenance.COPY).read_text())
    record["images"] = sorted(provenance.hashes(dataset.splits["train"]))
    (made / provenance.COPY).write_text(json.dumps(record))
    with pytest.raises(InputError, match="not the one its checkpoints"):
        provenance.check(dataset, {str(made): None})


def test_without_a_record_no_copy(tmp_path):
    write_made(tmp_path / "made", make_set())
    provenance.copy(tmp_path, tmp_path / "made")
    assert not (tmp_path / "made" / provenance.COPY).exists()
    with pytest.raises(InputError, match="Nothing says"):
        provenance.check(make_set(), {str(tmp_path / "made"): None})
