"""`sefa-edge profile`: a real run, listened to, as percentiles of every stage.

Everything runs as in `sefa-edge run`: the same processes, sockets, rings and limits, on the same arm. There is one
difference: the policy makes a new chunk at every step instead of every few, for more samples in the same time.
The stamps come with the records that the processes exchange anyway, so that measuring costs nothing:

    light -capture-> camera -resize-> ring -> policy -wait-> -inference-> chunk -> control -shape-limit-write-> bus
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sefa_edge.edge.pipeline_samples import PipelineSamples
from sefa_edge.edge.run import add_setup_arguments
from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.latency.report import LatencyReport, StageReport, Subject
from sefa_edge.profiles.units import NS_PER_S

BACK_ENDS = {"onnx": "ONNX Runtime", "plan": "TensorRT"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words of `sefa-edge profile`."""
    add_setup_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="latency.json and latency.html go here")
    parser.add_argument("--samples", type=_count, default=1000, metavar="N", help="inferences to measure; the arm moves")
    parser.set_defaults(episodes=None, seconds=None, episode_seconds=None, video=Path("none"))


def main(args: argparse.Namespace) -> int:
    """Measure, write the report and the page, print the table. Raises SefaError when the run was cut short."""
    from sefa_edge.edge.run_plan import make_plan

    plan = make_plan(args)
    args.out.mkdir(parents=True, exist_ok=True)
    samples = PipelineSamples(args.samples)
    environment = describe_environment()
    with every_step(plan) as measured_plan:
        ending = Supervisor(measured_plan, ProgressLine(sys.stderr, samples), samples).run()
    if ending.exit_code:
        error = SefaError(ending.message, ending.hint)
        error.exit_code = ending.exit_code
        raise error
    ...
