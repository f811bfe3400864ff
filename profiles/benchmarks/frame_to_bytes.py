"""Time from a camera frame to bytes on the wire, excluding inference. A program to run, not a module to import:

    python profiles/benchmarks/frame_to_bytes.py --frames 250 --json out/frame_to_bytes.json

The path is that of a run. The camera process (images of 640 x 480) resizes into the ring and sends a descriptor. This
program replaces the policy process and uses its classes and the shipped engine; it plans as often as a run
does, but as soon as a frame arrives instead of on a grid. The control process, on servos behind a pseudo-terminal,
executes the chunk.

Two waits are not work: control receives chunks once per period, and before that it reads the servos, which is mostly
time on the wire. Without them and the inference, two numbers are reported:

    work   the sum of the stages resize, observe, plan, choose, shape, check, send
    wall   from the image in memory to the bytes written, minus inference and waits: work, wake-up, lateness

The camera process decodes a JPEG before that, which is measured separately: a driver that delivers YUYV needs no
decoding. Exit code 1 when the 99th percentile of the wall time is over 2 ms.
"""

from __future__ import annotations

import argparse
import os
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, fields
from pathlib import Path

import numpy as np
from program import keep, run_program
from simulated_unit import CAMERA_SIZE, ENGINE, OVERLOADED, Unit, simulated_unit

from sefa_edge.edge.cameras.camera import Frame
from sefa_edge.edge.cameras.camera_process import CameraConfig
from sefa_edge.edge.control.control_process import ControlConfig
from sefa_edge.edge.engines.engine import Engine
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.edge.ipc.process import Child, ChildSpec
from sefa_edge.edge.ipc.records import ControlCommand, Final, JointSample, TickReport, unpack_for_supervisor
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed, FrameDescriptor, FrameRing, channel_pair
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.edge.pictures import read_picture
from sefa_edge.edge.policy.policy import FrameHistory, JointHistory, Policy
from sefa_edge.edge.run.cores import split_cores
from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.errors import FaultError
from sefa_edge.profiles.latency.report import StageReport, summarise
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM
from sefa_edge.profiles.units import ms_to_ns, ns_to_ms, period_ns, s_to_ns

LIMIT_MS = 2.0
RATE_HZ = 30.0
PATIENCE_S = 30.0
WORK = ("resize", "observe", "plan", "choose", "shape", "check", "send")
DECODES = 100


@dataclass(frozen=True, slots=True)
class PathDurations:
    """Durations in ns on the path of one frame. `wake`: until the policy runs; `late`: lateness of the tick."""

    resize: int
    wake: int
    observe: int
    inference: int
    plan: int
    wait: int
    late: int
    choose: int
    shape: int
    check: int
    send: int
    wall: int

    @property
    def work(self) -> int:
        return sum(getattr(self, name) for name in WORK)


@dataclass(slots=True)
class Planned:
    """Stamps of a chunk up to the moment it was sent."""

    descriptor: FrameDescriptor
    woken_ns: int
    observed_ns: int
    inference_ns: int
    sent_ns: int


class StampedEngine:
    """An engine that times its last inference."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.last_ns = 0

    @property
    def card(self) -> PolicyCard:
        return self._engine.card

    def infer(self, images: Mapping[str, np.ndarray], joint_deg: np.ndarray, noise: np.ndarray) -> np.ndarray:
        began_ns = time.monotonic_ns()
        chunk = self._engine.infer(images, joint_deg, noise)
        self.last_ns = time.monotonic_ns() - began_ns
        return chunk

    def close(self) -> None:
        self._engine.close()


@dataclass
class Rig:
    """The camera and control processes, and this process's ends of their channels."""

    engine: StampedEngine
    ring: FrameRing
    camera: Channel
    control: Channel
    reports: Channel
    children: tuple[Child, ...]
    planned: dict[int, Planned] = field(default_factory=dict)
    paths: list[PathDurations] = field(default_factory=list)
    mode: Mode = Mode.IDLE
    settled: bool = False
    newest_chunk_id: int = 0

    def read_reports(self) -> None:
        """Receive the tick reports so far; the first tick that plays a chunk completes its path."""
        for record in self.reports.drain():
            report = unpack_for_supervisor(record, len(self.engine.card.joints))
            if isinstance(report, Final):
                raise FaultError(report.message, report.hint)
            if isinstance(report, TickReport):
                self.mode, self.settled = report.mode, report.settled
                if report.chunk_id > self.newest_chunk_id:
                    self.newest_chunk_id = report.chunk_id
                    if (planned := self.planned.pop(report.chunk_id, None)) is not None:
                        self.paths.append(_durations(planned, report))

    def until(self, mode: Mode, command: Command) -> None:
        """Send a command and wait until control is at rest in that mode, or RUNNING."""
        self.reports.send(ControlCommand(command).pack())
        give_up_s = time.monotonic() + PATIENCE_S
        while self.mode is not mode or not (self.settled or mode is Mode.RUNNING):
            self.reports.wait(0.1)
            self.read_reports()
            self.control.newest()
            if time.monotonic() > give_up_s:
                raise FaultError(f"control does not reach {mode.name}", OVERLOADED)


def main(arguments: Sequence[str]) -> int:
    options = _parse(arguments)
    with simulated_unit() as unit, _rig(unit, options.engine) as rig:
        rig.until(Mode.ARMED, Command.ARM)
        rig.until(Mode.RUNNING, Command.RUN)
        _play_chunks(rig, options.frames)
        decode_ns = _decode_ns(unit.pictures)
    reports = [*_reports(rig.paths), _report("decode", decode_ns)]
    _print(reports)
    wall = next(report for report in reports if report.key == "wall")
    keep(options.json, _content(reports))
    kept = wall.p99_ns <= ms_to_ns(LIMIT_MS)
    print(f"wall p99 {ns_to_ms(wall.p99_ns):.3f} ms of {LIMIT_MS:g} ms: {'kept' if kept else 'OVER'}")
    return 0 if kept else 1


def _play_chunks(rig: Rig, frames: int) -> None:
    """As the policy process: plan on new frames until that many chunks have been played."""
    card = rig.engine.card
    spacing_ns = card.timing.observation_spacing_steps * period_ns(card.timing.policy_rate_hz)
    policy, joints = Policy(rig.engine), JointHistory()
    pictures = FrameHistory([camera.name for camera in card.cameras], card.timing.n_obs_steps, spacing_ns)
    poller = select.poll()
    for channel in (rig.camera, rig.control):
        poller.register(channel, select.POLLIN)
    rig.camera.newest()
    idle_ns = give_up_ns = time.monotonic_ns()
    cadence_ns, half_frame_ns = (
        card.timing.execute_steps * period_ns(card.timing.policy_rate_hz),
        period_ns(RATE_HZ) // 2,
    )
    give_up_ns += 2 * frames * cadence_ns + s_to_ns(PATIENCE_S)
    plan_ns = 0
    while len(rig.paths) < frames:
        poller.poll(100)
        woken_ns = time.monotonic_ns()
        for record in rig.control.drain():
            joints.add(JointSample.unpack(record, n=len(card.joints)))
        newest = rig.camera.newest()
        if newest is None or joints.newest_ns is None:
            continue
        if woken_ns < plan_ns:  # a frame on which a run would not plan
            idle_ns = time.monotonic_ns()
            continue
        plan_ns = woken_ns + cadence_ns - half_frame_ns
        descriptor = FrameDescriptor.unpack(newest)
        image = rig.ring.read(descriptor)
        if image is None:
            continue
        name = card.cameras[0].name
        pictures.add(Frame(name, descriptor.sequence, descriptor.capture_ns, descriptor.received_ns, image))
        observation = pictures.observe(joints)
        observed_ns = time.monotonic_ns()
        chunk = policy.plan(observation)
        rig.control.send(chunk.pack())
        sent_ns = time.monotonic_ns()
        if descriptor.received_ns >= idle_ns:  # else it waited for the inference before, not for a wake-up
            rig.planned[chunk.chunk_id] = Planned(descriptor, woken_ns, observed_ns, rig.engine.last_ns, sent_ns)
        rig.read_reports()
        if rig.mode is not Mode.RUNNING or sent_ns > give_up_ns:
            raise FaultError(f"control went to {rig.mode.name} after {len(rig.paths)} chunks", OVERLOADED)
        idle_ns = time.monotonic_ns()


def _durations(planned: Planned, tick: TickReport) -> PathDurations:
    read_ns, choose_ns, shape_ns, check_ns, send_ns = tick.stage_ns
    due_ns, frame = tick.start_ns - tick.lateness_ns, planned.descriptor
    taken_ns = tick.start_ns + read_ns
    in_time = planned.sent_ns <= due_ns
    late_ns = tick.lateness_ns if in_time else 0
    wait_ns = taken_ns - planned.sent_ns - late_ns
    written_ns = tick.start_ns + sum(tick.stage_ns)
    return PathDurations(
        resize=frame.published_ns - frame.received_ns,
        wake=planned.woken_ns - frame.published_ns,
        observe=planned.observed_ns - planned.woken_ns,
        inference=planned.inference_ns,
        plan=planned.sent_ns - planned.observed_ns - planned.inference_ns,
        wait=wait_ns,
        late=late_ns,
        choose=choose_ns,
        shape=shape_ns,
        check=check_ns,
        send=send_ns,
        wall=written_ns - frame.received_ns - planned.inference_ns - wait_ns,
    )


@contextmanager
def _rig(unit: Unit, engine_path: Path) -> Iterator[Rig]:
    """The processes, pinned as in a run; at the end of the block the arm is parked."""
    engine = StampedEngine(open_engine(engine_path))
    control_cpus, worker_cpus = split_cores(os.sched_getaffinity(0))
    spec = engine.card.cameras[0]
    ring = FrameRing.create(spec.height, spec.width)
    camera, camera_end = channel_pair()
    control, policy_end = channel_pair()
    reports, supervisor_end = channel_pair()
    camera_config = CameraConfig(
        name=spec.name,
        address=f"images:{unit.pictures}",
        rate_hz=RATE_HZ,
        height=spec.height,
        width=spec.width,
        ring_fd=ring.fd,
        reader_fds=[camera_end.fileno()],
    )
    control_config = ControlConfig(
        arm=SIMULATED_ARM,
        port=str(unit.port),
        calibration=None,
        horizon=engine.card.timing.horizon,
        supervisor_fd=supervisor_end.fileno(),
        policy_fd=policy_end.fileno(),
        cpu=min(control_cpus) if control_cpus else None,
    )
    children = (
        _child("camera", "sefa_edge.edge.cameras.camera_process", camera_config.to_json(), ring, camera_end),
        _child(
            "control",
            "sefa_edge.edge.control.control_process",
            control_config.model_dump_json(),
            supervisor_end,
            policy_end,
        ),
    )
    children[0].pin(worker_cpus)
    if worker_cpus:
        os.sched_setaffinity(0, worker_cpus)
    rig = Rig(engine, ring, camera, control, reports, children)
    with ExitStack() as stack:
        for channel in (camera, control, reports):
            stack.enter_context(closing(channel))
        try:
            yield rig
        finally:
            _shut_down(rig)


def _child(name: str, module: str, config: str, *ends: Channel | FrameRing) -> Child:
    fds = tuple(end.fd if isinstance(end, FrameRing) else end.fileno() for end in ends)
    child = Child(ChildSpec(name, module, config, fds))
    for end in ends:
        if isinstance(end, Channel):
            end.close()
    return child


def _shut_down(rig: Rig) -> None:
    camera, control = rig.children
    with suppress(ChannelClosed):
        rig.reports.send(ControlCommand(Command.STOP).pack())
        while rig.reports.wait(PATIENCE_S):
            rig.control.newest()
            if any(
                isinstance(unpack_for_supervisor(r, len(rig.engine.card.joints)), Final) for r in rig.reports.drain()
            ):
                break
    for child in (control, camera):
        child.wait(1.0)
        child.stop(PATIENCE_S)
        child.close()
    rig.engine.close()


def _decode_ns(pictures: Path) -> np.ndarray:
    """Durations of reading and decoding one JPEG, ns, int64 [N]."""
    paths, durations = sorted(pictures.iterdir()), []
    for number in range(DECODES):
        began_ns = time.monotonic_ns()
        read_picture(paths[number % len(paths)])
        durations.append(time.monotonic_ns() - began_ns)
    return np.array(durations, np.int64)


def _reports(paths: Sequence[PathDurations]) -> list[StageReport]:
    names = [stage.name for stage in fields(PathDurations) if stage.name != "wall"]
    return [
        _report(name, np.array([getattr(path, name) for path in paths], np.int64)) for name in (*names, "work", "wall")
    ]


def _report(key: str, samples_ns: np.ndarray) -> StageReport:
    return summarise(
        samples_ns, key=key, title=key, process="all", meaning="See profiles/benchmarks/frame_to_bytes.py."
    )


def _print(reports: Sequence[StageReport]) -> None:
    print(f"{reports[0].count} pictures of {CAMERA_SIZE[1]} x {CAMERA_SIZE[0]}; milliseconds")
    print(f"{'':12}{'p50':>9}{'p90':>9}{'p99':>9}{'p99.9':>9}{'max':>9}")
    for report in reports:
        numbers = (report.p50_ns, report.p90_ns, report.p99_ns, report.p999_ns, report.max_ns)
        print(f"{report.key:12}" + "".join(f"{ns_to_ms(number):9.3f}" for number in numbers))


def _content(reports: Sequence[StageReport]) -> dict[str, object]:
    return {
        "limit_ms": LIMIT_MS,
        "load": os.getloadavg()[0],
        "stages": [report.model_dump(mode="json") for report in reports],
    }


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="From a picture to bytes on the wire, without the inference.")
    parser.add_argument(
        "--frames", type=int, default=250, help="pictures to follow; the engine's card says how many in a second"
    )
    parser.add_argument("--engine", type=Path, default=ENGINE, metavar="E", help="model.onnx of one camera")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything as JSON")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_program(main)
