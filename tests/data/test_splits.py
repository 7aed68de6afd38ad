"""What must hold between splits: which images validate, which groups are torn apart, which patterns can be used."""

import numpy as np
import pytest

from gan_seg_jax.data.catalog import Dataset, Members
from gan_seg_jax.data.domains import from_source
from gan_seg_jax.data.splits import Rules, carve, check, groups
from gan_seg_jax.errors import InputError
from tests import tiny_runs


def members(ids, digests=None):
    return Members(ids, ids, ids if digests is None else digests)


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "no regular expression"),
        ("p", "has 0 groups; expected one"),
        ("(p)(\\d)", "has 2 groups"),
        ("^(q\\d)", "finds nothing in 2 of 3 ids of SET, such as 'p1_a'"),
        ("^(q)?", "finds nothing in 2 of 3"),
    ],
)
def test_patterns_that_cannot_be_used_are_named(pattern, words):
    with pytest.raises(InputError, match=words):
        groups("SET", ["p1_a", "q1_b", "p2_c"], pattern)


def test_groups_stay_together_when_val_is_carved():
    ids = [f"p{number % 12:02}_{number:03}" for number in range(60)]
    rules = Rules(group_pattern="^(p[0-9]+)_")
    chosen = carve("SET", members(ids), rules)
    patients = {image_id[:3] for image_id in np.array(ids)[chosen]}
    assert len(patients) == 1 and chosen.sum() == 5
    moved = carve("SET", members(ids[::-1]), rules)[::-1]
    np.testing.assert_array_equal(moved, chosen)  # the order does not matter


def test_groups_and_equal_images_are_joined():
    """1 and 2 share a digest, 2 and 3 a group: all three stay together, and 4 alone can validate."""
    ids, digests = ["a_1", "b_2", "b_3", "c_4"], ["x", "x", "y", "z"]
    chosen = carve("SET", members(ids, digests), Rules(group_pattern="^(.)"))
    np.testing.assert_array_equal(chosen, [False, False, False, True])


def test_groups_larger_than_a_tenth_lend_the_smallest():
    ids = ["a_1", "a_2", "a_3", "b_1", "b_2"]
    np.testing.assert_array_equal(carve("SET", members(ids), Rules(group_pattern="^(.)")), [0, 0, 0, 1, 1])


@pytest.mark.parametrize("allowed", [False, True])
def test_equal_images_alone_cannot_be_split_unless_they_are_allowed(allowed):
    same = members(["a", "b"], ["x", "x"])
    if allowed:
        assert carve("SET", same, Rules(allow_duplicates=True)).sum() == 1
        return
    with pytest.raises(InputError, match="a single image or group, or equal images"):
        carve("SET", same, Rules())


def test_unlabelled_images_are_of_the_groups_of_train():
    rules = Rules(group_pattern="^(.)")
    check("SET", {"train": members(["a_1"]), "val": members(["b_1"]), "unlabelled": members(["a_2"])}, rules)
    with pytest.raises(InputError, match="such as 'b' of b_1 and b_2"):
        check("SET", {"train": members(["a_1"]), "val": members(["b_1"]), "unlabelled": members(["b_2"])}, rules)


def test_an_image_of_the_source_that_is_scored_in_the_target_is_refused():
    def of(*digests):
        whole = tiny_runs.memory_set(train=2, val=1)
        return Dataset(whole.info, whole.splits, dict(zip(("train", "val"), map(members, digests), strict=True)))

    source, target = of(["a", "b"], ["c"]), of(["d", "e"], ["b"])
    with pytest.raises(InputError, match=r"1 image is in two splits \(1 of train of the source and val\)"):
        from_source(source, target)
    both = from_source(source, target, Rules(allow_duplicates=True)).digests
    assert both == {"train of the source": source.digests["train"], **target.digests}
    from_source(of(["a"], ["b"]), target)  # the val of the source is not read
