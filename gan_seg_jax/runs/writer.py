"""What a run leaves behind and shows while it trains: metrics.jsonl, TensorBoard events, samples/, the console.

Everything is written by the calling thread, at once: nothing is lost when the process is killed, and a full disk is an
error at the place where it happens rather than a queue that blocks.
"""

import contextlib
import io
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from gan_seg_jax.errors import InputError
from gan_seg_jax.pictures.png import encode_png
from gan_seg_jax.runs import samples
from gan_seg_jax.runs.tables import text
from gan_seg_jax.system import files
from gan_seg_jax.system.progress import Progress

SPLITS = ("train", "val", "test")


class Writer:
    """Write the metrics, pictures and progress of one run.

    Use it as a context manager, or call `close`. After a restore call `rewind` before anything is written.
    """

    def __init__(
        self,
        workdir: str | os.PathLike,
        *,
        total_steps: int,
        tensorboard: bool = True,
        progress: bool | None = None,
        active: bool = True,
    ):
        """Open metrics.jsonl in `workdir`, which is made if it is missing.

        Args:
            workdir: folder of the run.
            total_steps: step at which training ends.
            tensorboard: also write TensorBoard events, into the same folder.
            progress: True shows a bar, False plain lines; None shows a bar where stderr is a terminal.
            active: False on all processes but the first of a run on several hosts; nothing is written or shown then.

        Raises:
            InputError: if the folder or the file cannot be written.
        """
        self._active = active
        self._workdir = Path(workdir)
        self._metrics_path = self._workdir / "metrics.jsonl"
        self._progress = Progress(total_steps, "step", bar=progress, active=active)
        self._metrics = None
        self._events = _EventFile(self._workdir) if tensorboard and active else None
        if active:
            with _io_errors(self._workdir):
                self._workdir.mkdir(parents=True, exist_ok=True)
            with _io_errors(self._metrics_path):
                self._metrics = _open_append(self._metrics_path)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *error) -> None:
        self.close()

    def scalars(self, step: int, split: str, values: Mapping[str, float | None]) -> None:
        """Append one line to metrics.jsonl, `{"step": .., "split": .., NAME: number or null, ..}`, and to TensorBoard.

        Args:
            step: number of steps done.
            split: "train", "val" or "test".
            values: name -> number; None and numbers that are not finite become null, and no point in TensorBoard.

        Raises:
            ValueError: if `split` is another one, or a value is called "step" or "split".
            InputError: if the file cannot be written, as when the disk is full.
        """
        if split not in SPLITS:
            raise ValueError(f"split is {split!r}, expected one of {', '.join(SPLITS)}")
        if clash := {"step", "split"} & set(values):
            raise ValueError(f"{sorted(clash)} cannot be names of values in metrics.jsonl, choose others")
        if not self._active:
            return
        numbers = {name: _finite(value) for name, value in values.items()}
        line = json.dumps({"step": int(step), "split": split, **numbers}, allow_nan=False) + "\n"
        with _io_errors(self._metrics_path):
            _write_all(self._metrics, line.encode())
        if self._events is not None:
            self._events.scalars(step, {f"{split}/{name}": x for name, x in numbers.items() if x is not None})

    def rewind(self, step: int, *, validated: int | None = None) -> None:
        """Drop what was written after `step`, so that a resumed run continues the file as if it had never stopped.

        The file is replaced in one move; a line that a kill left half-written is dropped. TensorBoard is told to hide
        its later points.

        Args:
            step: the restored step; lines with a greater one, and final scores ("test"), are dropped.
            validated: the latest step whose validation is part of what was restored; None is `step`.

        Raises:
            InputError: if the file cannot be written.
        """
        if not self._active:
            return
        with _io_errors(self._metrics_path):
            self._metrics.close()
            lines = files.read_bytes(self._metrics_path, limit=files.LOG_LIMIT).splitlines(keepends=True)
            last = {"train": step, "val": step if validated is None else validated}
            kept = b"".join(line for line in lines if _belongs(line, last))
            files.write_bytes(self._metrics_path, kept)
            self._metrics = _open_append(self._metrics_path)
        if self._events is not None:
            self._events.hide_after(step)

    def images(self, step: int | None, name: str, array: np.ndarray) -> None:
        """Save a picture as samples/<name>-<step, 7 digits>.png, on the page samples/index.html and in TensorBoard.

        Args:
            step: number of steps done; None is a picture of the run's start, whose file is <name>.png.
            name: what the picture shows; a "/" in it becomes a "-" in the file name.
            array: uint8 [h, w, 3], RGB.

        Raises:
            ValueError: if `array` is of another type or shape.
            InputError: if the file cannot be written.
        """
        if array.dtype != np.uint8 or array.ndim != 3 or array.shape[-1] != 3:
            raise ValueError(f"picture {name!r} is {array.dtype} {array.shape}, expected uint8 [h, w, 3]")
        if not self._active:
            return
        png = encode_png(array)
        path = self._workdir / "samples" / samples.file_name(name, step)
        with _io_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write_bytes(path, png)
            samples.write_index(path.parent)
        if self._events is not None:
            self._events.image(step or 0, name, png, size=array.shape[:2])

    def hparams(self, values: Mapping[str, object], scores: Iterable[str]) -> None:
        """Tell TensorBoard's hparams plugin what a finished run was made with, for its table of several runs.

        Args:
            values: name -> number, bool or text; anything else is written as text.
            scores: names of scalars that the table shows beside them, such as "test/miou".

        Raises:
            InputError: if the file cannot be written.
        """
        if self._events is not None:
            self._events.hparams(values, scores)

    def progress(
        self, step: int, *, images_per_second: float | None, images: int, losses: Mapping[str, float | None]
    ) -> None:
        """Show how far the training is: images/s, losses, time left.

        Time left is from the mean speed since the first call in this process, validation included; at the first call
        from the current speed.

        Args:
            step: number of steps done.
            images_per_second: current speed, or None while unknown.
            images: that each step takes.
            losses: name -> number, shown in this order.
        """
        values = [f"{text(images_per_second, '.1f')} images/s"]
        values += [f"{name} {text(value, '.4g')}" for name, value in losses.items()]
        self._progress.show(step, *values, rate=images_per_second and images_per_second / images)

    def message(self, line: str) -> None:
        """Print `line` to stdout without breaking the bar."""
        self._progress.message(line)

    def close(self) -> None:
        """Close the files and leave the bar as it stands; may be called twice."""
        self._progress.close()
        if self._metrics is not None:
            self._metrics.close()
            self._metrics = None
        if self._events is not None:
            self._events.close()
            self._events = None


class _EventFile:
    """A TensorBoard event file, written at once by the calling thread and opened at the first write.

    tensorboardX's own `SummaryWriter` hands events to a thread through a queue of ten; when the disk is full the thread
    dies and the training waits for the queue for ever. So only its file format is used.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._file = None
        self._hide_from = None

    def hide_after(self, step: int) -> None:
        self.close()
        self._hide_from = step + 1

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        from tensorboardX.proto import summary_pb2

        if values:
            entries = [summary_pb2.Summary.Value(tag=name, simple_value=x) for name, x in values.items()]
            self._write(step, summary=summary_pb2.Summary(value=entries))

    def image(self, step: int, name: str, png: bytes, *, size: tuple[int, int]) -> None:
        from tensorboardX.proto import summary_pb2

        image = summary_pb2.Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=png)
        self._write(step, summary=summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=name, image=image)]))

    def hparams(self, values: Mapping[str, object], scores: Iterable[str]) -> None:
        from tensorboardX.summary import hparams

        plain = {name: x if isinstance(x, (bool, int, float)) else files.shown(str(x)) for name, x in values.items()}
        for summary in hparams(plain, dict.fromkeys(scores)):
            self._write(0, summary=summary)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with _io_errors(self._folder):
                file.close()

    def _write(self, step: int, **content) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        with _io_errors(self._folder):
            if self._file is None:
                # The name holds the second of the start; the suffix keeps two writers of one second apart.
                self._file = EventsWriter(str(self._folder / "events"), f".{os.getpid()}.{time.monotonic_ns()}")
                if self._hide_from is not None:
                    start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
                    self._file.write_event(
                        event_pb2.Event(wall_time=time.time(), step=self._hide_from, session_log=start)
                    )
            self._file.write_event(event_pb2.Event(wall_time=time.time(), step=int(step), **content))
            self._file.flush()


@contextlib.contextmanager
def _io_errors(path: Path):
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; free disk space or choose a --workdir that can be written"
        ) from error


def _open_append(path: Path) -> io.RawIOBase:
    """Open without a buffer for appending, after cutting off a last line that a kill left half-written."""
    handle = files.open_in_place(path, os.O_WRONLY | os.O_APPEND)
    content = files.read_bytes(path, limit=files.LOG_LIMIT)
    if content and not content.endswith(b"\n"):
        os.truncate(handle, content.rfind(b"\n") + 1)
    return open(handle, "ab", buffering=0)


def _write_all(file: io.RawIOBase, data: bytes) -> None:
    while data:  # a nearly full disk takes a part; the next call raises
        data = data[file.write(data) :]


def _belongs(line: bytes, last: Mapping[str, int]) -> bool:
    """Return whether a line of metrics.jsonl is sound and of a split's `last` step at most."""
    try:
        record = json.loads(line)
        return isinstance(record["step"], int) and record["step"] <= last[record["split"]]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False


def _finite(value: float | None) -> float | int | None:
    if value is None or not np.isfinite(value):
        return None
    return int(value) if isinstance(value, (int, np.integer)) else float(value)
