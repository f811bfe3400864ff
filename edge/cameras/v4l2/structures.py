"""The kernel's V4L2 structures and request numbers on 64-bit Linux (linux/videodev2.h; tested against a C compiler)."""

from __future__ import annotations

from ctypes import Array, Structure, c_char, c_int32, c_int64, c_ubyte, c_uint8, c_uint32, sizeof

BUF_TYPE_VIDEO_CAPTURE = 1
MEMORY_MMAP = 1
FIELD_NONE = 1

CAP_VIDEO_CAPTURE = 0x0000_0001
CAP_VIDEO_CAPTURE_MPLANE = 0x0000_1000
CAP_STREAMING = 0x0400_0000
CAP_DEVICE_CAPS = 0x8000_0000

BUF_FLAG_ERROR = 0x0000_0040
BUF_FLAG_TIMESTAMP_MASK = 0x0000_E000
BUF_FLAG_TIMESTAMP_MONOTONIC = 0x0000_2000
BUF_FLAG_TIMESTAMP_COPY = 0x0000_4000
BUF_FLAG_TSTAMP_SRC_MASK = 0x0007_0000
BUF_FLAG_TSTAMP_SRC_SOE = 0x0001_0000

FRAME_DISCRETE = 1
"""`type` of an enumerated size or interval; otherwise it is a range with steps."""
CTRL_FLAG_DISABLED = 0x0001
CTRL_FLAG_NEXT_CTRL = 0x8000_0000


class Capability(Structure):
    driver: bytes
    card: bytes
    bus_info: bytes
    capabilities: int
    device_caps: int
    _fields_ = [
        ("driver", c_char * 16),
        ("card", c_char * 32),
        ("bus_info", c_char * 32),
        ("version", c_uint32),
        ("capabilities", c_uint32),
        ("device_caps", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class FormatDescription(Structure):
    index: int
    type: int
    pixelformat: int
    _fields_ = [
        ("index", c_uint32),
        ("type", c_uint32),
        ("flags", c_uint32),
        ("description", c_char * 32),
        ("pixelformat", c_uint32),
        ("mbus_code", c_uint32),
        ("reserved", c_uint32 * 3),
    ]


class FrameSize(Structure):
    """`numbers`: width and height; or minimum, maximum and step of the width, then those of the height."""

    index: int
    pixel_format: int
    type: int
    numbers: Array[c_uint32]
    _fields_ = [
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("type", c_uint32),
        ("numbers", c_uint32 * 6),
        ("reserved", c_uint32 * 2),
    ]


class FrameInterval(Structure):
    """`numbers`: numerator and denominator in seconds; or those of the minimum, the maximum and the step."""

    index: int
    pixel_format: int
    width: int
    height: int
    type: int
    numbers: Array[c_uint32]
    _fields_ = [
        ("index", c_uint32),
        ("pixel_format", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("type", c_uint32),
        ("numbers", c_uint32 * 6),
        ("reserved", c_uint32 * 2),
    ]


class Format(Structure):
    """`v4l2_format` with its `v4l2_pix_format` in place of the union."""

    type: int
    width: int
    height: int
    pixelformat: int
    field: int
    bytesperline: int
    sizeimage: int
    _fields_ = [
        ("type", c_uint32),
        ("align", c_uint32),
        ("width", c_uint32),
        ("height", c_uint32),
        ("pixelformat", c_uint32),
        ("field", c_uint32),
        ("bytesperline", c_uint32),
        ("sizeimage", c_uint32),
        ("rest_of_union", c_ubyte * 176),
    ]


class StreamParameters(Structure):
    """`v4l2_streamparm` with its `v4l2_captureparm` in place of the union; the interval is in seconds."""

    type: int
    numerator: int
    denominator: int
    _fields_ = [
        ("type", c_uint32),
        ("capability", c_uint32),
        ("capturemode", c_uint32),
        ("numerator", c_uint32),
        ("denominator", c_uint32),
        ("rest_of_union", c_ubyte * 184),
    ]


class RequestBuffers(Structure):
    count: int
    type: int
    memory: int
    _fields_ = [
        ("count", c_uint32),
        ("type", c_uint32),
        ("memory", c_uint32),
        ("capabilities", c_uint32),
        ("flags", c_uint8),
        ("reserved", c_uint8 * 3),
    ]


class Buffer(Structure):
    index: int
    type: int
    bytesused: int
    flags: int
    seconds: int
    microseconds: int
    sequence: int
    memory: int
    offset: int
    length: int
    _fields_ = [
        ("index", c_uint32),
        ("type", c_uint32),
        ("bytesused", c_uint32),
        ("flags", c_uint32),
        ("field", c_uint32),
        ("seconds", c_int64),
        ("microseconds", c_int64),
        ("timecode", c_uint32 * 4),
        ("sequence", c_uint32),
        ("memory", c_uint32),
        ("offset", c_uint32),
        ("rest_of_union", c_uint32),
        ("length", c_uint32),
        ("reserved2", c_uint32),
        ("request_fd", c_int32),
        ("tail", c_uint32),
    ]


class ControlDescription(Structure):
    """`v4l2_queryctrl`."""

    id: int
    name: bytes
    minimum: int
    maximum: int
    step: int
    flags: int
    _fields_ = [
        ("id", c_uint32),
        ("type", c_uint32),
        ("name", c_char * 32),
        ("minimum", c_int32),
        ("maximum", c_int32),
        ("step", c_int32),
        ("default", c_int32),
        ("flags", c_uint32),
        ("reserved", c_uint32 * 2),
    ]


class Control(Structure):
    id: int
    value: int
    _fields_ = [("id", c_uint32), ("value", c_int32)]


_READ, _WRITE = 2, 1


def _request(direction: int, number: int, size: int) -> int:
    """`_IOC` of asm-generic/ioctl.h, of the type `V`."""
    return direction << 30 | size << 16 | ord("V") << 8 | number


QUERYCAP = _request(_READ, 0, sizeof(Capability))
ENUM_FMT = _request(_READ | _WRITE, 2, sizeof(FormatDescription))
S_FMT = _request(_READ | _WRITE, 5, sizeof(Format))
REQBUFS = _request(_READ | _WRITE, 8, sizeof(RequestBuffers))
QUERYBUF = _request(_READ | _WRITE, 9, sizeof(Buffer))
QBUF = _request(_READ | _WRITE, 15, sizeof(Buffer))
DQBUF = _request(_READ | _WRITE, 17, sizeof(Buffer))
STREAMON = _request(_WRITE, 18, sizeof(c_int32))
STREAMOFF = _request(_WRITE, 19, sizeof(c_int32))
G_PARM = _request(_READ | _WRITE, 21, sizeof(StreamParameters))
S_PARM = _request(_READ | _WRITE, 22, sizeof(StreamParameters))
G_CTRL = _request(_READ | _WRITE, 27, sizeof(Control))
S_CTRL = _request(_READ | _WRITE, 28, sizeof(Control))
QUERYCTRL = _request(_READ | _WRITE, 36, sizeof(ControlDescription))
ENUM_FRAMESIZES = _request(_READ | _WRITE, 74, sizeof(FrameSize))
ENUM_FRAMEINTERVALS = _request(_READ | _WRITE, 75, sizeof(FrameInterval))
