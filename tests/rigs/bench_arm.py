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
    """Records whether a motor was ever switched on; a joint can be blocked."""

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
    """The simulated arm of a test."""

    def registers(self) -> list[bytes]:
        """All registers that a program can write, servo by servo."""
        with self.port.lock:
            return [servo.read(0, reg.PRESENT_POSITION.address) for servo in self.bus.servos]

    def hold(self) -> None:
        """Switch the torque on, as a run that ends holding leaves it."""
        with self.port.lock:
            for servo in self.bus.servos:
                servo.write(reg.TORQUE_ENABLE.address, bytes((reg.TORQUE_ON,)))

    def joint_deg(self, index: int) -> float:
        joint = self.profile.joints[index]
        middle = (joint.range_min_ticks + joint.range_max_ticks) / 2
        with self.port.lock:
            return (self.plant.position_ticks(index) - middle) * 360 / 4095


class JudgedBench(Bench, JudgedArm[RecordingPlant]):
    """The same arm, judged: no program may break a limit."""


@contextmanager
def arm_on_the_bench(folder: Path) -> Iterator[JudgedBench]:
    """A complete arm, about 5 degrees from its middle pose, torque off. No program may break a limit."""
    profile = load_arm_profile(ARM)
    middles = [(joint.range_min_ticks + joint.range_max_ticks) / 2 for joint in profile.joints]
    plant = RecordingPlant([ticks + START_TICKS_OFF_MIDDLE for ticks in middles])
    with JudgedBench(profile, folder / "arm", plant) as bench:
        yield bench


@contextmanager
def servos_on_the_bench(folder: Path, *addresses: tuple[int, int]) -> Iterator[Bench]:
    """New, uncalibrated servos, each with an id and a baud rate."""
    plant = RecordingPlant([2048.0 + 100 * index for index in range(len(addresses))])
    servos = [SimulatedServo(servo_id, plant, index) for index, (servo_id, _) in enumerate(addresses)]
    for servo, (_, baud) in zip(servos, addresses, strict=True):
        servo.set_register(reg.BAUD_RATE, reg.BAUD_RATES.index(baud))
    bus = SimulatedBus(servos, 1_000_000)
    with Bench(load_arm_profile(ARM), folder / "arm", plant, bus) as bench:
        yield bench
