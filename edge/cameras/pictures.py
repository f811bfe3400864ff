"""OWNS OPENCV: the only file that imports cv2. Everything that leaves it is RGB uint8 [H, W, 3]."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(1 << 26))  # OpenCV's own limit takes 3 GB to decode

import cv2
import numpy as np

from sefa_edge.profiles.errors import InputError, MissingError

cv2.setNumThreads(1)
VIDEO_CODECS = {".mp4": "mp4v", ".webm": "VP80", ".avi": "MJPG"}
CAPTION_HEIGHT = 22


def resize_area(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture at another size, INTER_AREA."""
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def read_picture(path: Path) -> np.ndarray:
    """Raises InputError when the file is not a picture."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise InputError(f"{path} is not a picture that OpenCV can read", "use PNG or JPEG")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Raises InputError when the file cannot be written."""
    if not cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)):
        raise InputError(f"{path} cannot be written", "check the folder and the file's ending")


def encode_png(picture: np.ndarray) -> bytes:
    """PNG of a picture uint8 [H, W, 3]. Raises InputError when OpenCV cannot encode it."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", bgr, [cv2.IMWRITE_PNG_COMPRESSION, 3])
    if not done:
        raise InputError(f"OpenCV cannot encode a picture of shape {picture.shape}")
    return encoded.tobytes()


def decode_png(content: bytes) -> np.ndarray:
    """The picture uint8 [H, W, 3] in the bytes of a PNG. Raises InputError when they are none, or damaged."""
    return decode_picture(content)


def decode_picture(content: bytes) -> np.ndarray:
    """The picture uint8 [H, W, 3] in the bytes of a PNG or JPEG. Raises InputError when they are none, or damaged."""
    try:
        picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise InputError(f"the picture is damaged: {error.err}", "was the copy complete?") from None
    if picture is None:
        raise InputError("the picture is damaged", "was the copy complete?")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def encode_jpeg(picture: np.ndarray) -> bytes:
    """JPEG of a picture uint8 [H, W, 3], as a USB camera sends it. Raises InputError when OpenCV cannot encode it."""
    done, encoded = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise InputError(f"OpenCV cannot encode a picture of shape {picture.shape}")
    return encoded.tobytes()


def decode_jpeg(content: bytes) -> np.ndarray:
    """The picture uint8 [H, W, 3] in the bytes of a JPEG. Raises InputError when they are none, or damaged."""
    return decode_png(content)  # OpenCV looks at the content


def draw_line(picture: np.ndarray, points: np.ndarray, colour: tuple[int, int, int]) -> None:
    """Draw the line through `points` [K, 2], x and y in pixels, into the picture."""
    cv2.polylines(picture, [np.rint(points).astype(np.int32)], False, colour, 1, cv2.LINE_AA)


def draw_text(picture: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """Write a small line of ASCII text into the picture, its lower left corner at `at`, x and y in pixels."""
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """A copy of the picture with a line of text in its lower left corner."""
    written = picture.copy()
    height, width = picture.shape[:2]
    scale = min(0.5, width / 400)
    written[height - CAPTION_HEIGHT :] = written[height - CAPTION_HEIGHT :] // 3
    position = (5, height - 6)
    cv2.putText(written, text, position, cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA)
    return written


class Capture:
    """A cv2.VideoCapture that speaks RGB and says in words what went wrong."""

    def __init__(self, capture: cv2.VideoCapture, name: str) -> None:
        self._capture = capture
        self._name = name

    @classmethod
    def of_device(cls, path: str, size: tuple[int, int] | None, rate_hz: float) -> Capture:
        """A V4L2 device, MJPG asked for, one buffer where the driver allows it.

        Raises:
            MissingError: no such device, no permission, or it gives no picture.
        """
        if not Path(path).exists():
            raise MissingError(f"camera {path} does not exist", "plug it in; `ls /dev/video*` lists cameras")
        capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
        if not capture.isOpened():
            raise MissingError(f"camera {path} cannot be opened", _device_hint(path))
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        if size is not None:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
        capture.set(cv2.CAP_PROP_FPS, rate_hz)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        return cls(capture, path)

    @classmethod
    def of_stream(cls, location: str) -> Capture:
        """A video file or an HTTP stream. Raises InputError when it cannot be opened."""
        capture = cv2.VideoCapture(location)
        if not capture.isOpened():
            raise InputError(f"video {location} cannot be opened", "check the path, or that the stream is running")
        return cls(capture, location)

    @classmethod
    def of_network(cls, location: str, open_ms: int, read_ms: int) -> Capture:
        """A network stream that is waited for no longer than so. Raises InputError when it cannot be opened."""
        patience = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, open_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, read_ms]
        capture = cv2.VideoCapture(location, cv2.CAP_FFMPEG, patience)
        if not capture.isOpened():
            raise InputError("the stream cannot be opened", "check its address, and that the sender is running")
        return cls(capture, location)

    @property
    def rate_hz(self) -> float:
        """Frames per second as the source states it; 0 when it does not."""
        return float(self._capture.get(cv2.CAP_PROP_FPS))

    @property
    def position_ms(self) -> float:
        """Stamp of the last grabbed frame. V4L2 through OpenCV >= 4.5: the kernel's CLOCK_MONOTONIC stamp."""
        return float(self._capture.get(cv2.CAP_PROP_POS_MSEC))

    def grab(self) -> bool:
        """Take the next frame without decoding it; False when there is none."""
        return bool(self._capture.grab())

    def retrieve(self) -> np.ndarray | None:
        """Decode the grabbed frame; None when it is damaged."""
        good, picture = self._capture.retrieve()
        return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) if good and picture is not None else None

    def close(self) -> None:
        self._capture.release()


class VideoFile:
    """A video being written; the file's ending chooses the codec."""

    def __init__(self, path: Path, rate_hz: float, height: int, width: int) -> None:
        """Raises MissingError when this OpenCV cannot encode the format."""
        fourcc = cv2.VideoWriter.fourcc(*VIDEO_CODECS[path.suffix])
        self._writer = cv2.VideoWriter(str(path), fourcc, rate_hz, (width, height))
        if not self._writer.isOpened():
            raise MissingError(f"{path} cannot be written by this OpenCV", "try another ending: .mp4, .webm, .avi")

    def append(self, picture: np.ndarray) -> None:
        self._writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()


def _device_hint(path: str) -> str:
    return f"does another program hold it (`fuser {path}`)? else: `sudo usermod -aG video $USER`"
