"""Motion JPEG over HTTP (`multipart/x-mixed-replace`), as network cameras and phones send it.

FFmpeg is not used: it buffers images for seconds to estimate a frame rate, so they would be old.
The sender is not trusted: every line, header, image and wait has a limit.
"""

from __future__ import annotations

import base64
import http.client
import re
import socket
from contextlib import ExitStack, suppress
from urllib.parse import SplitResult, unquote

import numpy as np

from sefa_edge.edge.cameras.camera import CameraLost
from sefa_edge.edge.pictures import decode_picture
from sefa_edge.profiles.encoded_picture import is_complete
from sefa_edge.profiles.errors import InputError

MAX_LINE_BYTES = 8192
MAX_HEADER_LINES = 64
MAX_PICTURE_BYTES = 16 << 20
MAX_SIZE_DIGITS = 9
CONNECT_TIMEOUT_S = 3.0
SILENCE_TIMEOUT_S = 1.0
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.IGNORECASE)


class MjpegTap:
    """The images in an HTTP response. See `newest.Tap`."""

    def __init__(self, connection: socket.socket, response: http.client.HTTPResponse, boundary: bytes) -> None:
        self._socket = connection
        self._response = response
        self._boundary = boundary
        self._at_part = False
        """Whether the boundary before the next part has been read already."""
        self._content = b""

    def grab(self) -> None:
        try:
            self._content = self._next_part()
            while not self._content.strip():  # some cameras send empty parts while no image is ready
                self._content = self._next_part()
        except (OSError, http.client.HTTPException) as error:
            raise CameraLost(f"the stream broke off: {error}", "is the sender still running?") from None

    def image(self) -> np.ndarray | None:
        with suppress(InputError):
            return decode_picture(self._content)
        return None

    def interrupt(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._response.close()
        self._socket.close()

    def _next_part(self) -> bytes:
        """The content of the next part. Some senders state a wrong length: an incomplete image is read further."""
        size = self._next_size()
        content = b"" if size is None else self._exactly(size)
        return content if is_complete(content) else content + self._to_boundary()

    def _next_size(self) -> int | None:
        """Skip to the next part and read its header; returns the size of its image in bytes, None when not stated."""
        while not self._at_part:
            self._at_part = self._is_boundary(self._line())
        self._at_part = False
        size = None
        for _ in range(MAX_HEADER_LINES):
            line = self._line().strip()
            if not line:
                return size
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-length":
                size = _size(value.strip())
        raise _invalid_mjpeg("a header without an end")

    def _exactly(self, size: int) -> bytes:
        content = self._response.read(size)
        if len(content) < size:
            raise _ended()
        return content

    def _to_boundary(self) -> bytes:
        lines, size = [], 0
        while not self._is_boundary(line := self._line()):
            lines.append(line)
            size += len(line)
            if line.rstrip(b"\r\n").endswith(b"--" + self._boundary):
                lines[-1] = line[: line.rindex(b"--" + self._boundary)]  # no line break before the boundary
                break
            if size > MAX_PICTURE_BYTES:
                raise _invalid_mjpeg("a part without an end")
        self._at_part = True
        return b"".join(lines)

    def _line(self) -> bytes:
        """A line with its end, or the first part of a long one."""
        line = self._response.readline(MAX_LINE_BYTES)
        if not line:
            raise _ended()
        return line

    def _is_boundary(self, line: bytes) -> bool:
        return line.startswith(b"--") and line.strip().strip(b"-") == self._boundary


def open_mjpeg(address: SplitResult) -> MjpegTap | None:
    """Request the stream at an http(s) address; None when the response is not MJPEG.

    Raises:
        InputError: the server does not answer, or answers with an error.
    """
    kind = http.client.HTTPSConnection if address.scheme == "https" else http.client.HTTPConnection
    with ExitStack() as on_failure:
        try:
            connection = kind(address.hostname or "", address.port, timeout=CONNECT_TIMEOUT_S)
            on_failure.callback(connection.close)
            connection.request("GET", _path(address), headers=_credentials(address))
            held = connection.sock  # the connection drops its reference as soon as the response begins
            held.settimeout(SILENCE_TIMEOUT_S)
            response = on_failure.enter_context(connection.getresponse())
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise InputError(f"no answer: {error}", "check the address, and that the sender is running") from None
        if response.status != http.client.OK:
            raise InputError(f"the server answered {response.status} {response.reason}", "check path and password")
        found = _BOUNDARY.search(response.headers.get("Content-Type", ""))
        if found is None:
            return None
        on_failure.pop_all()
        return MjpegTap(held, response, found[1].strip().strip("-").encode("latin-1"))


def _path(address: SplitResult) -> str:
    return (address.path or "/") + (f"?{address.query}" if address.query else "")


def _credentials(address: SplitResult) -> dict[str, str]:
    if address.username is None:
        return {}
    pair = f"{unquote(address.username)}:{unquote(address.password or '')}"
    return {"Authorization": "Basic " + base64.b64encode(pair.encode()).decode()}


def _size(text: bytes) -> int | None:
    if not text:
        return None
    if not text.isdigit() or len(text) > MAX_SIZE_DIGITS or int(text) > MAX_PICTURE_BYTES:
        raise _invalid_mjpeg(f"a part of {text[:20].decode('latin-1')!r} bytes")
    return int(text)


def _ended() -> CameraLost:
    return CameraLost("the stream ended", "is the sender still running?")


def _invalid_mjpeg(what: str) -> CameraLost:
    return CameraLost(f"the stream is not valid MJPEG: {what}", "does a browser show it?")
