"""The camera process on real sources that fail and return: what is published, what is counted, when it gives up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.cameras.camera import CameraAddress, CameraRequest, Frame
from sefa_edge.edge.cameras.camera_process import CameraConfig, CameraLosses, FramePublisher, ReconnectingCamera
from sefa_edge.edge.cameras.opening import make_source
from sefa_edge.edge.ipc.process import Child, ChildSpec
from sefa_edge.edge.ipc.transport import FrameDescriptor, FrameRing, channel_pair
from sefa_edge.edge.pictures import write_picture
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.resize import resize_to_policy

PATIENCE_S = 60.0


class Bench:
    """A camera process with the test as its reader."""

    def __init__(self, address: str) -> None:
        self.ring = FrameRing.create(24, 32)
        self.channel, far = channel_pair()
        config = CameraConfig(
            name="front", address=address, rate_hz=100.0, height=24, width=32, ring_fd=self.ring.fd,
            reader_fds=[far.fileno()],
        )  # fmt: skip
        module = "sefa_edge.edge.cameras.camera_process"
        self.child = Child(ChildSpec("camera", module, config.to_json(), (self.ring.fd, far.fileno())))
        far.close()

    def next(self) -> FrameDescriptor:
        assert self.channel.wait(PATIENCE_S)
        record = self.channel.receive()
        assert record is not None
        return FrameDescriptor.unpack(record)

    def until(self, condition: Callable[[FrameDescriptor], bool]) -> FrameDescriptor:
        give_up = time.monotonic() + PATIENCE_S
        while not condition(descriptor := self.next()):
            assert time.monotonic() < give_up
        return descriptor

    def level(self, descriptor: FrameDescriptor) -> int | None:
        picture = self.ring.read(descriptor)
        return None if picture is None else round(float(picture.mean()))

    def close(self) -> None:
        self.channel.close()
        self.child.stop(0.0)
        self.child.close()
        self.ring.close()


StartBench = Callable[[str], Bench]


@pytest.fixture
def start() -> Iterator[StartBench]:
    benches: list[Bench] = []

    def start_bench(address: str) -> Bench:
        benches.append(Bench(address))
        return benches[-1]

    yield start_bench
    for bench in benches:
        bench.close()


def write_level(path: Path, level: int, height: int = 48, width: int = 64) -> None:
    """A picture of one brightness, put in place as a whole."""
    write_picture(path.with_suffix(".new.png"), np.full((height, width, 3), level, np.uint8))
    os.replace(path.with_suffix(".new.png"), path)


def lasting(folder: Path, **give_up: int) -> ReconnectingCamera:
    request = CameraRequest("front", CameraAddress("images", str(folder)), 1000.0, 24, 32)
    return ReconnectingCamera("front", make_source(request), **give_up)


@pytest.mark.slow
def test_frames_have_the_policys_size_and_repeated_dark_ones_are_detected(start: StartBench, tmp_path: Path) -> None:
    write_level(tmp_path / "only.png", 7)
    bench = start(f"images:{tmp_path}")
    first = bench.next()
    assert (first.sequence, first.still_ns, first.dark_ns, first.reconnections) == (1, 0, 0, 0)
    assert bench.level(first) == 7
    before, later = bench.next(), bench.next()
    while later.still_ns == 0:
        before, later = later, bench.next()
    assert later.still_ns == later.dark_ns == before.capture_ns - first.capture_ns
    assert first.capture_ns <= first.received_ns <= first.published_ns < later.capture_ns <= time.monotonic_ns()


@pytest.mark.slow
def test_a_camera_that_disconnects_and_reconnects(start: StartBench, tmp_path: Path) -> None:
    folder = tmp_path / "camera"
    folder.mkdir()
    write_level(folder / "a.png", 50)
    bench = start(f"images:{folder}")
    before = bench.next()
    folder.rename(tmp_path / "unplugged")
    time.sleep(0.3)  # at least one attempt to open it fails
    write_level(tmp_path / "unplugged" / "a.png", 200)
    (tmp_path / "unplugged").rename(folder)
    after = bench.until(lambda descriptor: descriptor.reconnections > 0)
    assert after.reconnections == 1
    assert bench.level(after) == 200
    assert after.sequence > before.sequence
    assert after.capture_ns > before.capture_ns
    assert bench.child.exit_code is None


@pytest.mark.slow
def test_a_lost_camera_without_readers_exits(start: StartBench, tmp_path: Path) -> None:
    folder = tmp_path / "camera"
    folder.mkdir()
    write_level(folder / "a.png", 50)
    bench = start(f"images:{folder}")
    bench.next()
    folder.rename(tmp_path / "unplugged")
    bench.channel.close()
    assert bench.child.wait(PATIENCE_S) == 0


@pytest.mark.slow
def test_a_camera_missing_at_the_start_is_not_waited_for(start: StartBench, tmp_path: Path) -> None:
    bench = start(f"images:{tmp_path / 'absent'}")
    assert bench.child.wait(PATIENCE_S) == 2
    assert "absent is not a folder" in str(bench.child.failure())


def test_a_camera_that_never_delivered_a_frame_is_not_reopened(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    camera = lasting(tmp_path)
    camera.open()
    with pytest.raises(InputError, match="not a picture"):
        camera.read()


def test_a_camera_that_does_not_return_is_given_up_with_the_reason(tmp_path: Path) -> None:
    write_level(tmp_path / "a.png", 50)
    camera = lasting(tmp_path, give_up_ns=0)
    camera.open()
    assert camera.read() is not None
    (tmp_path / "a.png").unlink()
    with pytest.raises(InputError, match=r"a\.png does not exist"):
        camera.read()
    assert camera.is_lost
    camera.close()


def test_pictures_of_another_size_are_not_published(tmp_path: Path) -> None:
    for index, height in enumerate((48, 24, 48, 24, 24)):
        write_level(tmp_path / f"{index}.png", 50 + index, height)
    camera = lasting(tmp_path)
    camera.open()
    frames = [camera.read() for _ in range(5)]
    assert [frame is not None for frame in frames] == [True, False, True, False, False]
    assert all(frame is None or frame.image.shape == (48, 64, 3) for frame in frames)
    camera.close()


def test_a_camera_that_stays_at_another_size_is_lost(tmp_path: Path) -> None:
    for index, height in enumerate((48, 24, 24, 24, 24)):
        write_level(tmp_path / f"{index}.png", 50, height)
    camera = lasting(tmp_path, give_up_ns=0)
    camera.open()
    assert camera.read() is not None
    assert camera.read() is camera.read() is None
    with pytest.raises(InputError, match="changed its picture size from 64 x 48 to 64 x 24") as caught:
        camera.read()
    assert caught.value.exit_code == 3


@pytest.mark.slow
@pytest.mark.parametrize("policy", [(96, 96), (224, 224)])
@pytest.mark.parametrize("source", [(480, 640), (240, 320), (720, 1280), (486, 731)])
def test_the_ring_contains_the_whole_picture_averaged_by_area_as_in_training(
    source: tuple[int, int], policy: tuple[int, int]
) -> None:
    picture = np.random.default_rng(source[0]).integers(0, 256, (*source, 3), np.uint8)
    ring, (near, far) = FrameRing.create(*policy), channel_pair()
    FramePublisher(ring, [near]).publish(Frame("front", 1, 5, 6, picture), CameraLosses())
    published = ring.read(FrameDescriptor.unpack(far.newest() or b""))
    assert published is not None
    np.testing.assert_array_equal(published, resize_to_policy(picture, *policy))  # what calibration data goes through
    rows, columns = area_weights(source[0], policy[0]), area_weights(source[1], policy[1])
    narrow = rows @ picture.reshape(source[0], -1).astype(np.float32)  # [h, W * 3]
    expected = columns @ narrow.reshape(policy[0], source[1], 3)
    np.testing.assert_allclose(published, expected, atol=1.01)
    near.close()
    far.close()
    ring.close()


def area_weights(source: int, target: int) -> np.ndarray:
    """float32 [target, source]: which share of each source pixel an output pixel averages."""
    edges = np.linspace(0, source, target + 1)
    pixels = np.arange(source)
    covered = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (covered.clip(0) * target / source).astype(np.float32)


@pytest.mark.slow
def test_damaged_pictures_are_counted_up_to_the_reader(start: StartBench, tmp_path: Path) -> None:
    write_level(tmp_path / "a.png", 50)
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-20])
    bench = start(f"images:{tmp_path}")
    assert bench.next().damaged == 0
    assert bench.until(lambda descriptor: descriptor.damaged >= 3).reconnections == 0


def test_a_camera_with_only_damaged_pictures_reports_it(tmp_path: Path) -> None:
    write_level(tmp_path / "a.png", 50)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-20])
    camera = lasting(tmp_path)
    camera.open()
    assert camera.read() is camera.read() is None
    with pytest.raises(InputError, match=r"camera front delivers only damaged pictures \(3 since"):
        camera.read()
