"""Draws a frame on which two engines differ: the camera pictures beside both chunks, joint by joint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.tools.painting import paint
from sefa_edge.profiles.card import JointSpec
from sefa_edge.profiles.page.curves import Frame
from sefa_edge.profiles.page.shapes import Box, Drawing, Shape, Text

PANEL_WIDTH, PANEL_HEIGHT, PANEL_COLUMNS = 250, 150, 3
TITLE_HEIGHT, MARGIN, LABEL_WIDTH, BARS_HEIGHT = 26, 8, 44, 30
LEGEND = (("reference", 300), ("candidate", 210), ("difference", 110))
"""Kind of line and text, and its distance in pixels from the right edge."""
SMALLEST_SPAN_DEG = 1.0
"""Smallest range of an axis, so that a joint at rest is not drawn as if it moved."""


@dataclass(frozen=True, slots=True, eq=False)
class Disagreement:
    """One sample: newest picture uint8 [H, W, 3] per camera, and the chunks float32 [T, n] of both engines."""

    title: str
    images: Mapping[str, np.ndarray]
    reference: np.ndarray
    candidate: np.ndarray
    joints: tuple[JointSpec, ...]


def draw_disagreement(sample: Disagreement) -> np.ndarray:
    """Picture uint8 [H, W, 3]: the camera pictures, then a panel per joint with both chunks over their steps."""
    plots = paint(_panels(sample))
    views = [_enlarged(image, len(plots)) for image in sample.images.values()]
    height = max(len(plots), *(len(view) for view in views))
    body = np.concatenate([_padded(part, height) for part in (*views, plots)], axis=1)
    return np.concatenate([paint(_title(sample.title, body.shape[1])), body])


def _title(title: str, width: int) -> Drawing:
    line = TITLE_HEIGHT - 9
    legend = [Text(kind, width - offset, line, kind) for kind, offset in LEGEND]
    return Drawing(width, TITLE_HEIGHT, title, (Text("plain", MARGIN, line, title), *legend))


def _panels(sample: Disagreement) -> Drawing:
    rows = -(-len(sample.joints) // PANEL_COLUMNS)
    shapes: list[Shape] = []
    for index in range(len(sample.joints)):
        row, column = divmod(index, PANEL_COLUMNS)
        shapes += _panel(sample, index, column * PANEL_WIDTH, row * PANEL_HEIGHT)
    return Drawing(PANEL_COLUMNS * PANEL_WIDTH, rows * PANEL_HEIGHT, sample.title, tuple(shapes))


def _panel(sample: Disagreement, index: int, left: int, top: int) -> Iterator[Shape]:
    """Both chunks of one joint over their steps, and below them the difference, scaled to the maximum of all joints."""
    reference, candidate = sample.reference[:, index], sample.candidate[:, index]
    difference = np.abs(candidate - reference)
    low, high = _span(np.concatenate([reference, candidate]))
    x, right = left + LABEL_WIDTH, left + PANEL_WIDTH - MARGIN
    y, bottom = top + 20, top + PANEL_HEIGHT - BARS_HEIGHT - 12
    frame = Frame(x + 3, y + 3, right - 4, bottom - 3, low, high)
    yield Box("ground", x, y, right - x, bottom - y)
    yield frame.curve("reference", reference.tolist())
    yield frame.curve("candidate", candidate.tolist())
    peak = max(float(np.abs(sample.candidate - sample.reference).max()), 1e-9)
    floor = top + PANEL_HEIGHT - 5
    for step, share in enumerate((difference / peak).tolist()):
        height = round(share * BARS_HEIGHT)
        yield Box("difference", frame.x_of(step, len(difference)) - 2, floor - height, 5, height)
    joint = sample.joints[index]
    unit = "deg" if joint.unit == "degrees" else "%"
    yield Text("plain", left + MARGIN, top + 14, f"{joint.name}: differs by {difference.max():.3g} {unit}")
    yield Text("tick", left + MARGIN, y + 10, f"{high:.1f}")
    yield Text("tick", left + MARGIN, bottom, f"{low:.1f}")


def _span(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if high - low < SMALLEST_SPAN_DEG:
        middle = (low + high) / 2
        return middle - SMALLEST_SPAN_DEG / 2, middle + SMALLEST_SPAN_DEG / 2
    return low, high


def _enlarged(image: np.ndarray, height: int) -> np.ndarray:
    """Enlarged by a whole factor to fit into `height`, without smoothing, to show exactly what the policy got."""
    factor = max(1, height // image.shape[0])
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _padded(part: np.ndarray, height: int) -> np.ndarray:
    padding = np.full((height - part.shape[0], part.shape[1], 3), 255, np.uint8)
    return np.concatenate([part, padding])
