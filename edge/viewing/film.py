"""A record of a run to look at: a contact sheet (.png) or a video (.mp4, .webm, .avi)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from sefa_edge.edge.pictures import VIDEO_CODECS, VideoFile, captioned, resize_area, write_picture
from sefa_edge.edge.viewing.reel import SAMPLE_RATE_HZ, MaterialT, Reel, Sample
from sefa_edge.profiles.files import staged

SHEET_COLUMNS, SHEET_ROWS = 5, 6
SHEET_GAP = 4
MIN_PICTURE_WIDTH = 320

Draw = Callable[[MaterialT], np.ndarray]
"""Makes a picture uint8 [H, W, 3] of the material."""
SpreadT = TypeVar("SpreadT")


def write_film(path: Path, reel: Reel[MaterialT], draw: Draw[MaterialT]) -> None:
    """Draw and write what was collected; without samples nothing is written.

    Raises:
        MissingError: this OpenCV lacks the codec.
        InputError: the file cannot be written.
    """
    if not reel.samples:
        return
    if path.suffix in VIDEO_CODECS:
        _write_video(path, (_picture(sample, draw) for sample in reel.samples))
    else:
        write_picture(path, _contact_sheet(reel.samples, draw))


def chosen_moments(samples: Sequence[Sample[MaterialT]]) -> list[Sequence[Sample[MaterialT]]]:
    """Rows of the contact sheet: up to six episodes, up to five moments of each, first and last included."""
    episodes: dict[int, list[Sample[MaterialT]]] = {}
    for sample in samples:
        episodes.setdefault(sample.episode, []).append(sample)
    return [_spread(moments, SHEET_COLUMNS) for moments in _spread(list(episodes.values()), SHEET_ROWS)]


def _spread(items: Sequence[SpreadT], count: int) -> Sequence[SpreadT]:
    if len(items) <= count:
        return items
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def _picture(sample: Sample[MaterialT], draw: Draw[MaterialT]) -> np.ndarray:
    picture = draw(sample.material)
    height, width = picture.shape[:2]
    if width < MIN_PICTURE_WIDTH:
        picture = resize_area(picture, height * MIN_PICTURE_WIDTH // width, MIN_PICTURE_WIDTH)
    return captioned(picture, sample.caption)


def _contact_sheet(samples: Sequence[Sample[MaterialT]], draw: Draw[MaterialT]) -> np.ndarray:
    rows = [[_picture(sample, draw) for sample in row] for row in chosen_moments(samples)]
    height, width = (side + SHEET_GAP for side in rows[0][0].shape[:2])
    columns = max(len(row) for row in rows)
    sheet = np.full((len(rows) * height - SHEET_GAP, columns * width - SHEET_GAP, 3), 255, np.uint8)
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            sheet[y * height :, x * width :][: height - SHEET_GAP, : width - SHEET_GAP] = picture
    return sheet


def _write_video(path: Path, pictures: Iterable[np.ndarray]) -> None:
    with staged(path) as temporary:
        video = None
        for picture in pictures:
            if video is None:
                video = VideoFile(temporary, SAMPLE_RATE_HZ, *picture.shape[:2])
            video.append(picture)
        if video is not None:
            video.close()
