"""What a machine can do to a command: each is a sentence with its exit code, and faults of ours stay visible."""

import errno
import os
import resource
import subprocess
import sys

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from gan_seg_jax import parallel
from gan_seg_jax.cli import commands
from gan_seg_jax.data.scenes import builder
from gan_seg_jax.errors import InputError, LostPeerError
from gan_seg_jax.runs import checkpoint
from gan_seg_jax.system import faults, process
from tests import tiny_runs

CONFIG = ConfigDict({"batch_size": 16, "crop_size": (96, 128)})


def raised(action) -> Exception:
    with pytest.raises(Exception) as caught:
        action()
    return caught.value


def fill_a_disk():
    with open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


def wrapped(action):
    try:
        action()
    except OSError as error:
        raise ValueError("a library's own words") from error


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (fill_a_disk, "No space left on device"),
        (lambda: wrapped(fill_a_disk), "No space left on device"),
        (lambda: np.empty(2**60, np.uint8), r"Out of memory.*batch_size is 16.*crop_size \(96, 128\)"),
    ],
)
def test_what_a_machine_does_is_a_sentence(action, words):
    with pytest.raises(InputError, match=words):
        raise faults.known(raised(action), CONFIG)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 123 bytes."), "allocating 123 bytes"),
        (ValueError("RESOURCE_EXHAUSTED: Error writing x [OS error 28: ENOSPC No space left on device]"), "No space"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "metrics.jsonl"), r"metrics\.jsonl.*quota"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "run/samples"), r"run/samples.*Read-only"),
        (RuntimeError("Worker process was terminated unexpectedly with exit code -7. Search"), "num_workers=0"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit"),
    ],
)
def test_the_words_of_libraries_are_known(error, words):
    with pytest.raises(InputError, match=words):
        raise faults.known(error)


def test_faults_of_ours_are_not_taken_for_the_machines():
    for error in (ZeroDivisionError(), FileNotFoundError(errno.ENOENT, "x"), ValueError("out of memory")):
        assert faults.known(error, CONFIG, processes=2) is None


def test_a_lost_process_is_one_where_there_are_several():
    error = jax.errors.JaxRuntimeError("UNKNOWN: Gloo all-reduce failed: Read error: Connection reset by peer")
    assert isinstance(faults.known(error, processes=2), LostPeerError)
    assert faults.known(error, processes=1) is None and LostPeerError.exit_code == 75


def test_commands_say_what_the_machine_did(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["command"])
    assert commands._run(fill_a_disk, "What it does.") == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and "No space left" in captured.err and captured.out == ""


def test_a_checkpoint_that_finds_no_room_is_a_sentence(tmp_path, capfd):
    """Written in the background; a limit on the size of files stands for the disk."""
    checkpoints = checkpoint.Checkpoints(tmp_path)
    state = {"x": np.random.default_rng(0).random(10_000)}
    checkpoints.save(1, state, {"best_step": None})
    checkpoints.wait()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"written to .*checkpoints: File too large\. What was saved before stays"):
            checkpoints.save(2, state, {"best_step": None})
            checkpoints.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "Traceback" not in capfd.readouterr().err
    assert checkpoint.Checkpoints(tmp_path, read_only=True).steps() == [1]


# Devices


@pytest.mark.parametrize("module", ["main", pytest.param("evaluate", marks=pytest.mark.slow)])
def test_a_platform_that_is_not_here_is_bad_input(tmp_path, module):
    args = ["--config=configs/supervised_seg.py"] if module == "main" else []
    ended = subprocess.run(
        [sys.executable, "-m", f"gan_seg_jax.{module}", *args, f"--workdir={tmp_path / 'run'}"],
        capture_output=True,
        text=True,
        cwd=tiny_runs.ROOT,
        env={**os.environ, "JAX_PLATFORMS": "tpu"},
    )
    assert ended.returncode == 2 and "JAX_PLATFORMS is 'tpu'" in ended.stderr and "Traceback" not in ended.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("error", [RuntimeError("Unable to initialize backend"), AssertionError()])
def test_devices_that_do_not_start_are_bad_input(monkeypatch, error):
    def devices():
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(InputError, match="JAX_PLATFORMS is 'cpu'"):
        parallel.initialize()


# Without a home


@pytest.fixture
def temporary(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_user_without_a_home_gets_a_folder_of_his_own(monkeypatch, temporary, capsys):
    monkeypatch.setenv("HOME", str(temporary / "home"))
    process.find_home()
    assert os.environ["HOME"] == str(temporary / "home") and capsys.readouterr().err == ""
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # as without HOME and without a passwd entry
    process.find_home()
    folder = temporary / f"gan_seg_jax-{os.getuid()}"
    assert os.environ["HOME"] == str(folder) and folder.stat().st_mode & 0o777 == 0o700
    assert str(folder) in capsys.readouterr().err
    assert process.own_folder() == str(folder), "the same again"
    folder.rmdir()
    folder.symlink_to(temporary)  # planted
    assert process.own_folder() != str(folder)


def test_scenes_go_to_a_temporary_folder_where_the_cache_cannot_be_written(monkeypatch, temporary, capsys):
    (temporary / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(temporary / "file"))
    found = builder.open_scenes("", size=(8, 8), counts=(2, 1, 0), seed=0)
    assert len(found.splits["train"]) == 2 and len(list(temporary.glob("gan_seg_jax-*/scenes/*"))) == 1
    assert "XDG_CACHE_HOME" in capsys.readouterr().err
