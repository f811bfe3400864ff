"""Simulated servos whose joints a test moves by hand, on a pseudo-terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.profiles.arms import load_arm_profile
from tests.rigs.simulated_arm import SimulatedArm

PROFILE = load_arm_profile("so101")
NAMES = PROFILE.joint_names
MIDDLE = (1500, 2600, 2047, 900, 3000, 2300)
"""Encoder ticks in the middle pose."""

STEP_TICKS = 100


class HandPlant:
    """A `Plant` without motors: joints stay where a test puts them."""

    def __init__(self, ticks: Sequence[float]) -> None:
        self.ticks = list(ticks)
        self.torque = [False] * len(ticks)
        self.goals: list[float] = []

    def position_ticks(self, index: int) -> float:
        return self.ticks[index]

    def velocity_ticks_s(self, index: int) -> float:
        return 0.0

    def load_fraction(self, index: int) -> float:
        return 0.0

    def set_goal_ticks(self, index: int, ticks: float) -> None:
        self.goals.append(ticks)

    def set_torque(self, index: int, on: bool) -> None:
        self.torque[index] = on

    def set_torque_limit(self, index: int, fraction: float) -> None:
        pass


class Stand(SimulatedArm[HandPlant]):
    """New, uncalibrated servos in the middle pose."""

    def move(self, joint: str, ticks: float) -> None:
        """Move a joint to this encoder position, ticks."""
        with self.port.lock:
            self.plant.ticks[NAMES.index(joint)] = ticks % 4096

    def energise(self, *joints: str) -> None:
        """Switch torque on, as another program may have left it."""
        with self.port.lock:
            for joint in joints:
                self.bus.servos[NAMES.index(joint)].write(reg.TORQUE_ENABLE.address, b"\1")

    def carried(self) -> list[tuple[int, ...]]:
        """Homing offset and position limits of every servo."""
        return list(zip(*(self.each(r) for r in (reg.HOMING_OFFSET, reg.MIN_POSITION, reg.MAX_POSITION)), strict=True))


FACTORY = [(0, 0, 4095)] * len(NAMES)


@contextmanager
def stand_at(link: Path) -> Iterator[Stand]:
    """Servos on a port at the path `link`."""
    stand = Stand(PROFILE, link, HandPlant(MIDDLE))
    stand.set(reg.MIN_POSITION, 0)
    stand.set(reg.MAX_POSITION, 4095)
    with stand:
        yield stand
