"""Compiled programs are kept in a folder that nobody else can write, per kind of processor, within a limit."""

import os
import stat
import subprocess
import sys

import pytest

from gan_seg_jax.system import files, programs

COMPILE = """
import jax
from gan_seg_jax import parallel
parallel.LASTING = 0  # whatever compiles
parallel.initialize()
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name) if name.endswith("cache_hits") else None)
jax.jit(lambda x: x * 2 + 1).lower(jax.numpy.ones(7)).compile()
print(len(hits))
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A user's cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    return tmp_path


def test_a_second_start_finds_what_the_first_compiled(home, repository):
    def start(code=COMPILE, **more):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **more}, cwd=repository, capture_output=True, text=True
        )
        assert done.returncode == 0 and "persistent" not in done.stderr, done.stderr
        return int(done.stdout)

    kept = home / "gan_seg_jax" / "programs"
    assert start(JAX_ENABLE_COMPILATION_CACHE="false") == 0 and not kept.exists()
    assert start(COMPILE.replace("parallel.init", "jax.process_count = lambda: 2\nparallel.init")) == 0
    assert not kept.exists()  # of several processes the first alone would find it
    assert start() == 0
    assert list(kept.glob("*/jit_*"))
    assert start() > 0
    for path in kept.glob("*/jit_*"):
        os.truncate(path, path.stat().st_size // 2)
    assert start() == 0
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


@pytest.mark.parametrize("which", ["the folder of all machines", "that of this machine", "a link"])
def test_a_folder_that_others_can_write_is_not_used(home, which):
    path = programs.folder()
    assert path == programs.folder() and path.parent == home / "gan_seg_jax" / "programs"
    if which == "a link":
        path.rename(home / "elsewhere")
        path.symlink_to(home / "elsewhere")
    else:
        (path if "this" in which else path.parent).chmod(0o720)
    assert programs.folder() is None


def test_without_a_home_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(files, "cache_folder", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert programs.folder() is None
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", os.devnull)
    assert programs.folder() is None


def test_other_cores_or_another_processor_have_a_folder_of_their_own(home, monkeypatch):
    found = {programs.folder()}
    if hasattr(os, "sched_getaffinity"):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(1000)))
        found.add(programs.folder())
        assert len(found) == 2
    monkeypatch.setattr(programs.Path, "read_text", lambda *_, **__: "flags : mmx only")
    assert programs.folder() not in found


def test_the_oldest_programs_go_first(home):
    path = programs.folder()
    (path.parent / "another").mkdir()
    old, middle, new = path / "old", path.parent / "another" / "middle", path / "new"
    for age, file in ((30, old), (20, middle), (10, new)):
        file.write_bytes(bytes(100))
        os.utime(file, (1e9 - age, 1e9 - age))
    programs.folder(limit=300)
    assert old.exists() and middle.exists() and new.exists()
    programs.folder(limit=250)
    assert not old.exists() and middle.exists() and new.exists()
    programs.folder(limit=0)
    assert not middle.exists() and not new.exists()
