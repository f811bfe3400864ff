"""`sefa-edge run`: a policy on an arm, simulated or real."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sefa_edge.edge.control.realtime_settings import DEFAULT_REALTIME
from sefa_edge.edge.engines.find_engine import engine_at
from sefa_edge.edge.run.play_arguments import add_play_arguments
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.exit_codes import ERRORS
from sefa_edge.profiles.files import path_argument
from sefa_edge.profiles.quantities import (
    CONTROL_RATE_HZ,
    MILLISECONDS,
    PICTURE_RATE_HZ,
    REALTIME_PRIORITY,
    SECONDS,
    SEED,
    SOME_MILLISECONDS,
    SPIN_US,
    THREADS,
    Whole,
)
from sefa_edge.profiles.simulated_arm import SIMULATED

CORE = Whole("a core", 0, 4095)
EPISODES = Whole("a number of episodes", 1, 1_000_000)
MEGABYTES = Whole("a size", 1, 10_000_000, "MB")

if TYPE_CHECKING:
    from sefa_edge.edge.run.run_plan import RunPlan
    from sefa_edge.edge.run.safe_stop import Ending
    from sefa_edge.edge.run.status import StatusLine
    from sefa_edge.edge.run.summary import RunSummary


def add_setup_arguments(parser: argparse.ArgumentParser) -> None:
    """Engine, arm, cameras and rates; `sefa-edge profile` has these arguments too."""
    parser.add_argument("--engine", type=engine_at, required=True, metavar="E", help="model.onnx, its card beside it")
    parser.add_argument("--arm", default=SIMULATED, metavar="ARM", help="sim, so101, so100 or an arm profile (.yaml)")
    parser.add_argument("--port", metavar="P", help="serial port of the arm; with sim: the --link of `sefa-edge sim`")
    parser.add_argument(
        "--calibration",
        metavar="FILE|ID",
        help="LeRobot calibration of a real arm (default: that in its servos); required where several servo "
        "adapters are plugged in",
    )
    parser.add_argument(
        "--camera",
        action="append",
        metavar="[NAME=]C",
        help="sim, /dev/video0, v4l2:NAME[@PROFILE], csi:0, gst:PIPELINE, file:VIDEO, images:FOLDER, "
        "run:RECORDING, http://… or rtsp://…; one per camera",
    )
    parser.add_argument(
        "--camera-rate", type=PICTURE_RATE_HZ.parse, default=30.0, metavar="HZ", help="frames per second"
    )
    _add_camera_limits(parser)
    parser.add_argument(
        "--rate", type=CONTROL_RATE_HZ.parse, metavar="HZ", help="control rate (default: the arm profile's)"
    )
    parser.add_argument("--threads", type=THREADS.parse, default=1, metavar="N", help="threads of the inference")
    add_realtime_arguments(parser)
    parser.add_argument("--task", metavar="T", help="task of the simulated world (default: the engine's)")
    parser.add_argument("--seed", type=SEED.parse, default=0, metavar="N", help="seed of the first episode")
    add_play_arguments(parser)


def _add_camera_limits(parser: argparse.ArgumentParser) -> None:
    limits = (
        (
            "--max-frame-age-ms",
            SOME_MILLISECONDS,
            "park when a frame is older (default: the arm profile's goal_timeout_ms)",
        ),
        (
            "--max-skew-ms",
            SOME_MILLISECONDS,
            "park when the cameras' frames stay further apart (default: 50)",
        ),
        (
            "--frozen-ms",
            MILLISECONDS,
            "park when a frame repeats for this long, 0: never (real cameras: 1000)",
        ),
        (
            "--dark-ms",
            MILLISECONDS,
            "park when frames are dark for this long, 0: never (real cameras: 500)",
        ),
    )
    for word, quantity, help_text in limits:
        parser.add_argument(word, type=quantity.parse, metavar="MS", help=help_text)


def add_realtime_arguments(parser: argparse.ArgumentParser) -> None:
    """Core, priority and waiting of the control loop."""
    parser.add_argument("--cpu", type=CORE.parse, metavar="N", help="core of the control loop (default: the highest)")
    parser.add_argument(
        "--realtime-priority",
        type=REALTIME_PRIORITY.parse,
        default=DEFAULT_REALTIME.priority,
        metavar="N",
        help="SCHED_FIFO priority of the loop; 0: none",
    )
    parser.add_argument(
        "--spin-us",
        type=SPIN_US.parse,
        default=DEFAULT_REALTIME.spin_us,
        metavar="N",
        help="busy-wait for the last N microseconds before each tick",
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `sefa-edge run`."""
    add_setup_arguments(parser)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--episodes", type=EPISODES.parse, metavar="N", help="episodes to run (default with sim: 5)")
    length.add_argument(
        "--seconds",
        type=SECONDS.parse,
        metavar="S",
        help="end after this time, counted from when the policy first moves the arm (default with a real arm: 60)",
    )
    parser.add_argument("--episode-seconds", type=SECONDS.parse, metavar="S", help="end an episode after this time")
    parser.add_argument(
        "--video",
        type=path_argument,
        default=Path("run.png"),
        metavar="F",
        help="what to draw of the run: a contact sheet (.png), a video (.mp4, .webm, .avi), or 'none'",
    )
    parser.add_argument(
        "--record", type=path_argument, metavar="DIR", help="record the run into a new MCAP file in DIR"
    )
    parser.add_argument(
        "--record-limit-mb", type=MEGABYTES.parse, default=4000, metavar="MB", help="stop recording at this size"
    )
    parser.add_argument("--json", metavar="F", help="write the summary as JSON; - is standard output")


def default_arguments(engine: Path) -> dict[str, object]:
    """The arguments of a run of this engine with all defaults, without drawing: for a program that measures."""
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return vars(parser.parse_args(["--engine", str(engine), "--video", "none"]))


def main(args: argparse.Namespace) -> int:
    """Perform the run; returns the exit code. Raises SefaError when it cannot start."""
    from sefa_edge.edge.ipc.process import use_lean_environment

    use_lean_environment()
    from sefa_edge.edge.run.run_plan import check_calibration, check_cameras, make_plan
    from sefa_edge.edge.run.status import StatusLine
    from sefa_edge.edge.run.supervisor import Supervisor
    from sefa_edge.profiles.console import limit_waiting
    from sefa_edge.profiles.files import check_report_argument

    plan = make_plan(args)
    check_report_argument(args.json)
    limit_waiting()
    line = StatusLine(sys.stderr)
    for note in (*check_calibration(plan), *check_cameras(plan)):
        line.say(note)
    card, total_s = plan.card, plan.schedule.total_s
    end = "Ctrl-C parks it" if total_s is None else f"Ctrl-C or the end after {total_s:g} s parks it"
    line.say(f"engine {card.name} ({card.precision}, task {card.task}), arm {plan.arm_name}; {end}")
    supervisor = Supervisor(plan, line)
    with supervisor.signals:  # a signal does not interrupt the report on how the run ended
        return _report(supervisor.run(), supervisor.summary, plan, args.json, line)


def _report(ending: Ending, summary: RunSummary, plan: RunPlan, report_path: str | None, line: StatusLine) -> int:
    """Write the JSON report, print the summary and how the run ended; returns the exit code."""
    from sefa_edge.profiles.console import message_line
    from sefa_edge.profiles.files import write_report

    unwritten = 0
    try:
        write_report(report_path, summary.as_json())
    except SefaError as error:  # how the run ended is more important
        line.say(f"no report: {error}")
        unwritten = error.exit_code
    print(summary.text(), file=sys.stderr if report_path == "-" else sys.stdout)
    if plan.video is not None and plan.video.is_file() and summary.episodes:
        line.say(f"pictures of the run: {plan.video}")
    fault = ending.exit_code in ERRORS
    line.say(f"error: {message_line(ending.message)}" if fault else ending.message)
    if fault and ending.hint:
        line.say(f"hint: {message_line(ending.hint)}")
    return ending.exit_code or unwritten
