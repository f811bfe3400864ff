"""OWNS CAMERAS: what a frame is, what a camera back end must do, and what a `--camera` word names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.exit_codes import ExitCode

KINDS = ("sim", "v4l2", "csi", "gst", "file", "images", "run")
"""What stands before the colon of a camera word."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture uint8 [H, W, 3] RGB; `capture_ns` is when the light was caught (CLOCK_MONOTONIC)."""

    camera: str
    sequence: int
    capture_ns: int
    received_ns: int
    image: np.ndarray


@dataclass(slots=True)
class DamageCount:
    """How many pictures of a camera came damaged or cut short. Such a picture is counted and never becomes a frame."""

    pictures: int = 0


class CameraSource(Protocol):
    """A camera back end. `read` gives the newest frame, never one that waited in a queue."""

    damage: DamageCount
    """Since the source was made, over all openings."""

    def open(self) -> None:
        """Raises MissingError or InputError, with the reason, when there are no pictures to be had."""
        ...

    def read(self) -> Frame | None:
        """Wait for the next frame, for at most about a second; None when none came.

        Raises:
            CameraLost: there will be no more.
        """
        ...

    def close(self) -> None: ...


class CameraLost(InputError):
    """The camera was unplugged, the stream ended, the file is over."""

    exit_code = ExitCode.FAULT


@dataclass(frozen=True, slots=True)
class CameraAddress:
    """What the user wrote: `sim[:PATH]`, `test`, `/dev/video0`, `v4l2:…`, `csi:0`, `file:…`, `http://…` and so on."""

    kind: str
    target: str


def parse_address(word: str) -> CameraAddress:
    """Raises InputError for a word that names no kind of camera."""
    if word == "sim":
        return CameraAddress("sim", "")
    if word.removesuffix(":") == "test":
        return CameraAddress("test", "")
    if word.startswith(("http://", "https://", "rtsp://")):
        return CameraAddress("stream", word)
    if word.startswith("/dev/"):
        return CameraAddress("v4l2", word)
    kind, _, target = word.partition(":")
    if kind in KINDS and target:
        return CameraAddress(kind, target)
    raise InputError(
        f"'{word}' is not a camera",
        "use sim, sim:PATH, test, /dev/video0, v4l2:NAME[@PROFILE], csi:0, gst:PIPELINE, file:VIDEO, images:FOLDER, "
        "run:RECORDING, http://… or rtsp://…",
    )


@dataclass(frozen=True, slots=True)
class CameraRequest:
    """A camera as the policy wants it: its name on the card, where it is, how often, and how large."""

    name: str
    address: CameraAddress
    rate_hz: float
    height: int
    width: int
