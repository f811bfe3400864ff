"""The samples of a run as a contact sheet (.png) or a video (.mp4, .webm, .avi)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from sefa_edge.edge.pictures import VIDEO_CODECS, VideoFile, captioned, resize_area, write_picture
from sefa_edge.edge.viewing.samples import SAMPLE_RATE_HZ, ContentT, Sample, SampleBuffer
from sefa_edge.profiles.files import staged

SHEET_COLUMNS, SHEET_ROWS = 5, 6
SHEET_GAP = 4
MIN_FRAME_WIDTH = 320

Draw = Callable[[ContentT], np.ndarray]
"""Draws the content of a sample: an image uint8 [H, W, 3]."""
SpreadT = TypeVar("SpreadT")


def write_video(path: Path, buffer: SampleBuffer[ContentT], draw: Draw[ContentT]) -> None:
    """Draw and write all samples. Without samples no file is written.

    Raises:
        MissingError: this OpenCV lacks the codec.
        InputError: the file cannot be written.
    """
    if not buffer.samples:
        return
    if path.suffix in VIDEO_CODECS:
        _write_frames(path, (_frame(sample, draw) for sample in buffer.samples))
    else:
        write_picture(path, _contact_sheet(buffer.samples, draw))


def chosen_moments(samples: Sequence[Sample[ContentT]]) -> list[Sequence[Sample[ContentT]]]:
    """Rows of the contact sheet: up to six episodes, up to five moments of each, first and last included."""
    episodes: dict[int, list[Sample[ContentT]]] = {}
    for sample in samples:
        episodes.setdefault(sample.episode, []).append(sample)
    return [_spread(moments, SHEET_COLUMNS) for moments in _spread(list(episodes.values()), SHEET_ROWS)]


def _spread(items: Sequence[SpreadT], count: int) -> Sequence[SpreadT]:
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _frame(sample: Sample[ContentT], draw: Draw[ContentT]) -> np.ndarray:
    frame = draw(sample.content)
    height, width = frame.shape[:2]
    if width < MIN_FRAME_WIDTH:
        frame = resize_area(frame, height * MIN_FRAME_WIDTH // width, MIN_FRAME_WIDTH)
    return captioned(frame, sample.caption)


def _contact_sheet(samples: Sequence[Sample[ContentT]], draw: Draw[ContentT]) -> np.ndarray:
    rows = [[_frame(sample, draw) for sample in row] for row in chosen_moments(samples)]
    height, width = (side + SHEET_GAP for side in rows[0][0].shape[:2])
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * height - SHEET_GAP, columns * width - SHEET_GAP, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, frame in enumerate(row):
            sheet[y * height :, x * width :][: height - SHEET_GAP, : width - SHEET_GAP] = frame
    return sheet


def _write_frames(path: Path, frames: Iterable[np.ndarray]) -> None:
    with staged(path) as temporary:
        video = None
        for frame in frames:
            if video is None:
                video = VideoFile(temporary, SAMPLE_RATE_HZ, *frame.shape[:2])
            video.append(frame)
        if video is not None:
            video.close()
