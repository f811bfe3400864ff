"""The process of the simulated world: physics in real time, serial port, published state, control socket.

    python -m sefa_edge.firmware_bridge.simulation.server --task lift --seed 0 --port PATH [--lifeline FD]

One thread. Physics advances in steps of 2 ms; in between, the serial port is served, so that a servo answers within
microseconds of its time on the wire. On a slow machine the world runs slower, it never jumps.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sefa_edge.firmware_bridge.host.calibration import joint_scale, nominal_calibration
from sefa_edge.firmware_bridge.host.feetech import registers
from sefa_edge.firmware_bridge.simulation import pty_port, state_file
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.client import MAX_RECORD_BYTES, WorldPaths
from sefa_edge.firmware_bridge.simulation.disturbances import Disturbances, DisturbedLine
from sefa_edge.firmware_bridge.simulation.pty_port import PtyPort
from sefa_edge.firmware_bridge.simulation.socket_address import socket_address
from sefa_edge.firmware_bridge.simulation.state_file import PublishedState, StateWriter
from sefa_edge.firmware_bridge.simulation.wire_log import WIRE_LOG_VARIABLE, WireLog
from sefa_edge.firmware_bridge.simulation.world import CENTRE_TICKS, PHYSICS_STEP_S, TICKS_PER_RADIAN, World
from sefa_edge.profiles import console
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.json_text import parse_json_text
from sefa_edge.profiles.quantities import SEED, NumberError
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM
from sefa_edge.profiles.units import ms_to_ns, s_to_ns, us_to_ns

SLICE_NS = s_to_ns(PHYSICS_STEP_S)
LISTEN_EVERY_SLICES = 5
REALTIME_PRIORITY = 20
"""Below the control process: it needs about a tenth of a core."""
SERVE_AT_LEAST_NS = us_to_ns(50)
"""Servos also answer while the physics is catching up."""
MAX_LAG_NS = ms_to_ns(100)
"""Physics that lags by more than this does not catch up: the world runs in slow motion instead."""


@dataclass(frozen=True, slots=True)
class WorldPlan:
    """What to simulate: a task, the seed of its first episode, and the disturbances on the arm's wire."""

    task: str
    seed: int
    disturbances: Disturbances = field(default_factory=Disturbances)
    wire_log: Path | None = None
    """File for the bytes on the wire and the motion of the joints; None: not recorded."""


class WorldServer:
    """One simulated arm in its world, reached through three paths in one folder."""

    def __init__(self, plan: WorldPlan, paths: WorldPaths, is_over: Callable[[], bool] = lambda: False) -> None:
        """`is_over` is checked in every step, and ends `serve`.

        Raises InputError for an unknown task or a path in use, MissingError without MuJoCo's SO-101.
        """
        pty_port.require_replaceable(paths.port)
        state_file.require_replaceable(paths.state)
        self._profile = load_arm_profile(SIMULATED_ARM)
        self._world = World(plan.task, plan.seed)
        self._bus = SimulatedBus.of_arm(self._profile, self._world)
        self._bus.line = DisturbedLine(plan.disturbances)
        self._log = None if plan.wire_log is None else WireLog(plan.wire_log)
        self._bus.tap = self._log
        self._seed = plan.seed
        self._stopping = False
        self._is_over = is_over
        self._slow_ns = 0
        self._started_ns = time.monotonic_ns()
        self._reset(plan.seed)
        self._control_path = paths.control
        self._clients: list[socket.socket] = []
        with contextlib.ExitStack() as undo:
            self._control = _listen(paths.control)
            undo.callback(self._close_control)
            self._state = StateWriter(paths.state, self._world.model.nq)
            undo.callback(self._state.close)
            self._publish()
            self._port = PtyPort(self._bus, paths.port)
            undo.pop_all()
        self._commands: dict[str, Callable[[dict[str, object]], dict[str, object]]] = {
            "reset": lambda command: self._restart(_seed_of(command)),
            "place": lambda command: self._place(_seed_of(command)),
            "status": lambda _: self._status(),
            "unplug": lambda _: _done(self._port.unplug),
            "replug": lambda _: _done(self._port.replug),
            "quit": lambda _: _done(self.stop),
        }

    def stop(self) -> None:
        """Make `serve` return."""
        self._stopping = True

    def serve(self, lifeline_fd: int | None = None) -> None:
        """Run until `stop`, a `quit` command, or end of file on the lifeline."""
        lifeline = select.poll()
        if lifeline_fd is not None:
            lifeline.register(lifeline_fd, select.POLLHUP)
        due_ns, slices = time.monotonic_ns(), 0
        while not (self._stopping or self._is_over()):
            self._world.step()
            self._publish()
            self._record_joints()
            due_ns, slices = due_ns + SLICE_NS, slices + 1
            now_ns = time.monotonic_ns()
            if now_ns - due_ns > MAX_LAG_NS:
                self._slow_ns += now_ns - due_ns
                due_ns = now_ns
            self._port.serve_until(max(due_ns, now_ns + SERVE_AT_LEAST_NS))
            if slices % LISTEN_EVERY_SLICES == 0:
                self._listen()
                self._stopping |= bool(lifeline.poll(0))

    def close(self) -> None:
        """Remove everything that was created in the folder."""
        self._port.close()
        self._state.close()
        for client in self._clients:
            client.close()
        self._close_control()
        if self._log is not None:
            if self._log.trouble:
                print(f"warning: the wire log ends early: {self._log.trouble}", file=sys.stderr)
            self._log.close()

    def _close_control(self) -> None:
        self._control.close()
        self._control_path.unlink(missing_ok=True)

    def _publish(self) -> None:
        found = self._world.snapshot()
        self._state.write(
            PublishedState(
                stamp_ns=time.monotonic_ns(),
                placed_seed=self._seed,
                time_s=found.time_s,
                success=found.success,
                lost=found.lost,
                qpos=found.qpos,
                goal_position_m=found.goal_position_m,
            )
        )

    def _record_joints(self) -> None:
        if self._log is None:
            return
        servos = self._bus.servos
        ticks = [self._world.position_ticks(index) for index in range(len(servos))]
        holds = [servo.register(registers.TORQUE_ENABLE) != registers.TORQUE_OFF for servo in servos]
        self._log.joints(ticks, holds, time.monotonic_ns())

    # -- commands -------------------------------------------------------

    def _restart(self, seed: int) -> dict[str, object]:
        self._reset(seed)
        self._publish()
        return {}

    def _reset(self, seed: int) -> None:
        """The state after the arm's supply is switched on: at rest in its park pose, without torque."""
        self._world.reset(seed, _radians_of(self._profile, self._profile.park_pose_deg))
        for servo in self._bus.servos:
            servo.power_cycle()
        self._seed = seed

    def _place(self, seed: int) -> dict[str, object]:
        self._world.place(seed)
        self._seed = seed
        self._publish()  # the client must not read the result of the previous episode
        return {}

    def _status(self) -> dict[str, object]:
        elapsed_ns = max(1, time.monotonic_ns() - self._started_ns)
        return {
            "task": self._world.task.name,
            "seed": self._seed,
            "time_s": self._world.time_s,
            "success": self._world.success,
            "lost": self._world.lost,
            "plugged_in": self._port.plugged,
            "torque": [bool(servo.register(registers.TORQUE_ENABLE)) for servo in self._bus.servos],
            "joint_ticks": [servo.register(registers.PRESENT_POSITION) for servo in self._bus.servos],
            "real_time_factor": round(1.0 - self._slow_ns / elapsed_ns, 4),
        }

    # -- control socket ---------------------------------------------------------

    def _listen(self) -> None:
        with contextlib.suppress(BlockingIOError):
            client, _ = self._control.accept()
            client.setblocking(False)
            self._clients.append(client)
        for client in list(self._clients):
            if not self._answer(client):
                self._clients.remove(client)
                client.close()

    def _answer(self, client: socket.socket) -> bool:
        """Whether the client is still connected."""
        try:
            record = client.recv(MAX_RECORD_BYTES)
            if record:
                client.send(json.dumps(self._execute(record)).encode())
            return bool(record)
        except BlockingIOError:
            return True
        except OSError:
            return False

    def _execute(self, record: bytes) -> dict[str, object]:
        try:
            command = parse_json_text(record.decode())
            if not isinstance(command, dict) or command.get("do") not in self._commands:
                raise InputError(f"'do' must be one of {', '.join(self._commands)}")
            return {"ok": True} | self._commands[command["do"]](command)
        except (SefaError, ValueError) as error:
            return {"ok": False, "error": str(error)}


def _done(action: Callable[[], None]) -> dict[str, object]:
    action()
    return {}


def _seed_of(command: dict[str, object]) -> int:
    try:
        return SEED.check(command.get("seed"))
    except NumberError as error:
        raise InputError(f"'seed': {error}") from None


def _radians_of(profile: ArmProfile, pose_deg: list[float]) -> np.ndarray:
    entries = nominal_calibration(profile).joints
    scales = [joint_scale(joint, entry) for joint, entry in zip(profile.joints, entries, strict=True)]
    ticks = [scale.to_ticks(value) for scale, value in zip(scales, pose_deg, strict=True)]
    return (np.array(ticks, np.float64) - CENTRE_TICKS) / TICKS_PER_RADIAN


def _listen(path: Path) -> socket.socket:
    """A listening socket for this user only; it accepts connections as soon as its path exists.

    Raises InputError if another server uses the path.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        if path.is_socket() and not _answers(path):
            path.unlink()  # left behind by a server that was killed
        with _private_files(), socket_address(unfinished) as address:
            listener.bind(address)
        listener.listen(8)
        os.link(unfinished, path)  # unlike a rename, never replaces another server's
    except OSError as error:
        listener.close()
        raise InputError(f"{path} cannot be used: {error.strerror}", "choose another path with --link") from None
    finally:
        unfinished.unlink(missing_ok=True)
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe, socket_address(path) as address:
        return probe.connect_ex(address) == 0


@contextlib.contextmanager
def _private_files() -> Iterator[None]:
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def run_server(
    plan: WorldPlan,
    paths: WorldPaths,
    lifeline_fd: int | None = None,
    on_ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM, SIGINT, a `quit` command or the end of the lifeline; leave nothing behind.

    Raises:
        InputError: an unknown task, or the paths are in use.
        MissingError: MuJoCo's SO-101 model is not installed.
    """
    stop_signals: list[int] = []
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)  # `pkill -QUIT` is for the program that moves the arm
    for number in (signal.SIGTERM, signal.SIGINT):  # before anything is created in the folder
        signal.signal(number, lambda number, _: stop_signals.append(number))
    server = WorldServer(plan, paths, lambda: bool(stop_signals))
    try:
        _claim_priority()
        on_ready()
        server.serve(lifeline_fd)
    finally:
        server.close()


def _claim_priority() -> None:
    """Use real-time priority, so that servos answer in time on a busy computer, if permitted."""
    with contextlib.suppress(PermissionError):
        policy = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
        os.sched_setscheduler(0, policy, os.sched_param(REALTIME_PRIORITY))


def main() -> int:
    """Entry point of the process that `sefa-edge run --arm sim` starts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--task", required=True)
    parser.add_argument("--seed", type=SEED.parse, required=True)
    parser.add_argument("--port", type=Path, required=True)
    parser.add_argument("--lifeline", type=int)
    args = parser.parse_args()
    try:
        log = os.environ.get(WIRE_LOG_VARIABLE)
        plan = WorldPlan(args.task, args.seed, wire_log=Path(log) if log else None)
        run_server(plan, WorldPaths(args.port), args.lifeline)
        with contextlib.suppress(OSError):  # the folder was created for this world; the supervisor may be gone
            args.port.parent.rmdir()
    except SefaError as error:
        print(f"error: {error}\nhint: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    console.install()
    raise SystemExit(main())
