"""What the process table says about one process of a run, and what the process gets when it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from sefa_edge.edge.ipc.ring_reader import RingInput
from sefa_edge.firmware_bridge.simulation.client import WorldPaths
from sefa_edge.profiles.card import CameraSpec

SUPERVISOR = "supervisor"
"""The name under which a row links its process to the supervisor."""
EXIT_PATIENCE_S = 2.5
"""How long a process may take to exit once its channels are closed, before it is killed."""


class Start(Enum):
    """When a process is started."""

    FIRST = "before all others"
    TOGETHER = "with the others: they load their modules at the same time"
    HELD = "with the others, but it gets its configuration when they are ready"
    LAST = "after the held process got its configuration"


class Core(Enum):
    """Where a process runs once control runs."""

    WORKER = "on the cores that control leaves"
    CONTROL = "on a core of its own, which it claims itself"


class Death(Enum):
    """What the end of a process means while the run lasts."""

    FAULT = "the arm is parked and the run fails"
    PORT_LOST = "as FAULT; the serial port that it served is unlinked"
    REPLACED = "another one is started in its place, which parks the arm"
    NOTE = "a person is notified once, and the run continues"
    IGNORED = "the run continues"


class Reports(Enum):
    """The records that a process sends to the supervisor."""

    NOTHING = "none"
    FRAMES = "a FrameDescriptor per frame"
    POLICY = "PolicyReport"
    CONTROL = "SupervisorRecord, see edge/ipc/records.py"


class Output(Enum):
    """Where the standard error of a process goes."""

    KEPT = "into memory: its end becomes the error message of a process that failed"
    TERMINAL = "to the standard error of the supervisor"


@dataclass(frozen=True, slots=True)
class RunResult:
    """What a process may need to know to finish its work: how the run ended, and how many episodes it had."""

    ending: str
    episodes: int


@dataclass(frozen=True, slots=True)
class Finish:
    """The work that a process still has when the arm is at rest, and the messages about it."""

    request: Callable[[RunResult], bytes | None]
    """The record that asks for it; None: there is nothing to do after this run."""
    patience_s: float
    """How long it may take."""
    failed: str
    """The beginning of the message when the process fails."""
    killed: str
    """The message when the process did not finish in time and was killed."""
    done: str = ""
    """The beginning of the message when it is done, which the process completes on standard error."""
    started: str = ""
    """The message when it begins."""
    cancelled: str = ""
    """The message when Ctrl-C cancels it; empty: Ctrl-C does not."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How a process is started: its configuration as JSON, which it reads from `--config FD`, and other arguments."""

    config: str | None = None
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ends:
    """What a process is connected to, as file descriptors that it inherits."""

    channel_fds: dict[str, int] = field(default_factory=dict)
    """Its ends of channels, by the name of the process at the other end."""
    inputs: tuple[RingInput, ...] = ()
    """The rings that it reads, in the order of its row."""
    ring_fd: int | None = None
    """The ring that it writes."""
    lifeline_fds: tuple[int, ...] = ()
    """The lifeline that it reads, or those that it holds."""
    world: WorldPaths | None = None
    """Where the simulated world is; None: a real arm."""

    @property
    def all_fds(self) -> tuple[int, ...]:
        rings = [source.ring_fd for source in self.inputs] + [fd for fd in (self.ring_fd,) if fd is not None]
        return (*self.channel_fds.values(), *dict.fromkeys(rings), *self.lifeline_fds)


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process of a run."""

    name: str
    """Unique in the table."""
    module: str
    launch: Callable[[Ends], Launch]
    """Makes its configuration; called when it is started."""
    title: str = ""
    """What messages call it, where that is not its name."""
    links: tuple[str, ...] = (SUPERVISOR,)
    """The processes that it exchanges records with, each over a channel of their own."""
    taps: tuple[str, ...] = ()
    """Processes that send it copies of their records; one that is replaced continues on the same channel."""
    rings: tuple[str, ...] = ()
    """Processes whose frames it reads."""
    frames: CameraSpec | None = None
    """The camera whose frames it writes into its own ring; all channels of such a process carry their descriptors."""
    lives_for: tuple[str, ...] = ()
    """It exits when the supervisor and these have ended: they hold the write end of its lifeline, a pipe."""
    start: Start = Start.TOGETHER
    core: Core = Core.WORKER
    death: Death = Death.FAULT
    reports: Reports = Reports.NOTHING
    output: Output = Output.KEPT
    finish: Finish | None = None
    """What it still does once the arm is at rest; until then its channel to the supervisor stays open."""
