"""A function in a process of its own."""

import os

import pytest

from gan_seg_jax.planning import apart


def test_results_and_errors_come_back_and_a_crash_is_an_error():
    assert apart.call(int, "3") == 3
    with pytest.raises(ValueError, match="three"):
        apart.call(int, "three")
    with pytest.raises(apart.CrashedError):
        apart.call(os.abort)
