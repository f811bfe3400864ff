"""A follower with time: a thread that ticks it at the arm's control rate, beside whatever the program does.

A thread shares the interpreter with that program: a tick may come tens of milliseconds late, and the arm then stands
for as long, because the limiter counts ticks and not time. A run of `sefa-edge` has a process of its own for the loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np

from sefa_edge.edge.arming import require_good
from sefa_edge.edge.clock import Clock, MonotonicClock, Pacer
from sefa_edge.edge.following.emergency_on_quit import EmergencyOnQuit
from sefa_edge.edge.following.follower import Follower
from sefa_edge.edge.safety import Guard
from sefa_edge.edge.watched_arm import WatchedArm
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.errors import ArmFault
from sefa_edge.firmware_bridge.host.fitted_profile import fit_profile
from sefa_edge.firmware_bridge.host.messages import JointState
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import ms_to_ns, period_ns


class PacedFollower:
    """An arm that follows: made by `start_following`, ended by one of `hold`, `release`, `park`, and `close`."""

    def __init__(self, arm: WatchedArm, profile: ArmProfile, clock: Clock, quitting: EmergencyOnQuit) -> None:
        """`arm` is energised; `quitting` is entered, and left by `close`."""
        self._arm = arm
        self._quitting = quitting
        self._profile = profile
        self._clock = clock
        self._period_ns = period_ns(profile.control_rate_hz)
        self._follower = Follower(arm, profile, self._period_ns)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="arm-follower")
        self._thread.start()

    @property
    def state(self) -> JointState:
        """The newest reading of the arm, at most a tick or two old. Raises ArmFault when the following has ended."""
        self._require_following()
        return self._follower.state

    def lead(self, target_deg: np.ndarray) -> np.ndarray:
        """Head for a pose [n]; returns the pose inside the limits that the arm is led to.

        Raises:
            ArmFault: the following has ended.
            InputError: a target that is no number.
        """
        self._require_following()
        return self._follower.lead(target_deg)

    def hold(self) -> None:
        """Come to a stand and send nothing more; the servos keep the pose, torque on."""
        self._end_thread()
        self._follower.halt()
        self._tick_until(lambda _: self._follower.standing)

    def release(self) -> None:
        """Torque off where the arm is: it may drop. Raises ArmFault: a servo did not confirm."""
        self.hold()
        self._arm.release()

    def park(self) -> None:
        """Move slowly to the park pose, then torque off (if the profile says so); after a fault nothing moves.

        Raises:
            ArmFault: what stopped the move, or a servo that did not confirm.
        """
        self.hold()
        if self._follower.fault is None:
            self._follower.head_for_park(self._clock.now_ns())
            self._tick_until(self._follower.parked)
        if self._follower.fault is not None:
            raise self._follower.fault
        if self._profile.safety.after_park == "release":
            self._arm.release()

    def close(self) -> None:
        """Give the port back; the torque stays as it is."""
        self._end_thread()
        self._quitting.leave()
        self._arm.close()

    def _require_following(self) -> None:
        if self._follower.fault is not None:
            raise self._follower.fault
        if not self._thread.is_alive():
            raise ArmFault("the thread that leads the arm has ended", "its error was printed when it ended")

    def _follow(self) -> None:
        pacer = Pacer(self._clock, self._period_ns)
        program = threading.main_thread()  # one that ends without a word does not have to wait for this thread
        while program.is_alive() and not (self._ending.is_set() or self._follower.lost):
            self._follower.tick(pacer.wait().due_ns)

    def _tick_until(self, done: Callable[[int], bool]) -> None:
        """Tick here, in the caller's thread, until `done`, or until the arm stands after a fault."""
        pacer = Pacer(self._clock, self._period_ns)
        while not self._follower.lost:
            now_ns = pacer.wait().due_ns
            self._follower.tick(now_ns)
            if done(now_ns) or (self._follower.fault is not None and self._follower.standing):
                return

    def _end_thread(self) -> None:
        self._ending.set()
        self._thread.join()


def start_following(
    profile: ArmProfile, open_arm: Callable[[], Arm], emergency: Emergency | None = None
) -> PacedFollower:
    """Open an arm, look at it, switch its torque on at its present pose (an arm that stands stays standing), and begin.

    Its limits are those of the profile, cut with the calibrated range of this arm.

    Args:
        emergency: what `open_arm` gives the arm: SIGQUIT then switches the torque off, see `EmergencyOnQuit`.

    Raises:
        SefaError: it cannot be opened, is silent, in trouble, or stands where it must not be switched on; or a servo
            does not confirm its torque. The port is free again then.
    """
    clock, period = MonotonicClock(), period_ns(profile.control_rate_hz)
    recovery_ns = ms_to_ns(profile.safety.recovery_ms)
    quitting = EmergencyOnQuit(emergency or Emergency())
    arm = WatchedArm(open_arm, max(1, ms_to_ns(profile.goal_timeout_ms) // period), recovery_ns)
    try:
        quitting.enter()
        profile = fit_profile(profile, arm.identity.calibration).profile
        require_good(arm, Guard.of(profile.limit_table(), period), Pacer(clock, period), recovery_ns)
        arm.energise()
    except BaseException:
        quitting.leave()
        arm.close()
        raise
    return PacedFollower(arm, profile, clock, quitting)
