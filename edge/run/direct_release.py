"""Reads torque or switches it off from the supervisor, where no control process can do it."""

from __future__ import annotations

import time
from collections.abc import Callable

from sefa_edge.firmware_bridge.host.errors import ArmUnconfirmed
from sefa_edge.firmware_bridge.host.messages import TorqueReading
from sefa_edge.firmware_bridge.host.open_arm import bus_of
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import ms_to_ns

RETRY_S = 0.05


def release_directly(
    profile: ArmProfile, port: str, on_unconfirmed: Callable[[tuple[str, ...]], None]
) -> tuple[str, ...]:
    """Switch the torque of every servo off and read it back, for at most `emergency_retry_ms`.

    Args:
        on_unconfirmed: called once, with the joints that did not confirm at first.

    Returns:
        The joints that did not confirm; empty when the torque of all is off.
    """
    give_up_ns = time.monotonic_ns() + ms_to_ns(profile.safety.emergency_retry_ms)
    reported = False
    while True:
        holding = _attempt(profile, port)
        if not holding or time.monotonic_ns() > give_up_ns:
            return holding
        if not reported:
            on_unconfirmed(holding)
            reported = True
        time.sleep(RETRY_S)


def read_torque_directly(profile: ArmProfile, port: str) -> TorqueReading:
    """Which joints have their torque on. Writes nothing; takes at most about half a second."""
    try:
        return bus_of(profile).read_torque(profile, port)
    except SefaError:
        return TorqueReading((), profile.joint_names)


def _attempt(profile: ArmProfile, port: str) -> tuple[str, ...]:
    try:
        bus_of(profile).release(profile, port)
    except ArmUnconfirmed as error:
        return error.joints
    except SefaError:  # the port cannot be opened now; it may come back
        return profile.joint_names
    return ()
