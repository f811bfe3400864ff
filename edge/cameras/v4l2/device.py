"""A V4L2 device: one open video node, its formats, controls and buffers. Single-planar capture only."""

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
from sefa_edge.edge.cameras.v4l2.modes import (
    ControlRange,
    Mode,
    code_of,
    letters_of,
    printable,
    rate_of,
    sizes_of_range,
)
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.units import us_to_ns

MAX_ENUMERATED = 256
"""Limit for a driver whose list never ends."""
GONE = (errno.ENODEV, errno.EIO, errno.ENXIO)
"""Errors of ioctls on an unplugged device; the driver also ends a failed stream with EIO."""


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
    """An open capture device. Every method raises CameraLost once it has been unplugged."""

    def __init__(self, path: str) -> None:
        """Raises MissingError when the device is missing or cannot be opened, InputError when it is not a camera."""
        self.path = path
        self.stride = 0
        """Bytes from one row to the next of an uncompressed image; 0 for a compressed one."""
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
                f"{self.path} delivers no pictures ({_uses(capability)})",
                "a camera has several nodes: use the other one, or its name in /dev/v4l/by-id",
            )

    # -- formats ---------------------------------------------------------

    def modes(self, near: tuple[int, int]) -> tuple[Mode, ...]:
        """Every format, size and rate that the driver lists; empty if it lists nothing.

        A range of sizes is listed as its ends and the size nearest to `near` (width, height), a range of rates as its
        ends. A rate of 0 means that the driver does not report it.
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
            yield letters_of(entry.pixelformat)

    def _sizes(self, fourcc: str, near: tuple[int, int]) -> Iterator[tuple[int, int]]:
        for index in range(MAX_ENUMERATED):
            entry = v4l2.FrameSize(index=index, pixel_format=code_of(fourcc))
            if not self._listed(v4l2.ENUM_FRAMESIZES, entry):
                return
            if entry.type != v4l2.FRAME_DISCRETE:
                yield from sizes_of_range(list(entry.numbers), near)
                return
            yield entry.numbers[0], entry.numbers[1]

    def _rates(self, fourcc: str, width: int, height: int) -> Iterator[float]:
        for index in range(MAX_ENUMERATED):
            entry = v4l2.FrameInterval(index=index, pixel_format=code_of(fourcc), width=width, height=height)
            if not self._listed(v4l2.ENUM_FRAMEINTERVALS, entry):
                return
            yield rate_of(entry.numbers[0], entry.numbers[1])
            if entry.type != v4l2.FRAME_DISCRETE:
                yield rate_of(entry.numbers[2], entry.numbers[3])
                return

    # -- mode ---------------------------------------------------------

    def set_mode(self, mode: Mode) -> Mode:
        """Request a mode; returns the one that the driver chose, which may differ in every respect.

        Raises:
            MissingError: another program uses the device, or the driver refuses.
        """
        form = v4l2.Format(type=v4l2.BUF_TYPE_VIDEO_CAPTURE, width=mode.width, height=mode.height)
        form.pixelformat, form.field = code_of(mode.fourcc), v4l2.FIELD_NONE
        with self._missing_error_if(f"does not accept {mode}"):
            self._ioctl(v4l2.S_FMT, form)
        self.stride = form.bytesperline
        rate_hz = self._set_rate(mode.rate_hz)
        return Mode(letters_of(form.pixelformat), form.width, form.height, rate_hz)

    def _set_rate(self, rate_hz: float) -> float:
        """The rate that the driver set; 0 if it does not report one."""
        wanted = v4l2.StreamParameters(type=v4l2.BUF_TYPE_VIDEO_CAPTURE, numerator=1000)
        wanted.denominator = round(rate_hz * 1000)
        given = v4l2.StreamParameters(type=v4l2.BUF_TYPE_VIDEO_CAPTURE)
        if not self._listed(v4l2.S_PARM, wanted) or not self._listed(v4l2.G_PARM, given):
            return 0.0
        return rate_of(given.numerator, given.denominator)

    # -- controls ---------------------------------------------------------

    def controls(self) -> dict[int, ControlRange]:
        """The controls of the device, by number."""
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
        """Raises OSError when the driver does not report the value."""
        control = v4l2.Control(id=number)
        self._ioctl(v4l2.G_CTRL, control)
        return control.value

    def write_control(self, number: int, value: int) -> None:
        """Raises OSError when the driver refuses."""
        self._ioctl(v4l2.S_CTRL, v4l2.Control(id=number, value=value))

    # -- images ---------------------------------------------------------

    def start(self, buffer_count: int) -> int:
        """Map buffers, queue them, start the stream; returns the number of buffers.

        Raises:
            MissingError: another program uses the device, or the USB bus has no bandwidth left.
        """
        request = v4l2.RequestBuffers(count=buffer_count, type=v4l2.BUF_TYPE_VIDEO_CAPTURE, memory=v4l2.MEMORY_MMAP)
        with self._missing_error_if("delivers no pictures"):
            self._ioctl(v4l2.REQBUFS, request)
            for index in range(request.count):
                buffer = self._buffer(index)
                self._ioctl(v4l2.QUERYBUF, buffer)
                self._maps.append(mmap.mmap(self._fd, buffer.length, offset=buffer.offset))
                self.queue(index)
            self._ioctl(v4l2.STREAMON, c_int32(v4l2.BUF_TYPE_VIDEO_CAPTURE))
        return request.count

    def wait(self, timeout_s: float) -> bool:
        """Wait up to `timeout_s` for an image; returns whether there is one."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        events = poller.poll(timeout_s * 1000)
        if not events:
            self._ioctl(v4l2.QUERYCAP, v4l2.Capability())  # fails when the device has been unplugged
            return False
        if not events[0][1] & select.POLLIN:
            with contextlib.suppress(OSError):
                self.take()  # raises CameraLost with the reason
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
        """Return a buffer to the driver."""
        self._ioctl(v4l2.QBUF, self._buffer(index))

    def close(self) -> None:
        """Stop the stream and close the device."""
        none = v4l2.RequestBuffers(count=0, type=v4l2.BUF_TYPE_VIDEO_CAPTURE, memory=v4l2.MEMORY_MMAP)
        with contextlib.suppress(OSError, CameraLost):
            self._ioctl(v4l2.STREAMOFF, c_int32(v4l2.BUF_TYPE_VIDEO_CAPTURE))
            self._ioctl(v4l2.REQBUFS, none)  # otherwise an image that is still referenced keeps the device busy
        self._maps.clear()
        os.close(self._fd)

    # -- internal ---------------------------------------------------------

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
        """Whether the driver filled the entry: EINVAL ends a list, ENOTTY means that it is not supported."""
        try:
            self._ioctl(request, entry)
        except OSError:
            return False
        return True

    @contextlib.contextmanager
    def _missing_error_if(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            hint = f"is it in use? `fuser {self.path}`" if error.errno == errno.EBUSY else ""
            if error.errno == errno.ENOSPC:
                hint = "the USB bus has no bandwidth left: use MJPG, a smaller size, a lower rate, or another port"
            raise MissingError(f"camera {self.path} {what}: {os.strerror(error.errno or 0)}", hint) from None

    def _lost(self, number: int) -> CameraLost:
        what = "its driver gave up" if number == errno.EIO else "was it unplugged?"
        return CameraLost(f"camera {self.path} delivers no more pictures: {what}", "check its cable and hub")


def captures(capability: v4l2.Capability) -> bool:
    """Whether a node delivers images through single-planar, memory-mapped streaming."""
    uses = _capabilities(capability)
    return bool(uses & v4l2.CAP_VIDEO_CAPTURE) and bool(uses & v4l2.CAP_STREAMING)


def _capabilities(capability: v4l2.Capability) -> int:
    """Capabilities of this node if the driver reports them (since Linux 3.19), else of the whole device."""
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
            f"no permission to open camera {path}", "sudo usermod -aG video $USER, then log in again"
        ) from None
    except OSError as error:
        if error.errno in GONE:
            raise MissingError(f"camera {path} is not connected", "plug it in") from None
        hint = f"is it in use? `fuser {path}`"
        raise MissingError(f"camera {path} cannot be opened: {os.strerror(error.errno or 0)}", hint) from None
