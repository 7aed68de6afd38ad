"""Signals from the first moment, streams that fail, and what is answered without JAX: the process of a command."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

from gan_seg_jax.errors import InputError
from gan_seg_jax.runs.preemption import Preemption
from gan_seg_jax.system import files, process
from tests import tiny_runs

MAIN = (sys.executable, "-m", "gan_seg_jax.main")
RAISING = """
import os, signal, sys
os.kill(os.getpid(), signal.{name})
def get_config(_=None):
    raise RuntimeError("it went on")
"""


def ended(command, **options) -> subprocess.CompletedProcess:
    return subprocess.run(command, capture_output=True, text=True, cwd=tiny_runs.ROOT, **options)


@pytest.fixture
def signals():
    """Let a test change the handlers."""
    before = {number: signal.getsignal(number) for number in process.SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


# Signals


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_before_there_is_a_run_ends_with_75(tmp_path, name):
    config = tmp_path / "config.py"
    config.write_text(RAISING.format(name=name))
    found = ended([*MAIN, f"--config={config}"])
    assert (found.returncode, found.stdout, found.stderr) == (75, "", process.STARTING + "\n")


def test_a_signal_after_the_end_does_not_change_the_exit_code():
    """Also in the last moments, when Python has taken its own handlers away."""
    script = """
import os, runpy, sys
class Late:
    def __del__(self, kill=os.kill, me=os.getpid(), write=os.write):
        write(2, b"late")
        kill(me, 1)  # SIGHUP
        write(2, b"r")
late, sys.argv = Late(), ["main", "--help"]
runpy.run_module("gan_seg_jax.main", run_name="__main__")
"""
    found = ended([sys.executable, "-c", script])
    assert found.returncode == 0 and found.stderr == "later", found


def test_what_nohup_ignores_stays_ignored(tmp_path):
    config = tmp_path / "config.py"
    config.write_text(RAISING.format(name="SIGHUP"))
    found = ended(["nohup", *MAIN, f"--config={config}"], stdin=subprocess.DEVNULL)
    assert found.returncode == 2 and "it went on" in found.stderr


def test_signals_that_are_ignored_are_not_taken(signals):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Preemption() as preemption:
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.raise_signal(signal.SIGTERM)
        assert preemption.requested


@pytest.mark.parametrize("number", process.SIGNALS)
def test_a_run_notes_signals_and_further_ones_do_not_disturb_it(signals, number):
    noted = []
    signal.signal(number, lambda *_: noted.append(number))
    with Preemption() as preemption:
        assert not preemption.requested
        for _ in range(2):
            signal.raise_signal(number)
            assert preemption.requested and noted == [] and preemption.due()
        if number != signal.SIGINT:
            for _ in range(5):
                signal.raise_signal(number)
    assert noted == []
    signal.raise_signal(number)
    assert noted == [number], "the old handler is back"


def test_the_third_control_c_ends_the_process(signals, monkeypatch):
    raised = []
    with Preemption():
        for count in range(3):
            assert raised == []
            if count == 2:
                monkeypatch.setattr(signal, "raise_signal", raised.append)
            os.kill(os.getpid(), signal.SIGINT)
        assert raised == [signal.SIGINT] and signal.getsignal(signal.SIGINT) == signal.SIG_DFL


# Streams


@contextlib.contextmanager
def standard_output(monkeypatch, file, **options):
    with open(file, "w", **options) as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        yield stream


def test_a_reader_that_has_gone_away_ends_nothing(monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    with standard_output(monkeypatch, writer) as stream:
        with process.lasting_streams():
            for _ in range(3):
                print("x" * 100_000, flush=True)
            assert os.path.samestat(os.fstat(writer), os.stat(os.devnull)), "libraries print to the same file"
        assert sys.stdout is stream


def test_a_full_disk_swallows_what_is_printed_until_there_is_room(monkeypatch, tmp_path):
    room, full = open(tmp_path / "log", "wb"), os.open("/dev/full", os.O_WRONLY)
    with room, standard_output(monkeypatch, full), process.lasting_streams():
        print("x" * 100_000, flush=True)
        os.dup2(room.fileno(), full)
        print("there is room", flush=True)
    assert "there is room" in (tmp_path / "log").read_text()
    with standard_output(monkeypatch, os.open("/dev/full", os.O_WRONLY)), process.lasting_streams():
        print("not flushed by its end")


def test_letters_that_a_terminal_does_not_have_are_shown_as_escapes(monkeypatch, tmp_path):
    path = tmp_path / "log"
    with standard_output(monkeypatch, path, encoding="ascii") as stream:
        with process.lasting_streams():
            print("фон", os.fsdecode(b"gr\xf6\xdfe"), "plain")
        assert stream.errors == "strict"
    assert path.read_text() == "\\u0444\\u043e\\u043d gr\\udcf6\\udcdfe plain\n"


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full", "2>/dev/full", "| true"])
def test_streams_that_are_closed_or_full_cost_no_exit_code(redirection):
    for flag, code in (("--help", 0), ("--unknown", 2)):
        command = f"{' '.join(MAIN)} {flag} {redirection}; exit ${{PIPESTATUS[0]}}"
        found = ended(["bash", "-c", command])
        assert found.returncode == code, (flag, found.stderr)
        assert "Traceback" not in found.stderr and "Exception ignored" not in found.stderr


def test_a_run_ends_well_whatever_becomes_of_its_output(tiny, tmp_path):
    """Nobody reads its stdout, which has no letters for its classes; the disk of its stderr is full."""
    data, workdir, names = tmp_path / "daten", tmp_path / "größe", ("фон", "круг", "正方形")
    shutil.copytree(tiny.data, data)
    lines = (f"{number} {name} {number} 0 0\n" for number, name in enumerate(names))
    (data / "classes.txt").write_text("".join(lines), encoding="utf-8")
    reader, writer = os.pipe()
    os.close(reader)
    args = (*tiny_runs.supervised_args(tiny.data), f"--config.data_dir={data}", f"--workdir={workdir}")
    with open(writer, "w", encoding="ascii") as stdout, open("/dev/full", "w", encoding="ascii") as stderr:
        outcome = tiny_runs.command("main", *args, "--config.steps=1", stdout=stdout, stderr=stderr)
    assert outcome.code == 0
    assert tuple(json.loads((workdir / "summary.json").read_text())["test"]["iou_per_class"]) == names
    with open(tmp_path / "log", "w+", encoding="ascii") as stdout:
        assert tiny_runs.command("evaluate", f"--workdir={workdir}", stdout=stdout).code == 0
        stdout.seek(0)
        assert "\\u0444\\u043e\\u043d" in stdout.read() and (workdir / "evaluation-test.json").exists()


def test_names_of_files_are_utf8_under_every_locale(tmp_path):
    config = tmp_path / "größe.py"
    config.write_text("import sys\nraise RuntimeError(sys.getfilesystemencoding() + ' ' + sys.stdout.encoding)")
    latin = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    found = ended([*MAIN, f"--config={config}"], env={**os.environ, **latin})
    assert found.returncode == 2 and "utf-8 ascii" in found.stderr and "gr\\xf6\\xdfe.py" in found.stderr
    with pytest.raises(InputError, match=r"is not UTF-8"):
        files.local(os.fsdecode(b"runs/gr\xf6\xdfe"))


def test_memory_comes_in_large_pages_where_the_system_gives_them_for_the_asking(tmp_path, monkeypatch):
    config = tmp_path / "config.py"
    config.write_text(f"import os\nraise RuntimeError(repr(os.environ.get({process.TUNABLES!r})))")
    monkeypatch.delenv(process.TUNABLES, raising=False)
    expected = process.LARGE_PAGES if process._lacks_large_pages() else None
    assert repr(expected) in ended([*MAIN, f"--config={config}"]).stderr
    monkeypatch.setenv(process.TUNABLES, "glibc.malloc.perturb=1")
    assert not process._lacks_large_pages()
    assert repr("glibc.malloc.perturb=1") in ended([*MAIN, f"--config={config}"]).stderr


@pytest.mark.parametrize("text", ["always madvise [never]", "[always] madvise never"])
def test_a_process_starts_once_where_it_gets_no_other_pages_by_asking(monkeypatch, tmp_path, text):
    (tmp_path / "enabled").write_text(text)
    monkeypatch.delenv(process.TUNABLES, raising=False)
    monkeypatch.setattr(process, "PAGES", str(tmp_path / "enabled"))
    assert not process._lacks_large_pages()
    (tmp_path / "enabled").write_text("always [madvise] never")
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.34")
    assert not process._lacks_large_pages()
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.35")
    assert process._lacks_large_pages()
    (tmp_path / "enabled").unlink()
    assert not process._lacks_large_pages()


# What is answered without JAX


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["--help"], 0),
        (["--unknown"], 2),
        ([], 2),
        (["--config=configs/supervised_seg.py", "--config.stps=1"], 2),
        (["--config=configs/supervised_seg.py", "--config.steps=-1"], 2),
        (["--config=configs/supervised_seg.py", "--show_config"], 0),
    ],
)
def test_main_answers_without_loading_jax(args, code):
    script = (
        "import runpy, sys\n"
        f"sys.argv = {['main', *args]!r}\n"
        "try: runpy.run_module('gan_seg_jax.main', run_name='__main__')\n"
        "finally: print('jax' in sys.modules)\n"
    )
    found = ended([sys.executable, "-c", script])
    assert found.returncode == code and found.stdout.endswith("False\n"), found.stderr
