"""Simulated servos on a pseudo-terminal in this process: the basis of most tests of the arm."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from typing_extensions import Self

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import Instruction, Packet, PacketDecoder
from sefa_edge.firmware_bridge.host.feetech.registers import Register
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.plant import Plant
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.profiles.schema import ArmProfile
from tests.faults.arm_judge import ArmJudge
from tests.faults.wire_limits import wire_limits

WRITES = (Instruction.WRITE, Instruction.SYNC_WRITE, Instruction.REG_WRITE)
SERVO_PRIORITY = 20
"""Same as the simulated world's process: below control (55), above all other threads."""


PlantT = TypeVar("PlantT", bound=Plant)


class SimulatedArm(Generic[PlantT]):
    """The servos of a profile, served within its context. Joint i is servo i of the bus and of the plant."""

    def __init__(self, profile: ArmProfile, link: Path, plant: PlantT, bus: SimulatedBus | None = None) -> None:
        """`link` is the path of the port. Raises InputError like `PtyPort`."""
        self.profile = profile
        self.plant = plant
        self.bus = bus or SimulatedBus.of_arm(profile, plant)
        self.port = PtyPort(self.bus, link)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.close()

    def start(self) -> None:
        """Serve in a thread until `close`."""
        self.port.start()
        prefer_servos()

    def close(self) -> None:
        self.port.close()

    def register(self, joint: int, register: Register) -> int:
        with self.port.lock:
            return self.bus.servos[joint].register(register)

    def each(self, register: Register) -> list[int]:
        """One register of every servo."""
        with self.port.lock:
            return [servo.register(register) for servo in self.bus.servos]

    def set(self, register: Register, value: int, joint: int | None = None) -> None:
        """Set a register of one servo, or of all, bypassing the bus."""
        with self.port.lock:
            for servo in self.bus.servos if joint is None else [self.bus.servos[joint]]:
                servo.set_register(register, value)

    def silence(self, joint: int) -> None:
        """The servo of a joint no longer answers."""
        with self.port.lock:
            self.bus.servos[joint].connected = False

    def torque(self) -> list[int]:
        return self.each(reg.TORQUE_ENABLE)

    def torque_is_on(self) -> list[bool]:
        return [value == reg.TORQUE_ON for value in self.torque()]

    def locked(self) -> list[bool]:
        """Whether each servo's EEPROM is locked."""
        return [value == 1 for value in self.each(reg.LOCK)]


class JudgedArm(SimulatedArm[PlantT]):
    """An arm whose wire and joints are judged. Leaving its context raises AssertionError if a rule was broken."""

    def __init__(self, profile: ArmProfile, link: Path, plant: PlantT) -> None:
        super().__init__(profile, link, plant)
        limits = wire_limits(profile)
        self.judge = ArmJudge(self.bus, self.plant, limits, time.monotonic_ns, exact_time=False)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        super().__exit__(kind, *rest)
        if kind is None:
            self.assert_clean()

    def ask_for_release(self) -> None:
        """From now on torque off is requested, wherever the arm is."""
        with self.port.lock:
            self.judge.ask_for_release()

    def assert_clean(self) -> None:
        """Raises AssertionError if a goal, a torque packet or a joint broke a rule."""
        with self.port.lock:
            self.judge.assert_clean()

    def assert_untouched(self) -> None:
        """Raises AssertionError if a goal or torque packet was received."""
        with self.port.lock:
            self.judge.assert_untouched()


class WriteLog:
    """Every write packet of a host, decoded from the bytes on the wire."""

    def __init__(self, bus: SimulatedBus) -> None:
        self.packets: list[Packet] = []
        self.on_write: Callable[[Packet], None] = lambda _: None
        """Called before the servos receive the packet; for tests that act between two writes."""
        self._decoder = PacketDecoder()
        bus.disturb_request = self._take

    def _take(self, data: bytes) -> bytes:
        for packet in self._decoder.feed(data):
            if packet.code in WRITES:
                self.packets.append(packet)
                self.on_write(packet)
        return data


def prefer_servos() -> None:
    """Give the simulated servos of this process real-time priority, where permitted, so that they reply in time."""
    policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    for thread in threading.enumerate():
        if thread.name == "pty-port" and thread.native_id is not None:
            with contextlib.suppress(OSError):
                os.sched_setscheduler(thread.native_id, policy, os.sched_param(SERVO_PRIORITY))
