"""An arm for a program that sets targets at its own rate: the loop of a run in a thread of that program.

The thread shares the interpreter with that program: a tick may be tens of milliseconds late, and the arm pauses for
that long, because the limiter counts ticks and not time. A run of `sefa-edge` runs the loop in a separate process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sefa_edge.edge.control.arming import torque_note
from sefa_edge.edge.control.clock import Clock, MonotonicClock, Pacer
from sefa_edge.edge.control.emergency_on_quit import EmergencyOnQuit
from sefa_edge.edge.control.links import DirectLinks
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.control.modes import AfterFault, describe
from sefa_edge.edge.control.motion import Motion, MotionSettings
from sefa_edge.edge.control.targets import Targets
from sefa_edge.edge.ipc.records import TickReport
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.errors import ArmFault
from sefa_edge.firmware_bridge.host.messages import JointState
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import period_ns

SETTINGS = MotionSettings(after_fault=AfterFault.HOLD)
"""The program decides what follows a fault: nothing moves until then."""


class Follower:
    """The loop, one tick at a time, without a thread. The torque is untouched until `switch_on`.

    After a fault the arm stops and holds, and targets are refused; nothing more is sent to an arm that is lost or
    without power. `set_target`, `state` and `fault` may be used by another thread than `tick`.

    Raises, when made:
        SefaError: the arm cannot be opened, does not answer, or its range does not fit the profile.
    """

    def __init__(self, open_arm: Callable[[], Arm], profile: ArmProfile, clock: Clock) -> None:
        period = period_ns(profile.control_rate_hz)
        self._links, self._targets = DirectLinks(), Targets()
        self._motion = Motion.connect(open_arm, profile, period, self._targets, SETTINGS)
        self._loop = ControlLoop(clock, self._links, self._motion)
        self._clock, self._period_ns = clock, period
        self._pacer = Pacer(clock, period)
        self.fault: ArmFault | None = None
        """The fault after which targets are refused, with its hint."""

    @property
    def state(self) -> JointState:
        """The newest reading of the arm."""
        return self._motion.arm.state

    @property
    def finished(self) -> bool:
        """Whether the loop has finished: nothing more is sent."""
        return self._loop.state.finished

    def set_target(self, target_deg: np.ndarray) -> np.ndarray:
        """Move towards a pose float64 [n]; returns it clipped to the position limits.

        Raises:
            ArmFault: a fault has ended the following.
            InputError: a value is not finite; the target stays as it was.
        """
        if self.fault is not None:
            raise self.fault
        if not np.isfinite(target_deg).all():
            raise InputError(f"the target holds {target_deg.tolist()}", "a target is finite numbers only")
        clipped_deg = np.clip(target_deg, self._motion.limits.min_deg, self._motion.limits.max_deg)
        self._targets.set_target(clipped_deg)
        return clipped_deg

    def switch_on(self) -> None:
        """Torque on at the present pose, once the arm's readings have been good for a while; then targets count.

        Raises:
            ArmFault: the arm reports a fault, is silent, or is where it must not be switched on; it was not touched.
                Or a servo did not confirm its torque.
        """
        self._links.waiting_events.extend((Command.ARM, Command.RUN))
        self.tick_until(lambda report: report.mode is not Mode.IDLE)
        if self.fault is not None:
            raise self.fault

    def hold(self) -> None:
        """Stop and hold; after a fault the arm already does."""
        self._links.waiting_events.append(Command.HOLD)
        self.tick_until(lambda report: report.mode is Mode.HOLD and report.settled)

    def park(self) -> None:
        """Move slowly to the park pose, then release or hold as the profile says. Raises ArmFault: it was stopped."""
        self._links.waiting_events.append(Command.STOP)
        self.tick_until(lambda _: False)
        if self.fault is not None:
            raise self.fault

    def release(self) -> None:
        """Torque off in place, read back, also after a fault. Raises ArmFault: a servo did not confirm."""
        self._motion.arm.release()

    def close(self) -> None:
        """Close the port; the torque stays as it is."""
        self._motion.arm.close()

    def tick_until(self, done: Callable[[TickReport], bool]) -> None:
        """Tick until `done`, or until the loop has finished."""
        self._pacer = Pacer(self._clock, self._period_ns)
        while not self.finished:
            if done(self.tick()):
                return

    def tick(self) -> TickReport:
        """Run one control period. Errors become `fault`, not exceptions."""
        # Late ticks are not a fault here: the program's own work may delay its threads, and the arm pauses meanwhile.
        report = self._loop.tick(replace(self._pacer.wait(), skipped_before=0))
        if self.fault is None and report.fault:
            self.fault = self._describe_fault()
        return report

    def _describe_fault(self) -> ArmFault:
        state, arm = self._loop.state, self._motion.arm
        message, hint = describe(state, self._motion.subjects)
        if state.mode is Mode.IDLE:
            message += torque_note(arm.read_torque(), arm.names)
        return ArmFault(message, hint)


class PacedFollower:
    """A follower with a thread that ticks it: created by `start_following`; the thread ends with `hold`, `release`,
    `park` or `close`."""

    def __init__(self, follower: Follower, quitting: EmergencyOnQuit) -> None:
        """The arm is switched on; `quitting` is entered, and left by `close`."""
        self._follower = follower
        self._quitting = quitting
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="arm-follower")
        self._thread.start()

    @property
    def state(self) -> JointState:
        """The newest reading of the arm, at most a tick or two old. Raises ArmFault when the following has ended."""
        self._require_following()
        return self._follower.state

    def set_target(self, target_deg: np.ndarray) -> np.ndarray:
        """Move towards a pose [n]; returns it clipped to the position limits.

        Raises:
            ArmFault: the following has ended.
            InputError: a value is not finite.
        """
        self._require_following()
        return self._follower.set_target(target_deg)

    def hold(self) -> None:
        """Stop and send nothing more; the servos hold the pose, torque on."""
        self._end_thread()
        self._follower.hold()

    def release(self) -> None:
        """Torque off in place: the arm may drop. Raises ArmFault: a servo did not confirm."""
        self.hold()
        self._follower.release()

    def park(self) -> None:
        """Move slowly to the park pose, then torque off (if the profile says so); after a fault nothing moves.

        Raises:
            ArmFault: the move was stopped, or a servo did not confirm.
        """
        self.hold()
        self._follower.park()

    def close(self) -> None:
        """Close the port; the torque stays as it is."""
        self._end_thread()
        self._quitting.leave()
        self._follower.close()

    def _require_following(self) -> None:
        if self._follower.fault is not None:
            raise self._follower.fault
        if not self._thread.is_alive():
            raise ArmFault("the thread that leads the arm has ended", "its error was printed when it ended")

    def _follow(self) -> None:
        program = threading.main_thread()  # its end does not wait for this thread
        self._follower.tick_until(lambda _: self._ending.is_set() or not program.is_alive())

    def _end_thread(self) -> None:
        self._ending.set()
        self._thread.join()


def start_following(
    profile: ArmProfile, open_arm: Callable[[], Arm], emergency: Emergency | None = None
) -> PacedFollower:
    """Open an arm, check its readings, switch its torque on at the present pose (nothing moves), and begin.

    Its limits are those of the profile, narrowed to the calibrated range of this arm.

    Args:
        emergency: the one that `open_arm` passes to the arm: SIGQUIT then switches the torque off, see
            `EmergencyOnQuit`.

    Raises:
        SefaError: the arm cannot be opened, or as `Follower.switch_on`. The port has been closed again.
    """
    quitting = EmergencyOnQuit(emergency or Emergency())
    follower = Follower(open_arm, profile, MonotonicClock())
    try:
        quitting.enter()
        follower.switch_on()
    except BaseException:
        quitting.leave()
        follower.close()
        raise
    return PacedFollower(follower, quitting)
