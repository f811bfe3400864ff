"""A network camera for any program: the moving test picture as an HTTP stream of JPEGs, 640x480.

python profiles/benchmarks/picture_stream.py [--rate 30]        prints its address; ends with its parent
"""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from sefa_edge.edge.cameras.test_picture import PICTURES, draw_test_picture
from sefa_edge.edge.pictures import encode_jpeg
from sefa_edge.profiles.parent import die_with_parent
from sefa_edge.profiles.quantities import PICTURE_RATE_HZ
from sefa_edge.profiles.units import NS_PER_S, period_ns

BOUNDARY = "picture"


class PictureStream(BaseHTTPRequestHandler):
    """Sends images on a fixed time grid until the reader disconnects."""

    pictures: tuple[bytes, ...] = ()
    period_ns = period_ns(30.0)

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self._send_pictures()

    def log_message(self, format: str, *args: object) -> None:
        """Do not log."""

    def _send_pictures(self) -> None:
        origin_ns, sequence = time.monotonic_ns(), 0
        while True:
            content = self.pictures[sequence % len(self.pictures)]
            head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(content)}\r\n\r\n"
            self.wfile.write(head.encode() + content + b"\r\n")
            sequence += 1
            time.sleep(max(origin_ns + sequence * self.period_ns - time.monotonic_ns(), 0) / NS_PER_S)


def main() -> None:
    parser = argparse.ArgumentParser(description="The moving test picture as an HTTP stream.")
    parser.add_argument("--rate", type=PICTURE_RATE_HZ.parse, default=30.0, metavar="HZ", help="pictures per second")
    PictureStream.period_ns = period_ns(parser.parse_args().rate)
    PictureStream.pictures = tuple(encode_jpeg(draw_test_picture(index)) for index in range(PICTURES))
    die_with_parent(os.getppid())
    with ThreadingHTTPServer(("127.0.0.1", 0), PictureStream) as server:
        server.daemon_threads = True
        print(f"http://127.0.0.1:{server.server_port}/test.mjpg", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
