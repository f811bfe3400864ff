"""Torque read, or switched off, by the supervisor itself, where there is no control process that could do it."""

from __future__ import annotations

import time
from collections.abc import Callable

from sefa_edge.firmware_bridge.host.errors import ArmDisconnected, ArmUnconfirmed
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import torque_off_packet
from sefa_edge.firmware_bridge.host.feetech.link import Link, SerialWire
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.firmware_bridge.host.feetech.torque import read_torque, release
from sefa_edge.firmware_bridge.host.messages import TorqueReading
from sefa_edge.profiles.errors import SefaError
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import ms_to_ns

RETRY_S = 0.05


def release_directly(profile: ArmProfile, port: str, on_refusal: Callable[[tuple[str, ...]], None]) -> tuple[str, ...]:
    """Switch the torque of every servo off and read it back, for at most `emergency_retry_ms`.

    Args:
        on_refusal: called once, with the joints that did not confirm at first.

    Returns:
        The joints that did not confirm; empty when all have let go.
    """
    give_up_ns = time.monotonic_ns() + ms_to_ns(profile.safety.emergency_retry_ms)
    told = False
    while True:
        holding = _attempt(profile, port)
        if not holding or time.monotonic_ns() > give_up_ns:
            return holding
        if not told:
            on_refusal(holding)
            told = True
        time.sleep(RETRY_S)


def read_torque_directly(profile: ArmProfile, port: str) -> TorqueReading:
    """Which joints have their torque on; writes nothing, and takes at most about half a second."""
    try:
        bus = ServoBus(Link.open(port, profile.baud))
    except SefaError:
        return TorqueReading((), profile.joint_names)
    try:
        return read_torque(bus, profile)
    except ArmDisconnected:
        return TorqueReading((), profile.joint_names)
    finally:
        bus.link.close()


def _attempt(profile: ArmProfile, port: str) -> tuple[str, ...]:
    try:
        bus = ServoBus(_open(profile, port))
    except SefaError:  # no port now; it may come back
        return profile.joint_names
    try:
        release(bus, profile)
    except ArmUnconfirmed as refused:
        return refused.joints
    except ArmDisconnected:
        return profile.joint_names
    finally:
        bus.link.close()
    return ()


def _open(profile: ArmProfile, port: str) -> Link:
    """The link, torque off sent before anything is asked. Raises SefaError."""
    wire = SerialWire(port, profile.baud)
    try:
        wire.write(torque_off_packet(profile))
    except ArmDisconnected:
        wire.close()
        raise
    return Link(wire)
