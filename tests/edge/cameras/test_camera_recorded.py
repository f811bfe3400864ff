"""A recording as a camera: its pictures at their original rate, in a loop."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.cameras.camera import CameraRequest, CameraSource, parse_address
from sefa_edge.edge.cameras.opening import make_source
from sefa_edge.edge.control.control_process import ControlConfig
from sefa_edge.edge.ipc.record_json import schema_of, to_json
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.edge.pictures import encode_png
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.card import load_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.units import ms_to_ns

pytest.importorskip("mcap")

PERIOD_NS = ms_to_ns(10)


def record(path: Path, engine: Path, pictures: dict[str, list[np.ndarray | bytes]]) -> None:
    """A recording of only pictures, one every 10 ms."""
    from sefa_edge.edge.recording.mcap_file import McapWriter
    from sefa_edge.edge.recording.topics import FORMAT, Picture, picture_of, picture_topic

    control = ControlConfig(arm="so101_sim", port="", calibration=None, horizon=16, supervisor_fd=0, policy_fd=0)
    writer = McapWriter(path)
    writer.describe("run", {"engine": str(engine), "format": FORMAT})
    writer.attach("card.json", load_card(engine).model_dump_json().encode(), 0)
    writer.attach("arm.json", load_arm_profile("so101_sim").model_dump_json().encode(), 0)
    writer.attach("control.json", control.model_dump_json().encode(), 0)
    for camera, shots in pictures.items():
        channel = writer.add_topic(picture_topic(camera), "foxglove.CompressedImage", schema_of(Picture))
        for index, shot in enumerate(shots):
            stamp_ns = index * PERIOD_NS
            frame = FrameDescriptor(0, index, stamp_ns, stamp_ns, stamp_ns)
            png = shot if isinstance(shot, bytes) else encode_png(shot)
            writer.write(channel, stamp_ns, to_json(picture_of(camera, frame, png, stamp_ns)))
    writer.close()


def noise(count: int, seed: int) -> list[np.ndarray | bytes]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 48, 64, 3), np.uint8))


def opened(target: Path, camera: str) -> CameraSource:
    source = make_source(CameraRequest(camera, parse_address(f"run:{target}"), 30.0, 96, 96))
    source.open()
    return source


@pytest.mark.slow
def test_the_pictures_of_that_camera_bit_for_bit_and_again(tmp_path: Path, two_camera_engine: Path) -> None:
    front, side = noise(4, 1), noise(3, 2)
    record(tmp_path / "run.mcap", two_camera_engine, {"front": front, "side": side})
    source = opened(tmp_path, "side")  # a folder: its newest recording
    frames = [source.read() for _ in range(5)]
    source.close()
    for frame, expected in zip(frames, [*side, *side[:2]], strict=True):
        assert frame is not None
        np.testing.assert_array_equal(frame.image, expected)
    stamps = [frame.capture_ns for frame in frames if frame]
    assert all(later - sooner >= PERIOD_NS for sooner, later in pairwise(stamps))
    assert stamps[-1] <= time.monotonic_ns()


def test_a_truncated_recording_is_played_up_to_its_end(tmp_path: Path, reach_engine: Path) -> None:
    record(tmp_path / "run.mcap", reach_engine, {"front": noise(120, 3)})
    content = (tmp_path / "run.mcap").read_bytes()
    (tmp_path / "cut.mcap").write_bytes(content[: len(content) * 2 // 3])
    source = opened(tmp_path / "cut.mcap", "front")
    assert source.read() is not None
    source.close()


def test_a_recording_without_this_camera_is_refused(tmp_path: Path, reach_engine: Path) -> None:
    record(tmp_path / "run.mcap", reach_engine, {"front": noise(1, 4)})
    with pytest.raises(InputError, match="contains no pictures of camera 'side'") as caught:
        opened(tmp_path / "run.mcap", "side")
    assert caught.value.hint == "cameras in that recording: front"
    (tmp_path / "noise.mcap").write_bytes(os.urandom(1000))
    for target, complaint in (("absent.mcap", "does not exist"), ("noise.mcap", "is not a recording")):
        with pytest.raises(InputError, match=complaint):
            opened(tmp_path / target, "front")


@pytest.mark.slow
def test_a_truncated_recorded_picture_is_damaged(tmp_path: Path, reach_engine: Path) -> None:
    first, second, third = noise(3, 5)
    assert isinstance(second, np.ndarray)
    record(tmp_path / "run.mcap", reach_engine, {"front": [first, encode_png(second)[:-30], third]})
    source = opened(tmp_path / "run.mcap", "front")
    frames = [source.read() for _ in range(4)]
    source.close()
    assert [frame is not None for frame in frames] == [True, False, True, True]
    assert source.damage.images == 1
