"""The processes that are timed: one for each library and way of running it."""

import argparse
import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from experiments.benchmark import cases
from gan_seg_jax.system import process

ROOT = Path(__file__).resolve().parents[2]
MODULES = {  # of a step, and of a part
    "ours": ("ours", "parts"),
    "torch": ("peers.torch_steps", "peers.torch_parts"),
    "smp": ("peers.torch_steps", "peers.torch_parts"),
    "kerashub": ("peers.keras_steps", ""),
    "pydensecrf": ("", "peers.crf_part"),
}
PLATFORMS = {"cpu": "cpu", "gpu": "cuda", "tpu": "tpu"}


class SideError(Exception):
    """A side cannot take part; its text says why."""


class Side:
    """A process that waits for what it is told to do (`worker.serve`)."""

    def __init__(self, name: str, case: str, options: argparse.Namespace, folder: Path):
        """Start the process and wait until it has done everything once.

        Raises:
            SideError: it has ended, or says that a package is missing.
        """
        self.name, self._log = name, folder / f"{name}.log"
        part = bool(cases.ALL[case].part)
        module = f"experiments.benchmark.{MODULES[name.split('-')[0]][part]}"
        flags = {"case": case, "side": name, **{key: getattr(options, key) for key in ("device", "dtype", "threads")}}
        command = [sys.executable, "-m", module, *(f"--{key}={value}" for key, value in flags.items())]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(options, folder / f"{name}-cache", devices_of(name)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        try:
            self.facts = self._answer()
            if "missing" in self.facts:
                raise SideError(self.facts["missing"])
        except BaseException:
            self.stop()
            raise

    def run(self, work: str, count: int) -> float:
        """Return the seconds of one call of a work that was done so many times."""
        with contextlib.suppress(BrokenPipeError):  # it has ended, which `_answer` says
            self._process.stdin.write(f"{work} {count}\n")
            self._process.stdin.flush()
        return self._answer()["seconds"] / count

    def end(self) -> int:
        """End the process; return its peak memory in bytes."""
        self._process.stdin.close()
        memory = self._answer()["memory"]
        self._process.wait()
        return memory

    def stop(self) -> None:
        """End the process in any case."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            lines = [text for text in self._log.read_text(errors="replace").splitlines() if text.strip()]
            raise SideError(f"the process of {self.name} ended: {lines[-1].strip() if lines else 'without a word'}")
        return json.loads(line)


def devices_of(side: str) -> int:
    """Return how many devices a side has: those of "ours-4-devices" are virtual ones of the processor."""
    found = re.fullmatch(r"ours-(\d+)-devices", side)
    return int(found[1]) if found else 1


def environment(options: argparse.Namespace, cache: Path, devices: int = 1) -> dict[str, str]:
    """Return the environment of a side; what it compiles lies in `cache`."""
    virtual = f" --xla_force_host_platform_device_count={devices}" if devices > 1 else ""
    threads = {name: str(options.threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {
        **os.environ,
        **threads,
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + virtual,
        "JAX_PLATFORMS": PLATFORMS[options.device],
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",  # several processes share the device
        "CUDA_VISIBLE_DEVICES": os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0],  # one, of `main` too
        "TORCHINDUCTOR_CACHE_DIR": str(cache),
        "KERAS_BACKEND": "jax",
        process.TUNABLES: process.LARGE_PAGES,
        "TMPDIR": str(cache.parent),
        "PYTHONPATH": str(ROOT),
    }
