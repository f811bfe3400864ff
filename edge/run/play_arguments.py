"""Arguments of `run` and `eval` for how chunks are drawn and played."""

from __future__ import annotations

import argparse

from sefa_edge.edge.control.handover_settings import DECAY, FADE_MS, HAND_OVER_MODES, HandOver
from sefa_edge.edge.policy.noise_modes import NOISE_MODES


def add_play_arguments(parser: argparse.ArgumentParser) -> None:
    """Add --handover, --fade-ms, --ensemble-decay and --noise."""
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
    """The hand-over that these arguments ask for."""
    return HandOver(args.handover, args.fade_ms, args.ensemble_decay)
