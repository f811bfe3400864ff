"""The control loop on byte-accurate simulated servos and a manual clock: no process, no terminal, no waiting."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import numpy as np

from sefa_edge.edge.control.clock import ManualClock, Pacer
from sefa_edge.edge.control.control_process import ControlConfig, Surroundings, build_loop
from sefa_edge.edge.control.final_record import EndContext, final_record
from sefa_edge.edge.control.links import ProcessLinks
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.records import ControlCommand, Final, Heartbeat, TickReport
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed, channel_pair
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.firmware_bridge.host.calibration import joint_scale, nominal_calibration
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import connect_feetech_arm
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.bus_port import BusPort
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import NS_PER_S, ms_to_ns, period_ns, s_to_ns
from tests.faults.arm_judge import ArmJudge
from tests.faults.judge import LoadedPlant, quick_profile
from tests.faults.wire_limits import CalibratedRange, wire_limits

HORIZON = 16
STEP_NS = ms_to_ns(100)
CHUNK_EVERY_NS = ms_to_ns(200)
RATES_HZ = [50, 50, 100]
MOVE_VELOCITY_DEG_S = 180.0
MAX_TICKS = 4000
"""40 s at 100 Hz: no wait here may last longer."""

SWING_DEG = np.array([35.0, 30.0, -30.0, 25.0, 50.0, 30.0])


class Swing:
    """Sinusoidal motion around a pose; every joint has its own amplitude, frequency and phase."""

    def __init__(self, middle_deg: list[float], rng: np.random.Generator) -> None:
        n = len(middle_deg)
        self._middle_deg = np.array(middle_deg)
        self._swing_deg = SWING_DEG * rng.uniform(0.4, 1.0, n)
        self._frequency_hz = rng.uniform(0.1, 0.35, n)
        self._phase = rng.uniform(0, 2 * math.pi, n)

    def path(self, first_ns: int) -> np.ndarray:
        """The plan of a policy from `first_ns` on: float32 [T, n], degrees."""
        seconds = (first_ns + np.arange(HORIZON) * STEP_NS)[:, None] / NS_PER_S
        angle = seconds * 2 * math.pi * self._frequency_hz + self._phase
        return (self._middle_deg + self._swing_deg * np.sin(angle)).astype(np.float32)


class Bench:
    """One control loop; this class acts as its supervisor and policy. The seed determines everything.

    The policy's chunks move the arm; `setpoint_sources.py` has benches for the other sources.
    """

    moving = Mode.RUNNING
    """The mode in which the arm moves when a fault strikes."""
    feed_every_ns = CHUNK_EVERY_NS

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.profile = quick_profile(float(self.rng.choice(RATES_HZ)), MOVE_VELOCITY_DEG_S)
        self.joint = int(self.rng.integers(len(self.profile.joints)))
        """The joint that a fault affects, if it affects a single one."""
        self.clock = ManualClock(NS_PER_S)
        self.plant = LoadedPlant(self.profile, self.clock.now_ns)
        for index, ticks in enumerate(ticks_of(self.profile, self.profile.start_pose_deg)):
            self.plant.place(index, ticks)
        self.bus = SimulatedBus.of_arm(self.profile, self.plant)
        limits = wire_limits(self.profile)
        self.judge = ArmJudge(self.bus, self.plant, limits, self.clock.now_ns, exact_time=True)
        self.port = BusPort(self.bus, self.clock)
        self.supervisor, self._supervisor_end = channel_pair()
        self.policy, self._policy_end = channel_pair()
        self.swing = Swing(self.profile.start_pose_deg, self.rng)
        self.feed: Callable[[Bench], None] | None = Bench.send_swing
        """Called every `feed_every_ns` to send what the policy sends; None: it sends nothing."""
        self.beats = False
        """Whether the supervisor sends a heartbeat every tick; after the first one it must not stop."""
        self.reads_reports = True
        self.stopping = False
        self.busy_ns = 0
        """How long another program occupies the processor in every tick."""
        self.chunk_id = 0
        self.reports: list[TickReport] = []
        self._fed_ns = 0
        self._inference_state = ""
        self.marked_ns = 0
        """When the fault was injected."""
        self.loop: ControlLoop | None = None

    def calibrate(self, joint: int, range_min_ticks: int, range_max_ticks: int) -> None:
        """Give one joint another range than the profile's, in its servo and in the judge. Call it before `connect`."""
        servo = self.bus.servos[joint]
        servo.set_register(reg.MIN_POSITION, range_min_ticks)
        servo.set_register(reg.MAX_POSITION, range_max_ticks)
        ranges = [
            CalibratedRange(servo.register(reg.MIN_POSITION), servo.register(reg.MAX_POSITION))
            for servo in self.bus.servos
        ]
        limits = wire_limits(self.profile, ranges)
        self.judge = ArmJudge(self.bus, self.plant, limits, self.clock.now_ns, exact_time=True)

    # -- up to the fault -----------------------------------------------------------------------------------

    def connect(self) -> None:
        profile = self.profile
        config = ControlConfig(
            arm=profile.name,
            port="in lock-step",
            calibration=None,
            horizon=HORIZON,
            supervisor_fd=self._supervisor_end.fileno(),
            policy_fd=self._policy_end.fileno(),
        )
        self._links = ProcessLinks(self._supervisor_end, self._policy_end, HORIZON, len(profile.joints))
        world = Surroundings(self.clock, self._links, lambda: connect_feetech_arm(profile, self.port.open(), None))
        self.loop = self._build_loop(config, world)
        self.pacer = Pacer(self.clock, period_ns(profile.control_rate_hz))

    def _build_loop(self, config: ControlConfig, world: Surroundings) -> ControlLoop:
        return build_loop(config, self.profile, world, None)

    def run(self) -> None:
        """Arm, run, and move for a random while."""
        self.command(Command.ARM)
        self.until(lambda: self.mode is Mode.ARMED and self.reports[-1].settled)
        self.command(Command.RUN)
        self.until(lambda: self.mode is Mode.RUNNING)
        self.play(self.rng.uniform(0.2, 0.8))

    def play(self, seconds: float) -> None:
        until_ns = self.clock.now_ns() + s_to_ns(seconds)
        self.until(lambda: self.clock.now_ns() >= until_ns)

    def until(self, condition: Callable[[], bool]) -> None:
        for _ in range(MAX_TICKS):
            if self.finished or condition():
                return
            self.tick()
        raise AssertionError(f"timed out: {self.reports[-1]}")

    def tick(self) -> None:
        assert self.loop is not None
        slot = self.pacer.wait()
        if self.beats:
            self.send_supervisor_record(Heartbeat(self.clock.now_ns()).pack())
        self.clock.sleep_until(self.clock.now_ns() + self.busy_ns)
        self.reports.append(self.loop.tick(slot))
        if self.loop.state.fault is Fault.CHUNK_TIMEOUT and not self._inference_state:
            self._inference_state = self._links.inference_note(slot.due_ns)
        if self.reads_reports:
            _drain(self.supervisor)
        _drain(self.policy)
        if self.feed is not None and self.clock.now_ns() - self._fed_ns >= self.feed_every_ns:
            self._fed_ns = self.clock.now_ns()
            self.feed(self)

    def periods(self, least: float, most: float) -> int:
        """A random duration between `least` and `most` loop periods, ns."""
        return round(self.rng.uniform(least, most) * period_ns(self.profile.control_rate_hz))

    def mark(self) -> None:
        """Record the time of the fault."""
        self.marked_ns = self.clock.now_ns()

    # -- sending ---------------------------------------------------------------------------------------------

    def command(self, command: Command) -> None:
        self.stopping |= command is Command.STOP
        if command is Command.EMERGENCY:
            self.judge.ask_for_release()
        self.send_supervisor_record(ControlCommand(command).pack())

    def send_supervisor_record(self, record: bytes) -> None:
        with suppress(ChannelClosed):
            self.supervisor.send(record)

    def send_policy_record(self, record: bytes) -> None:
        with suppress(ChannelClosed):
            self.policy.send(record)

    def chunk(self, observed_ns: int | None = None) -> ActionChunk:
        """The next chunk of the swing."""
        self.chunk_id += 1
        observed_ns = self.clock.now_ns() if observed_ns is None else observed_ns
        first_ns = observed_ns + STEP_NS
        return ActionChunk(self.chunk_id, observed_ns, first_ns, STEP_NS, self.swing.path(first_ns), 0)

    def offer(self, chunk: ActionChunk) -> None:
        """Pass the plan of a chunk to the setpoint source."""
        self.send_policy_record(chunk.pack())

    def send_swing(self) -> None:
        self.offer(self.chunk())

    def stand(self, joint: int) -> None:
        """Let one joint come to rest while the others move; blocked at full speed it would also lag."""
        self.lead_joint(joint, float(self.reports[-1].joint_deg[joint]))
        self.play(1.0)

    def lead_joint(self, joint: int, target_deg: float) -> None:
        """From now on the source leads the joint to `target_deg`."""

        def feed(bench: Bench) -> None:
            chunk = bench.chunk()
            path = chunk.joint_deg.copy()
            path[:, joint] = target_deg
            bench.offer(replace(chunk, joint_deg=path))

        self.feed = feed

    # -- state -----------------------------------------------------------------------------------------------

    @property
    def mode(self) -> Mode:
        return self.reports[-1].mode if self.reports else Mode.IDLE

    @property
    def finished(self) -> bool:
        return self.loop is not None and self.loop.state.finished

    @property
    def final(self) -> Final:
        """How it ended, as the control process would report it."""
        assert self.loop is not None
        context = EndContext(self._links.trouble, self._inference_state, self.pacer.skipped)
        return final_record(self.loop, self.profile, context)

    def close(self) -> None:
        for channel in (self.supervisor, self.policy, self._supervisor_end, self._policy_end):
            channel.close()


def ticks_of(profile: ArmProfile, pose_deg: list[float]) -> list[int]:
    """A pose in ticks, joint by joint."""
    entries = nominal_calibration(profile).joints
    return [
        joint_scale(joint, entry).to_ticks(value)
        for joint, entry, value in zip(profile.joints, entries, pose_deg, strict=True)
    ]


def _drain(channel: Channel) -> None:
    """Receive and drop what was sent here, as a live process would."""
    if channel.fileno() >= 0:
        with suppress(ChannelClosed):
            for _ in channel.drain():
                pass
