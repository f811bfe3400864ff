"""The frame, the interface of a camera back end, and the syntax of a `--camera` address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.exit_codes import ExitCode

KINDS = ("sim", "v4l2", "csi", "gst", "file", "images", "run")
"""The prefixes of a camera address, before the colon."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """An image uint8 [H, W, 3] RGB; `capture_ns` is the time of capture (CLOCK_MONOTONIC)."""

    camera: str
    sequence: int
    capture_ns: int
    received_ns: int
    image: np.ndarray


@dataclass(slots=True)
class DamageCount:
    """Number of images of a camera that arrived damaged or truncated. They never become frames."""

    images: int = 0


class CameraSource(Protocol):
    """A camera back end. `read` returns the newest frame, never one that waited in a queue."""

    damage: DamageCount
    """Counted since the source was constructed; reopening does not reset it."""

    def open(self) -> None:
        """Raises MissingError or InputError, with the reason, when the camera cannot deliver frames."""
        ...

    def read(self) -> Frame | None:
        """Wait up to about a second for the next frame; None when none arrived.

        Raises:
            CameraLost: there will be no more frames.
        """
        ...

    def close(self) -> None: ...


class CameraLost(InputError):
    """The camera was unplugged, the stream ended, or the file has no more frames."""

    exit_code = ExitCode.FAULT


@dataclass(frozen=True, slots=True)
class CameraAddress:
    """A `--camera` address: `sim[:PATH]`, `test`, `/dev/video0`, `v4l2:…`, `csi:0`, `file:…`, `http://…` and so on."""

    kind: str
    target: str


def parse_address(text: str) -> CameraAddress:
    """Raises InputError when the text is not a camera address."""
    if text == "sim":
        return CameraAddress("sim", "")
    if text.removesuffix(":") == "test":
        return CameraAddress("test", "")
    if text.startswith(("http://", "https://", "rtsp://")):
        return CameraAddress("stream", text)
    if text.startswith("/dev/"):
        return CameraAddress("v4l2", text)
    kind, _, target = text.partition(":")
    if kind in KINDS and target:
        return CameraAddress(kind, target)
    raise InputError(
        f"'{text}' is not a camera",
        "use sim, sim:PATH, test, /dev/video0, v4l2:NAME[@PROFILE], csi:0, gst:PIPELINE, file:VIDEO, images:FOLDER, "
        "run:RECORDING, http://… or rtsp://…",
    )


@dataclass(frozen=True, slots=True)
class CameraRequest:
    """A camera as the policy needs it: its name on the policy card, its address, frame rate and size."""

    name: str
    address: CameraAddress
    rate_hz: float
    height: int
    width: int
