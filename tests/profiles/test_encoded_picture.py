"""Whether an encoded image is complete: decided from its bytes, not from what a decoder makes of half an image."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sefa_edge.edge.pictures import DamagedPicture, PictureLayout, decode_picture, rgb_of
from sefa_edge.profiles.encoded_picture import PictureFormat, is_complete, picture_format, picture_size

NOISE = np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8)


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, kind, **options)
    return buffer.getvalue()


def with_segment(jpeg: bytes, marker: int, content: bytes) -> bytes:
    """The JPEG with one more segment after its start marker."""
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content + jpeg[2:]


BASELINE = encoded("JPEG", quality=90)
KINDS = {
    "baseline": BASELINE,
    "progressive": encoded("JPEG", progressive=True),
    "restart markers": encoded("JPEG", restart_marker_blocks=1),
    "optimised": encoded("JPEG", optimize=True),
    "a thumbnail inside": with_segment(BASELINE, 0xE1, b"Exif\0\0" + BASELINE),
    "PNG": encoded("PNG"),
    "BMP": encoded("BMP"),
    "WebP": encoded("WEBP"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_image_is_complete_and_every_truncated_one_is_not(name: str) -> None:
    content = KINDS[name]
    assert is_complete(content)
    assert is_complete(content + bytes(512)), "cameras append padding"
    shorter = [length for length in range(len(content)) if is_complete(content[:length])]
    assert shorter == []


@pytest.mark.parametrize("name", KINDS)
def test_a_truncated_image_is_never_decoded(name: str) -> None:
    content = KINDS[name]
    assert decode_picture(content).shape == NOISE.shape
    for length in range(1, len(content), 37):
        with pytest.raises(DamagedPicture):
            decode_picture(content[:length])


@pytest.mark.parametrize("name", [name for name in KINDS if picture_format(KINDS[name]) is PictureFormat.JPEG])
def test_a_truncated_jpeg_from_a_device_is_rejected_even_with_a_thumbnail(name: str) -> None:
    content, layout = KINDS[name], PictureLayout("MJPG", 24, 40, 0)
    assert rgb_of(np.frombuffer(content, np.uint8), layout) is not None
    assert rgb_of(np.frombuffer(content[:-100], np.uint8), layout) is None


def test_an_image_that_begins_inside_another_one_is_damaged() -> None:
    """When a stream loses packets, the beginning of one JPEG is joined to the whole of the next."""
    assert not is_complete(BASELINE[: len(BASELINE) // 2] + BASELINE)


def test_fill_bytes_before_a_marker_are_allowed() -> None:
    assert is_complete(BASELINE[:-2] + b"\xff\xff\xff\xd9")


def test_sizes_and_formats_are_read_from_the_header() -> None:
    for name, content in KINDS.items():
        kind = picture_format(content)
        assert kind is not None
        expected = (24, 40) if kind in (PictureFormat.JPEG, PictureFormat.PNG) else None
        assert picture_size(content) == expected, name
    assert picture_size(BASELINE[:8]) is picture_size(KINDS["PNG"][:20]) is None
    assert picture_format(b"GIF89a") is picture_format(b"") is None


HEADERS = (b"", b"\xff\xd8", b"\xff\xd8\xff\xda\0\x02", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFFxxxxWEBP")


@given(st.binary(max_size=200), st.sampled_from(HEADERS))
def test_no_bytes_raise_an_error(content: bytes, header: bytes) -> None:
    is_complete(header + content)
    picture_size(header + content)
