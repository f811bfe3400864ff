"""A control process on a simulated arm behind a pseudo-terminal; the test is its supervisor and policy."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from sefa_edge.edge.chunks import ActionChunk
from sefa_edge.edge.control_process import ControlConfig
from sefa_edge.edge.modes import Command, Mode
from sefa_edge.edge.process import Child, ChildSpec
from sefa_edge.edge.records import ControlCommand, Final, Heartbeat, Ready, TickReport, unpack_for_supervisor
from sefa_edge.edge.safety import Envelope
from sefa_edge.edge.transport import ChannelClosed, channel_pair
from sefa_edge.firmware_bridge.host.calibration import joint_scale, nominal_calibration
from sefa_edge.firmware_bridge.host.registers import TORQUE_ENABLE, TORQUE_ON
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.profiles.schema import ArmProfile, load_arm_profile
from sefa_edge.profiles.units import ms_to_ns, period_ns

HANG_GUARD_S = 90.0
HORIZON = 16
STEP_NS = ms_to_ns(100)
SWING_DEG = np.array([25.0, 20.0, -20.0, 15.0, 30.0, 20.0])


class RecordingPlant(KinematicPlant):
    """Keeps every goal that reached a motor, joint by joint, and how far from the joint it was."""

    def __init__(self, profile: ArmProfile) -> None:
        middle = [(joint.range_min_ticks + joint.range_max_ticks) / 2 for joint in profile.joints]
        super().__init__(middle)
        self.goals: list[list[float]] = [[] for _ in profile.joints]
        self.ways: list[list[float]] = [[] for _ in profile.joints]
        self.burden = [0.0] * len(profile.joints)
        """Share of the stall torque that something takes from each motor that is on."""

    def load_fraction(self, index: int) -> float:
        return self.burden[index] or super().load_fraction(index)

    def set_goal_ticks(self, index: int, ticks: float) -> None:
        self.goals[index].append(ticks)
        self.ways[index].append(ticks - self.position_ticks(index))
        super().set_goal_ticks(index, ticks)


class Rig:
    """Everything around one control process. `until` plays supervisor and policy while it waits."""

    def __init__(self, folder: Path) -> None:
        self.arm_file = _quick_arm(folder)
        self.profile = load_arm_profile(str(self.arm_file))
        self.plant = RecordingPlant(self.profile)
        self.bus = SimulatedBus.of_arm(self.profile, self.plant)
        self.port = PtyPort(self.bus, folder / "arm")
        self.port.start()
        self.supervisor, self._supervisor_end = channel_pair()
        self.policy, self._policy_end = channel_pair()
        self.feeding = True
        self.beating = False
        """Whether the supervisor beats: from the first beat on it must go on."""
        self.ready: Ready | None = None
        self.final: Final | None = None
        self.reports: list[TickReport] = []
        self._chunk_id = 0
        self.child: Child | None = None

    def start(self, cpu: int | None = None) -> None:
        config = ControlConfig(
            arm=str(self.arm_file),
            port=self.port.path,
            calibration=None,
            horizon=HORIZON,
            cpu=cpu,
            supervisor_fd=self._supervisor_end.fileno(),
            policy_fd=self._policy_end.fileno(),
        )
        fds = (config.supervisor_fd, config.policy_fd)
        self.child = Child(ChildSpec("control", "sefa_edge.edge.control_process", config.model_dump_json(), fds))
        self._supervisor_end.close()
        self._policy_end.close()
        self.until(lambda: self.ready is not None)

    def command(self, command: Command) -> None:
        self.supervisor.send(ControlCommand(command).pack())

    def run(self) -> None:
        """Armed, running, and moving."""
        self.command(Command.ARM)
        self.command(Command.RUN)
        self.until(lambda: self.mode is Mode.RUNNING and self.reports[-1].chunk_id > 2)

    @property
    def mode(self) -> Mode | None:
        return self.reports[-1].mode if self.reports else None

    def until(self, condition: Callable[[], bool]) -> None:
        """Listen, and feed chunks, until the condition holds."""
        heard = len(self.reports)
        waits = 0
        while not condition():
            waits += not self.supervisor.wait(0.1)
            assert waits < HANG_GUARD_S * 10, "the control process hangs"
            try:
                if self.beating:
                    self.supervisor.send(Heartbeat(time.monotonic_ns()).pack())
                self._hear()
            except ChannelClosed:
                assert condition(), f"ended early: {self.final}"
                return
            if self.feeding and len(self.reports) - heard >= 20:
                heard = len(self.reports)
                self.send_chunk(self.swing())

    def ended(self) -> Final:
        """The last record, once the process has gone."""
        self.until(lambda: self.final is not None)
        assert self.final is not None
        assert self.exit_code() == self.final.exit_code
        return self.final

    def exit_code(self) -> int | None:
        assert self.child is not None
        return self.child.wait(HANG_GUARD_S)

    def swing(self) -> np.ndarray:
        """A slow to and fro around the start pose, float32 [T, n]."""
        first = self._chunk_id * 2
        phase = np.sin((first + np.arange(HORIZON)) * 2 * math.pi / 40)[:, None]
        return (np.array(self.profile.start_pose_deg) + SWING_DEG * phase).astype(np.float32)

    def send_chunk(self, path_deg: np.ndarray) -> None:
        self._chunk_id += 1
        observed_ns = self.reports[-1].start_ns
        chunk = ActionChunk(self._chunk_id, observed_ns, observed_ns + STEP_NS, STEP_NS, path_deg, 0)
        try:
            self.policy.send(chunk.pack())
        except ChannelClosed:
            self.feeding = False

    def torque_is_on(self) -> list[bool]:
        with self.port.lock:
            return [servo.register(TORQUE_ENABLE) == TORQUE_ON for servo in self.bus.servos]

    def assert_limits_kept(self) -> None:
        """No goal broke a limit: as the loop made it, and as it arrived at the motors in whole ticks."""
        envelope = Envelope.of(self.profile.limit_table(), period_ns(self.profile.control_rate_hz))
        for stretch in _unbroken(self.reports):
            goals = np.array([report.goal_deg for report in stretch], np.float64)
            joints = np.array([report.joint_deg for report in stretch], np.float64)
            anew = np.abs(goals - joints) < 0.2  # a servo woke up: goal = present
            steps = np.diff(goals, axis=0)
            changes = np.abs(np.diff(steps, axis=0))
            assert ((np.abs(steps) <= envelope.step_deg + 1e-3) | anew[1:]).all()
            assert ((changes <= envelope.change_deg + 1e-3) | anew[1:-1] | anew[2:]).all()
        for index, (joint, entry) in enumerate(
            zip(self.profile.joints, nominal_calibration(self.profile).joints, strict=True)
        ):
            scale = joint_scale(joint, entry)
            arrived = np.array([scale.to_joint(ticks) for ticks in self.plant.goals[index]])
            tick_deg = abs(scale.joint_per_tick)
            where_it_is = np.abs(self.plant.ways[index])[1:] <= 2  # torque on, again: goal = present
            assert (arrived >= joint.min_deg - tick_deg).all()
            assert (arrived <= joint.max_deg + tick_deg).all()
            near_the_last = np.abs(np.diff(arrived)) <= envelope.step_deg[index] + 2 * tick_deg
            assert (near_the_last | where_it_is).all()

    def close(self) -> None:
        for channel in (self.supervisor, self.policy, self._supervisor_end, self._policy_end):
            channel.close()
        if self.child is not None:
            self.child.stop(0.0)
            self.child.close()
        self.port.close()

    def _hear(self) -> None:
        for record in self.supervisor.drain():
            message = unpack_for_supervisor(record, len(self.profile.joints))
            if isinstance(message, TickReport):
                self.reports.append(message)
            elif isinstance(message, Ready):
                self.ready = message
            else:
                self.final = message
        self._drop_joint_samples()

    def _drop_joint_samples(self) -> None:
        try:
            for _ in self.policy.drain() if self.feeding else ():
                pass
        except ChannelClosed:  # the process is on its way out; what it still has to say is on the other channel
            self.feeding = False


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    bench = Rig(tmp_path)
    try:
        yield bench
    finally:
        bench.close()


def _quick_arm(folder: Path) -> Path:
    """The simulated arm with a park pose nearby, so that parking takes a second."""
    profile = load_arm_profile("so101_sim").model_dump()
    profile |= {"park_pose_deg": [0.0, -60.0, 20.0, 10.0, 0.0, 10.0], "move_velocity_deg_s": 90.0}
    profile["safety"] |= {"park_velocity_deg_s": 90.0, "emergency_retry_ms": 3000.0}
    path = folder / "quick.yaml"
    path.write_text(yaml.safe_dump(profile), encoding="utf-8")
    return path


def _unbroken(reports: list[TickReport]) -> list[list[TickReport]]:
    """Consecutive ticks with a goal; a lost record or a tick without a goal ends a stretch."""
    stretches: list[list[TickReport]] = [[]]
    for before, report in zip([None, *reports], reports, strict=False):
        skipped = before is not None and report.dropped_records != before.dropped_records
        if skipped or np.isnan(report.goal_deg).any():
            stretches.append([])
        else:
            stretches[-1].append(report)
    return [stretch for stretch in stretches if len(stretch) > 2]
