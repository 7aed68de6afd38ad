"""How far a command is: lines or a bar on stderr."""

import io
import sys

import pytest

from gan_seg_jax.system import progress
from gan_seg_jax.system.progress import Progress, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_lines_come_at_most_every_ten_seconds_and_at_the_end(monkeypatch, capsys):
    clock = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    seen = []
    for item in track("abcdefghi", 9):
        seen.append(item)
        clock[0] += 4.0
    assert seen == list("abcdefghi")
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.splitlines() == [
        "image 1/9  - images/s  left ?",
        "image 4/9  0.2 images/s  left 0:20",
        "image 7/9  0.2 images/s  left 0:08",
        "image 9/9  0.2 images/s  left 0:00",
    ]


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with Progress(3, "image") as shown:
        shown.show(1)
        shown.message("between")
        shown.show(3)
    assert "image 3/3" in sys.stderr.getvalue() and "100%" in sys.stderr.getvalue()
    assert capsys.readouterr().out == "between\n"


@pytest.mark.parametrize("active", [True, False])
def test_an_iteration_that_is_left_early_closes_the_bar(monkeypatch, active):
    monkeypatch.setattr(sys, "stderr", Terminal())
    for item in track(range(5), 5, active=active):
        if item == 2:
            break
    assert ("image 2/5" in sys.stderr.getvalue()) == active
    if not active:
        assert sys.stderr.getvalue() == ""
