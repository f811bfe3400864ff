"""A network camera that can be made to misbehave: MJPEG over HTTP."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable
from contextlib import suppress

import cv2
import numpy as np

BOUNDARY = b"picture"


class NetworkCamera:
    """Serves frames of random noise; attributes set its faults. `address` is a value of `--camera`."""

    def __init__(self, size: int = 96) -> None:
        self.size = size
        self.rate_hz = 30.0
        self.is_hung = False
        """True: the connection stays open, but no more frames are sent."""
        self.is_offline = False
        """True: the connection ends and no new one is accepted."""
        self.is_frozen = False
        """True: the same frame is repeated."""
        self.is_black = False
        self.truncate_every = 0
        """Every nth frame stops after two thirds of its bytes; 0: none."""
        self.connections = 0
        self._sent = 0
        self._rng = np.random.default_rng(0)
        self._ended = threading.Event()
        stream = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if stream.is_offline:
                    self.send_error(503)
                    return
                self.send_response(200)
                self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY.decode()}")
                self.end_headers()
                with suppress(OSError):  # the client has disconnected
                    stream.send(self.wfile.write)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing is logged."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1})
        self._thread.start()
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/stream.mjpg"

    def send(self, write: Callable[[bytes], object]) -> None:
        self.connections += 1
        jpeg = self._jpeg()
        while not (self._ended.is_set() or self.is_offline):
            if not self.is_hung:
                jpeg = jpeg if self.is_frozen else self._jpeg()
                self._sent += 1
                if self.truncate_every and self._sent % self.truncate_every == 0:
                    jpeg = jpeg[: len(jpeg) * 2 // 3]
                head = b"--%b\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % (BOUNDARY, len(jpeg))
                write(head + jpeg + b"\r\n")
            self._ended.wait(1 / self.rate_hz)

    def end(self) -> None:
        """Close every connection."""
        self._ended.set()

    def close(self) -> None:
        self.end()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _jpeg(self) -> bytes:
        brightest = 0 if self.is_black else 255
        image = self._rng.integers(0, brightest, (self.size, self.size, 3), np.uint8, endpoint=True)
        return cv2.imencode(".jpg", image)[1].tobytes()
