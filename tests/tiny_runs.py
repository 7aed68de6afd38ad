"""A tiny data set, tiny configs and one trained run, shared by the tests of whole commands."""

import contextlib
import dataclasses
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TextIO

import jax
import numpy as np
from absl import flags
from jax.experimental import compilation_cache
from PIL import Image

from gan_seg_jax.data.catalog import Dataset, DatasetInfo
from gan_seg_jax.runs import integrity
from gan_seg_jax.system.process import SIGNALS

ROOT = Path(__file__).resolve().parents[1]
INFO = DatasetInfo("tiny", ("sky", "road", "car"), ((10, 20, 200), (90, 90, 90), (200, 30, 30)))
COUNTS = {"train": 13, "val": 5, "test": 6}
SIZE = (16, 24)
FLAGS = {  # of the commands
    "workdir",
    "show_config",
    "split",
    "checkpoint",
    "data_dir",
    "input",
    "output",
    "images",
    "count",
    "seed",
    "rule",
    "scales",
    "flip",
    "window",
    "intensity_window",
    "level",
    "percentiles",
    "axis",
    "channel",
    "overlap",
    "crf",
    "min_region",
    "max_hole",
    "opening",
    "closing",
    "skip_existing",
    "areas",
    "polygons",
    "entropy",
    "doubt",
    "per_image",
    "noimages",
    "repository",
    "licence",
    "private",
    "explain",
    "port",
    "host",
}
PREPARED = {"format": "nifti", "version": "1", "flags": {"window": 255.0, "level": 127.5, "axis": "axial"}}
TINY = (
    "--config.dataset=folder",
    "--config.steps=6",
    "--config.batch_size=4",
    "--config.eval_every=3",
    "--config.checkpoint_every=2",
    "--config.log_every=2",
    "--config.samples_every=3",
)


@dataclasses.dataclass(frozen=True, eq=False)
class MemorySplit:
    """A split that lies in memory."""

    info: DatasetInfo
    name: str
    images: tuple[np.ndarray, ...]
    labels: tuple[np.ndarray, ...]

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return {"image": self.images[index], "label": self.labels[index], "id": f"{self.name}-{index}"}

    def sizes(self):
        return np.array([label.shape for label in self.labels], np.int32)

    def class_pixels(self):
        return np.array([[np.sum(label == c) for c in range(self.info.num_classes)] for label in self.labels], np.int32)


def count_by_reading(split) -> np.ndarray:
    """Return what `class_pixels` of a split must be."""
    labels = (split[index]["label"] for index in range(len(split)))
    return np.array([[np.sum(label == c) for c in range(split.info.num_classes)] for label in labels])


def draw(seed: int, size: tuple[int, int], *, void: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return an image uint8 [h, w, 3] and its label uint8 [h, w]: sky over road with a car, a little void."""
    rng = np.random.default_rng((7, seed))
    height, width = size
    label = np.ones(size, np.uint8)
    label[: int(rng.integers(1, height))] = 0
    top, left = rng.integers(height), rng.integers(width)
    label[top : top + height // 3 + 1, left : left + width // 3 + 1] = 2
    colors = np.array(INFO.class_colors)[label] + rng.normal(0, 20, (*size, 3))
    if void:
        label[-1, : width // 2] = 255
    return np.clip(colors, 0, 255).astype(np.uint8), label


def memory_split(count: int, *, name: str = "val", sizes: tuple[tuple[int, int], ...] = ((12, 20),)) -> MemorySplit:
    """Return a split of `count` images whose sizes go through `sizes`."""
    pairs = [draw(100 * len(name) + number, sizes[number % len(sizes)]) for number in range(count)]
    return MemorySplit(INFO, name, *map(tuple, zip(*pairs, strict=True)))


def memory_set(**counts: int) -> Dataset:
    """Return a data set in memory with these numbers of images by split."""
    sizes = ((12, 20), (16, 24), (9, 31))
    return Dataset(INFO, {name: memory_split(count, name=name, sizes=sizes) for name, count in counts.items()})


def write_set(root: Path) -> Path:
    """Write a folder set with images of different sizes; return its folder."""
    seed = 0
    for split, count in COUNTS.items():
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
        for number in range(count):
            seed += 1
            image, label = draw(seed, ((12, 20), (16, 24), (20, 24), (15, 31))[number % 4])
            Image.fromarray(image).save(root / split / "images" / f"{number:03d}.png")
            Image.fromarray(label).save(root / split / "masks" / f"{number:03d}.png")
    lines = (
        f"{number} {name} {r} {g} {b}\n"
        for number, (name, (r, g, b)) in enumerate(zip(INFO.class_names, INFO.class_colors, strict=True))
    )
    (root / "classes.txt").write_text("".join(lines))
    return root


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


def command(module: str, *args: str, stdout: TextIO | None = None, stderr: TextIO | None = None) -> Outcome:
    """Run `python -m gan_seg_jax.MODULE ARGS` inside this process; what it prints into streams of ours is not kept."""
    known, argv = set(flags.FLAGS), sys.argv
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    out, err = io.StringIO(), io.StringIO()
    sys.argv = [f"gan_seg_jax/{module}.py", *map(str, args)]
    try:
        streams = contextlib.redirect_stdout(stdout or out), contextlib.redirect_stderr(stderr or err)
        with streams[0], streams[1], warnings.catch_warnings():
            warnings.simplefilter("ignore")  # runpy: the module has been imported before
            runpy.run_module(f"gan_seg_jax.{module}", run_name="__main__")
        raise AssertionError("a command ends by sys.exit")
    except SystemExit as end:
        return Outcome(end.code, out.getvalue(), err.getvalue())
    finally:
        sys.argv = argv
        sys.modules.pop("config_config", None)  # the config file, as ml_collections names it
        for name in set(flags.FLAGS) - known:
            ours = str(flags.FLAGS.find_module_defining_flag(name)).startswith("gan_seg_jax")
            if ours or name in FLAGS or name.startswith("config"):  # grain's own flags stay
                delattr(flags.FLAGS, name)
        for number, handler in handlers.items():  # which a command keeps until its process has ended
            signal.signal(number, handler)


def environment(cache: Path, **more: str) -> dict[str, str]:
    """Return the environment of a command that runs in a process of its own, on four devices as the tests do."""
    own = {
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": os.environ["XLA_FLAGS"],  # the same, so that what is compiled here is found there
        "PYTHONPATH": str(ROOT),
    }
    return {**os.environ, **own, **more}


def start(module: str, *args: str, cache: Path, code: str = "", **more: str) -> subprocess.Popen:
    """Start a command in a process of its own; `code` is run there first."""
    script = f"import runpy, sys\nsys.argv = {[module, *map(str, args)]!r}\n{code}\n"
    script += f"runpy.run_module('gan_seg_jax.{module}', run_name='__main__')\n"
    return subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=environment(cache, **more),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run_processes(place, args, count=2, *, limit=400, codes=(0,), code=""):
    """Run `main` in several processes that train together on four devices; return what each printed (out, err)."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    env = {
        "JAX_COORDINATOR_ADDRESS": f"localhost:{port}",
        "JAX_NUM_PROCESSES": str(count),
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={4 // count}",
    }
    processes = [
        start("main", *args, cache=place.cache, code=code, JAX_PROCESS_ID=str(number), **env) for number in range(count)
    ]
    ends = [process.communicate(timeout=limit) for process in processes]
    for process, (_, err) in zip(processes, ends, strict=True):
        assert process.returncode in codes, err
    return ends


@contextlib.contextmanager
def compile_cache(folder: Path):
    """Keep what is compiled in `folder`, so that equal programs of many runs are compiled once."""
    names = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    old = {name: getattr(jax.config, name) for name in names}
    compilation_cache.compilation_cache.reset_cache()
    for name, value in names.items():
        jax.config.update(name, value)
    try:
        yield folder
    finally:
        for name, value in old.items():
            jax.config.update(name, value)
        compilation_cache.compilation_cache.reset_cache()


@dataclasses.dataclass(frozen=True)
class Place:
    """Where the shared things of the tests lie."""

    data: Path
    cache: Path
    cgan: Path  # a finished run of the conditional GAN, with running averages and dropout
    args: tuple[str, ...]  # its arguments but --workdir


TINY_CONFIGS = """
from ml_collections import ConfigDict
from configs import {method}_seg, common

def get_config(arg=None):
    config = {method}_seg.get_config(arg)
    config.canvas_size = config.crop_size = {size}
    network = {{"name": "unet", "channels": (4, 8), "encoder_convs": 1, "decoder_convs": 1}}
    network |= {{"dropout": 0.0, "ema": True}}
    if "generator" in config.networks:
        config.networks.generator = ConfigDict({{**network, "dropout": 0.2}})
        config.networks.discriminator = common.patchgan(channels=4, layers=1)
        config.ema_decay = 0.9
    else:
        config.networks.segmenter = ConfigDict(network)
        config.baselines = ()
    return config
"""


def _args(data: Path, method: str) -> tuple[str, ...]:
    config = data.parent / f"{method}_seg.py"
    config.write_text(TINY_CONFIGS.format(method=method, size=SIZE))
    return (f"--config={config}", *TINY, f"--config.data_dir={data}")


def cgan_args(data: Path) -> tuple[str, ...]:
    """Return the arguments of the tiny conditional GAN, running averages and dropout on."""
    return _args(data, "cgan")


def supervised_args(data: Path) -> tuple[str, ...]:
    """Return the arguments of the tiny supervised run."""
    return _args(data, "supervised")


_places: dict[str, Place] = {}


def place(tmp_path_factory) -> Place:
    """Return the shared things; made at the first call of a test session."""
    if "place" not in _places:
        root = tmp_path_factory.mktemp("tiny")
        data = write_set(root / "data")
        (data / "PREPARED.json").write_text(json.dumps(PREPARED))
        session = tmp_path_factory.getbasetemp()
        if "PYTEST_XDIST_WORKER" in os.environ:
            session = session.parent  # of all workers
        made = Place(data, session / "compiled", root / "cgan", cgan_args(data))
        with compile_cache(made.cache), contextlib.chdir(ROOT):
            outcome = command("main", *made.args, f"--workdir={made.cgan}")
        assert outcome.code == 0, outcome.err
        _places["place"] = made
    return _places["place"]


def digests(workdir: Path, step: int | None = None) -> dict[str, str]:
    """Return the SHA-256 of every array in a checkpoint, by default the newest."""
    folder = Path(workdir) / "checkpoints"
    step = step or max(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    return json.loads((folder / str(step) / "meta" / "metadata").read_text())["digests"]


def change_meta(workdir: Path, **values) -> None:
    """Change what a run's checkpoints remember besides arrays, as if they had been saved so."""
    for path in (Path(workdir) / "checkpoints").glob("*/meta/metadata"):
        meta = json.loads(path.read_text())
        del meta[integrity.SEAL]
        path.write_text(json.dumps(integrity.seal({**meta, **values})))
