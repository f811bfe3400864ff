"""The process table: one row for each process of a run.

    simulated world <--serial port--> control <--chunks, joints--> policy <--frames-- camera(s)
                                         \\________ supervisor ________/___________________/ \\-- video, recorder

A process is added by one row; what starts, pins, watches and ends processes (edge/run/process_group.py, monitor.py and
shutdown.py) loops over the rows.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from sefa_edge.edge.cameras.camera_process import CameraConfig
from sefa_edge.edge.ipc.run_event import RunEvent, RunStage
from sefa_edge.edge.ipc.video_command import VideoAction, VideoCommand
from sefa_edge.edge.ipc.wire_record import pack_fields
from sefa_edge.edge.policy.policy_process import PolicyConfig
from sefa_edge.edge.recording.names import PARTIAL
from sefa_edge.edge.recording.recorder_config import RecorderConfig
from sefa_edge.edge.run.cores import split_cores
from sefa_edge.edge.run.process_row import (
    SUPERVISOR,
    Core,
    Death,
    Ends,
    Finish,
    Launch,
    Output,
    ProcessRow,
    Reports,
    RunResult,
    Start,
)
from sefa_edge.edge.run.run_plan import RecordingPlan, RunPlan, SimulatedWorld
from sefa_edge.edge.viewing.video_process import VideoConfig
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.simulation.client import WorldPaths
from sefa_edge.profiles.card import CameraSpec

if TYPE_CHECKING:
    from pathlib import Path

    from sefa_edge.edge.control.control_process import ControlConfig

WORLD, POLICY, RECORDER, CONTROL, VIDEO = "simulated world", "policy", "recorder", "control", "video"
RECORDER_PATIENCE_S = 3.5
"""How long the recorder may take; it plans with less (`recorder_process.CLOSING_NS`)."""
VIDEO_PATIENCE_S = 180.0
"""How long drawing may take while the process uses the processor."""


def process_rows(plan: RunPlan) -> tuple[ProcessRow, ...]:
    """The processes of a run, in the order in which each stage starts them."""
    rows = [_camera(plan, camera) for camera in plan.card.cameras]
    if plan.world is not None and plan.world.port is None:
        rows.append(_world(plan, plan.world))
    rows.append(_policy(plan))
    if plan.recording is not None:
        rows.append(_recorder(plan, plan.recording))
    rows.append(control_row(plan))
    if plan.video is not None:
        rows.append(_video(plan, plan.video))
    return tuple(rows)


def camera_row_name(camera: str) -> str:
    """The row's name of one of the card's cameras."""
    return f"camera {camera}"


def _world(plan: RunPlan, world: SimulatedWorld) -> ProcessRow:
    def launch(ends: Ends) -> Launch:
        assert ends.world is not None
        (lifeline_fd,) = ends.lifeline_fds
        where = ("--port", str(ends.world.port), "--lifeline", str(lifeline_fd))
        return Launch(arguments=("--task", world.task, "--seed", str(plan.schedule.first_seed), *where))

    return ProcessRow(
        WORLD,
        "sefa_edge.firmware_bridge.simulation.server",
        launch,
        links=(),
        lives_for=(CONTROL,),  # it must not end before the arm is parked
        start=Start.FIRST,
        death=Death.PORT_LOST,
    )


def _camera(plan: RunPlan, camera: CameraSpec) -> ProcessRow:
    def launch(ends: Ends) -> Launch:
        assert ends.ring_fd is not None
        config = CameraConfig(
            name=camera.name,
            address=_address(plan, camera.name, ends.world),
            rate_hz=plan.camera_rate_hz,
            height=camera.height,
            width=camera.width,
            ring_fd=ends.ring_fd,
            reader_fds=list(ends.channel_fds.values()),
        )
        return Launch(config.to_json())

    return ProcessRow(
        camera_row_name(camera.name),
        "sefa_edge.edge.cameras.camera_process",
        launch,
        title="camera",
        frames=camera,
        reports=Reports.FRAMES,
    )


def _address(plan: RunPlan, name: str, world: WorldPaths | None) -> str:
    address = plan.cameras[name]
    if address.kind == "sim" and not address.target and world is not None:
        return f"sim:{world.state}"
    return address.target if address.kind == "stream" else f"{address.kind}:{address.target}"


def _policy(plan: RunPlan) -> ProcessRow:
    def launch(ends: Ends) -> Launch:
        config = PolicyConfig(
            engine=str(plan.engine),
            cameras=list(ends.inputs),
            supervisor_fd=ends.channel_fds[SUPERVISOR],
            control_fd=ends.channel_fds[CONTROL],
            max_age_ms=plan.profile.goal_timeout_ms,
            max_frame_age_ms=plan.camera_checks.max_frame_age_ms,
            max_skew_ms=plan.camera_checks.max_skew_ms,
            frozen_ns=plan.camera_checks.frozen_ns,
            dark_ns=plan.camera_checks.dark_ns,
            threads=plan.threads,
            noise=plan.noise,
            recorder_fd=ends.channel_fds.get(RECORDER),
        )
        return Launch(config.model_dump_json())

    return ProcessRow(
        POLICY,
        "sefa_edge.edge.policy.policy_process",
        launch,
        links=(SUPERVISOR, CONTROL),
        rings=_cameras(plan),
        reports=Reports.POLICY,
    )


def _recorder(plan: RunPlan, recording: RecordingPlan) -> ProcessRow:
    def launch(ends: Ends) -> Launch:
        from sefa_edge.edge.run.facts import run_attachments, run_metadata

        config = RecorderConfig(
            path=str(recording.path),
            limit_bytes=recording.limit_bytes,
            cameras=list(ends.inputs),
            supervisor_fd=ends.channel_fds[SUPERVISOR],
            sender_fds=[ends.channel_fds[CONTROL], ends.channel_fds[POLICY]],
            horizon=plan.card.timing.horizon,
            joints=len(plan.profile.joints),
            words=run_metadata(plan),
            attachments=run_attachments(plan, control_config(plan, ends.world, {SUPERVISOR: 0, POLICY: 0})),
        )
        return Launch(config.model_dump_json())

    finish = Finish(
        lambda result: RunEvent(RunStage.END, time.monotonic_ns(), text=result.ending).pack(),
        RECORDER_PATIENCE_S,
        failed="the recording ended",
        killed=f"the recording is not complete: the recorder did not end in time and was killed; what it wrote is in "
        f"{recording.path}{PARTIAL}, which `replay` and `dataset from-runs` read as far as it goes",
        done=f"recorded into {recording.path}",
    )
    return ProcessRow(
        RECORDER,
        "sefa_edge.edge.recording.recorder_process",
        launch,
        taps=(CONTROL, POLICY),
        rings=_cameras(plan),
        death=Death.NOTE,
        finish=finish,
    )


def control_row(plan: RunPlan) -> ProcessRow:
    """Control: owns the arm's port, and its core."""

    def launch(ends: Ends) -> Launch:
        config = control_config(plan, ends.world, ends.channel_fds)
        settings = "leave" if plan.untouched else "apply"
        return Launch(config.model_copy(update={"servo_settings": settings}).model_dump_json())

    return ProcessRow(
        CONTROL,
        "sefa_edge.edge.control.control_process",
        launch,
        start=Start.HELD,
        core=Core.CONTROL,
        death=Death.REPLACED,
        reports=Reports.CONTROL,
        output=Output.TERMINAL,
    )


def rescue_row(plan: RunPlan, arm: ArmIdentity | None) -> ProcessRow:
    """A control process that parks the arm after another one has ended. `arm`: which must answer; None: any."""
    expected = None if arm is None else pack_fields(arm).hex()
    rescue = {"servo_settings": "leave", "rescue": True, "expected_arm": expected}

    def launch(ends: Ends) -> Launch:
        config = control_config(plan, ends.world, ends.channel_fds)
        return Launch(config.model_copy(update=rescue).model_dump_json())

    return replace(control_row(plan), launch=launch, start=Start.TOGETHER)


def control_config(plan: RunPlan, world: WorldPaths | None, channel_fds: dict[str, int]) -> ControlConfig:
    """The configuration of control, with its ends of channels by the name of the other process."""
    from sefa_edge.edge.control.control_process import ControlConfig  # meanwhile the other processes load

    control_cpus, _ = split_cores(os.sched_getaffinity(0), plan.realtime.cpu)
    return ControlConfig(
        arm=plan.arm_name,
        port=plan.port if world is None else str(world.port),
        calibration=None if plan.calibration is None else str(plan.calibration),
        horizon=plan.card.timing.horizon,
        supervisor_fd=channel_fds[SUPERVISOR],
        policy_fd=channel_fds[POLICY],
        control_rate_hz=plan.control_rate_hz,
        hand_over=plan.hand_over,
        cpu=min(control_cpus) if control_cpus else None,
        realtime_priority=plan.realtime.priority,
        spin_us=plan.realtime.spin_us,
        recorder_fd=channel_fds.get(RECORDER),
    )


def _video(plan: RunPlan, path: Path) -> ProcessRow:
    def launch(ends: Ends) -> Launch:
        config = VideoConfig(
            path=str(path),
            supervisor_fd=ends.channel_fds[SUPERVISOR],
            state_path=None if ends.world is None else str(ends.world.state),
            ring=next(iter(ends.inputs), None),
        )
        return Launch(config.model_dump_json())

    def request(result: RunResult) -> bytes | None:
        return VideoCommand(VideoAction.FINISH).pack() if result.episodes else None

    return ProcessRow(
        VIDEO,
        "sefa_edge.edge.viewing.video_process",
        launch,
        rings=_cameras(plan)[:1] if plan.world is None else (),  # of the simulated world it draws the states
        start=Start.LAST,
        death=Death.IGNORED,
        finish=Finish(
            request,
            VIDEO_PATIENCE_S,
            failed="no pictures",
            killed="no pictures: the process that draws them was killed",
            started=f"drawing {path}; Ctrl-C cancels it",
            cancelled="drawing was cancelled",
        ),
    )


def _cameras(plan: RunPlan) -> tuple[str, ...]:
    return tuple(camera_row_name(camera.name) for camera in plan.card.cameras)
