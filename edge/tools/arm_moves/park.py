"""`sefa-edge arm park`: a slow move to the park pose, then torque off, as at the end of a run."""

from __future__ import annotations

import argparse
from contextlib import closing

import numpy as np

from sefa_edge.edge.control.clock import MonotonicClock
from sefa_edge.edge.control.planned_move import plan_move
from sefa_edge.edge.tools.arm_moves.slow_move import SlowMove, slowed
from sefa_edge.edge.tools.arm_moves.steps import find_arm, perform, report_end
from sefa_edge.firmware_bridge.host.emergency import Emergency, emergency_signals
from sefa_edge.firmware_bridge.service.opening import arm_opener, profile_of
from sefa_edge.profiles.console import limit_waiting
from sefa_edge.profiles.units import NS_PER_S

AFTERWARDS = {
    "release": "then the torque goes off",
    "hold": "then it stays there, torque on, as its profile says",
}


def main(args: argparse.Namespace) -> int:
    """Do it; 0, or 128 + the number of the signal that stopped it: the arm holds then.

    Raises:
        InputError: a speed out of range, or an arm that is not the profile's.
        FaultError: something is wrong with the arm, or in its way; it holds where it was stopped, or was not touched.
        MissingError: no such port, no permission, or another program has it.
    """
    limit_waiting()
    profile = slowed(profile_of(args), args.speed)
    emergency = Emergency()
    open_arm = arm_opener(args, profile, emergency)
    found = find_arm(open_arm, profile)
    profile, here_deg = found.profile, found.joint_deg
    plan = plan_move(here_deg, np.array(profile.park_pose_deg), profile.limit_table(), args.speed, 0)
    print(
        f"{profile.name} on {args.port}: torque on where it stands, then to the park pose in "
        f"{plan.end_ns / NS_PER_S:.1f} s; {AFTERWARDS[profile.safety.after_park]}. Ctrl-C: stop and hold. "
        "Ctrl-\\: torque off at once, it drops.",
        flush=True,
    )
    signals = emergency_signals(emergency)
    with signals, closing(SlowMove(profile, open_arm, MonotonicClock(), signals, emergency)) as move:
        return report_end(perform([move.check_readings, move.to_park_pose]), move.outcome)
