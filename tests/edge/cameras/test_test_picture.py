"""The test picture camera: it moves, and needs as much computation as a USB camera."""

from __future__ import annotations

import time
from itertools import pairwise

import numpy as np

from sefa_edge.edge.cameras.camera import CameraAddress, CameraRequest, parse_address
from sefa_edge.edge.cameras.opening import make_source
from sefa_edge.edge.cameras.test_picture import PICTURES, draw_test_picture
from sefa_edge.edge.pictures import decode_picture, encode_jpeg


def test_the_short_and_the_long_form_mean_the_same() -> None:
    # A camera process gets `KIND:TARGET`.
    assert parse_address("test") == parse_address("test:") == CameraAddress("test", "")


def test_frames_differ_and_rise() -> None:
    source = make_source(CameraRequest("front", parse_address("test"), 200.0, 96, 96))
    source.open()
    frames = [source.read() for _ in range(4)]
    source.close()
    last = time.monotonic_ns()
    seen = [frame for frame in frames if frame is not None]
    assert [frame.sequence for frame in seen] == [1, 2, 3, 4]
    assert all(frame.image.shape == (480, 640, 3) for frame in seen)
    stamps = [frame.capture_ns for frame in seen]
    assert stamps == sorted(set(stamps))
    assert stamps[-1] <= last
    for before, after in pairwise(seen):
        assert np.abs(before.image.astype(int) - after.image).max() > 50


def test_a_jpeg_of_it_is_as_large_as_a_camera_s() -> None:
    encoded = encode_jpeg(draw_test_picture(3))
    assert 40_000 < len(encoded) < 250_000
    assert np.abs(decode_picture(encoded).astype(int) - draw_test_picture(3)).mean() < 9


def test_frames_return_after_a_while() -> None:
    np.testing.assert_array_equal(draw_test_picture(1), draw_test_picture(1 + PICTURES))
    pictures = {draw_test_picture(index).tobytes() for index in range(PICTURES)}
    assert len(pictures) == PICTURES
