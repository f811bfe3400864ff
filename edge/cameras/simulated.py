"""A camera in the simulated world: renders the state that the world's process publishes."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from sefa_edge.edge.cameras.camera import CameraLost, CameraRequest, DamageCount, Frame
from sefa_edge.firmware_bridge.simulation.scene import Renderer
from sefa_edge.firmware_bridge.simulation.state_file import PublishedState, StateReader
from sefa_edge.profiles.units import NS_PER_S, period_ns, s_to_ns

START_TIMEOUT_NS = s_to_ns(15.0)
FRESH_TIMEOUT_NS = s_to_ns(1.0)
POLL_S = 0.001


class SimulatedCamera:
    """Frames of the view with the camera's name, in the policy's size; `capture_ns` is the time of the state."""

    def __init__(self, request: CameraRequest) -> None:
        self._request = request
        self._period_ns = period_ns(request.rate_hz)
        self._sequence = 0
        self.damage = DamageCount()
        self._newest_ns = 0

    def open(self) -> None:
        path = Path(self._request.address.target)
        if self._sequence:  # do not wait for a world that has stopped
            _require_world(path)
        self._renderer = Renderer(self._request.height, self._request.width, self._request.name)
        self._state = _await_world(path)
        self._due_ns = time.monotonic_ns()

    def read(self) -> Frame | None:
        self._wait_for_turn()
        state = self._fresh_state()
        if state is None:
            return None
        image = self._renderer.render(state.qpos, state.goal_position_m)
        self._sequence += 1
        self._newest_ns = state.stamp_ns
        return Frame(self._request.name, self._sequence, state.stamp_ns, time.monotonic_ns(), image)

    def close(self) -> None:
        self._renderer.close()
        self._state.close()

    def _wait_for_turn(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._due_ns:
            time.sleep((self._due_ns - now_ns) / NS_PER_S)
            self._due_ns += self._period_ns
        else:
            self._due_ns = now_ns + self._period_ns

    def _fresh_state(self) -> PublishedState | None:
        """The newest state that has not been rendered yet; None after a second without one."""
        give_up_ns = time.monotonic_ns() + FRESH_TIMEOUT_NS
        while time.monotonic_ns() < give_up_ns:
            state = self._state.read()
            if state is not None and state.stamp_ns > self._newest_ns:
                return state
            time.sleep(POLL_S)
        if not self._state.server_alive():
            raise _world_stopped()
        return None


def _await_world(path: Path) -> StateReader:
    """Open the state file; the world may still be starting. Raises MissingError when it does not appear in time."""
    give_up_ns = time.monotonic_ns() + START_TIMEOUT_NS
    while not path.exists() and time.monotonic_ns() < give_up_ns:
        time.sleep(POLL_S)
    return StateReader(path)


def _require_world(path: Path) -> None:
    with closing(StateReader(path)) as state:
        if not state.server_alive():
            raise _world_stopped()


def _world_stopped() -> CameraLost:
    return CameraLost("the simulated world stopped", "its process ended; start it again")
