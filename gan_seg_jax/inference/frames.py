"""Read and write videos frame by frame, by PyAV (FFmpeg); no more than a frame is kept.

Only the containers of `FORMATS` are parsed, since every further parser is a further risk, and some follow addresses.
"""

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gan_seg_jax.data.decoding import ImageError
from gan_seg_jax.preparing.extras import need
from gan_seg_jax.system import files

FORMATS = "mov,avi,matroska"  # of FFmpeg: MP4 and QuickTime, AVI, Matroska and WebM
_MILLISECOND = Fraction(1, 1000)
_NEAR = 0.95  # share of the promised length that a whole video has at least


class Frame(NamedTuple):
    """A frame: uint8 [h, w, 3], upright, and when it is shown, in units of `Video.time_base`."""

    pixels: np.ndarray
    time: int


class Video:
    """A video whose frames can be gone through again and again.

    Attributes:
        path: the file.
        count: about how many frames it has, by its header; 0 where that says nothing.
        rate: frames a second, the mean.
        time_base: seconds of the unit of time.
        aspect: width of a pixel by its height, upright; None where nothing is said.
        seconds: how long its pictures last by the header; 0.0 where that says nothing.
        end: when the last frame that was read ended, in seconds.
    """

    def __init__(self, path: Path, max_pixels: int):
        """Look at the header.

        Raises:
            ImageError: it is no video, or its frames have more than `max_pixels` pixels.
            InputError: PyAV is not installed.
        """
        self.path, self.end, self.aspect = path, 0.0, None
        with self._opened() as (container, stream):
            width, height = stream.codec_context.width, stream.codec_context.height
            if not 0 < width * height <= max_pixels:
                raise ImageError(
                    path, f"has frames of {height} x {width} pixels; expected 1 to {max_pixels} (config.max_pixels)."
                )
            self.rate, self.time_base = Fraction(stream.average_rate or 25), stream.time_base or _MILLISECOND
            seconds = (stream.duration or 0) * self.time_base
            if not seconds and len(container.streams) == 1:  # else it may be that of the sound
                seconds = Fraction(container.duration or 0, 1_000_000)
            self.seconds = float(seconds)
            self.count = stream.frames or round(self.seconds * self.rate)

    def frames(self) -> Iterator[Frame]:
        """Yield the frames in the order in which they are shown.

        Raises:
            ImageError: it is damaged, at the frame where it is.
        """
        number, size, last = 0, None, None
        step = max(1, round(1 / (self.rate * self.time_base)))
        with self._opened() as (container, stream):
            decoded = container.decode(stream)
            while True:
                try:
                    frame = next(decoded, None)
                    if frame is None:
                        return
                    pixels, turns = frame.to_ndarray(format="rgb24"), round(frame.rotation / 90) % 4
                except Exception as error:  # of FFmpeg a dozen kinds
                    raise self._damaged(number, _reason(error)) from error
                if frame.is_corrupt:
                    raise self._damaged(number, "a part of it is missing")
                if size not in (None, pixels.shape):
                    raise self._damaged(number, "its size changes")
                size, number = pixels.shape, number + 1
                wanted = frame.pts if frame.pts is not None else 0 if last is None else last + step
                last = wanted if last is None else max(wanted, last + 1)
                self.end = float((last + (frame.duration or step)) * self.time_base)
                aspect = stream.sample_aspect_ratio or None
                self.aspect = 1 / aspect if aspect and turns % 2 else aspect
                yield Frame(np.ascontiguousarray(np.rot90(pixels, turns)), last)

    @property
    def ends_early(self) -> bool:
        """Whether the frames that were read last less long than the header says."""
        return self.end < _NEAR * self.seconds

    def _damaged(self, number: int, reason: str) -> ImageError:
        return ImageError(self.path, f"is damaged or cut short at frame {number} ({reason}); replace it or remove it.")

    @contextlib.contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """Yield the container and its stream of pictures."""
        av = need("av", "video")
        if not self.path.is_file():  # a pipe would be waited for
            raise ImageError(self.path, "does not exist, or is no regular file.")
        with contextlib.ExitStack() as stack:
            try:
                file = stack.enter_context(open(self.path, "rb"))
                container = stack.enter_context(av.open(file, options={"format_whitelist": FORMATS}))
            except Exception as error:
                raise ImageError(self.path, f"is no video that can be read ({_reason(error)}).") from error
            covers = av.stream.Disposition.attached_pic
            streams = [stream for stream in container.streams.video if not stream.disposition & covers]
            if not streams:
                raise ImageError(
                    self.path, "holds no pictures that move, or too little is left of it; expected a video."
                )
            yield container, streams[0]


def write(path: Path, frames: Iterable[Frame], video: Video) -> None:
    """Write an MP4 file of H.264 (MPEG-4 where FFmpeg lacks x264), in one step.

    Args:
        path: the file.
        frames: of one size.
        video: whose times and shape of pixels the frames have.

    Raises:
        InputError: it cannot be written.
    """
    av = need("av", "video")
    with files.written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(files.TEMPORARY):  # of a process that was killed
            left.unlink()
        with files.replaced(path) as file:
            try:
                with av.open(file, "w", format="mp4") as container:
                    _encode(av, container, frames, video)
            except av.error.FFmpegError as error:
                raise ImageError(video.path, f"cannot be drawn over ({_reason(error)}); its masks stay.") from error


def _encode(av: Any, container: Any, frames: Iterable[Frame], video: Video) -> None:
    stream = None
    for pixels, time in frames:
        if stream is None:
            exact = "libx264" in av.codecs_available
            stream = container.add_stream("libx264" if exact else "mpeg4", rate=video.rate.limit_denominator(65535))
            stream.height, stream.width = pixels.shape[:2]
            # Half as many colours as pixels need even sizes.
            stream.pix_fmt = "yuv444p" if exact and (stream.height % 2 or stream.width % 2) else "yuv420p"
            stream.codec_context.time_base = video.time_base if exact else _MILLISECOND  # MPEG-4 has 16 bits for it
            if video.aspect:
                stream.codec_context.sample_aspect_ratio = video.aspect
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
        frame.pts, frame.time_base = time, video.time_base
        container.mux(stream.encode(frame))
    if stream is not None:
        container.mux(stream.encode(None))


def _reason(error: Exception) -> str:
    """Return what FFmpeg says, without the name of the file."""
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")
