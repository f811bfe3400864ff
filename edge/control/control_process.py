"""The control process: opens the arm's port and runs the loop; nothing else runs in it.

    python -m sefa_edge.edge.control.control_process --config FD

Contract with its parent (edge/run/supervisor.py):

- `FD` is an inherited file descriptor (pipe, or memory file positioned at its start) that holds one
  ControlConfig as JSON; it is read to its end and closed. With a pipe, the process loads its modules and waits; if the
  pipe is closed without data, the run was cancelled and the process exits.
- `supervisor_fd` and `policy_fd` in it are inherited ends of AF_UNIX SOCK_SEQPACKET pairs (`channel_pair()`),
  because only those keep record boundaries and report the death of the peer. All three go into `pass_fds`. The
  parent closes its copies of the child's ends; otherwise end of file is never reported.
- Start it with `start_new_session=True`: it ignores SIGINT, treats SIGTERM as the command STOP and SIGQUIT as
  EMERGENCY, and outlives its parent on purpose: end of file on `supervisor_fd` is the fault SUPERVISOR_LOST (hold,
  park, release).
- The handler of SIGQUIT itself sends torque off to all servos and EmergencyReceived to the supervisor; a request in
  progress on the bus is aborted, and the next tick switches the torque off again and reads it back.
- Before it is ready, it writes the servo settings that are lost in a power cut (`Arm.prepare`); Ready lists them.
- On `supervisor_fd` it sends one Ready (or only the Final, if the arm cannot be opened), MayHold before
  the first write that can energise a servo, one TickReport per tick, one Final. A reader that is behind loses tick
  reports (they are counted), never Ready, MayHold or Final: the arm is not armed before MayHold has been sent.
- It reads ControlCommand and Heartbeat records there. Heartbeats are due from Ready on: a supervisor that has sent one
  must keep sending them, or it counts as stopped (SUPERVISOR_SILENT).
- It reads ActionChunk, InferenceBegun and Trouble records on `policy_fd` and sends one JointSample per tick there.
  Chunks are used only in RUNNING, and only if their observation was made after RUNNING began.
- Exit code: 0 after STOP, 3 after a fault (or an arm that does not answer at the start), 2 or 4 when it could
  not start (bad input, something is missing); always equal to `Final.exit_code`. If the Final record cannot be
  delivered, message and hint are printed to standard error; otherwise nothing is printed.
"""

from __future__ import annotations

import argparse
import json
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from sefa_edge.edge.control.arming import Arming
from sefa_edge.edge.control.chunks import ChunkPlayer
from sefa_edge.edge.control.clock import Clock, MonotonicClock, Pacer
from sefa_edge.edge.control.control_tap import ArmTap, TappedLinks
from sefa_edge.edge.control.final_record import NOTHING_HOLDS, EndContext, final_record, not_started, rescue_not_started
from sefa_edge.edge.control.handover_settings import HandOver
from sefa_edge.edge.control.links import Links, ProcessLinks
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.control.motion import Motion, MotionSettings
from sefa_edge.edge.control.realtime import claim_privileges, disable_collector, reserve_heap
from sefa_edge.edge.control.realtime_settings import DEFAULT_REALTIME
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.process import read_config
from sefa_edge.edge.ipc.record_header import RecordError
from sefa_edge.edge.ipc.records import ArmOpened, Final, Privilege, Ready, names_of, one_line
from sefa_edge.edge.ipc.sinks import PatientSink, Sink
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed
from sefa_edge.edge.ipc.vocabulary import Mode
from sefa_edge.edge.ipc.wire_record import unpack_fields
from sefa_edge.firmware_bridge.host.arm import Arm
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.host.calibration import load_calibration
from sefa_edge.firmware_bridge.host.emergency import Emergency
from sefa_edge.firmware_bridge.host.messages import NOT_PREPARED, Preparation
from sefa_edge.firmware_bridge.host.open_arm import bus_of, open_arm
from sefa_edge.firmware_bridge.host.same_arm import SameArm
from sefa_edge.profiles import console
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.quantities import REALTIME_PRIORITY, SPIN_US
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.strict import StrictModel, validate
from sefa_edge.profiles.units import ms_to_ns, period_ns, us_to_ns

RESCUE_RETRY_S = 0.25
FINAL_PATIENCE_MS = 2000
"""How long to wait until the supervisor has room for the Final record."""

FileDescriptor = Annotated[int, Field(ge=0)]


class ControlConfig(StrictModel):
    """Configuration of the control process, read once, as JSON."""

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
    realtime_priority: Annotated[int, REALTIME_PRIORITY] = DEFAULT_REALTIME.priority
    """SCHED_FIFO priority; 0: do not ask for it."""
    cpu: Annotated[int, Field(ge=0)] | None = None
    """Core to stay on; null: any."""
    hand_over: HandOver = HandOver()
    """How a newer chunk takes over."""
    spin_us: Annotated[int, SPIN_US] = DEFAULT_REALTIME.spin_us
    """Spin for this many microseconds before each tick."""
    servo_settings: Literal["apply", "leave"] = "apply"
    """Whether settings that are lost in a power cut are written before the arm is ready; leave: for an arm that must be
    rescued, or whose state is only read."""
    arming: Literal["after_looking", "at_once"] = "after_looking"
    """When ARM takes effect (see `Arming`); a rescue never waits, because the arm may be raised and must not drop."""
    expected_arm: Annotated[str, Field(max_length=1024)] | None = None
    """Which arm must answer: its ArmIdentity, packed, in hexadecimal digits; null: any arm."""
    rescue: bool = False
    """Whether an earlier process may have left the arm holding: it is then held in place, parked and released without a
    command, whether or not the supervisor is alive. An arm that does not hold is not touched."""
    recorder_fd: FileDescriptor | None = None
    """End of a channel to the recorder, which gets a TickTrace per tick; null: the run is not recorded."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a loop needs from outside: that of a process, or of a recording."""

    clock: Clock
    links: Links
    open_arm: Callable[[], Arm]


def main(argv: list[str] | None = None) -> int:
    """Run until the mode machine has finished; returns the exit code."""
    parser = argparse.ArgumentParser(prog="control_process", allow_abbrev=False)
    parser.add_argument("--config", type=int, required=True, metavar="FD")
    try:
        content = read_config(parser.parse_args(argv).config)
        if not content:
            return 0
        config = parse_config(content)
    except SefaError as error:
        _print_final(not_started(error))
        return error.exit_code
    supervisor, policy = Channel.from_fd(config.supervisor_fd), Channel.from_fd(config.policy_fd)
    sink = None if config.recorder_fd is None else PatientSink(Channel.from_fd(config.recorder_fd))
    with closing(supervisor), closing(policy):
        final = _serve(config, supervisor, policy, sink)
        if not _deliver(supervisor, final):
            _print_final(final)
        if sink is not None:
            sink.finish(FINAL_PATIENCE_MS / 1000)
        return final.exit_code


def parse_config(raw: bytes) -> ControlConfig:
    """The configuration from its JSON. Raises InputError."""
    try:
        content = json.loads(raw)
    except ValueError as error:
        raise InputError(f"the control configuration is not JSON: {error}", "the supervisor writes it") from None
    return validate(Path("the control configuration"), content, ControlConfig)


def build_loop(config: ControlConfig, profile: ArmProfile, world: Surroundings, sink: Sink | None) -> ControlLoop:
    """The loop that this process and replay run, recorded if there is a sink. Raises SefaError: no arm."""
    links, open_arm = world.links, SameArm(world.open_arm, _expected(config))
    if sink is not None:
        arm_tap = ArmTap()
        links, open_arm = TappedLinks(links, arm_tap, sink), arm_tap.around(open_arm)
    period = control_period_ns(config, profile)
    arming = Arming.IMMEDIATELY if config.rescue else Arming(config.arming)
    motion = Motion.connect(open_arm, profile, period, ChunkPlayer(config.hand_over), MotionSettings(arming))
    if sink is not None:
        sink.put(ArmOpened(motion.arm.identity, arming is Arming.AFTER_CHECK).pack())
    return ControlLoop(world.clock, links, motion)


def _expected(config: ControlConfig) -> ArmIdentity | None:
    try:
        return None if config.expected_arm is None else unpack_fields(ArmIdentity, bytes.fromhex(config.expected_arm))
    except (ValueError, RecordError):
        raise InputError(
            "expected_arm in the control configuration is not an arm", "the supervisor writes it"
        ) from None


def control_period_ns(config: ControlConfig, profile: ArmProfile) -> int:
    return period_ns(config.control_rate_hz or profile.control_rate_hz)


def _serve(config: ControlConfig, supervisor: Channel, policy: Channel, sink: Sink | None) -> Final:
    clock = MonotonicClock()
    try:
        profile = load_arm_profile(config.arm)
        emergency = Emergency()
        links = ProcessLinks(supervisor, policy, config.horizon, len(profile.joints), emergency)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, lambda *_: links.request_stop())
        signal.signal(signal.SIGQUIT, lambda *_: links.request_emergency())
        if config.rescue and not _may_hold(profile, config.port):
            return NOTHING_HOLDS
        period = control_period_ns(config, profile)
        surroundings = Surroundings(clock, links, _arm_opener(config, profile, emergency))
        loop = _connect_with_retries(lambda: build_loop(config, profile, surroundings, sink), config, profile, links)
    except SefaError as error:
        return rescue_not_started(error) if config.rescue else not_started(error)
    if config.rescue:
        links.rescue()
    with closing(loop.arm):
        try:
            preparation = _prepare(config, loop)
        except SefaError as error:
            return rescue_not_started(error) if config.rescue else not_started(error)
        _reserve = reserve_heap()  # held to the end of this call
        disable_collector()  # before the priority: it takes tens of milliseconds, which others may need
        asked, granted = claim_privileges(config.realtime_priority, config.cpu)
        with suppress(ChannelClosed):  # the first tick finds the channel closed
            supervisor.send(_ready(loop, period, (asked, granted), preparation).pack())
        return _run(loop, links, Pacer(clock, period, us_to_ns(config.spin_us)), profile)


def _connect_with_retries(
    connect: Callable[[], ControlLoop], config: ControlConfig, profile: ArmProfile, links: ProcessLinks
) -> ControlLoop:
    """Connect and return the loop; only a rescue retries, for the recovery time. Raises SefaError."""
    give_up_ns = time.monotonic_ns() + ms_to_ns(profile.safety.recovery_ms)
    while True:
        try:
            return connect()
        except SefaError:
            if not config.rescue or links.emergency_requested or time.monotonic_ns() > give_up_ns:
                raise
        time.sleep(RESCUE_RETRY_S)


def _prepare(config: ControlConfig, loop: ControlLoop) -> Preparation:
    """Write the servo settings; if the first reading is bad, not before the arm is armed."""
    if config.servo_settings == "leave":
        return NOT_PREPARED
    if not loop.motion.first_reading_is_good:
        loop.arm.prepare_when_armed()
        return NOT_PREPARED
    return loop.arm.prepare()


def _ready(loop: ControlLoop, period: int, privileges: tuple[Privilege, Privilege], preparation: Preparation) -> Ready:
    return Ready(
        period,
        *privileges,
        loop.arm.state.joint_deg,
        preparation,
        one_line(loop.motion.range_notes),
        loop.arm.identity,
    )


def _run(loop: ControlLoop, links: ProcessLinks, pacer: Pacer, profile: ArmProfile) -> Final:
    waited_for = ""
    refusing = 0
    while not loop.state.finished or links.emergency_requested:
        slot = pacer.wait()
        loop.tick(slot)
        if loop.state.mode is Mode.EMERGENCY and loop.motion.fault_joints != refusing:
            refusing = loop.motion.fault_joints
            _print_emergency(names_of(refusing, profile.joint_names))
        if loop.state.fault is Fault.CHUNK_TIMEOUT and not waited_for:
            waited_for = links.inference_note(slot.due_ns)
    return final_record(loop, profile, EndContext(links.trouble, waited_for, pacer.skipped))


def _print_emergency(refusing: tuple[str, ...]) -> None:
    """Print directly to the terminal: this message must not wait for other output."""
    text = f"\nEMERGENCY STOP: {', '.join(refusing)} DID NOT CONFIRM: CUT THE ARM'S POWER; still trying\n"
    console.write_controls(sys.stderr, console.printable(text), patience_s=0.0)


def _arm_opener(config: ControlConfig, profile: ArmProfile, emergency: Emergency) -> Callable[[], Arm]:
    calibration = load_calibration(Path(config.calibration), profile) if config.calibration else None
    return lambda: open_arm(profile, config.port, calibration, emergency)


def _may_hold(profile: ArmProfile, port: str) -> bool:
    """Whether the torque of any servo is on, or cannot be read. Raises SefaError: the port cannot be opened."""
    torque = bus_of(profile).read_torque(profile, port)
    return bool(torque.on or torque.unknown)


def _deliver(supervisor: Channel, final: Final) -> bool:
    """Send the final record. Unlike every other send this may block: the loop has ended."""
    if supervisor.fileno() < 0:
        return False
    poller = select.poll()
    poller.register(supervisor, select.POLLOUT)
    poller.poll(FINAL_PATIENCE_MS)
    try:
        return supervisor.send(final.pack())
    except ChannelClosed:
        return False


def _print_final(final: Final) -> None:
    print(f"error: {final.message}" if final.exit_code else final.message, file=sys.stderr)
    if final.hint:
        print(f"hint: {final.hint}", file=sys.stderr)


if __name__ == "__main__":
    console.install()
    sys.exit(main())
