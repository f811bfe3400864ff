"""Names of the ways to draw a chunk's noise, importable without numpy; `noise.py` describes them."""

from __future__ import annotations

from typing import Literal

NoiseMode = Literal["per-chunk", "shared", "fixed"]
NOISE_MODES: tuple[NoiseMode, ...] = ("per-chunk", "shared", "fixed")
