"""How chunks are drawn and played: the settings, and their words on the command line of `run` and `eval`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Annotated, Literal

from sefa_edge.profiles.quantities import Real

HandOverMode = Literal["replace", "blend", "ensemble"]
HAND_OVER_MODES: tuple[HandOverMode, ...] = ("replace", "blend", "ensemble")

NoiseMode = Literal["per-chunk", "shared", "fixed"]
NOISE_MODES: tuple[NoiseMode, ...] = ("per-chunk", "shared", "fixed")

FADE_MS = Real("a time", 0.0, 5000.0, "ms")
DECAY = Real("a number", -100.0, 100.0)


@dataclass(frozen=True, slots=True)
class HandOver:
    """How a newer chunk takes over; edge/control/handover.py says what the modes do."""

    mode: HandOverMode = "ensemble"
    fade_ms: Annotated[float, FADE_MS] = 200.0
    """Blend and ensemble: how long the offset between the arm and the new plan takes to fade."""
    decay: Annotated[float, DECAY] = 0.01
    """Ensemble: the k of the weights. 0: all chunks alike; above 0 the oldest weighs most, below 0 the newest."""


def add_play_arguments(parser: argparse.ArgumentParser) -> None:
    """The words for how chunks are drawn and played."""
    usual = HandOver()
    parser.add_argument(
        "--handover",
        choices=HAND_OVER_MODES,
        default=usual.mode,
        help="how a newer chunk takes over. replace: lead to its next step; blend: keep the offset to it and fade that "
        f"out; ensemble: blend to the mean of all chunks that cover a moment (default: {usual.mode})",
    )
    parser.add_argument(
        "--fade-ms",
        type=FADE_MS.parse,
        default=usual.fade_ms,
        metavar="MS",
        help=f"how long blend and ensemble fade (default: {usual.fade_ms:g})",
    )
    parser.add_argument(
        "--ensemble-decay",
        type=DECAY.parse,
        default=usual.decay,
        metavar="K",
        help="ensemble: the i-th oldest chunk weighs exp(-K i); below 0 the newest weighs most "
        f"(default: {usual.decay:g})",
    )
    parser.add_argument(
        "--noise",
        choices=NOISE_MODES,
        default="per-chunk",
        help="what chunks are drawn from. per-chunk: fresh noise for each; shared: noise that belongs to moments, so "
        "that chunks of an episode share it where they overlap; fixed: the same for every chunk (default: per-chunk)",
    )


def hand_over_of(args: argparse.Namespace) -> HandOver:
    """The hand-over that was asked for."""
    return HandOver(args.handover, args.fade_ms, args.ensemble_decay)
