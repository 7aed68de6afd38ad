"""Draw many scenes and encode them as PNG, on several processors.

The workers are fresh Python processes that run this module, not forks: a process that has started JAX has threads and
must not be forked, and a spawned one would run the caller's main module again.
"""

import io
import json
import os
import pathlib
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

import gan_seg_jax
from gan_seg_jax.data.scenes.domains import change_domain
from gan_seg_jax.data.scenes.drawing import draw_scene

_FEW_PIXELS = 64 * 96 * 128  # so little is drawn before a worker has started
_LENGTHS = struct.Struct("<II")


def encode_scene(seed: int, split: int, index: int, size: tuple[int, int], domain: str = "day") -> tuple[bytes, bytes]:
    """Draw one scene; a function of its arguments alone.

    Args:
        seed: Of the data set, at least 0.
        split: Number of the split: 0 train, 1 val, 2 test.
        index: Position in the split.
        size: (height, width) in pixels.
        domain: A name in `domains.DOMAINS`.

    Returns:
        (image, label) as PNG: 8-bit RGB, and 8-bit grey with class ids.
    """
    image, label = draw_scene(np.random.default_rng((seed, split, index)), *size)
    # A key of its own: the scene is the same in every domain.
    image = change_domain(
        domain, image, label, np.random.default_rng((seed, split, index, zlib.crc32(domain.encode())))
    )
    files = []
    for array in (image, label):
        file = io.BytesIO()
        Image.fromarray(array).save(file, "PNG", compress_level=1)
        files.append(file.getvalue())
    return tuple(files)


def encode_scenes(
    seed: int, split: int, count: int, size: tuple[int, int], domain: str = "day"
) -> Iterator[tuple[bytes, bytes]]:
    """Yield `encode_scene` of the indices 0 to count - 1 in order, drawn by up to 8 processes, one per processor."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(processors, 8, count)
    if workers < 2 or count * size[0] * size[1] < _FEW_PIXELS:
        yield from (encode_scene(seed, split, index, size, domain) for index in range(count))
        return
    processes = [_start_worker(seed, split, range(i, count, workers), size, domain) for i in range(workers)]
    try:
        for index in range(count):
            scene = _receive(processes[index % workers])
            # A worker that was killed costs time, not scenes.
            yield scene or encode_scene(seed, split, index, size, domain)
    finally:
        for process in processes:
            process.kill()
            process.stdout.close()
            process.wait()


def _start_worker(seed: int, split: int, indices: range, size: tuple[int, int], domain: str) -> subprocess.Popen:
    """Start a process that writes these scenes to its standard output; it ends by itself when nobody reads them."""
    root = str(pathlib.Path(gan_seg_jax.__file__).resolve().parent.parent)
    task = json.dumps([seed, split, [indices.start, indices.stop, indices.step], list(size), domain])
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from gan_seg_jax.data.scenes.encoding import work; work(sys.argv[1])"
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, task, root],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )


def work(task: str) -> None:
    """Draw the scenes of a task and write them, each behind its lengths, to standard output."""
    seed, split, indices, size, domain = json.loads(task)
    for index in range(*indices):
        image, label = encode_scene(seed, split, index, tuple(size), domain)
        sys.stdout.buffer.write(_LENGTHS.pack(len(image), len(label)) + image + label)


def _receive(process: subprocess.Popen) -> tuple[bytes, bytes] | None:
    """Return a worker's next scene, or None if it has died."""
    head = process.stdout.read(_LENGTHS.size)
    if len(head) < _LENGTHS.size:
        return None
    image, label = (process.stdout.read(length) for length in _LENGTHS.unpack(head))
    return (image, label) if len(head) + len(image) + len(label) == _LENGTHS.size + sum(_LENGTHS.unpack(head)) else None
