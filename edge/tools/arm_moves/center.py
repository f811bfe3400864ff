"""`sefa-edge arm center`: a slow move of all joints, or of one, to the middle of their ranges or to the start pose."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import closing

import numpy as np

from sefa_edge.edge.control.clock import MonotonicClock
from sefa_edge.edge.control.planned_move import plan_move
from sefa_edge.edge.tools.arm_moves.slow_move import SlowMove, Stopped, slowed
from sefa_edge.edge.tools.arm_moves.steps import find_arm, perform, report_end
from sefa_edge.firmware_bridge.host.emergency import Emergency, emergency_signals
from sefa_edge.firmware_bridge.service.opening import arm_opener, joint_named, profile_of
from sefa_edge.profiles.console import limit_waiting
from sefa_edge.profiles.schema import ArmProfile, JointProfile
from sefa_edge.profiles.units import NS_PER_S

MIDDLE, MIDDLE_PCT = 0.0, 50.0
"""LeRobot's zero is the middle of a calibrated range; a gripper's range is 0 to 100."""
AFTERWARDS = {
    "hold": "then it holds there, torque on, also when this program has ended",
    "park": "then it moves to its park pose and ends there as its profile says",
    "release": "then the torque goes off where it stands: IT DROPS; support it",
}


def main(args: argparse.Namespace) -> int:
    """Do it; 0, or 128 + the number of the signal that stopped it: the arm holds then.

    Raises:
        InputError: no such joint, a speed out of range, or an arm that is not the profile's.
        FaultError: something is wrong with the arm, or in its way; it holds where it was stopped, or was not touched.
        MissingError: no such port, no permission, or another program has it.
    """
    limit_waiting()
    profile = slowed(profile_of(args), args.speed)
    moved = profile.joints if args.joint is None else [joint_named(args.joint, profile)]
    emergency = Emergency()
    open_arm = arm_opener(args, profile, emergency)
    found = find_arm(open_arm, profile)
    profile, here_deg = found.profile, found.joint_deg
    moved = [joint_named(joint.name, profile) for joint in moved]
    profile = profile.model_copy(update={"start_pose_deg": pose_to(profile, moved, args.pose, here_deg)})
    print("\n".join(_announcement(args, profile, moved, here_deg)), flush=True)
    signals = emergency_signals(emergency)
    with signals, closing(SlowMove(profile, open_arm, MonotonicClock(), signals, emergency)) as move:
        stopped = perform([move.check_readings, move.to_start_pose, *_ending(move, args.then)])
        held = f"arm at the {args.pose} pose, torque on"
        return report_end(stopped, held if args.then == "hold" else move.outcome)


def pose_to(profile: ArmProfile, moved: Sequence[JointProfile], pose: str, here_deg: np.ndarray) -> list[float]:
    """Where every joint is to go: `moved` to the pose, the others stay, or come back inside their limits."""
    names = {joint.name for joint in moved}
    return [
        _goal(joint, pose, start_deg) if joint.name in names else _inside(joint, float(now_deg))
        for joint, start_deg, now_deg in zip(profile.joints, profile.start_pose_deg, here_deg, strict=True)
    ]


def _goal(joint: JointProfile, pose: str, start_deg: float) -> float:
    if pose == "start":
        return start_deg
    return _inside(joint, MIDDLE_PCT if joint.unit == "percent" else MIDDLE)


def _inside(joint: JointProfile, value: float) -> float:
    return min(max(value, joint.min_deg), joint.max_deg)


def _ending(move: SlowMove, then: str) -> list[Callable[[], Stopped | None]]:
    return {"hold": [], "park": [move.to_park_pose], "release": [move.release]}[then]


def _announcement(
    args: argparse.Namespace, profile: ArmProfile, moved: Sequence[JointProfile], here_deg: np.ndarray
) -> list[str]:
    target_deg = np.array(profile.start_pose_deg)
    plan = plan_move(here_deg, target_deg, profile.limit_table(), args.speed, 0)
    joints = "all joints" if len(moved) == len(profile.joints) else moved[0].name
    lines = [
        f"{profile.name} on {args.port}: torque on where it stands, then {joints} to the {args.pose} pose in "
        f"{plan.end_ns / NS_PER_S:.1f} s;",
        f"{AFTERWARDS[args.then]}. Ctrl-C: stop and hold. Ctrl-\\: torque off at once, it drops.",
    ]
    for joint, now, target in zip(profile.joints, here_deg, target_deg, strict=True):
        unit = "deg" if joint.unit == "degrees" else "%"
        if abs(now - target) >= 0.05:
            lines.append(f"  {joint.name:<14} {now:7.1f} to {target:6.1f} {unit}")
    return lines
