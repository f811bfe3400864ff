"""Camera addresses, sizes, time stamps, and the file back ends with real files."""

from __future__ import annotations

import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from sefa_edge.edge.cameras.camera import CameraAddress, CameraRequest, parse_address
from sefa_edge.edge.cameras.opening import make_source
from sefa_edge.edge.pictures import VideoFile, captioned, read_picture, write_picture
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.resize import MOST_ROWS, resize_to_policy


def request(address: CameraAddress, rate_hz: float = 1000.0) -> CameraRequest:
    return CameraRequest("front", address, rate_hz, 96, 96)


@pytest.mark.parametrize(
    ("word", "kind", "target"),
    [
        ("sim", "sim", ""),
        ("sim:/tmp/world.state", "sim", "/tmp/world.state"),
        ("/dev/video0", "v4l2", "/dev/video0"),
        ("v4l2:/dev/v4l/by-id/usb-cam", "v4l2", "/dev/v4l/by-id/usb-cam"),
        ("file:clip.mp4", "file", "clip.mp4"),
        ("images:frames", "images", "frames"),
        ("http://10.0.0.1:8080/cam", "stream", "http://10.0.0.1:8080/cam"),
        ("rtsp://10.0.0.1/cam", "stream", "rtsp://10.0.0.1/cam"),
        ("run:runs/run-1.mcap", "run", "runs/run-1.mcap"),
    ],
)
def test_camera_addresses(word: str, kind: str, target: str) -> None:
    assert parse_address(word) == CameraAddress(kind, target)


@pytest.mark.parametrize("word", ["", "video0", "usb:0", "file:", "0"])
def test_invalid_camera_addresses(word: str) -> None:
    with pytest.raises(InputError, match="is not a camera"):
        parse_address(word)


def test_a_picture_of_the_right_size_is_not_changed() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    assert resize_to_policy(picture, 96, 96) is picture


def test_resizing_averages_areas_of_the_whole_picture() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    picture[:2, :2] = [[[0], [100]], [[100], [200]]]
    resized = resize_to_policy(picture, 2, 2)
    np.testing.assert_array_equal(resized, [[[100] * 3, [0] * 3], [[0] * 3, [0] * 3]])


@pytest.mark.parametrize(
    "source", [(480, 640), (960, 1280), (192, 96), (480, 31), (479, 640), (24672, 96), (24768, 96)]
)
def test_rows_that_are_added_first_change_no_mean(source: tuple[int, int]) -> None:
    picture = np.random.default_rng(source[0]).integers(0, 256, (*source, 3), np.uint8)
    resized = resize_to_policy(picture, 96, 96)
    in_one_step = cv2.resize(picture, (96, 96), interpolation=cv2.INTER_AREA)
    apart = np.abs(resized.astype(int) - in_one_step)
    assert apart.max() <= 1
    assert np.count_nonzero(apart) <= 0.01 * apart.size


def test_the_brightest_picture_does_not_overflow() -> None:
    white = np.full((MOST_ROWS * 4, 8, 3), 255, np.uint8)
    np.testing.assert_array_equal(resize_to_policy(white, 4, 4), np.full((4, 4, 3), 255))


def test_an_image_folder_is_played_in_order_in_a_loop(tmp_path: Path) -> None:
    colours = ([255, 0, 0], [0, 255, 0], [0, 0, 255])
    for index, colour in enumerate(colours):
        write_picture(tmp_path / f"{index}.png", np.full((8, 8, 3), colour, np.uint8))
    source = make_source(request(CameraAddress("images", str(tmp_path))))
    source.open()
    frames = [source.read() for _ in range(4)]
    source.close()
    assert [tuple(frame.image[0, 0]) for frame in frames if frame] == [tuple(colours[i]) for i in (0, 1, 2, 0)]
    stamps = [frame.capture_ns for frame in frames if frame]
    assert stamps == sorted(stamps)
    assert stamps[-1] <= time.monotonic_ns()


def test_video_file_starts_again_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    video = VideoFile(path, 500.0, 32, 48)
    for level in (40, 200):
        video.append(np.full((32, 48, 3), level, np.uint8))
    video.close()
    source = make_source(request(CameraAddress("file", str(path))))
    source.open()
    levels = [round(float(frame.image.mean()), -1) for frame in (source.read() for _ in range(4)) if frame]
    source.close()
    assert levels == [40, 200, 40, 200]


def test_pictures_keep_their_colours_and_take_a_caption(tmp_path: Path) -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[..., 0] = 250
    write_picture(tmp_path / "red.png", picture)
    np.testing.assert_array_equal(read_picture(tmp_path / "red.png"), picture)
    assert captioned(picture, "lift").shape == picture.shape
    assert (captioned(picture, "lift")[:30] == picture[:30]).all()


def test_absent_sources_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="/dev/video97 does not exist"):
        make_source(request(CameraAddress("v4l2", "/dev/video97"))).open()
    with pytest.raises(InputError, match="contains no pictures"):
        make_source(request(CameraAddress("images", str(tmp_path)))).open()
    with pytest.raises(InputError, match="cannot be opened"):
        make_source(request(CameraAddress("file", str(tmp_path / "absent.mp4")))).open()


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_a_truncated_picture_in_a_folder_is_counted_as_damaged(tmp_path: Path, ending: str) -> None:
    for index, shade in enumerate((40, 90, 200)):
        write_picture(tmp_path / f"{index}{ending}", np.full((48, 64, 3), shade, np.uint8))
    middle = tmp_path / f"1{ending}"
    middle.write_bytes(middle.read_bytes()[:-20])
    source = make_source(request(CameraAddress("images", str(tmp_path))))
    source.open()
    frames = [source.read() for _ in range(4)]
    source.close()
    assert [None if frame is None else round(float(frame.image.mean()), -1) for frame in frames] == [40, None, 200, 40]
    assert [frame.sequence for frame in frames if frame] == [1, 2, 3]
    assert source.damage.images == 1


def test_a_truncated_jpeg_in_a_motion_jpeg_file_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "clip.avi"
    video = VideoFile(path, 500.0, 32, 48)
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 48, 3), np.uint8)
    for picture in noise:
        video.append(picture)
    video.close()
    content = path.read_bytes()
    start = content.index(b"\xff\xd8", content.index(b"\xff\xd9"))
    end = content.index(b"\xff\xd9", start) + 2
    path.write_bytes(content[: end - 200] + bytes(200) + content[end:])  # as long as before, its end overwritten
    source = make_source(request(CameraAddress("file", str(path))))
    source.open()
    frames = [source.read() for _ in range(4)]
    source.close()
    assert [frame is not None for frame in frames] == [True, False, True, True]
    assert source.damage.images == 1
