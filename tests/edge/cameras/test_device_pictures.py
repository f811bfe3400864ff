"""Decoding of device formats: packed 4:2:2 with padded rows, JPEG with and without tables; pipelines as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sefa_edge.edge.cameras.camera import CameraRequest, parse_address
from sefa_edge.edge.cameras.gstreamer import csi_pipeline, user_pipeline
from sefa_edge.edge.cameras.opening import make_source
from sefa_edge.edge.pictures import PictureLayout, has_gstreamer, rgb_of, write_picture
from sefa_edge.profiles.errors import InputError, MissingError

HUFFMAN_TABLE = b"\xff\xc4"


def packed(luma: np.ndarray, padding: int = 0) -> np.ndarray:
    """A grey picture [H, W] as YUYV with `padding` bytes after each row."""
    height, width = luma.shape
    rows = np.full((height, 2 * width + padding), 128, np.uint8)
    rows[:, : 2 * width : 2] = luma
    return rows.reshape(-1)


def jpeg(tmp_path: Path, picture: np.ndarray) -> np.ndarray:
    path = tmp_path / "picture.jpg"
    write_picture(path, picture)
    return np.frombuffer(path.read_bytes(), np.uint8)


@pytest.mark.parametrize("padding", [0, 24])
def test_rows_may_be_padded(padding: int) -> None:
    luma = np.linspace(16, 235, 48 * 64).reshape(48, 64).astype(np.uint8)
    picture = rgb_of(packed(luma, padding), PictureLayout("YUYV", 48, 64, 128 + padding))
    assert picture is not None
    expected = (luma.astype(float) - 16) * 255 / 219
    np.testing.assert_allclose(picture, np.repeat(expected[..., None], 3, 2), atol=2)


def test_byte_order_of_the_two_raw_formats() -> None:
    yuyv = packed(np.full((4, 8), 81, np.uint8)).reshape(-1, 4).copy()
    yuyv[:, 1], yuyv[:, 3] = 90, 240  # red, BT.601
    uyvy = yuyv[:, [1, 0, 3, 2]]
    pictures = [
        rgb_of(content.reshape(-1), PictureLayout(fourcc, 4, 8, 16))
        for content, fourcc in ((yuyv, "YUYV"), (uyvy, "UYVY"))
    ]
    assert pictures[0] is not None
    assert pictures[1] is not None
    np.testing.assert_array_equal(pictures[0], pictures[1])
    np.testing.assert_allclose(pictures[0][0, 0], [255, 0, 0], atol=3)


def test_truncated_raw_pictures_are_damaged() -> None:
    content = packed(np.zeros((4, 8), np.uint8))
    assert rgb_of(content, PictureLayout("YUYV", 4, 8, 16)) is not None
    assert rgb_of(content[:-1], PictureLayout("YUYV", 4, 8, 16)) is None


def test_jpeg_of_a_camera(tmp_path: Path) -> None:
    picture = np.full((48, 64, 3), [200, 40, 90], np.uint8)
    content = jpeg(tmp_path, picture)
    padded = np.concatenate([content, np.zeros(1000, np.uint8)])
    for sent in (content, padded):
        seen = rgb_of(sent, PictureLayout("MJPG", 48, 64, 0))
        assert seen is not None
        np.testing.assert_allclose(seen, picture, atol=6)


def test_jpeg_without_huffman_tables_is_what_usb_cameras_send(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    content = jpeg(tmp_path, picture).tobytes()
    bare = without_tables(content)
    assert HUFFMAN_TABLE in content
    assert HUFFMAN_TABLE not in bare[: bare.index(b"\xff\xda")]
    layout = PictureLayout("MJPG", 48, 64, 0)
    whole, seen = (rgb_of(np.frombuffer(sent, np.uint8), layout) for sent in (content, bare))
    assert whole is not None
    assert seen is not None
    np.testing.assert_array_equal(seen, whole)


def without_tables(content: bytes) -> bytes:
    """The JPEG without its DHT segments; the encoder used the standard ones, which decoders know."""
    kept, at = content[:2], 2
    while content[at : at + 2] != b"\xff\xda":
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        kept += b"" if content[at : at + 2] == HUFFMAN_TABLE else content[at:end]
        at = end
    return kept + content[at:]


def test_damaged_jpegs_are_never_published(tmp_path: Path) -> None:
    content = jpeg(tmp_path, np.full((48, 64, 3), 90, np.uint8))
    layout = PictureLayout("MJPG", 48, 64, 0)
    assert rgb_of(content[: content.size // 2], layout) is None
    assert rgb_of(content[:10], layout) is None
    assert rgb_of(np.zeros(0, np.uint8), layout) is None
    assert rgb_of(content, PictureLayout("MJPG", 480, 640, 0)) is None, "another size than the negotiated one"


def test_pipelines_deliver_only_the_newest_picture() -> None:
    csi = csi_pipeline("1", 29.97)
    assert csi.startswith("nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,")
    assert "framerate=30/1" in csi
    for pipeline in (csi, user_pipeline("videotestsrc pattern=ball ! ")):
        assert pipeline.endswith("video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false")
        assert "! !" not in pipeline


@pytest.mark.parametrize("target", ["", "x", "-1", "8", "0 ! filesink location=/tmp/x", "²"])
def test_sensors_are_numbers(target: str) -> None:
    with pytest.raises(InputError, match="is not a CSI camera number"):
        csi_pipeline(target, 30.0)


def test_a_second_appsink_is_refused() -> None:
    with pytest.raises(InputError, match="already has an appsink"):
        user_pipeline("videotestsrc ! appsink")


@pytest.mark.skipif(has_gstreamer(), reason="this OpenCV has GStreamer")
@pytest.mark.parametrize("word", ["csi:0", "gst:videotestsrc"])
def test_without_gstreamer_it_says_so(word: str) -> None:
    with pytest.raises(MissingError, match="without GStreamer") as refused:
        make_source(CameraRequest("front", parse_address(word), 30.0, 96, 96)).open()
    assert "python3-opencv" in refused.value.hint


@pytest.mark.skipif(not has_gstreamer(), reason="this OpenCV has no GStreamer")
def test_a_pipeline_delivers_frames() -> None:
    word = "gst:videotestsrc is-live=true pattern=red ! video/x-raw,width=320,height=240,framerate=30/1"
    source = make_source(CameraRequest("front", parse_address(word), 30.0, 96, 96))
    source.open()
    frame = source.read()
    source.close()
    assert frame is not None
    assert frame.image.shape == (240, 320, 3)
    np.testing.assert_allclose(frame.image[100, 100], [255, 0, 0], atol=2)
