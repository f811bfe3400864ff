"""A control process on a simulated arm behind a pseudo-terminal; this program acts as its supervisor and policy."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

from sefa_edge.edge.control.control_process import ControlConfig
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.process import Child, ChildSpec
from sefa_edge.edge.ipc.records import ControlCommand, Final, Ready, TickReport, unpack_for_supervisor
from sefa_edge.edge.ipc.transport import ChannelClosed, channel_pair
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.profiles.units import s_to_ns
from tests.faults.judge import LoadedPlant, quick_profile
from tests.faults.lock_step import HORIZON, STEP_NS, Swing
from tests.faults.wire_rules import WireSummary
from tests.rigs.simulated_arm import JudgedArm

HANG_GUARD_S = 90.0
CHUNK_EVERY_REPORTS = 10
MAX_HELD = 128
CONTROL_RATE_HZ, GOAL_TIMEOUT_MS = 50.0, 1500.0
"""Slower and longer than shipped: the program that simulates servos and camera may have to wait for a processor."""


class SimulatedUnit(JudgedArm[LoadedPlant]):
    """A simulated arm whose profile is in a file, for the processes of a run."""

    def __init__(self, folder: Path) -> None:
        profile = quick_profile(CONTROL_RATE_HZ, goal_timeout_ms=GOAL_TIMEOUT_MS)
        self.arm_file = folder / "quick.yaml"
        self.arm_file.write_text(yaml.safe_dump(profile.model_dump()), encoding="utf-8")
        super().__init__(profile, folder / "arm", LoadedPlant(profile))

    def replug_elsewhere(self, former: str) -> None:
        """Plug the cable in again, so that the system assigns another device than `former`."""
        held: list[int] = []
        while not Path(former).exists() and len(held) < MAX_HELD:  # its number is free and may be assigned again
            held += os.openpty()
        self.port.replug()
        for descriptor in held:
            os.close(descriptor)


class Rig:
    """One control process and everything around it. `until` acts as supervisor and policy while it waits."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.unit = SimulatedUnit(folder)
        self.unit.start()
        self.profile, self.bus, self.plant, self.port = (
            self.unit.profile, self.unit.bus, self.unit.plant, self.unit.port,
        )  # fmt: skip
        self.joint = int(self.rng.integers(len(self.profile.joints)))
        self.swing = Swing(self.profile.start_pose_deg, self.rng)
        self.supervisor, self._supervisor_end = channel_pair()
        self.policy, self._policy_end = channel_pair()
        self.feeding = True
        self.calibration: Path | None = None
        self.ready: Ready | None = None
        self.final: Final | None = None
        self.reports: list[TickReport] = []
        self.marked_ns = 0
        self.child: Child | None = None
        self.others: list[Child] = []
        self._chunk_id = 0

    def start(self, cpu: int | None = None) -> None:
        self.child = self.spawn((self._supervisor_end.fileno(), self._policy_end.fileno()), cpu)
        self._supervisor_end.close()
        self._policy_end.close()
        self.until(lambda: self.ready is not None or self.final is not None)

    def spawn(self, ends: tuple[int, int], cpu: int | None = None) -> Child:
        """Start a control process for this arm on these channel ends."""
        config = ControlConfig(
            arm=str(self.unit.arm_file),
            port=self.port.path,
            calibration=None if self.calibration is None else str(self.calibration),
            horizon=HORIZON,
            cpu=cpu,
            supervisor_fd=ends[0],
            policy_fd=ends[1],
        )
        return Child(ChildSpec("control", "sefa_edge.edge.control.control_process", config.model_dump_json(), ends))

    @property
    def pid(self) -> int:
        assert self.child is not None
        return self.child.pid

    def command(self, command: Command) -> None:
        if command is Command.EMERGENCY:
            self.unit.ask_for_release()
        self.supervisor.send(ControlCommand(command).pack())

    def run(self) -> None:
        """Arm, run, and wait until the arm has moved for a random while."""
        self.command(Command.ARM)
        self.command(Command.RUN)
        chunks = int(self.rng.integers(2, 6))
        self.until(lambda: self.mode is Mode.RUNNING and self.reports[-1].chunk_id > chunks)

    def play(self, seconds: float) -> None:
        until_ns = self.reports[-1].start_ns + s_to_ns(seconds)
        self.until(lambda: self.final is not None or self.reports[-1].start_ns >= until_ns)

    @property
    def mode(self) -> Mode | None:
        return self.reports[-1].mode if self.reports else None

    def until(self, condition: Callable[[], bool]) -> None:
        """Receive reports and send chunks until the condition holds."""
        fed_at = len(self.reports)
        waits = 0
        while not condition():
            waits += not self.supervisor.wait(0.1)
            assert waits < HANG_GUARD_S * 10, "the control process hangs"
            try:
                self.receive()
            except ChannelClosed:
                assert condition(), f"ended early: {self.final}"
                return
            if self.feeding and len(self.reports) - fed_at >= CHUNK_EVERY_REPORTS:
                fed_at = len(self.reports)
                self.send_chunk()

    def ended(self) -> Final:
        """Wait for the end of the process; its last record."""
        self.until(lambda: self.final is not None)
        assert self.final is not None
        assert self.exit_code() == self.final.exit_code
        return self.final

    def exit_code(self) -> int | None:
        assert self.child is not None
        return self.child.wait(HANG_GUARD_S)

    def send_chunk(self) -> None:
        self._chunk_id += 1
        observed_ns = self.reports[-1].start_ns
        first_ns = observed_ns + STEP_NS
        chunk = ActionChunk(self._chunk_id, observed_ns, first_ns, STEP_NS, self.swing.path(first_ns), 0)
        try:
            self.policy.send(chunk.pack())
        except ChannelClosed:
            self.feeding = False

    def freeze(self, seconds: float) -> None:
        """Stop the process, and continue it after this many seconds."""
        os.kill(self.pid, signal.SIGSTOP)
        while self.supervisor.wait(0.2):  # what it sent before
            self.receive()
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGCONT)

    def summary(self) -> WireSummary:
        """Figures of the traffic on the wire."""
        with self.port.lock:
            return self.unit.judge.summary()

    def mark(self) -> None:
        """Record the time of the fault."""
        self.marked_ns = time.monotonic_ns()

    def close(self) -> None:
        for channel in (self.supervisor, self.policy, self._supervisor_end, self._policy_end):
            channel.close()
        for child in (self.child, *self.others):
            if child is not None:
                child.stop(0.0)
                child.close()
        self.unit.close()

    def receive(self) -> None:
        for record in self.supervisor.drain():
            message = unpack_for_supervisor(record, len(self.profile.joints))
            if isinstance(message, TickReport):
                self.reports.append(message)
            elif isinstance(message, Ready):
                self.ready = message
            elif isinstance(message, Final):
                self.final = message
        self._drop_joint_samples()

    def _drop_joint_samples(self) -> None:
        try:
            for _ in self.policy.drain() if self.feeding else ():
                pass
        except ChannelClosed:  # the process is ending; its last records are on the other channel
            self.feeding = False
