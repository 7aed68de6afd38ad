"""A function in a process of its own."""

import os
import signal

import pytest

from gan_seg_jax.planning import apart


def test_results_and_errors_come_back_and_a_crash_is_an_error():
    assert apart.call(int, "3") == 3
    with pytest.raises(ValueError, match="three"):
        apart.call(int, "three")
    with pytest.raises(EOFError):
        apart.call(_end_of_file)
    for end, found in ((os.abort, "SIGABRT"), (_killed, "SIGKILL"), (_exit, "exit code 3")):
        with pytest.raises(apart.CrashedError, match=found):
            apart.call(end)


def _end_of_file():
    raise EOFError


def _killed():
    os.kill(os.getpid(), signal.SIGKILL)


def _exit():
    os._exit(3)
