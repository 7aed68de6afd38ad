"""The lines of the training split: means of what is finite, and the same after any number of stops in between."""

import dataclasses
import json
import math

import pytest

from gan_seg_jax.runs.step_log import StepLog

STEPS = [
    {"loss/a": 0.1, "skipped": False},
    {"loss/a": 0.2, "skipped": False, "penalty": 3.0},
    {"loss/a": math.nan, "skipped": True},
    {"loss/a": 0.3, "skipped": False, "bad": math.inf},
]


def fill(log, steps):
    for metrics in steps:
        log.add(metrics)
        log.images += 8
        log.seconds += 0.5
    return log


def test_a_line_holds_means_of_what_is_finite():
    log = fill(StepLog(), STEPS)
    expected = {"bad": None, "loss/a": (0.1 + 0.2 + 0.3) / 3, "penalty": 3.0, "skipped": 1, "images_per_second": 16.0}
    assert log.line() == expected
    assert log == StepLog()  # the speed of the next line is its own
    assert fill(log, STEPS).line() == expected


@pytest.mark.parametrize("stop", range(5))
def test_a_line_is_the_same_after_a_stop(stop):
    log = fill(StepLog(), STEPS[:stop])
    log = StepLog(**json.loads(json.dumps(dataclasses.asdict(log), sort_keys=True)))
    assert list(fill(log, STEPS[stop:]).line().items()) == list(fill(StepLog(), STEPS).line().items())
