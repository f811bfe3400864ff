"""`sefa-edge dataset from-runs`: recorded runs as a LeRobot v3.0 dataset.

The result works wherever a dataset does: training, `sefa-edge export --calibration`, `sefa-edge verify --dataset`.
"""

from __future__ import annotations

import argparse
import sys

from sefa_edge.edge.recording.recorded_run import RecordedRun, open_run
from sefa_edge.edge.tools.dataset.resample import resample
from sefa_edge.edge.tools.demonstrations.dataset_writer import DatasetInfo, DatasetWriter
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import path_argument


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", choices=("from-runs",), help="from-runs: convert the episodes of recorded runs, at the policy's rate"
    )
    parser.add_argument(
        "runs",
        type=path_argument,
        nargs="+",
        metavar="RUN",
        help="a recording (.mcap), or a folder, whose newest recording is used",
    )
    parser.add_argument("-o", "--output", type=path_argument, required=True, metavar="DATASET", help="folder to create")
    parser.add_argument("--task-name", metavar="TEXT", help="description of the task (default: the engine's task)")
    parser.add_argument("--only", metavar="OUTCOME", help="only episodes with this outcome, for example success")


def main(arguments: argparse.Namespace) -> int:
    """Raises InputError when the runs do not match each other, or contain no complete episode."""
    runs = [open_run(path) for path in arguments.runs]
    info = _common_info(runs, arguments.task_name)
    writer = DatasetWriter(arguments.output, info)
    episodes = frames = 0
    try:
        for run in runs:
            if truncation := run.truncation():
                print(f"note: {run.path} is not complete: {truncation}", file=sys.stderr)
            for found in resample(run):
                unwanted = arguments.only is not None and found.outcome != arguments.only
                reason = f"its outcome is '{found.outcome}'" if unwanted else found.skipped
                if found.episode is None or reason:
                    print(f"{run.path} episode {found.number} is skipped: {reason}")
                    continue
                writer.add(found.episode)
                episodes, frames = episodes + 1, frames + len(found.episode)
        if not episodes:
            raise InputError("these runs contain no complete episode", "record longer, or with --episodes")
        writer.close()
    except BaseException:
        writer.abandon()
        raise
    print(f"{arguments.output}: {episodes} episodes, {frames} frames at {info.rate_hz} Hz")
    return 0


def _common_info(runs: list[RecordedRun], task: str | None) -> DatasetInfo:
    infos = [_info(run, task) for run in runs]
    for run, info in zip(runs, infos, strict=True):
        for name in ("robot_type", "rate_hz", "joint_names", "cameras", "task"):
            here, first = getattr(info, name), getattr(infos[0], name)
            if here != first:
                raise InputError(
                    f"{run.path}: {name} is {here}, in {runs[0].path} it is {first}",
                    "create one dataset for each" if name != "task" else "set --task-name",
                )
    return infos[0]


def _info(run: RecordedRun, task: str | None) -> DatasetInfo:
    rate_hz = run.card.timing.policy_rate_hz
    if rate_hz != round(rate_hz):
        raise InputError(f"{run.path}: a LeRobot dataset needs a whole number of frames per second, not {rate_hz:g}")
    return DatasetInfo(
        task=task or run.card.task,
        robot_type=f"{run.arm.name.removesuffix('_sim')}_follower",
        rate_hz=round(rate_hz),
        joint_names=run.arm.joint_names,
        cameras={camera.name: (camera.height, camera.width) for camera in run.card.cameras},
    )
