"""Network cameras: real HTTP servers that work, are slow, stop sending, disconnect, return, or are not cameras."""

from __future__ import annotations

import base64
import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest

from sefa_edge.edge.cameras.camera import CameraLost, CameraRequest, CameraSource, Frame, parse_address
from sefa_edge.edge.cameras.camera_process import ReconnectingCamera
from sefa_edge.edge.cameras.opening import make_source
from sefa_edge.edge.pictures import VideoFile, write_picture
from sefa_edge.profiles.errors import InputError

Handler: TypeAlias = http.server.BaseHTTPRequestHandler
PATIENCE_S = 60.0
MULTIPART = "multipart/x-mixed-replace; boundary=frame"


class Server(http.server.ThreadingHTTPServer):
    """Answers every request with `answer`; closing the server interrupts it."""

    daemon_threads = True

    def __init__(self, answer: Callable[[Handler], None], port: int = 0) -> None:
        class Answering(Handler):
            def do_GET(self) -> None:
                with suppress(OSError):  # the reader has disconnected
                    answer(self)

            def log_message(self, format: str, *args: object) -> None:
                """Quiet."""

        super().__init__(("127.0.0.1", port), Answering)
        self.closing = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/cam"

    def close(self) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()


StartServer = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[StartServer]:
    servers: list[Server] = []

    def start(answer: Callable[[Handler], None], port: int = 0) -> Server:
        servers.append(Server(answer, port))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="module")
def jpegs(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Ten pictures [48, 64, 3]; number i has the brightness 20 * (i + 1)."""
    path = tmp_path_factory.mktemp("jpegs") / "level.jpg"
    contents = []
    for level in range(20, 220, 20):
        write_picture(path, np.full((48, 64, 3), level, np.uint8))
        contents.append(path.read_bytes())
    return contents


def begin(handler: Handler, content_type: str = MULTIPART) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", content_type)
    handler.end_headers()


def part(content: bytes, boundary: bytes = b"--frame", size: bytes | None = None) -> bytes:
    size = b"%d" % len(content) if size is None else size
    length = b"Content-Length: %s\r\n" % size if size else b""
    return b"%s\r\nContent-Type: image/jpeg\r\n%s\r\n%s\r\n" % (boundary, length, content)


def asleep(handler: Handler) -> None:
    """Send nothing more until the server closes."""
    assert isinstance(handler.server, Server)
    handler.server.closing.wait(PATIENCE_S)


def opened(address: str) -> CameraSource:
    source = make_source(CameraRequest("front", parse_address(address), 30.0, 96, 96))
    source.open()
    return source


def level(frame: Frame | None) -> int:
    assert frame is not None
    assert frame.image.shape == (48, 64, 3)
    return int(round(float(frame.image.mean()), -1))


def until_lost(source: CameraSource) -> tuple[list[int], str]:
    """The brightness of every picture, and the reason why none follows."""
    levels = []
    try:
        while True:
            levels.append(level(source.read()))
    except CameraLost as lost:
        return levels, str(lost)
    finally:
        source.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content_type", "size"),
    [
        (MULTIPART, None),
        ('multipart/x-mixed-replace;boundary="--frame"', None),
        (MULTIPART, b""),
    ],
    ids=["plain", "dashes in the name", "no sizes"],
)
def test_pictures_until_the_stream_ends(
    serve: StartServer, jpegs: list[bytes], content_type: str, size: bytes | None
) -> None:
    def answer(handler: Handler) -> None:
        begin(handler, content_type)
        for content in jpegs:
            time.sleep(0.01)
            handler.wfile.write(part(content, size=size))
        handler.wfile.write(b"--frame--\r\n")

    server = serve(answer)
    levels, reason = until_lost(opened(server.address))
    assert reason == f"stream {server.address}: the stream ended"
    assert levels
    assert levels == sorted(set(levels))
    assert set(levels) <= set(range(20, 220, 20))


@pytest.mark.slow
def test_only_the_newest_frame_is_returned(serve: StartServer, jpegs: list[bytes]) -> None:
    asked, sent = threading.Event(), threading.Event()

    def answer(handler: Handler) -> None:
        begin(handler)
        for content in jpegs[:9] * 30:
            handler.wfile.write(part(content))
        sent.set()
        asked.wait(PATIENCE_S)
        while True:
            time.sleep(0.01)
            handler.wfile.write(part(jpegs[9]))

    source = opened(serve(answer).address)
    assert sent.wait(PATIENCE_S)
    time.sleep(0.3)  # far more than it takes to empty a socket
    asked.set()
    before_ns = time.monotonic_ns()
    frame = source.read()
    source.close()
    assert level(frame) == 200
    assert frame is not None
    assert before_ns < frame.capture_ns <= time.monotonic_ns()


@pytest.mark.slow
def test_a_stream_that_stops_sending_is_lost(serve: StartServer, jpegs: list[bytes]) -> None:
    def answer(handler: Handler) -> None:
        begin(handler)
        for _ in range(20):
            time.sleep(0.01)
            handler.wfile.write(part(jpegs[0]))
        asleep(handler)

    levels, reason = until_lost(opened(serve(answer).address))
    assert set(levels) == {20}
    assert "nothing arrived within 1000 ms" in reason or "timed out" in reason


def test_a_stream_that_disconnects_and_reconnects(serve: StartServer, jpegs: list[bytes]) -> None:
    def always(content: bytes) -> Callable[[Handler], None]:
        def answer(handler: Handler) -> None:
            begin(handler)
            assert isinstance(handler.server, Server)
            while not handler.server.closing.wait(0.01):
                handler.wfile.write(part(content))

        return answer

    server = serve(always(jpegs[0]))
    source = make_source(CameraRequest("front", parse_address(server.address), 30.0, 96, 96))
    camera = ReconnectingCamera("front", source)
    camera.open()
    assert level(camera.read()) == 20
    server.close()
    while not camera.is_lost:
        camera.read()
    assert camera.read() is None  # no server
    serve(always(jpegs[9]), server.server_port)
    while (frame := camera.read()) is None:
        time.sleep(0.01)
    camera.close()
    assert level(frame) == 200
    assert camera.reconnections == 1


def test_a_damaged_picture_is_skipped(serve: StartServer, jpegs: list[bytes]) -> None:
    def answer(handler: Handler) -> None:
        begin(handler)
        for _ in range(5):
            time.sleep(0.01)
            handler.wfile.write(part(b"\xff\xd8 no picture"))
        time.sleep(0.01)
        handler.wfile.write(part(jpegs[4]))
        asleep(handler)

    source = opened(serve(answer).address)
    assert level(source.read()) == 100
    source.close()


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"--frame\r\n" + b"X: y\r\n" * 1000, "a header without an end"),
        (b"--frame\r\nContent-Length: 99999999999999999999\r\n\r\n", "a part of '99999999999999999999' bytes"),
        (b"--frame\r\nContent-Length: 20000000\r\n\r\n", "a part of '20000000' bytes"),
        (b"--frame\r\nContent-Length: -5\r\n\r\n", "a part of '-5' bytes"),
        (b"--frame\r\n\r\n" + b"endless " * (3 << 20), "a part without an end"),
        (b"--frame\r\nContent-Length: 500\r\n\r\nshort", "the stream ended"),
        (b"x" * 100_000, "the stream ended"),
        (b"", "the stream ended"),
    ],
)
def test_an_invalid_stream_is_lost_with_the_reason(serve: StartServer, body: bytes, complaint: str) -> None:
    def answer(handler: Handler) -> None:
        begin(handler)
        handler.wfile.write(body)

    source = opened(serve(answer).address)
    with pytest.raises(CameraLost, match=complaint):
        source.read()
    source.close()


def test_a_password_is_sent_and_never_shown(serve: StartServer, jpegs: list[bytes]) -> None:
    expected = "Basic " + base64.b64encode(b"pi:rasp/berry").decode()

    def answer(handler: Handler) -> None:
        if handler.headers["Authorization"] != expected:
            handler.send_error(401)
            return
        begin(handler)
        while True:
            time.sleep(0.01)
            handler.wfile.write(part(jpegs[0]))

    port = serve(answer).server_port
    source = opened(f"http://pi:rasp%2Fberry@127.0.0.1:{port}/cam")
    assert level(source.read()) == 20
    source.close()
    with pytest.raises(
        InputError, match=f"stream http://127.0.0.1:{port}/cam cannot be opened: the server answered 401"
    ):
        opened(f"http://pi:apple@127.0.0.1:{port}/cam")


def test_no_server(serve: StartServer) -> None:
    server = serve(lambda handler: None)
    server.close()
    with pytest.raises(InputError, match="cannot be opened: no answer") as caught:
        opened(server.address)
    assert caught.value.hint
    with pytest.raises(InputError, match="cannot be opened: no answer"):
        opened("http://127.0.0.1:notaport/cam")


@pytest.mark.slow
def test_a_video_at_an_address_is_read_by_ffmpeg(serve: StartServer, tmp_path: Path) -> None:
    video = VideoFile(tmp_path / "clip.avi", 100.0, 48, 64)
    for _ in range(100):
        video.append(np.full((48, 64, 3), 120, np.uint8))
    video.close()
    content = (tmp_path / "clip.avi").read_bytes()

    def answer(handler: Handler) -> None:
        begin(handler, "video/x-msvideo")
        for start in range(0, len(content), len(content) // 100):
            time.sleep(0.005)
            handler.wfile.write(content[start : start + len(content) // 100])

    levels, reason = until_lost(opened(serve(answer).address))
    assert set(levels) == {120}
    assert "the stream ended" in reason


def test_empty_and_cut_parts_are_skipped_and_the_cut_ones_counted(serve: StartServer, jpegs: list[bytes]) -> None:
    def answer(handler: Handler) -> None:
        begin(handler)
        assert isinstance(handler.server, Server)
        while not handler.server.closing.wait(0.005):
            for content in (b"", jpegs[0][:-30], jpegs[9]):
                handler.wfile.write(part(content))

    source = opened(serve(answer).address)
    levels = {level(source.read()) for _ in range(20)}
    source.close()
    assert levels == {200}
    assert source.damage.images > 0


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("size", [None, b""], ids=["sizes", "no sizes"])
def test_a_stream_of_only_truncated_pictures_reports_it(
    serve: StartServer, jpegs: list[bytes], size: bytes | None
) -> None:
    def answer(handler: Handler) -> None:
        begin(handler)
        assert isinstance(handler.server, Server)
        handler.wfile.write(part(jpegs[0], size=size) * 3)
        while not handler.server.closing.wait(0.02):
            handler.wfile.write(part(jpegs[0][: len(jpegs[0]) // 2], size=size))

    levels, reason = until_lost(opened(serve(answer).address))
    assert set(levels) <= {20}
    assert "no intact picture arrived within" in reason
    assert "damaged ones" in reason


@pytest.mark.parametrize("wrong_by", [-2, -100, 2, 40])
def test_sizes_that_are_wrong(serve: StartServer, jpegs: list[bytes], wrong_by: int) -> None:
    """Too small by less than a picture: the rest is read. Too large: the next part is skipped."""

    def answer(handler: Handler) -> None:
        begin(handler)
        assert isinstance(handler.server, Server)
        while not handler.server.closing.wait(0.005):
            for content in jpegs:
                handler.wfile.write(part(content, size=b"%d" % (len(content) + wrong_by)))

    source = opened(serve(answer).address)
    levels = {level(source.read()) for _ in range(10)}
    source.close()
    assert levels <= set(range(20, 220, 20))
    assert source.damage.images == 0


def test_a_size_of_zero_before_a_picture(serve: StartServer, jpegs: list[bytes]) -> None:
    def answer(handler: Handler) -> None:
        begin(handler)
        assert isinstance(handler.server, Server)
        while not handler.server.closing.wait(0.01):
            handler.wfile.write(part(jpegs[4], size=b"0") + part(b"", size=b"0"))

    source = opened(serve(answer).address)
    assert [level(source.read()) for _ in range(3)] == [100] * 3
    source.close()
    assert source.damage.images == 0


@pytest.mark.parametrize("size", [None, b""], ids=["sizes", "no sizes"])
def test_a_stream_that_arrives_in_small_pieces(serve: StartServer, jpegs: list[bytes], size: bytes | None) -> None:
    """Boundaries, headers and pictures are split anywhere by the network."""

    def answer(handler: Handler) -> None:
        begin(handler)
        handler.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert isinstance(handler.server, Server)
        while not handler.server.closing.is_set():
            content = part(jpegs[2], size=size)
            for start in range(0, len(content), 7):
                handler.wfile.write(content[start : start + 7])

    source = opened(serve(answer).address)
    assert [level(source.read()) for _ in range(3)] == [60] * 3
    source.close()
    assert source.damage.images == 0


def test_a_boundary_without_a_line_break_before_it(serve: StartServer, jpegs: list[bytes]) -> None:
    def answer(handler: Handler) -> None:
        begin(handler)
        assert isinstance(handler.server, Server)
        handler.wfile.write(b"--frame\r\n")
        while not handler.server.closing.wait(0.01):
            handler.wfile.write(b"Content-Type: image/jpeg\r\n\r\n" + jpegs[4] + b"--frame\r\n")

    source = opened(serve(answer).address)
    assert [level(source.read()) for _ in range(3)] == [100] * 3
    source.close()
