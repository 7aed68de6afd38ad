"""Generated pairs take the first rows of each batch; real rows stay as they were; everything follows from positions."""

import itertools
import pickle

import numpy as np
import pytest

from configs import common
from gan_seg_jax.data import pipeline, synthetic
from gan_seg_jax.errors import InputError
from tests import tiny_runs

LABELLED = ("labelled",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as the command `sample` writes it: training pairs only, 13 of them."""
    root = tiny_runs.write_set(tmp_path_factory.mktemp("made") / "set")
    for split in ("val", "test"):
        (root / split).rename(root / f"no-{split}")
    return root


@pytest.fixture(scope="module")
def dataset():
    return tiny_runs.memory_set(train=11, val=2)


def make_config(folder="", share=0.5, **fields):
    config = common.get_config()
    config.update({"canvas_size": (10, 14), "batch_size": 4, "seed": 3, **fields})
    config.synthetic.update(folder=str(folder), share=share)
    return config


def take(count, dataset, config, **options):
    batches = pipeline.train_batches(dataset, config, LABELLED, **options)
    found = [batch["labelled"] for batch in itertools.islice(batches, count)]
    batches.close()
    return found


def assert_equal(some, others):
    for a, b in zip(some, others, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


@pytest.mark.parametrize(("share", "rows"), [(0.25, 1), (0.5, 2), (0.9, 4), (0.6, 2)])
def test_the_first_rows_are_made_and_the_others_as_without(dataset, folder, share, rows):
    mixed = take(12, dataset, make_config(folder, share))
    plain = take(12, dataset, make_config(share=0.0))
    for with_made, without in zip(mixed, plain, strict=True):
        assert np.all(with_made["id"][:rows] < 0) and np.all(with_made["id"][rows:] >= 0)
        assert_equal([{k: v[rows:] for k, v in with_made.items()}], [{k: v[rows:] for k, v in without.items()}])


def test_rows_show_the_pairs_of_the_folder(dataset, folder):
    made = synthetic.open_made_pairs(make_config(folder), dataset.info)
    assert len(made) == tiny_runs.COUNTS["train"]
    (batch,) = take(1, dataset, make_config(folder, resize="none", canvas_size=(20, 31)))
    for row in range(2):
        example = made[-1 - int(batch["id"][row])]
        height, width = batch["content"][row]
        np.testing.assert_array_equal(batch["image"][row, :height, :width], example["image"])
        np.testing.assert_array_equal(batch["label"][row, :height, :width], example["label"])


def test_every_pair_is_shown_once_before_any_again(folder, dataset):
    made = synthetic.open_made_pairs(make_config(folder), dataset.info)
    shown = [number for position in range(4 * 13) if (number := made.find(position)) is not None]
    assert len(shown) == 26 and sorted(shown[:13]) == sorted(shown[13:]) == list(range(13))
    assert shown[:13] != shown[13:]
    ids = [-1 - int(i) for batch in take(13, dataset, make_config(folder)) for i in batch["id"][:2]]
    assert ids == shown


def test_order_is_the_seeds_and_goes_on_by_position(dataset, folder):
    whole = take(9, dataset, make_config(folder))
    assert_equal(take(4, dataset, make_config(folder), start=5), whole[5:])
    other = take(9, dataset, make_config(folder, seed=4))
    assert any(np.any(a["id"][:2] != b["id"][:2]) for a, b in zip(whole, other, strict=True))


def test_processes_share_a_batch(dataset, folder):
    whole = take(5, dataset, make_config(folder))
    parts = [take(5, dataset, make_config(folder), process=(number, 2)) for number in range(2)]
    joined = [{name: np.concatenate([a[name], b[name]]) for name in a} for a, b in zip(*parts, strict=True)]
    assert_equal(joined, whole)


def test_rounds_have_made_rows_each(dataset, folder):
    (batch,) = take(1, dataset, make_config(folder, rounds=3))
    np.testing.assert_array_equal(batch["id"] < 0, [[True, True, False, False]] * 3)
    flat = batch["id"][:, :2].ravel()
    assert len(set(flat.tolist())) == 6


def test_it_can_be_sent_to_workers(dataset, folder):
    made = synthetic.open_made_pairs(make_config(folder), dataset.info)
    copy = pickle.loads(pickle.dumps(made))
    assert [copy.find(n) for n in range(40)] == [made.find(n) for n in range(40)]
    np.testing.assert_array_equal(copy[3]["image"], made[3]["image"])


def test_other_streams_stay_real(folder):
    dataset = tiny_runs.memory_set(train=5, val=2, unlabelled=5)
    batches = pipeline.train_batches(dataset, make_config(folder), ("labelled", "unlabelled"))
    batch = next(batches)
    batches.close()
    assert np.any(batch["labelled"]["id"] < 0) and np.all(batch["unlabelled"]["id"] >= 0)


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_a_folder_needs_a_share_of_an_image(dataset, folder, share):
    with pytest.raises(InputError, match=r"synthetic.share is 0.*of 4"):
        take(1, dataset, make_config(folder, share))


def test_a_share_needs_a_folder_or_a_generator(dataset):
    with pytest.raises(InputError, match="synthetic.folder is empty and the method supervised"):
        take(1, dataset, make_config(share=0.5))
    assert synthetic.open_made_pairs(make_config(share=0.5, method="augmentation"), dataset.info) is None


def test_classes_must_be_the_same(dataset, folder, tmp_path):
    for name in ("train", "classes.txt"):
        (tmp_path / name).symlink_to(folder / name)
    text = (folder / "classes.txt").read_text().replace("car", "van")
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "classes.txt").write_text(text)
    with pytest.raises(InputError, match="classes sky, road, van, tiny has sky, road, car"):
        take(1, dataset, make_config(tmp_path))
