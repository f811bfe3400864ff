"""An arm on the bench: simulated servos on a pseudo-terminal, in this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.servo import SimulatedServo
from sefa_edge.profiles.arms import load_arm_profile
from tests.rigs.simulated_arm import JudgedArm, SimulatedArm

ARM = "so101_sim"
START_TICKS_OFF_MIDDLE = 60


class RecordingPlant(KinematicPlant):
    """Remembers whether a motor was ever switched on, and lets a joint be blocked."""

    def __init__(self, ticks: Sequence[float]) -> None:
        super().__init__(ticks)
        self.ever_on = False
        self.blocked: int | None = None

    def set_torque(self, index: int, on: bool) -> None:
        self.ever_on |= on
        super().set_torque(index, on)

    def set_goal_ticks(self, index: int, ticks: float) -> None:
        super().set_goal_ticks(index, self.position_ticks(index) if index == self.blocked else ticks)


class Bench(SimulatedArm[RecordingPlant]):
    """The arm that a test works on."""

    def registers(self) -> list[bytes]:
        """All that a program can have written, servo by servo."""
        with self.port.lock:
            return [servo.read(0, reg.PRESENT_POSITION.address) for servo in self.bus.servos]

    def hold(self) -> None:
        """Torque on, as a run leaves it that ends holding."""
        with self.port.lock:
            for servo in self.bus.servos:
                servo.write(reg.TORQUE_ENABLE.address, bytes((reg.TORQUE_ON,)))

    def joint_deg(self, index: int) -> float:
        joint = self.profile.joints[index]
        middle = (joint.range_min_ticks + joint.range_max_ticks) / 2
        with self.port.lock:
            return (self.plant.position_ticks(index) - middle) * 360 / 4095


class JudgedBench(Bench, JudgedArm[RecordingPlant]):
    """The same; no program may break a limit of it."""


@contextmanager
def arm_on_the_bench(folder: Path) -> Iterator[JudgedBench]:
    """A whole arm, some degrees off the middle, torque off. No program may break a limit of it."""
    profile = load_arm_profile(ARM)
    middles = [(joint.range_min_ticks + joint.range_max_ticks) / 2 for joint in profile.joints]
    plant = RecordingPlant([ticks + START_TICKS_OFF_MIDDLE for ticks in middles])
    with JudgedBench(profile, folder / "arm", plant) as bench:
        yield bench


@contextmanager
def servos_on_the_bench(folder: Path, *addresses: tuple[int, int]) -> Iterator[Bench]:
    """New servos, not calibrated, each with an id and a speed."""
    plant = RecordingPlant([2048.0 + 100 * index for index in range(len(addresses))])
    servos = [SimulatedServo(servo_id, plant, index) for index, (servo_id, _) in enumerate(addresses)]
    for servo, (_, baud) in zip(servos, addresses, strict=True):
        servo.set_register(reg.BAUD_RATE, reg.BAUD_RATES.index(baud))
    bus = SimulatedBus(servos, 1_000_000)
    with Bench(load_arm_profile(ARM), folder / "arm", plant, bus) as bench:
        yield bench
