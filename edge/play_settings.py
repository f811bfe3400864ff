"""How chunks are drawn and played: the settings, and their words on the command line of `run` and `eval`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

from sefa_edge.profiles.errors import InputError

HandOverMode = Literal["replace", "blend", "ensemble"]
HAND_OVER_MODES: tuple[HandOverMode, ...] = ("replace", "blend", "ensemble")

NoiseMode = Literal["per-chunk", "shared", "fixed"]
NOISE_MODES: tuple[NoiseMode, ...] = ("per-chunk", "shared", "fixed")

MAX_FADE_MS = 5000.0
MAX_DECAY = 100.0


@dataclass(frozen=True, slots=True)
class HandOver:
    """How a newer chunk takes over; edge/handover.py says what the modes do."""

    mode: HandOverMode = "ensemble"
    fade_ms: float = 200.0
    """Blend and ensemble: how long the offset between the arm and the new plan takes to fade."""
    decay: float = 0.01
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
        type=float,
        default=usual.fade_ms,
        metavar="MS",
        help=f"how long blend and ensemble fade (default: {usual.fade_ms:g})",
    )
    parser.add_argument(
        "--ensemble-decay",
        type=float,
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
    """The hand-over that was asked for. Raises InputError for a number out of range."""
    if not 0 <= args.fade_ms <= MAX_FADE_MS:
        raise InputError(f"--fade-ms {args.fade_ms:g} is out of range", f"use 0 to {MAX_FADE_MS:g}")
    if not -MAX_DECAY <= args.ensemble_decay <= MAX_DECAY:
        raise InputError(
            f"--ensemble-decay {args.ensemble_decay:g} is out of range", f"use {-MAX_DECAY:g} to {MAX_DECAY:g}"
        )
    return HandOver(args.handover, args.fade_ms, args.ensemble_decay)
