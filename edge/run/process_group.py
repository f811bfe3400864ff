"""Starts, pins and ends the processes of the table, and holds the supervisor's ends of their channels."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from sefa_edge.edge.ipc.process import Child, ChildSpec, WithheldConfig
from sefa_edge.edge.ipc.records import ControlCommand
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed
from sefa_edge.edge.ipc.vocabulary import Command
from sefa_edge.edge.run.cores import split_cores
from sefa_edge.edge.run.process_row import Core, Output, ProcessRow, Start
from sefa_edge.edge.run.processes import CONTROL, rescue_row
from sefa_edge.edge.run.run_plan import RunPlan
from sefa_edge.edge.run.wiring import Wiring
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.simulation.client import WorldPaths

KILLED_S = 0.5
"""How long a killed process may take to vanish: one that hangs in a disk write is left to the operating system."""


class ProcessGroup:
    """All processes of one run."""

    def __init__(self, plan: RunPlan, rows: tuple[ProcessRow, ...]) -> None:
        self.rows = rows
        self.world_paths: WorldPaths | None = None
        """Where the simulated world is, from `locate_world` on; None: a real arm."""
        self.control: Child | None = None
        """The control process, once it may open the arm's port."""
        self._plan = plan
        self._folder: Path | None = None
        self._wiring = Wiring()
        self._children: dict[str, Child] = {}
        self._replaced: list[Child] = []
        self._withheld: list[WithheldConfig] = []
        _, self._worker_cpus = split_cores(os.sched_getaffinity(0), plan.realtime.cpu)

    @property
    def port(self) -> Path:
        """The arm's serial port, or where the simulated world will put it (from `locate_world` on)."""
        return Path(self._plan.port) if self.world_paths is None else self.world_paths.port

    @property
    def children(self) -> list[Child]:
        """All processes that were started, also those that have ended."""
        return [*self._children.values(), *self._replaced]

    def child(self, name: str) -> Child | None:
        """The process of a row; None when it was not started, or there is no such row."""
        return self._children.get(name)

    def row_of(self, child: Child) -> ProcessRow:
        """The row of a process; that of its replacement for one that was replaced."""
        names = {process: name for name, process in self._children.items()}
        name = names.get(child, CONTROL)
        return next(row for row in self.rows if row.name == name)

    def channel(self, name: str) -> Channel | None:
        """The supervisor's end of its channel to a process; None: there is none."""
        return self._wiring.supervisor_end(name)

    # -- sending ---------------------------------------------------------

    def send(self, name: str, record: bytes) -> None:
        """Send a record to a process, if the run has it. The end of a process is noticed elsewhere."""
        channel = self.channel(name)
        with contextlib.suppress(ChannelClosed):
            if channel is not None:
                channel.send(record)

    def command(self, command: Command) -> None:
        """Send a command to control. Never blocks, never raises."""
        with contextlib.suppress(OSError):  # its channel was closed just now, and a signal handler asks
            self.send(CONTROL, ControlCommand(command).pack())

    def forward_stop_signal(self, number: signal.Signals) -> None:
        """For the handler of a stop signal: what it asks for goes to control at once. Never blocks, never raises.

        A control process that has not got its configuration has not opened the arm's port either.
        """
        if self.control is None:
            return
        if number is signal.SIGQUIT:
            self.control.send_signal(signal.SIGQUIT)
        else:
            self.command(Command.STOP)

    # -- starting ---------------------------------------------------------

    def locate_world(self) -> None:
        """Choose a place for the simulated world, if there is one: a new folder, or where it runs already."""
        world = self._plan.world
        if world is None:
            return
        port = world.port
        if port is None:
            self._folder = Path(tempfile.mkdtemp(prefix="sefa-edge-"))  # mode 0700
            port = self._folder / "arm"
        self.world_paths = WorldPaths(port)

    def connect(self) -> None:
        """Make all channels between the processes, before the first of them is started."""
        self._wiring.connect(self.rows)

    def start(self, *stages: Start) -> None:
        """Start the processes of these stages; a held one loads its modules and waits for `start_control`."""
        for stage in stages:
            for row in self.rows:
                if row.start is stage:
                    self._children[row.name] = self._start(row)

    def start_control(self) -> None:
        """Let control open the arm's port, which must exist by now. From here on no other process runs on its core."""
        for row in self.rows:
            if row.core is Core.WORKER and (child := self.child(row.name)) is not None:
                child.pin(self._worker_cpus)
        self.control = self.child(CONTROL)
        for withheld in self._withheld:
            withheld.send()

    def start_rescue(self, arm: ArmIdentity | None) -> None:
        """Start another control process after the first one ended. No policy is connected to it.

        It gets its configuration at once, and needs no command: it parks the arm also when this process ends meanwhile.

        Args:
            arm: which must answer: the one that the first process opened; None: it had not opened any yet.
        """
        former, self.control = self.control, None
        if former is not None:
            self._replaced.append(former)
        self._wiring.reconnect(CONTROL)
        self.control = self._children[CONTROL] = self._start(rescue_row(self._plan, arm))

    def remove_port(self) -> None:
        """After the death of the simulated world: its link leads nowhere, and soon to another terminal."""
        if self.world_paths is not None:
            self.world_paths.port.unlink(missing_ok=True)

    # -- ending ---------------------------------------------------------

    def close_channel(self, name: str) -> None:
        """Close the channel to a process, which then exits."""
        self._wiring.close_supervisor_end(name)

    def close_channels(self) -> None:
        """Close all channels but those to processes that may still have work to finish; the others then exit."""
        self._close_channels(frozenset(row.name for row in self.rows if row.finish is not None))

    def end_all(self, patience_s: float) -> None:
        """End every process that is still there after `patience_s`, and remove all files.

        Only a control process that is still there is left alone, with the world that it moves in: this call is then
        part of a crash, and control, which has just lost its supervisor, parks the arm before it exits.
        """
        self._close_channels(frozenset())
        abandoned = self.control is not None and self.control.wait(patience_s) is None
        spared = {row.name for row in self.rows if row.name == CONTROL or CONTROL in row.lives_for}
        left = [child for child in self.children if not (abandoned and self.row_of(child).name in spared)]
        end_together(left, patience_s)
        for child in self.children:
            child.close()
        self._wiring.close_rings()
        if not abandoned:
            self._remove_folder()

    # -- inside ---------------------------------------------------------

    def _start(self, row: ProcessRow) -> Child:
        ends = self._wiring.ends_of(row, self.world_paths)
        launch = row.launch(ends)
        config = launch.config
        if row.start is Start.HELD and config is not None:
            config = WithheldConfig(config)
            self._withheld.append(config)
        stderr_fd = sys.stderr.fileno() if row.output is Output.TERMINAL else None
        child = Child(
            ChildSpec(row.title or row.name, row.module, config, ends.all_fds, launch.arguments, stderr_fd=stderr_fd)
        )
        self._wiring.release(row)
        if row.start is Start.LAST and row.core is Core.WORKER:  # control runs already
            child.pin(self._worker_cpus)
        return child

    def _close_channels(self, keep: frozenset[str]) -> None:
        self._wiring.close_channels(keep)
        for withheld in self._withheld:
            withheld.close()

    def _remove_folder(self) -> None:
        if self._folder is None:
            return
        for path in (*self._folder.glob("*"), *self._folder.glob(".*")):  # only after the world was killed
            path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._folder.rmdir()


def end_together(children: Iterable[Child], patience_s: float) -> None:
    """Wait up to `patience_s` for all children to exit, then kill the rest together."""
    waiting = list(children)
    _wait_for(waiting, patience_s)
    left = [child for child in waiting if child.exit_code is None]
    for child in left:
        child.send_signal(signal.SIGKILL)
    _wait_for(left, KILLED_S)


def _wait_for(children: list[Child], patience_s: float) -> None:
    give_up_s = time.monotonic() + patience_s
    for child in children:
        child.wait(give_up_s - time.monotonic())
