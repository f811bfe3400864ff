"""A slow move of the arm at the bench: the loop of a run, its limiter and its guard, without policy and cameras.

The arm is checked first, its torque untouched, for as long as the guard needs to judge supply, heat and status. Then
goal = present, torque on, and a planned move through the limiter. Ctrl-C decelerates and holds; Ctrl-\\ switches the
torque off at once. When a joint is blocked, the arm holds where it was stopped.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sefa_edge.edge.control.arming import torque_note
from sefa_edge.edge.control.clock import Clock, Pacer
from sefa_edge.edge.control.links import DirectLinks
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.control.modes import AfterFault, describe
from sefa_edge.edge.control.motion import Motion, MotionSettings
from sefa_edge.edge.ipc.records import TickReport
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.profiles.errors import FaultError, InputError
from sefa_edge.profiles.exit_codes import of_signal
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.stopping import EMERGENCY, STOPPING, StopSignals
from sefa_edge.profiles.units import period_ns

TRACKING_ERROR_DEG = 10.0
"""A joint that lags by more is blocked. Less than in a run: nothing here is fast, and a hand may be in the way."""

SETTINGS = MotionSettings(after_fault=AfterFault.HOLD_WHEN_OBSTRUCTED)
"""A person is at the arm: when something is in its way it does not try the park pose next."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """A signal stopped the move: the message, and the exit code that goes with the signal."""

    message: str
    exit_code: int


def slowed(profile: ArmProfile, speed_deg_s: float) -> ArmProfile:
    """The same arm, nowhere faster than `speed_deg_s`. Raises InputError: it is not positive, or too high."""
    fastest = profile.move_velocity_deg_s
    if not 0 < speed_deg_s <= fastest:
        raise InputError(f"--speed {speed_deg_s:g} is out of range", f"above 0, up to {fastest:g} degrees per second")
    joints = [
        joint.model_copy(update={"max_velocity_deg_s": min(joint.max_velocity_deg_s, speed_deg_s)})
        for joint in profile.joints
    ]
    return profile.model_copy(
        update={
            "joints": joints,
            "move_velocity_deg_s": speed_deg_s,
            "tracking_error_deg": min(profile.tracking_error_deg, TRACKING_ERROR_DEG),
            "safety": profile.safety.model_copy(update={"park_velocity_deg_s": speed_deg_s}),
        }
    )


class SlowMove:
    """Slow moves of one arm. Owns the connected arm until `close`."""

    def __init__(
        self,
        profile: ArmProfile,
        open_arm: Callable[[], Arm],
        clock: Clock,
        signals: StopSignals,
        emergency: Emergency | None = None,
    ) -> None:
        """Connect; the torque is not touched. Raises SefaError when the arm cannot be opened.

        `emergency` is what `open_arm` gives the arm, and what the handler of the emergency stop asks.
        """
        self._emergency = emergency or Emergency()
        self._limits, self._signals = profile.limit_table(), signals
        self._names = profile.joint_names
        self._period_ns = period_ns(profile.control_rate_hz)
        self._links = DirectLinks()
        motion = Motion.connect(open_arm, profile, self._period_ns, settings=SETTINGS)
        self._loop = ControlLoop(clock, self._links, motion)
        self._pacer = Pacer(clock, self._period_ns)
        self._stopped_by: signal.Signals | None = None
        self._halting = False

    @property
    def joint_deg(self) -> np.ndarray:
        """Where the joints [n] were measured last."""
        return self._loop.arm.state.joint_deg

    @property
    def outcome(self) -> str:
        """How the arm is left."""
        return describe(self._loop.state)[0] + self._torque_note()

    def check_readings(self) -> Stopped | None:
        """Check the readings before the arm is touched. Raises FaultError: one is bad; the arm was not touched."""
        health = self._limits.health
        longest_ns = max(health.temperature_ns, health.supply_ns, health.status_ns)
        end = self._loop.ticks + longest_ns // self._period_ns + 1
        return self._until(lambda _: self._loop.ticks >= end)

    def to_start_pose(self) -> Stopped | None:
        """Torque on, and a planned move to the profile's start pose; holds there. Raises FaultError."""
        return self._after((Command.ARM,), lambda report: report.mode is Mode.ARMED and report.settled)

    def to_park_pose(self) -> Stopped | None:
        """Torque on where it is off, a planned move to the park pose, then what the profile says. Raises FaultError."""
        if not self._loop.state.powered:
            stopped = self._after((Command.ARM,), lambda report: report.mode is Mode.ARMED)
            if stopped is not None:
                return stopped
        return self._after((Command.STOP,), lambda _: False)

    def release(self) -> Stopped | None:
        """Torque off where the arm stands, read back. Raises FaultError."""
        return self._after((Command.RELEASE,), lambda report: report.mode is Mode.RELEASED)

    def close(self) -> None:
        """Close the port. The torque stays as it is."""
        self._loop.arm.close()

    def _after(self, commands: tuple[Command, ...], arrived: Callable[[TickReport], bool]) -> Stopped | None:
        self._links.waiting_events.extend(commands)
        return self._until(arrived)

    def _until(self, arrived: Callable[[TickReport], bool]) -> Stopped | None:
        """Tick until it has arrived, or has come to a stand for another reason."""
        while not self._loop.state.finished or self._emergency.requested:
            self._take_signals()
            report = self._loop.tick(self._pacer.wait())
            if self._halted(report) or (arrived(report) and not self._halting):
                break
        return self._conclusion()

    def _torque_note(self) -> str:
        untouched = self._loop.state.mode is Mode.IDLE
        return torque_note(self._loop.arm.read_torque(), self._names) if untouched else ""

    def _take_signals(self) -> None:
        self._emergency.take_request()  # the wire is usable again: EMERGENCY follows
        for number in self._signals.take():
            self._halting, self._stopped_by = True, number
            self._links.waiting_events.append(Command.EMERGENCY if number is EMERGENCY else Command.HOLD)

    def _halted(self, report: TickReport) -> bool:
        """Asked to stop, and come to a stand."""
        return self._halting and (report.mode is Mode.IDLE or (report.mode is Mode.HOLD and report.settled))

    def _conclusion(self) -> Stopped | None:
        state = self._loop.state
        if state.fault:
            message, hint = describe(state, self._loop.motion.subjects)
            raise FaultError(message + self._torque_note(), hint)
        if self._stopped_by is None:
            return None
        return Stopped(f"stopped by {STOPPING[self._stopped_by]}: {self.outcome}", of_signal(self._stopped_by))
