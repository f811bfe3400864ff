"""Images of the frames with the largest difference to float32, drawn by `sefa-edge verify`, run as a program."""

from __future__ import annotations

import argparse
from pathlib import Path

from sefa_edge.export.flavours import MODEL, SINGLE
from sefa_edge.export.program import error_message, run_sefa_edge
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.exit_codes import ExitCode

FOLDER = "worst"
WITHIN_BUDGET_OR_NOT = (ExitCode.DONE, ExitCode.FAILED)


def draw_worst_frames(staged: Path, arguments: argparse.Namespace) -> list[Path]:
    """Images of the worst held-out frames of `model.onnx`, the worst first. Raises SefaError."""
    folder = staged / FOLDER
    options = {
        "--dataset": arguments.calibration,
        "--samples": arguments.samples,
        "--seed": arguments.seed,
        "--arm": arguments.arm,
        "--worst-pictures": folder,
    }
    given = [part for option in options.items() for part in option]
    done = run_sefa_edge(["verify", staged / SINGLE, staged / MODEL, "--json", "-", *given])
    if done.returncode not in WITHIN_BUDGET_OR_NOT:
        raise SefaError(
            "`sefa-edge verify` could not draw the worst frames", error_message(done.stderr), ExitCode.FAILED
        )
    return sorted(folder.glob("*.png"))
