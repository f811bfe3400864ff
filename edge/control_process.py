"""The control process: owns the arm's port and the loop; nothing else runs in it.

    python -m sefa_edge.edge.control_process --config FD

Contract with whoever starts it (edge/running/supervisor.py):

- `FD` is an inherited file descriptor (pipe, or memory file positioned at its start) that holds one
  ControlConfig as JSON; it is read to its end and closed.
- `supervisor_fd` and `policy_fd` in it are inherited ends of AF_UNIX SOCK_SEQPACKET pairs (`channel_pair()`),
  because only those keep record boundaries and show the death of the peer. All three go into `pass_fds`. The
  parent closes its copies of the child's ends, or nobody will ever see an end of file.
- Start it with `start_new_session=True`: it ignores SIGINT, takes SIGTERM as the command STOP, and outlives
  its parent on purpose: end of file on `supervisor_fd` is the fault SUPERVISOR_LOST (hold, park, release).
- It sends on `supervisor_fd`: one Ready (or, when the arm cannot be opened, straight away the Final), one
  TickReport per tick, one Final. It reads ControlCommand records there. A reader that is behind loses tick
  reports (they are counted), never Ready or Final.
- It reads ActionChunk and Trouble records on `policy_fd` and sends one JointSample per tick there. Chunks count only in
  RUNNING, and only if they observed the world after RUNNING began.
- Exit code: 0 after STOP, 3 after a fault (or an arm that does not answer at the start), 2 or 4 when it could
  not start (bad input, something is missing); always equal to `Final.exit_code`. It prints only when nobody
  is left to take the Final record: then message and hint go to standard error.
"""

from __future__ import annotations

import argparse
import json
import select
import signal
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field

from sefa_edge.edge.clock import MonotonicClock, Pacer
from sefa_edge.edge.links import ProcessLinks
from sefa_edge.edge.loop import ControlLoop
from sefa_edge.edge.modes import Fault, Mode, describe
from sefa_edge.edge.motion import Motion
from sefa_edge.edge.policy_records import Trouble
from sefa_edge.edge.process import read_config
from sefa_edge.edge.realtime import claim_privileges, quiet_collector
from sefa_edge.edge.records import Final, Ready, Torque
from sefa_edge.edge.transport import Channel, ChannelClosed
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.calibration import load_calibration
from sefa_edge.firmware_bridge.host.feetech import open_feetech_arm
from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.schema import ArmProfile, load_arm_profile
from sefa_edge.profiles.strict import StrictModel, validate
from sefa_edge.profiles.units import period_ns, us_to_ns

LAST_WORDS_MS = 2000
"""How long the Final record may wait for a supervisor that is behind."""

FileDescriptor = Annotated[int, Field(ge=0)]


class ControlConfig(StrictModel):
    """What the control process is told, once, as JSON."""

    arm: str
    """Name of a shipped arm profile, or the path of a .yaml file."""
    port: str
    calibration: str | None
    """Path of a LeRobot calibration file; null: the profile's nominal calibration."""
    horizon: Annotated[int, Field(ge=1, le=1024)]
    """Rows T of every action chunk (the card's `timing.horizon`)."""
    supervisor_fd: FileDescriptor
    policy_fd: FileDescriptor
    control_rate_hz: Annotated[float, Field(ge=20, le=500)] | None = None
    """Null: the profile's rate."""
    realtime_priority: Annotated[int, Field(ge=0, le=99)] = 55
    """SCHED_FIFO priority; 0: do not ask for it."""
    cpu: Annotated[int, Field(ge=0)] | None = None
    """Core to stay on; null: any."""
    spin_us: Annotated[int, Field(ge=0, le=2000)] = 300
    """Wait actively for the last so many microseconds before each tick."""


def main(argv: list[str] | None = None) -> int:
    """Run until the mode machine has finished; returns the exit code."""
    parser = argparse.ArgumentParser(prog="control_process", allow_abbrev=False)
    parser.add_argument("--config", type=int, required=True, metavar="FD")
    try:
        config = parse_config(read_config(parser.parse_args(argv).config))
    except SefaError as error:
        _print_last_words(_not_started(error))
        return error.exit_code
    supervisor, policy = Channel.from_fd(config.supervisor_fd), Channel.from_fd(config.policy_fd)
    with closing(supervisor), closing(policy):
        final = _serve(config, supervisor, policy)
        if not _deliver(supervisor, final):
            _print_last_words(final)
        return final.exit_code


def parse_config(raw: bytes) -> ControlConfig:
    """The configuration from its JSON. Raises InputError."""
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise InputError(f"the control configuration is no JSON: {error}", "the supervisor writes it") from None
    return validate(Path("the control configuration"), content, ControlConfig)


def _serve(config: ControlConfig, supervisor: Channel, policy: Channel) -> Final:
    clock = MonotonicClock()
    try:
        profile = load_arm_profile(config.arm)
        links = ProcessLinks(supervisor, policy, config.horizon, len(profile.joints))
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: links.ask_stop())
        period = period_ns(config.control_rate_hz or profile.control_rate_hz)
        loop = ControlLoop(clock, links, Motion.connect(_arm_opener(config, profile), profile, period))
    except SefaError as error:
        return _not_started(error)
    with closing(loop.arm):
        asked, granted = claim_privileges(config.realtime_priority, config.cpu)
        quiet_collector()
        with suppress(ChannelClosed):  # the first tick meets the end of the channel
            supervisor.send(Ready(period, asked, granted, loop.arm.state.joint_deg).pack())
        return _run(loop, links, Pacer(clock, period, us_to_ns(config.spin_us)), profile)


def _run(loop: ControlLoop, links: ProcessLinks, pacer: Pacer, profile: ArmProfile) -> Final:
    while not loop.state.finished:
        loop.tick(pacer.wait())
    return final_record(loop, links.trouble, profile, pacer.skipped)


def final_record(loop: ControlLoop, trouble: Trouble | None, profile: ArmProfile, skipped_ticks: int) -> Final:
    """How a finished loop ended, and the words for it; `trouble` is what the policy told, if it did."""
    joints = loop.motion.fault_joints
    named = tuple(name for index, name in enumerate(profile.joint_names) if joints >> index & 1)
    state = loop.state
    about = (trouble.about,) if trouble is not None and trouble.fault is state.fault else named
    message, hint = describe(state, about)
    return Final(
        state.mode, state.fault, joints, loop.arm.torque, state.exit_code, loop.ticks, skipped_ticks, message, hint
    )


def _arm_opener(config: ControlConfig, profile: ArmProfile) -> Callable[[], Arm]:
    calibration = load_calibration(Path(config.calibration), profile) if config.calibration else None
    return lambda: open_feetech_arm(profile, config.port, calibration)


def _not_started(error: SefaError) -> Final:
    return Final(Mode.IDLE, Fault.NONE, 0, Torque.UNTOUCHED, error.exit_code, 0, 0, str(error), error.hint)


def _deliver(supervisor: Channel, final: Final) -> bool:
    """The one send that may wait a moment: the loop is over."""
    if supervisor.fileno() < 0:
        return False
    poller = select.poll()
    poller.register(supervisor, select.POLLOUT)
    poller.poll(LAST_WORDS_MS)
    try:
        return supervisor.send(final.pack())
    except ChannelClosed:
        return False


def _print_last_words(final: Final) -> None:
    print(f"error: {final.message}" if final.exit_code else final.message, file=sys.stderr)
    if final.hint:
        print(f"hint: {final.hint}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
