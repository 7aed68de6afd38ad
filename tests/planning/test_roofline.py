"""The time of a step at best, by hand."""

import pytest

from gan_seg_jax.planning import roofline, slices
from gan_seg_jax.planning.hlo import Collective
from gan_seg_jax.planning.roofline import Seconds

V5E = slices.named("v5e-8")


def _sum(size, kind="all-reduce"):
    return Collective(kind, "", ("f32",), ((size,),), 8)


def test_arithmetic_and_traffic_overlap_and_messages_come_on_top():
    found = roofline.seconds(V5E, 197e12 / 100, 819e9 / 50, [])
    assert (found.arithmetic, found.traffic, found.messages) == pytest.approx((0.01, 0.02, 0.0))
    assert (found.step, found.bound) == (pytest.approx(0.02), "traffic")
    assert roofline.seconds(V5E, 197e12, 819e9 / 50, []).bound == "arithmetic"


def test_an_all_reduce_goes_around_a_ring_in_both_directions():
    # 100 MB, 2 * 7/8 of it over two links of 50 GB/s.
    (large, small, gathered) = (
        roofline.seconds(V5E, 1.0, 1.0, [each]).messages
        for each in (_sum(25_000_000), _sum(16), _sum(25_000_000, "all-gather"))
    )
    assert large == pytest.approx(2 * 7 / 8 * 1e8 / 100e9)
    assert gathered == pytest.approx(large / 2)
    moved = roofline.seconds(V5E, 1.0, 1.0, [_sum(25_000_000, "collective-permute")]).messages
    assert moved == pytest.approx(1e8 / 50e9)
    assert small == pytest.approx(2 * (1 + 3) * 1e-6)  # 2x4: one hop, then three, and back


@pytest.mark.parametrize(
    ("fixed", "growing", "expected"),
    [(0, 100, 64), (0, 400, 16), (900, 25, 32), (0, 8001, 0), (2000, 10, 0)],
)
def test_largest_batch(fixed, growing, expected):
    """1,000 bytes of memory; 8 images take `growing` above what does not grow."""
    assert roofline.largest_batch(8, fixed, growing, 1000) == expected


def test_where_chips_share_images_a_chip_may_have_a_part_of_one():
    assert roofline.largest_batch(1, 0, 3000, 1000, least=0.25) == 0.25
    assert roofline.largest_batch(12, 0, 800, 1000) == 12  # which fits itself, though no power of two from it on does
    assert roofline.largest_batch(1, 0, 3000, 1000, least=0.5) == 0


@pytest.mark.parametrize(
    ("image_seconds", "expected"),
    [
        (0.5e-3, None),  # an image of the chips takes 1 ms
        (1e-3, None),
        (1.5e-3, 24),  # 0.5 ms b > 10 ms from 20 on, 24 on eight chips
        (100e-3, 8),  # at every batch
    ],
)
def test_from_which_batch_on_the_input_is_the_bound(image_seconds, expected):
    step = Seconds(arithmetic=0.064, traffic=0.01, messages=0.01)
    found = roofline.input_bound(step, 64, 8, image_seconds)
    assert found == expected
    if expected is not None:
        time = lambda batch: step.linear / 64 * batch + step.messages
        assert image_seconds * expected >= time(expected)
        assert expected == 8 or image_seconds * (expected - 8) < time(expected - 8)
