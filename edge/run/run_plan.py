"""The plan of a run: engine, arm, cameras, episodes, checked against each other before anything starts."""

from __future__ import annotations

import argparse
import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from sefa_edge.edge.cameras.camera import CameraAddress, CameraRequest, parse_address
from sefa_edge.edge.cameras.watch import DEFAULT_MAX_SKEW_MS, patience_for
from sefa_edge.edge.control.handover_settings import HandOver
from sefa_edge.edge.control.realtime_settings import RealtimeSettings
from sefa_edge.edge.engines.engine import engine_kind
from sefa_edge.edge.engines.file_check import check_file
from sefa_edge.edge.policy.noise_modes import NoiseMode
from sefa_edge.edge.recording.names import free_path
from sefa_edge.edge.run.play_arguments import hand_over_of
from sefa_edge.firmware_bridge.host.calibration import read_calibration
from sefa_edge.firmware_bridge.host.calibration_files import find_calibration
from sefa_edge.firmware_bridge.host.fitted_profile import fit_profile
from sefa_edge.firmware_bridge.host.port_choice import require_identified_arm
from sefa_edge.firmware_bridge.simulation.views import SIMULATED_VIEWS
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.card import PolicyCard, load_card
from sefa_edge.profiles.card_check import World, check_card
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.files import make_folder, writable
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.simulated_arm import SIMULATED, arm_profile_name

SIMULATED_EPISODES = 5
REAL_EPISODE_S = 20.0
REAL_TOTAL_S = 60.0
"""A run on a real arm that nobody limits and nobody watches any more ends after this time."""
NO_VIDEO = "none"
VIDEO_SUFFIXES = (".png", ".mp4", ".webm", ".avi")
_NAMED_CAMERA = re.compile(r"([A-Za-z0-9_][A-Za-z0-9._-]*)=(.+)")


@dataclass(frozen=True, slots=True)
class SimulatedWorld:
    """The world of a simulated arm. `port` None: one is started for this run and ends with it."""

    task: str
    port: Path | None


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long a run lasts. None: no such limit."""

    first_seed: int
    episodes: int | None
    episode_s: float | None
    total_s: float | None


@dataclass(frozen=True, slots=True)
class CameraChecks:
    """Limits for frames. A camera that is not named may repeat a frame, or send dark ones, without limit."""

    max_frame_age_ms: float
    max_skew_ms: float
    frozen_ns: dict[str, int]
    dark_ns: dict[str, int]


@dataclass(frozen=True, slots=True)
class RecordingPlan:
    """Where a run is recorded, and how large the file may become."""

    path: Path
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class RunPlan:
    """All that the supervisor needs."""

    engine: Path
    card: PolicyCard
    arm_name: str
    profile: ArmProfile
    port: str
    """Serial port of a real arm; empty in the simulated world."""
    calibration: Path | None
    world: SimulatedWorld | None
    cameras: dict[str, CameraAddress]
    camera_checks: CameraChecks
    camera_rate_hz: float
    control_rate_hz: float
    realtime: RealtimeSettings
    threads: int
    hand_over: HandOver
    noise: NoiseMode
    schedule: Schedule
    video: Path | None
    recording: RecordingPlan | None = None
    untouched: bool = False
    """The arm is read and its torque stays off; the policy infers, and nothing moves. For a program that measures."""


def make_plan(args: argparse.Namespace) -> RunPlan:
    """Make the plan from the arguments.

    Raises:
        InputError: an argument names something that does not exist, or two arguments do not fit each other.
    """
    engine_kind(_existing_engine(args.engine))
    card = load_card(args.engine)
    simulated = args.arm == SIMULATED
    arm_name = arm_profile_name(args.arm)
    profile = load_arm_profile(arm_name)
    control_rate_hz = profile.control_rate_hz if args.rate is None else args.rate
    _check_options(args, simulated)
    cameras = _cameras(args.camera, card, simulated)
    drawn = frozenset(name for name, address in cameras.items() if address.kind == "sim")
    check_card(card, World(profile, control_rate_hz, SIMULATED_VIEWS, drawn))
    check_file(args.engine, card)
    calibration = None if args.calibration is None else find_calibration(args.calibration, profile)
    return RunPlan(
        engine=args.engine,
        card=card,
        arm_name=arm_name,
        profile=profile,
        port="" if simulated else args.port,
        calibration=calibration,
        world=_world(args, card) if simulated else None,
        cameras=cameras,
        camera_checks=_camera_checks(args, cameras, profile),
        camera_rate_hz=args.camera_rate,
        control_rate_hz=control_rate_hz,
        realtime=realtime_settings(args),
        threads=args.threads,
        hand_over=hand_over_of(args),
        noise=args.noise,
        schedule=_schedule(args, card, simulated),
        video=_video(args.video),
        recording=None if args.record is None else _recording(args.record, args.record_limit_mb),
    )


def realtime_settings(args: argparse.Namespace) -> RealtimeSettings:
    """The settings from `--cpu`, `--realtime-priority` and `--spin-us`.

    Raises:
        InputError: a core that this process may not use.
    """
    cores = sorted(os.sched_getaffinity(0))
    if args.cpu is not None and args.cpu not in cores:
        raise InputError(f"--cpu {args.cpu} may not be used here", f"use one of {', '.join(map(str, cores))}")
    return RealtimeSettings(args.realtime_priority, args.cpu, args.spin_us)


def check_cameras(plan: RunPlan) -> list[str]:
    """Notes on settings that the drivers of V4L2 cameras change. Raises SefaError when a camera cannot be used."""
    devices = {name: address for name, address in plan.cameras.items() if address.kind == "v4l2"}
    if not devices:
        return []
    from sefa_edge.edge.cameras.v4l2.opening import note_of

    sizes = {camera.name: (camera.height, camera.width) for camera in plan.card.cameras}
    requests = [CameraRequest(name, address, plan.camera_rate_hz, *sizes[name]) for name, address in devices.items()]
    notes = ((request.name, note_of(request)) for request in requests)
    return [f"camera {name}: {note}" for name, note in notes if note is not None]


def check_calibration(plan: RunPlan) -> list[str]:
    """Notes on the calibration file of a run, and on the range that it leaves to the arm.

    Raises:
        InputError: the file cannot be used, the profile's poses are outside its range, or there is no file although
            several servo adapters are plugged in.
    """
    if plan.calibration is None:
        if plan.world is None:
            require_identified_arm(plan.port)
        return []
    found = read_calibration(plan.calibration, plan.profile)
    return [f"note: {note}" for note in (*found.notes, *fit_profile(plan.profile, found.calibration).notes)]


def _recording(folder: Path, limit_mb: int) -> RecordingPlan:
    if find_spec("mcap") is None:
        raise MissingError("--record needs the Python package 'mcap'", "pip install 'sefa-edge[recording]'")
    return RecordingPlan(free_path(make_folder(folder)), limit_mb << 20)


def _video(path: Path) -> Path | None:
    if str(path) == NO_VIDEO:
        return None
    if path.suffix not in VIDEO_SUFFIXES:
        raise InputError(f"--video {path}: unknown ending", f"use one of {' '.join(VIDEO_SUFFIXES)}, or 'none'")
    return writable(path)


def _existing_engine(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path} does not exist", "give the path of a model.onnx or model.plan")
    return path


def _check_options(args: argparse.Namespace, simulated: bool) -> None:
    if not simulated and args.port is None:
        raise InputError(f"arm '{args.arm}' needs --port", "for example --port /dev/ttyACM0")
    if simulated and args.calibration is not None:
        raise InputError("a simulated arm takes no --calibration", "leave it out")


def _world(args: argparse.Namespace, card: PolicyCard) -> SimulatedWorld:
    return SimulatedWorld(args.task or card.task, None if args.port is None else Path(args.port))


def _cameras(arguments: list[str] | None, card: PolicyCard, simulated: bool) -> dict[str, CameraAddress]:
    wanted = [camera.name for camera in card.cameras]
    if arguments is None:
        arguments = [f"{name}=sim" for name in wanted] if simulated else []
    given = dict(_named(argument, wanted) for argument in arguments)
    for name in wanted:
        if name not in given:
            raise InputError(f"the engine needs camera '{name}'", f"give --camera {name}=/dev/video0")
    for name, address in given.items():
        if name not in wanted:
            raise InputError(f"the engine has no camera '{name}'", f"its cameras: {', '.join(wanted)}")
        if address.kind == "sim" and not address.target and not simulated:
            raise InputError("the simulated camera does not show a real arm", f"give --camera {name}=/dev/video0")
    return given


def _camera_checks(args: argparse.Namespace, cameras: dict[str, CameraAddress], profile: ArmProfile) -> CameraChecks:
    patience = {name: patience_for(address.kind, args.frozen_ms, args.dark_ms) for name, address in cameras.items()}
    return CameraChecks(
        args.max_frame_age_ms or profile.goal_timeout_ms,
        args.max_skew_ms or DEFAULT_MAX_SKEW_MS,
        {name: limits.frozen_ns for name, limits in patience.items() if limits.frozen_ns is not None},
        {name: limits.dark_ns for name, limits in patience.items() if limits.dark_ns is not None},
    )


def _named(argument: str, wanted: list[str]) -> tuple[str, CameraAddress]:
    match = _NAMED_CAMERA.fullmatch(argument)
    if match:
        return match[1], parse_address(match[2])
    if len(wanted) > 1:
        raise InputError(f"which camera is '{argument}'?", f"write NAME={argument}; names: {', '.join(wanted)}")
    return wanted[0], parse_address(argument)


def _schedule(args: argparse.Namespace, card: PolicyCard, simulated: bool) -> Schedule:
    episodes, episode_s = args.episodes, args.episode_seconds
    if simulated:
        from sefa_edge.firmware_bridge.simulation.tasks import task_named

        episode_s = episode_s or task_named(args.task or card.task).time_limit_s
        if episodes is None and args.seconds is None:
            episodes = SIMULATED_EPISODES
        return Schedule(args.seed, episodes, episode_s, args.seconds)
    if episodes is not None:
        return Schedule(args.seed, episodes, episode_s or REAL_EPISODE_S, None)
    return Schedule(args.seed, None, episode_s, args.seconds or REAL_TOTAL_S)
