"""Clean-up of label maps: hand-drawn answers, scikit-image's binary operators, and what holds for every map."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from skimage import morphology as binary

from gan_seg_jax.postprocess import morphology

K = 4
VOID = 255
NAMES = {".": 0, "a": 1, "b": 2, "c": 3, "#": VOID}
OPERATIONS = {
    "erode": lambda labels: morphology.erode(labels, 1, K),
    "opening": lambda labels: morphology.opening(labels, 1.5, K),
    "closing": lambda labels: morphology.closing(labels, 2, K),
    "remove_small_regions": lambda labels: morphology.remove_small_regions(labels, 5, K),
    "fill_holes": lambda labels: morphology.fill_holes(labels, 6, K),
    "clean": lambda labels: morphology.clean(labels, opening=1, closing=1, min_region=4, max_hole=4, num_classes=K),
}


def drawn(text: str) -> np.ndarray:
    return np.array([[NAMES[mark] for mark in line] for line in text.split()], np.uint8)


maps = npst.arrays(
    np.uint8,
    npst.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14),
    elements=st.sampled_from([0, 1, 2, 3, VOID]),
)


@st.composite
def blocky(draw):
    """Draw a map of blobs, not only of noise."""
    small = draw(maps)
    factors = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    large = small.repeat(factors[0], axis=0).repeat(factors[1], axis=1)
    for _ in range(draw(st.integers(0, 4))):
        row, column = draw(st.integers(0, large.shape[0] - 1)), draw(st.integers(0, large.shape[1] - 1))
        large[row, column] = draw(st.sampled_from([0, 1, 2, 3, VOID]))
    return large


# Known answers


def test_erosion_leaves_void_between_the_classes():
    labels = drawn("..... .aaa. .aaa. .aaa. #....")
    # A pixel goes if a 4-neighbour is of another class; void takes nothing.
    expected = drawn(".###. ##### ##a## ##### ####.")
    np.testing.assert_array_equal(morphology.erode(labels, 1, K), expected)


def test_dilation_fills_void_from_the_nearest_class():
    labels = drawn("a###### ####### ######b")
    np.testing.assert_array_equal(morphology.dilate(labels, 2, K), drawn("aaa###b aa###bb a###bbb"))
    np.testing.assert_array_equal(morphology.dilate(labels, 0, K), labels)
    assert (morphology.dilate(labels, 99, K) < K).all()


def test_opening_removes_a_thin_line_and_keeps_a_cross():
    labels = drawn("......... ..a...... .aaa...b. ..a....b. .......b. .bbbbbbb. .........")
    expected = drawn("......... ..a...... .aaa..... ..a...... ......... ......... .........")
    np.testing.assert_array_equal(morphology.opening(labels, 1, K), expected)
    np.testing.assert_array_equal(morphology.opening(labels, 0, K), labels)
    assert not morphology.opening(labels, 2, K).any()


def test_closing_fills_the_gap_within_a_class_only():
    labels = drawn(
        """
        aaaaaaaaa
        aaaa.aaaa
        aaaa.aaaa
        aaaaaaaaa
        aaaaaaaaa
        bbbbbbbbb
        .........
        .........
        .........
        """
    )
    filled = labels.copy()
    filled[1:3, 4] = 1
    # The line of b lies between two classes, which both would close over it or neither: it stays.
    np.testing.assert_array_equal(morphology.closing(labels, 1, K), filled)
    assert (morphology.opening(labels, 1, K) == 2).sum() == 0


def test_closing_leaves_lines_along_void_and_along_the_edge():
    labels = drawn("bbbbbb aaaaaa aaaaaa aaaaaa cccccc ###### ######")
    np.testing.assert_array_equal(morphology.closing(labels, 1, K), labels)
    enclosed = drawn("aaaaaa aaaaaa bbbbbb aaaaaa aaaaaa")
    np.testing.assert_array_equal(morphology.closing(enclosed, 1, K)[:, 1:-1], 1)


def test_stripes_that_no_class_keeps_stay():
    stripes = np.tile(drawn(".a"), (6, 5))
    for operation in (morphology.opening, morphology.closing):
        np.testing.assert_array_equal(operation(stripes, 1, K), stripes)


def test_two_classes_open_as_the_binary_operators_do():
    rng = np.random.default_rng(0)
    for radius in (1, 2, 3):
        mask = np.pad(binary.opening(rng.random((40, 50)) < 0.6, binary.disk(1)), 8)
        labels = np.where(mask, 1, 0).astype(np.uint8)
        kept = morphology._solid(labels, radius, K)
        for class_id in (0, 1):
            opened = binary.opening(np.pad(labels == class_id, 9, constant_values=class_id == 0), binary.disk(radius))
            np.testing.assert_array_equal(kept & (labels == class_id), opened[9:-9, 9:-9])


@pytest.mark.parametrize(("least", "gone"), [(1, ""), (2, "c"), (4, "bc"), (5, "abc")])
def test_small_regions_go_by_size(least, gone):
    labels = drawn("........ .aa..bb. .aa..b.. .....#.. ...c....")
    expected = labels.copy()
    for name in gone:
        expected[labels == NAMES[name]] = 0
    np.testing.assert_array_equal(morphology.remove_small_regions(labels, least, K), expected)


def test_a_small_region_takes_the_longest_border():
    labels = drawn("aaaaaaa aaacaaa aaccca. ....... bbbbbbb")
    expected = drawn("aaaaaaa aaaaaaa aaaaaa. ....... bbbbbbb")
    np.testing.assert_array_equal(morphology.remove_small_regions(labels, 5, K), expected)


def test_diagonals_connect_and_islands_take_the_nearest():
    line = drawn("a...... .a..... ..a.... ...a...")
    np.testing.assert_array_equal(morphology.remove_small_regions(line, 4, K), line)
    island = drawn("aaa##c###bb aaa######bb")
    np.testing.assert_array_equal(morphology.remove_small_regions(island, 3, K), drawn("aaa##a###bb aaa######bb"))


def test_when_all_regions_are_small_the_largest_stays():
    np.testing.assert_array_equal(morphology.remove_small_regions(drawn("aab cbb"), 100, K), drawn("bbb bbb"))


def test_holes_are_filled_up_to_their_size():
    labels = drawn("aaaaaaa. abb.aaa. ab#baca. aaaaaaa. ........ bb......")
    filled = drawn("aaaaaaa. aaaaaaa. aa#aaaa. aaaaaaa. ........ bb......")
    np.testing.assert_array_equal(morphology.fill_holes(labels, 6, K), filled)
    small = labels.copy()
    small[2, 5] = 1
    np.testing.assert_array_equal(morphology.fill_holes(labels, 5, K), small)
    np.testing.assert_array_equal(morphology.fill_holes(labels, 0, K), labels)


def test_of_nested_holes_the_outermost_that_fits_decides():
    labels = drawn("aaaaaaa abbbbba abcccba abc.cba abcccba abbbbba aaaaaaa")
    np.testing.assert_array_equal(morphology.fill_holes(labels, 25, K), np.ones_like(labels))
    inner = np.where(labels == 3, 2, np.where(labels == 0, 2, labels))
    np.testing.assert_array_equal(morphology.fill_holes(labels, 24, K), inner)


def test_clean_is_the_four_in_order():
    labels = np.random.default_rng(1).integers(0, K, (12, 9)).astype(np.uint8).repeat(3, axis=0).repeat(3, axis=1)
    labels[:4, :5] = VOID
    expected = morphology.opening(labels, 1, K)
    expected = morphology.closing(expected, 2, K)
    expected = morphology.remove_small_regions(expected, 12, K)
    expected = morphology.fill_holes(expected, 20, K)
    cleaned = morphology.clean(labels, opening=1, closing=2, min_region=12, max_hole=20, num_classes=K)
    np.testing.assert_array_equal(cleaned, expected)
    np.testing.assert_array_equal(morphology.clean(labels, num_classes=K), labels)


# What holds for every map


@pytest.mark.parametrize("radius", [1, 1.5, 2, 3])
@settings(max_examples=60, deadline=None)
@given(labels=blocky())
def test_opening_and_closing_twice_is_once(radius, labels):
    for operation in (morphology.opening, morphology.closing):
        once = operation(labels, radius, K)
        np.testing.assert_array_equal(operation(once, radius, K), once)


@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=50, deadline=None)
@given(labels=blocky(), order=st.permutations(range(K)))
def test_the_order_of_the_classes_does_not_matter(name, labels, order):
    table = np.arange(256, dtype=np.uint8)
    table[:K] = order
    np.testing.assert_array_equal(OPERATIONS[name](table[labels]), table[OPERATIONS[name](labels)])


@pytest.mark.parametrize("name", [name for name in OPERATIONS if name != "erode"])
@settings(max_examples=50, deadline=None)
@given(labels=blocky())
def test_void_stays_and_no_class_is_invented(name, labels):
    before = labels.copy()
    result = OPERATIONS[name](labels)
    np.testing.assert_array_equal(labels, before)  # the input is not written to
    assert result.dtype == np.uint8 and result.shape == labels.shape
    np.testing.assert_array_equal(result == VOID, labels == VOID)
    assert set(np.unique(result)) <= set(np.unique(labels))


@settings(max_examples=60, deadline=None)
@given(labels=blocky(), least=st.integers(2, 12))
def test_no_small_region_is_left_where_there_is_no_void(labels, least):
    labels = np.where(labels == VOID, 0, labels)
    regions, count = _regions(morphology.remove_small_regions(labels, least, K))
    assert count == 1 or np.bincount(regions.ravel())[1:].min() >= least


def _regions(labels):
    from skimage import measure

    return measure.label(labels.astype(int) + 1, background=0, connectivity=2, return_num=True)


def test_hundreds_of_classes():
    labels = np.arange(255, dtype=np.uint8).reshape(15, 17).repeat(5, axis=0).repeat(5, axis=1)
    noisy = labels.copy()
    noisy[2::5, 2::5] = 7
    np.testing.assert_array_equal(morphology.remove_small_regions(noisy, 2, 255), labels)
    np.testing.assert_array_equal(morphology.fill_holes(noisy, 1, 255), labels)
