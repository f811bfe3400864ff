"""OWNS A V4L2 DEVICE: one open video node, its formats, controls and buffers. Single-planar capture only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import mmap
import os
import select
from collections.abc import Iterator
from ctypes import Structure, c_int32
from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.cameras.camera import CameraLost
from sefa_edge.edge.cameras.v4l2 import structures as v4l2
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.units import us_to_ns

MAX_ENUMERATED = 256
"""A driver that never says that its list is over is not believed for longer."""
GONE = (errno.ENODEV, errno.EIO, errno.ENXIO)
"""What ioctls of an unplugged device answer; EIO also ends a stream that the driver gave up."""


@dataclass(frozen=True, slots=True)
class Mode:
    """How pictures come: `fourcc` as four letters (`MJPG`, `YUYV`), their size and their rate."""

    fourcc: str
    width: int
    height: int
    rate_hz: float

    def __str__(self) -> str:
        return f"{printable(self.fourcc)} {self.width}x{self.height} at {self.rate_hz:g} Hz"


@dataclass(frozen=True, slots=True)
class ControlRange:
    """What a control is called by its driver, and which values it takes."""

    name: str
    minimum: int
    maximum: int
    step: int

    def __str__(self) -> str:
        return f"{self.minimum} to {self.maximum} in steps of {self.step} ('{self.name}')"


@dataclass(frozen=True, slots=True, eq=False)
class Filled:
    """A buffer that the driver filled. `content` is the driver's memory: use it before the buffer is queued again."""

    index: int
    content: np.ndarray
    stamp_ns: int
    flags: int

    @property
    def damaged(self) -> bool:
        return bool(self.flags & v4l2.BUF_FLAG_ERROR)


class Device:
    """An open capture device. Every method raises CameraLost once it was unplugged."""

    def __init__(self, path: str) -> None:
        """Raises MissingError when there is no such device, or it may not be opened; InputError when it is none."""
        self.path = path
        self.stride = 0
        """Bytes from one row to the next of an uncompressed picture; 0 for a compressed one."""
        self._maps: list[mmap.mmap] = []
        self._fd = _opened(path)
        try:
            capability = v4l2.Capability()
            self._query(capability)
        except BaseException:
            os.close(self._fd)
            raise
        self.driver = printable(capability.driver.decode(errors="replace"))
        self.card = printable(capability.card.decode(errors="replace"))

    def _query(self, capability: v4l2.Capability) -> None:
        try:
            self._ioctl(v4l2.QUERYCAP, capability)
        except OSError:
            raise InputError(f"{self.path} is not a V4L2 device", "`ls /dev/video*` lists devices") from None
        if not captures(capability):
            raise InputError(
                f"{self.path} gives no pictures ({_uses(capability)})",
                "a camera has several nodes: take the other one, or its name in /dev/v4l/by-id",
            )

    # -- what it offers ---------------------------------------------------------

    def modes(self, near: tuple[int, int]) -> tuple[Mode, ...]:
        """Every format, size and rate that the driver lists; empty where it lists nothing.

        A range of sizes is told by its ends and by what in it is nearest to `near` (width, height), a range of rates by
        its ends; a rate of 0 is one that the driver does not tell.
        """
        return tuple(
            Mode(fourcc, width, height, rate_hz)
            for fourcc in self._fourccs()
            for width, height in self._sizes(fourcc, near)
            for rate_hz in [*self._rates(fourcc, width, height)] or [0.0]
        )

    def _fourccs(self) -> Iterator[str]:
        for index in range(MAX_ENUMERATED):
            entry = v4l2.FormatDescription(index=index, type=v4l2.BUF_TYPE_VIDEO_CAPTURE)
            if not self._listed(v4l2.ENUM_FMT, entry):
                return
            yield _letters(entry.pixelformat)

    def _sizes(self, fourcc: str, near: tuple[int, int]) -> Iterator[tuple[int, int]]:
        for index in range(MAX_ENUMERATED):
            entry = v4l2.FrameSize(index=index, pixel_format=_code(fourcc))
            if not self._listed(v4l2.ENUM_FRAMESIZES, entry):
                return
            if entry.type != v4l2.FRAME_DISCRETE:
                yield from _range_of_sizes(list(entry.numbers), near)
                return
            yield entry.numbers[0], entry.numbers[1]

    def _rates(self, fourcc: str, width: int, height: int) -> Iterator[float]:
        for index in range(MAX_ENUMERATED):
            entry = v4l2.FrameInterval(index=index, pixel_format=_code(fourcc), width=width, height=height)
            if not self._listed(v4l2.ENUM_FRAMEINTERVALS, entry):
                return
            yield _rate_hz(entry.numbers[0], entry.numbers[1])
            if entry.type != v4l2.FRAME_DISCRETE:
                yield _rate_hz(entry.numbers[2], entry.numbers[3])
                return

    # -- how pictures come ---------------------------------------------------------

    def set_mode(self, mode: Mode) -> Mode:
        """Ask for a mode; returns the one that the driver chose, which may differ in everything.

        Raises:
            MissingError: another program uses the device, or the driver refuses.
        """
        form = v4l2.Format(type=v4l2.BUF_TYPE_VIDEO_CAPTURE, width=mode.width, height=mode.height)
        form.pixelformat, form.field = _code(mode.fourcc), v4l2.FIELD_NONE
        with self._in_words(f"does not accept {mode}"):
            self._ioctl(v4l2.S_FMT, form)
        self.stride = form.bytesperline
        rate_hz = self._set_rate(mode.rate_hz)
        return Mode(_letters(form.pixelformat), form.width, form.height, rate_hz)

    def _set_rate(self, rate_hz: float) -> float:
        """The rate that the driver will keep; 0 where it does not tell."""
        wanted = v4l2.StreamParameters(type=v4l2.BUF_TYPE_VIDEO_CAPTURE, numerator=1000)
        wanted.denominator = round(rate_hz * 1000)
        given = v4l2.StreamParameters(type=v4l2.BUF_TYPE_VIDEO_CAPTURE)
        if not self._listed(v4l2.S_PARM, wanted) or not self._listed(v4l2.G_PARM, given):
            return 0.0
        return _rate_hz(given.numerator, given.denominator)

    # -- controls ---------------------------------------------------------

    def controls(self) -> dict[int, ControlRange]:
        """The controls that the device has, by their number."""
        found: dict[int, ControlRange] = {}
        number = 0
        for _ in range(MAX_ENUMERATED):
            entry = v4l2.ControlDescription(id=number | v4l2.CTRL_FLAG_NEXT_CTRL)
            if not self._listed(v4l2.QUERYCTRL, entry):
                break
            number = entry.id
            if not entry.flags & v4l2.CTRL_FLAG_DISABLED:
                name = printable(entry.name.decode(errors="replace"))
                found[number] = ControlRange(name, entry.minimum, entry.maximum, entry.step)
        return found

    def read_control(self, number: int) -> int:
        """Raises OSError when the driver does not tell."""
        control = v4l2.Control(id=number)
        self._ioctl(v4l2.G_CTRL, control)
        return control.value

    def write_control(self, number: int, value: int) -> None:
        """Raises OSError when the driver refuses."""
        self._ioctl(v4l2.S_CTRL, v4l2.Control(id=number, value=value))

    # -- pictures ---------------------------------------------------------

    def start(self, buffer_count: int) -> int:
        """Map buffers, hand them to the driver, start the stream; returns how many there are.

        Raises:
            MissingError: another program uses it, or the USB bus has no bandwidth left.
        """
        request = v4l2.RequestBuffers(count=buffer_count, type=v4l2.BUF_TYPE_VIDEO_CAPTURE, memory=v4l2.MEMORY_MMAP)
        with self._in_words("gives no pictures"):
            self._ioctl(v4l2.REQBUFS, request)
            for index in range(request.count):
                buffer = self._buffer(index)
                self._ioctl(v4l2.QUERYBUF, buffer)
                self._maps.append(mmap.mmap(self._fd, buffer.length, offset=buffer.offset))
                self.queue(index)
            self._ioctl(v4l2.STREAMON, c_int32(v4l2.BUF_TYPE_VIDEO_CAPTURE))
        return request.count

    def wait(self, timeout_s: float) -> bool:
        """Whether a picture is there, after waiting at most `timeout_s` for it."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        events = poller.poll(timeout_s * 1000)
        if not events:
            self._ioctl(v4l2.QUERYCAP, v4l2.Capability())  # a device that has gone says so here
            return False
        if not events[0][1] & select.POLLIN:
            with contextlib.suppress(OSError):
                self.take()  # it knows why
            raise self._lost(errno.ENODEV)
        return True

    def take(self) -> Filled | None:
        """The oldest filled buffer; None when there is none."""
        buffer = self._buffer(0)
        try:
            self._ioctl(v4l2.DQBUF, buffer)
        except BlockingIOError:
            return None
        content = np.frombuffer(self._maps[buffer.index], np.uint8)[: buffer.bytesused]
        stamp_ns = us_to_ns(buffer.seconds * 1_000_000 + buffer.microseconds)
        return Filled(buffer.index, content, stamp_ns, buffer.flags)

    def queue(self, index: int) -> None:
        """Give a buffer back to the driver."""
        self._ioctl(v4l2.QBUF, self._buffer(index))

    def close(self) -> None:
        """Stop the stream and let the device go."""
        none = v4l2.RequestBuffers(count=0, type=v4l2.BUF_TYPE_VIDEO_CAPTURE, memory=v4l2.MEMORY_MMAP)
        with contextlib.suppress(OSError, CameraLost):
            self._ioctl(v4l2.STREAMOFF, c_int32(v4l2.BUF_TYPE_VIDEO_CAPTURE))
            self._ioctl(v4l2.REQBUFS, none)  # or a picture that somebody still holds keeps the device busy
        self._maps.clear()
        os.close(self._fd)

    # -- inside ---------------------------------------------------------

    def _buffer(self, index: int) -> v4l2.Buffer:
        return v4l2.Buffer(index=index, type=v4l2.BUF_TYPE_VIDEO_CAPTURE, memory=v4l2.MEMORY_MMAP)

    def _ioctl(self, request: int, argument: Structure | c_int32) -> None:
        while True:
            try:
                fcntl.ioctl(self._fd, request, argument)
                return
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno in GONE:
                    raise self._lost(error.errno) from None
                raise

    def _listed(self, request: int, entry: Structure) -> bool:
        """Whether the driver knows it: EINVAL ends a list, ENOTTY says that there is none."""
        try:
            self._ioctl(request, entry)
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def _in_words(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = f"is it in use? `fuser {self.path}`" if error.errno == errno.EBUSY else ""
            if error.errno == errno.ENOSPC:
                hint = "the USB bus has no bandwidth left: MJPG, a smaller size, a lower rate, or another port"
            raise MissingError(f"camera {self.path} {what}: {os.strerror(error.errno or 0)}", hint) from None

    def _lost(self, number: int) -> CameraLost:
        what = "its driver gave up" if number == errno.EIO else "was it unplugged?"
        return CameraLost(f"camera {self.path} gives no more pictures: {what}", "check its cable and hub")


def printable(word: str) -> str:
    """A word that came from a device, which may hold what commands a terminal."""
    return "".join(letter if letter.isascii() and letter.isprintable() else "?" for letter in word)


def captures(capability: v4l2.Capability) -> bool:
    """Whether a node gives pictures through single-planar, memory-mapped streaming."""
    uses = _capabilities(capability)
    return bool(uses & v4l2.CAP_VIDEO_CAPTURE) and bool(uses & v4l2.CAP_STREAMING)


def _capabilities(capability: v4l2.Capability) -> int:
    """Of this node, where the driver tells it (any since Linux 3.19), else of the whole device."""
    whole = capability.capabilities
    return capability.device_caps if whole & v4l2.CAP_DEVICE_CAPS else whole


def _uses(capability: v4l2.Capability) -> str:
    planar = _capabilities(capability) & v4l2.CAP_VIDEO_CAPTURE_MPLANE
    return "multi-planar capture, which is not supported" if planar else "metadata, output or a codec"


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        raise MissingError(f"camera {path} does not exist", "plug it in; `ls /dev/video*` lists cameras") from None
    except PermissionError:
        raise MissingError(
            f"camera {path} may not be opened", "sudo usermod -aG video $USER, then log in anew"
        ) from None
    except OSError as error:
        if error.errno in GONE:
            raise MissingError(f"camera {path} is not there", "plug it in") from None
        hint = f"is it in use? `fuser {path}`"
        raise MissingError(f"camera {path} cannot be opened: {os.strerror(error.errno or 0)}", hint) from None


def _letters(code: int) -> str:
    """Latin-1, because big-endian formats set the highest bit."""
    return code.to_bytes(4, "little").decode("latin-1")


def _code(fourcc: str) -> int:
    return int.from_bytes(fourcc.encode("latin-1"), "little")


def _range_of_sizes(numbers: list[int], near: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Of the least, the greatest and the step of the width, then of the height."""
    (width_least, width_most, width_step), (height_least, height_most, height_step) = numbers[:3], numbers[3:]
    yield width_least, height_least
    yield (
        _in_range(near[0], width_least, width_most, width_step),
        _in_range(near[1], height_least, height_most, height_step),
    )
    yield width_most, height_most


def _in_range(wanted: int, least: int, most: int, step: int) -> int:
    """The value of a stepped range that is nearest to the wanted one from below."""
    inside = min(max(wanted, least), most)
    return inside - (inside - least) % max(1, step)


def _rate_hz(numerator: int, denominator: int) -> float:
    """Of an interval in seconds; 0 where the driver left it out."""
    return denominator / numerator if numerator else 0.0
