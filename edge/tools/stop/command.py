"""`sefa-edge stop`: parks and releases the arm of a run in another terminal, or switches its torque off at once."""

from __future__ import annotations

import argparse
import signal
import time
from pathlib import Path

from sefa_edge.edge.tools.stop.arm_user import ArmUser, arm_user
from sefa_edge.firmware_bridge.host.port_lock import lock_holder, locked_ports
from sefa_edge.profiles.errors import FaultError, MissingError
from sefa_edge.profiles.exit_codes import ExitCode
from sefa_edge.profiles.files import path_argument

PARK_PATIENCE_S = 60.0
"""A run parks its arm within a few seconds; an arm that is away is waited for at most as long as its profile says."""
EMERGENCY_PATIENCE_S = 10.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Stop every sefa-edge command on this machine that uses an arm: as Ctrl-C in its own terminal, a run parks its "
        "arm and releases it. With --emergency the torque is switched off at once, by software, and the arm drops. The "
        "only emergency stop that needs no working computer is a switch in the supply of the servos."
    )
    parser.add_argument("--port", type=path_argument, metavar="P", help="stop only what uses the arm on this port")
    parser.add_argument("--emergency", action="store_true", help="as Ctrl-\\: torque off at once, the arm drops")


def main(args: argparse.Namespace) -> int:
    """Returns when all have ended. Raises MissingError when there is nothing to stop, FaultError when one goes on."""
    ports = locked_ports() if args.port is None else [Path(args.port)]
    users = [user for port in ports if (user := arm_user(port)) is not None]
    if not users:
        where = "on this machine" if args.port is None else f"on {args.port}"
        raise MissingError(f"no arm is in use {where}", "sefa-edge arm scan lists the arms and who uses them")
    number = signal.SIGQUIT if args.emergency else signal.SIGINT
    for user in users:
        user.send(number)
        print(f"{user.port}: {'torque off' if args.emergency else 'stopping'} (process {user.head})", flush=True)
    _await_end(users, time.monotonic() + (EMERGENCY_PATIENCE_S if args.emergency else PARK_PATIENCE_S))
    return ExitCode.DONE


def _await_end(users: list[ArmUser], give_up_s: float) -> None:
    running = [user for user in users if not user.has_ended(give_up_s - time.monotonic())]
    for user in users:
        if user not in running:
            print(f"{user.port}: stopped")
        user.close()
    if running:
        raise _goes_on(running[0])


def _goes_on(user: ArmUser) -> FaultError:
    if lock_holder(user.port) is None:  # as when a supervisor hangs after control has released the arm
        text = f"process {user.head} has not ended, but does not use the arm on {user.port} any more"
        return FaultError(text, f"check that the arm is as it should be; kill -KILL {user.head}")
    return FaultError(f"process {user.head} still uses the arm on {user.port}", "switch off the supply of the servos")
