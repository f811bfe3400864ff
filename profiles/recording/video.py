"""Frames of a dataset's mp4 files, with PyAV. The only file that imports av, and only when a video is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sefa_edge.profiles.errors import InputError, MissingError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

CODECS = ("h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp9", "mpeg4")
"""Decoders that FFmpeg may use: codecs that LeRobot writes, and common conversions."""

SEEK_BEYOND_S = 1.0
"""Closer frames are reached by decoding those in between."""


@dataclass(frozen=True, slots=True)
class VideoFile:
    """An mp4 file and the expected properties of its frames."""

    path: Path
    height: int
    width: int
    rate_hz: float


def decode_frames(video: VideoFile, times_s: np.ndarray) -> Iterator[np.ndarray]:
    """The frames uint8 [H, W, 3] RGB shown at `times_s` [K], in that order; ascending times are read in one pass.

    Raises:
        MissingError: PyAV is not installed.
        InputError: the file is missing, damaged, of another size or kind, or has no frame within a quarter period.
    """
    try:
        import av
        from av.error import FFmpegError
    except ModuleNotFoundError:
        raise MissingError(
            "this dataset has videos, which need the Python package 'av'", "pip install 'sefa-edge[video]'"
        ) from None
    if not video.path.is_file():
        raise InputError(f"{video.path} does not exist", "was the copy complete?")
    try:
        # With a fixed format FFmpeg does not follow a playlist that is named .mp4.
        with av.open(str(video.path.resolve()), format="mp4") as container:
            yield from _frames_at(video, container, times_s)
    except (FFmpegError, ValueError, OSError) as error:
        raise InputError(f"{video.path} cannot be read: {error}", "was the copy complete?") from None


def _frames_at(video: VideoFile, container: InputContainer, times_s: np.ndarray) -> Iterator[np.ndarray]:
    stream = _checked_stream(video, container)
    assert stream.time_base is not None
    tolerance_s = 0.25 / video.rate_hz
    frames: Iterator[VideoFrame] = iter(())
    shown_s = -np.inf
    for time_s in times_s.tolist():
        if not shown_s < time_s <= shown_s + SEEK_BEYOND_S:
            container.seek(max(int(time_s / stream.time_base), 0), stream=stream)
            frames = container.decode(stream)
        frame = next((f for f in frames if f.time is None or f.time >= time_s - tolerance_s), None)
        if frame is None or frame.time is None or frame.time > time_s + tolerance_s:
            raise InputError(f"{video.path} has no frame at {time_s:.3f} s", "video and data do not belong together")
        if frame.is_corrupt:
            raise InputError(f"{video.path} is damaged at {time_s:.3f} s", "was the copy complete?")
        _check_size(video, frame.height, frame.width)
        shown_s = frame.time
        yield frame.to_ndarray(format="rgb24")


def _checked_stream(video: VideoFile, container: InputContainer) -> VideoStream:
    if not container.streams.video:
        raise InputError(f"{video.path} has no video", "was the copy complete?")
    stream = container.streams.video[0]
    context = stream.codec_context
    if context is None or context.codec.name not in CODECS:
        name = "an unknown codec" if context is None else context.codec.name
        raise InputError(f"{video.path} is encoded as {name}", f"use one of {', '.join(CODECS)}")
    _check_size(video, context.height, context.width)
    context.thread_type = "AUTO"
    context.options = {"err_detect": "explode"}  # otherwise FFmpeg conceals damaged parts
    return stream


def _check_size(video: VideoFile, height: int, width: int) -> None:
    if (height, width) != (video.height, video.width):
        raise InputError(
            f"{video.path} is {width}x{height}, meta/info.json says {video.width}x{video.height}",
            "video and data do not belong together",
        )
