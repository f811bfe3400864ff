"""A frame on which two engines differ: what the cameras saw, beside both chunks joint by joint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.pictures import draw_line, draw_text
from sefa_edge.profiles.card import JointSpec

PANEL_WIDTH, PANEL_HEIGHT, PANEL_COLUMNS = 250, 150, 3
TITLE_HEIGHT, MARGIN, LABEL_WIDTH, BARS_HEIGHT = 26, 8, 44, 30
WHITE, BLACK, GREY, LIGHT = (255, 255, 255), (20, 20, 20), (120, 120, 120), (235, 235, 235)
REFERENCE, CANDIDATE, DIFFERENCE = (0, 90, 200), (230, 90, 0), (200, 60, 60)
SMALLEST_SPAN_DEG = 1.0
"""A joint that rests is not drawn as if it trembled."""


@dataclass(frozen=True, slots=True, eq=False)
class Disagreement:
    """One sample: newest picture uint8 [H, W, 3] per camera, and the chunks float32 [T, n] of both engines."""

    title: str
    images: Mapping[str, np.ndarray]
    reference: np.ndarray
    candidate: np.ndarray
    joints: tuple[JointSpec, ...]


def draw_disagreement(sample: Disagreement) -> np.ndarray:
    """The picture uint8 [H, W, 3]. Blue: reference; orange: candidate; red bars: their difference, step by step."""
    rows = -(-len(sample.joints) // PANEL_COLUMNS)
    plots = np.full((rows * PANEL_HEIGHT, PANEL_COLUMNS * PANEL_WIDTH, 3), 255, np.uint8)
    peak = max(float(np.abs(sample.candidate - sample.reference).max()), 1e-9)
    for index in range(len(sample.joints)):
        row, column = divmod(index, PANEL_COLUMNS)
        panel = plots[row * PANEL_HEIGHT :, column * PANEL_WIDTH :][:PANEL_HEIGHT, :PANEL_WIDTH]
        panel[...] = _panel(sample, index, peak)
    views = [_enlarged(image, len(plots)) for image in sample.images.values()]
    height = max(len(plots), *(len(view) for view in views))
    body = np.concatenate([_padded(part, height) for part in (*views, plots)], axis=1)
    title = np.full((TITLE_HEIGHT, body.shape[1], 3), 255, np.uint8)
    draw_text(title, sample.title, (MARGIN, TITLE_HEIGHT - 9), BLACK)
    legend = body.shape[1] - 300
    for text, colour, x in (("reference", REFERENCE, 0), ("candidate", CANDIDATE, 90), ("difference", DIFFERENCE, 190)):
        draw_text(title, text, (legend + x, TITLE_HEIGHT - 9), colour)
    return np.concatenate([title, body])


def _panel(sample: Disagreement, index: int, peak: float) -> np.ndarray:
    """Chunks of one joint over their steps, and below them the difference, scaled to `peak`."""
    panel = np.full((PANEL_HEIGHT, PANEL_WIDTH, 3), 255, np.uint8)
    reference, candidate = sample.reference[:, index], sample.candidate[:, index]
    difference = np.abs(candidate - reference)
    top, bottom = 20, PANEL_HEIGHT - BARS_HEIGHT - 12
    panel[top:bottom, LABEL_WIDTH : PANEL_WIDTH - MARGIN] = LIGHT
    x = np.linspace(LABEL_WIDTH + 3, PANEL_WIDTH - MARGIN - 4, len(reference))
    low, high = _span(np.concatenate([reference, candidate]))
    for values, colour in ((reference, REFERENCE), (candidate, CANDIDATE)):
        y = bottom - 3 - (values - low) / (high - low) * (bottom - top - 6)
        draw_line(panel, np.stack([x, y], axis=1), colour)
    for at, value in zip(x.astype(int), difference / peak * BARS_HEIGHT, strict=True):
        panel[PANEL_HEIGHT - 5 - round(float(value)) : PANEL_HEIGHT - 5, at - 2 : at + 3] = DIFFERENCE
    joint = sample.joints[index]
    unit = "deg" if joint.unit == "degrees" else "%"
    draw_text(panel, f"{joint.name}: differs by {difference.max():.3g} {unit}", (MARGIN, 14), BLACK)
    draw_text(panel, f"{high:.1f}", (MARGIN, top + 10), GREY)
    draw_text(panel, f"{low:.1f}", (MARGIN, bottom), GREY)
    return panel


def _span(values: np.ndarray) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if high - low < SMALLEST_SPAN_DEG:
        middle = (low + high) / 2
        return middle - SMALLEST_SPAN_DEG / 2, middle + SMALLEST_SPAN_DEG / 2
    return low, high


def _enlarged(image: np.ndarray, height: int) -> np.ndarray:
    """Every pixel as a square, as many times as fit into `height`: what the policy saw, not a smoothed copy."""
    factor = max(1, height // image.shape[0])
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


def _padded(part: np.ndarray, height: int) -> np.ndarray:
    padding = np.full((height - part.shape[0], part.shape[1], 3), 255, np.uint8)
    return np.concatenate([part, padding])
