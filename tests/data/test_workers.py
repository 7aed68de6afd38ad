"""Worker processes: too little shared memory is said at the start, and nothing of them outlives the run."""

import os
import signal
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

import pytest

from gan_seg_jax.data import workers
from gan_seg_jax.errors import InputError
from tests import tiny_runs

PARENT = """
import multiprocessing, sys, time
from multiprocessing import shared_memory
from gan_seg_jax.data import workers

def work():
    workers.start(0, 1)
    memory = shared_memory.SharedMemory(create=True, size=1)
    print(multiprocessing.current_process().pid, memory.name, flush=True)
    time.sleep(600)

if __name__ == "__main__":
    workers.prepare(1, 1, 1)
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
"""


@pytest.fixture
def memory(monkeypatch, tmp_path):
    """A folder that stands for /dev/shm, with 50 MB free."""
    monkeypatch.setattr(workers, "SHARED_MEMORY", tmp_path)
    usage = namedtuple("usage", "total used free")(10**6, 0, 50 * 2**20)
    monkeypatch.setattr(workers.shutil, "disk_usage", lambda _: usage)
    return tmp_path


def test_workers_start_where_their_batches_fit(memory):
    workers.prepare(2, 4, 50 * 2**20 // 22)
    with pytest.raises(InputError, match=r"50 MB free.*--config.num_workers=0.*--shm-size"):
        workers.prepare(2, 4, 50 * 2**20 // 22 + 1)


def test_what_killed_runs_left_in_shared_memory_is_cleared_away_and_nothing_else(memory):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    own = f"{workers.PREFIX}-{workers._namespace()}"
    stale, kept = f"{own}-{ended.pid}-abc", (f"{own}-{os.getpid()}-abc", f"{workers.PREFIX}-1-{ended.pid}-abc", "psm_1")
    for name in (stale, *kept):
        (memory / name).touch()
    workers.prepare(1, 1, 1)
    assert {path.name for path in memory.iterdir()} == set(kept)


@pytest.mark.skipif(not workers.SHARED_MEMORY.is_dir(), reason="without /dev/shm")
def test_workers_and_their_memory_do_not_outlive_a_killed_run(tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(tiny_runs.ROOT)}
    parent = subprocess.Popen(
        [sys.executable, script], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    worker, name = parent.stdout.readline().split()
    segment = workers.SHARED_MEMORY / name
    assert name.startswith(f"{workers.PREFIX}-") and f"-{parent.pid}-" in name and segment.exists()
    os.kill(int(worker), signal.SIGINT)  # a terminal sends it to all
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    for _ in range(300):
        if not Path("/proc", worker).exists() and not segment.exists():
            return
        time.sleep(0.1)
    pytest.fail("the worker or its memory is still there")
