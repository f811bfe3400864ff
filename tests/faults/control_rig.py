"""A control process on a simulated arm behind a pseudo-terminal; this program is its supervisor and policy."""

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
"""Slower and longer than usual: servos and camera are played by a program that may have to wait for a processor."""


class SimulatedUnit(JudgedArm[LoadedPlant]):
    """An arm whose profile is in a file, for the processes of a run."""

    def __init__(self, folder: Path) -> None:
        profile = quick_profile(CONTROL_RATE_HZ, goal_timeout_ms=GOAL_TIMEOUT_MS)
        self.arm_file = folder / "quick.yaml"
        self.arm_file.write_text(yaml.safe_dump(profile.model_dump()), encoding="utf-8")
        super().__init__(profile, folder / "arm", LoadedPlant(profile))

    def replug_elsewhere(self, former: str) -> None:
        """Put the cable back; the system gives the port another device than the former one."""
        held: list[int] = []
        while not Path(former).exists() and len(held) < MAX_HELD:  # its number is free, and may be the next
            held += os.openpty()
        self.port.replug()
        for descriptor in held:
            os.close(descriptor)


class Rig:
    """Everything around one control process. `until` plays supervisor and policy while it waits."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.dice = np.random.default_rng(seed)
        self.unit = SimulatedUnit(folder)
        self.unit.start()
        self.profile, self.bus, self.plant, self.port = (
            self.unit.profile, self.unit.bus, self.unit.plant, self.unit.port,
        )  # fmt: skip
        self.joint = int(self.dice.integers(len(self.profile.joints)))
        self.swing = Swing(self.profile.start_pose_deg, self.dice)
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
        """A control process for this arm on these ends of channels."""
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
        """Armed, running, and moving for a while that the seed chooses."""
        self.command(Command.ARM)
        self.command(Command.RUN)
        chunks = int(self.dice.integers(2, 6))
        self.until(lambda: self.mode is Mode.RUNNING and self.reports[-1].chunk_id > chunks)

    def play(self, seconds: float) -> None:
        until_ns = self.reports[-1].start_ns + s_to_ns(seconds)
        self.until(lambda: self.final is not None or self.reports[-1].start_ns >= until_ns)

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
                self.hear()
            except ChannelClosed:
                assert condition(), f"ended early: {self.final}"
                return
            if self.feeding and len(self.reports) - heard >= CHUNK_EVERY_REPORTS:
                heard = len(self.reports)
                self.send_chunk()

    def ended(self) -> Final:
        """The last record, once the process has gone."""
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
        """Stop the process, and let it go on."""
        os.kill(self.pid, signal.SIGSTOP)
        while self.supervisor.wait(0.2):  # what it said before
            self.hear()
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGCONT)

    def summary(self) -> WireSummary:
        """Figures of what passed on the wire."""
        with self.port.lock:
            return self.unit.judge.summary()

    def mark(self) -> None:
        """The fault strikes now."""
        self.marked_ns = time.monotonic_ns()

    def close(self) -> None:
        for channel in (self.supervisor, self.policy, self._supervisor_end, self._policy_end):
            channel.close()
        for child in (self.child, *self.others):
            if child is not None:
                child.stop(0.0)
                child.close()
        self.unit.close()

    def hear(self) -> None:
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
        except ChannelClosed:  # the process is on its way out; what it still has to say is on the other channel
            self.feeding = False
