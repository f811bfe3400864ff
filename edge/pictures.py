"""OWNS OPENCV: the only module that imports cv2. Every picture that it returns is RGB uint8 [H, W, 3]."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))  # OpenCV's own limit allows 3 GB

import cv2
import numpy as np

from sefa_edge.profiles.encoded_picture import is_complete, picture_format
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.files import ROOM_HINT, read_up_to, write_atomic

cv2.setNumThreads(1)
VIDEO_CODECS = {".mp4": "mp4v", ".webm": "VP80", ".avi": "MJPG"}
CAPTION_HEIGHT = 22
JPEG_FORMATS = ("MJPG", "JPEG")
RAW_FORMATS = {"YUYV": cv2.COLOR_YUV2RGB_YUYV, "UYVY": cv2.COLOR_YUV2RGB_UYVY}
MAX_PICTURE_BYTES = 64 << 20
"""Limit for one encoded picture in a file."""
GSTREAMER_HINT = "use the OpenCV of JetPack or `sudo apt-get install python3-opencv`, not the one from pip"


def resize_area(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture at another size, INTER_AREA."""
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


class DamagedPicture(InputError):
    """The picture is damaged or truncated."""


def read_picture(path: Path) -> np.ndarray:
    """The picture uint8 [H, W, 3] in a PNG, JPEG, BMP or WebP file.

    Raises:
        DamagedPicture: it is damaged or truncated.
        InputError: it cannot be read, or is not a picture.
    """
    content = read_up_to(path, MAX_PICTURE_BYTES + 1)
    if picture_format(content) is None or len(content) > MAX_PICTURE_BYTES:
        raise InputError(f"{path} is not a picture that OpenCV can read", "use PNG or JPEG")
    try:
        return decode_picture(content)
    except DamagedPicture as error:
        raise DamagedPicture(f"{path}: {error}", error.hint) from None


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a picture in the format of the file's extension. Raises InputError when it cannot be written."""
    done, encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise InputError(f"OpenCV cannot encode a picture of shape {picture.shape} as {path.suffix}")
    write_atomic(path, encoded.tobytes())


def encode_png(picture: np.ndarray) -> bytes:
    """PNG of a picture uint8 [H, W, 3]. Raises InputError when OpenCV cannot encode it."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise InputError(f"OpenCV cannot encode a picture of shape {picture.shape}")
    return encoded.tobytes()


def decode_picture(content: bytes) -> np.ndarray:
    """The picture uint8 [H, W, 3] in the bytes of a PNG, JPEG, BMP or WebP.

    It must be complete: OpenCV 4 decodes a truncated JPEG without an error and fills the rest with grey. A rotation in
    the EXIF data is not applied; neither is it in training.

    Raises:
        DamagedPicture: not a picture, damaged, or truncated.
    """
    if picture_format(content) is None:
        raise DamagedPicture("the picture is damaged: its header is missing", "was the copy complete?")
    if not is_complete(content):
        raise DamagedPicture("the picture is truncated: its end is missing", "was the copy complete?")
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise DamagedPicture(f"the picture is damaged: {error.err}", "was the copy complete?") from None
    if picture is None:
        raise DamagedPicture("the picture is damaged", "was the copy complete?")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def encode_jpeg(picture: np.ndarray) -> bytes:
    """JPEG of a picture uint8 [H, W, 3], as a USB camera sends it. Raises InputError when OpenCV cannot encode it."""
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise InputError(f"OpenCV cannot encode a picture of shape {picture.shape}")
    return encoded.tobytes()


def draw_line(picture: np.ndarray, points: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw a line through `points` [K, 2], x and y in pixels, into the picture."""
    cv2.polylines(picture, [np.rint(points).astype(np.int32)], False, colour, 1, cv2.LINE_AA)


def draw_text(picture: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write a small line of ASCII text into the picture, its lower left corner at `at`, x and y in pixels."""
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)


def text_width(text: str) -> int:
    """Width in pixels of the text that `draw_text` writes."""
    (width, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
    return width


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """A copy of the picture with a line of text in its lower left corner."""
    written = picture.copy()
    height, width = picture.shape[:2]
    scale = min(0.5, width / 400)
    written[height - CAPTION_HEIGHT :] = written[height - CAPTION_HEIGHT :] // 3
    position = (5, height - 6)
    cv2.putText(written, text, position, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return written


@dataclass(frozen=True, slots=True)
class PictureLayout:
    """Memory layout of a device's picture: fourcc, size, bytes per row including padding (0: compressed)."""

    fourcc: str
    height: int
    width: int
    stride: int


def rgb_of(content: np.ndarray, layout: PictureLayout) -> np.ndarray | None:
    """The RGB picture in a device's buffer uint8 [N]; None when it is damaged or truncated."""
    if layout.fourcc in JPEG_FORMATS:
        return _rgb_of_jpeg(content, layout)
    rows = _rows(content, layout)
    return None if rows is None else cv2.cvtColor(rows, RAW_FORMATS[layout.fourcc])


def _rgb_of_jpeg(content: np.ndarray, layout: PictureLayout) -> np.ndarray | None:
    try:
        picture = decode_picture(content.tobytes())
    except DamagedPicture:
        return None
    return picture if picture.shape[:2] == (layout.height, layout.width) else None


def _rows(content: np.ndarray, layout: PictureLayout) -> np.ndarray | None:
    """Packed 4:2:2 as uint8 [H, W, 2]; a driver may pad each row."""
    row_bytes = 2 * layout.width
    stride = max(layout.stride, row_bytes)
    if content.size < stride * (layout.height - 1) + row_bytes:
        return None
    shape, strides = (layout.height, layout.width, 2), (stride, 2, 1)
    rows = np.lib.stride_tricks.as_strided(content, shape, strides, writeable=False)
    return np.ascontiguousarray(rows)


def has_gstreamer() -> bool:
    """Whether this OpenCV supports GStreamer: the builds of JetPack and Debian do, those on PyPI do not."""
    return cv2.videoio_registry.hasBackend(cv2.CAP_GSTREAMER)


class Capture:
    """A cv2.VideoCapture that returns RGB and raises exceptions with a reason."""

    def __init__(self, capture: cv2.VideoCapture, name: str) -> None:
        self._capture = capture
        self._name = name
        self._gives_jpeg = _set_to_packets(capture)

    @classmethod
    def of_stream(cls, location: str) -> Capture:
        """A video file or an HTTP stream. Raises InputError when it cannot be opened."""
        capture = cv2.VideoCapture(location)
        if not capture.isOpened():
            raise InputError(f"video {location} cannot be opened", "check the path, or that the stream is running")
        return cls(capture, location)

    @classmethod
    def of_pipeline(cls, pipeline: str) -> Capture:
        """A GStreamer pipeline that ends in an appsink of BGR pictures. OpenCV 4.6 blocks forever if none arrive.

        Raises:
            MissingError: this OpenCV was built without GStreamer.
            InputError: the pipeline does not start; GStreamer prints the reason to standard error.
        """
        if not has_gstreamer():
            raise MissingError("this OpenCV was built without GStreamer", GSTREAMER_HINT)
        capture = cv2.VideoCapture(pipeline, cv2.CAP_GSTREAMER)
        if not capture.isOpened():
            raise InputError("the pipeline does not start", "try it with `gst-launch-1.0`")
        return cls(capture, pipeline)

    @classmethod
    def of_network(cls, location: str, open_ms: int, read_ms: int) -> Capture:
        """A network stream with timeouts. Raises InputError when it cannot be opened."""
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
        capture = cv2.VideoCapture(location, cv2.CAP_FFMPEG, timeouts)
        if not capture.isOpened():
            raise InputError("the stream cannot be opened", "check its address, and that the sender is running")
        return cls(capture, location)

    @property
    def rate_hz(self) -> float:
        """Frames per second as the source states it; 0 when it does not."""
        return float(self._capture.get(cv2.CAP_PROP_FPS))

    def grab(self) -> bool:
        """Take the next frame without decoding it; False when there is none."""
        return bool(self._capture.grab())

    def retrieve(self) -> np.ndarray | None:
        """Decode the grabbed frame; None when it is damaged."""
        good, picture = self._capture.retrieve()
        if not good or picture is None:
            return None
        if not self._gives_jpeg:
            return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        try:
            return decode_picture(picture.tobytes())
        except DamagedPicture:
            return None

    def close(self) -> None:
        self._capture.release()


def _set_to_packets(capture: cv2.VideoCapture) -> bool:
    """Get undecoded JPEGs from a motion JPEG source where the back end can: FFmpeg hides truncated ones."""
    fourcc = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little", signed=True).decode("latin-1")
    return fourcc in JPEG_FORMATS and capture.getBackendName() == "FFMPEG" and capture.set(cv2.CAP_PROP_FORMAT, -1)


class VideoFile:
    """A video file being written; its extension selects the codec."""

    def __init__(self, path: Path, rate_hz: float, height: int, width: int) -> None:
        """Raises MissingError when this OpenCV cannot encode the format."""
        fourcc = cv2.VideoWriter.fourcc(*VIDEO_CODECS[path.suffix])
        self._path, self._pictures = path, 0
        self._writer = cv2.VideoWriter(str(path), fourcc, rate_hz, (width, height))
        if not self._writer.isOpened():
            raise MissingError(f"{path} cannot be written by this OpenCV", "use another extension: .mp4, .webm, .avi")

    def append(self, picture: np.ndarray) -> None:
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        self._pictures += 1

    def close(self) -> None:
        """Raises InputError when pictures are missing in the file: OpenCV does not report disk errors."""
        self._writer.release()
        written = _pictures_in(self._path, self._pictures)
        if written < self._pictures:
            raise InputError(f"only {written} of {self._pictures} pictures could be written", ROOM_HINT)


def _pictures_in(path: Path, at_most: int) -> int:
    """How many pictures of a video can be read, counted up to `at_most`."""
    try:
        video = Capture.of_stream(str(path))
    except InputError:
        return 0
    count = 0
    while count < at_most and video.grab():
        count += 1
    video.close()
    return count
