"""The processes of a run and the channels between them: who exists, who talks to whom, on which cores.

simulated world <--serial port--> control <--chunks, joints--> policy <--pictures-- camera(s)
                                     \\________ supervisor ________/___________________/ \\-- film
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sefa_edge.edge.cameras.camera_process import CameraConfig
from sefa_edge.edge.ipc.process import Briefing, Child, ChildSpec
from sefa_edge.edge.ipc.records import ControlCommand
from sefa_edge.edge.ipc.ring_reader import RingInput
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed, FrameRing, channel_pair
from sefa_edge.edge.ipc.vocabulary import Command
from sefa_edge.edge.ipc.wire_record import pack_fields
from sefa_edge.edge.policy.policy_process import PolicyConfig
from sefa_edge.edge.recording.recorder_config import RecorderConfig
from sefa_edge.edge.run.run_plan import RunPlan
from sefa_edge.edge.viewing.video_process import VideoConfig
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity
from sefa_edge.firmware_bridge.simulation.client import WorldPaths
from sefa_edge.profiles.card import CameraSpec

if TYPE_CHECKING:
    from sefa_edge.edge.control.control_process import ControlConfig

GOODBYE_S = 2.5
"""How long a process may take to end after it was let go, before it is killed."""
KILLED_S = 0.5
"""How long a process that was killed may take to vanish: one that hangs in a disk write is left to the system."""
CONTROL = "sefa_edge.edge.control.control_process"
WORKERS = {
    "camera": "sefa_edge.edge.cameras.camera_process",
    "policy": "sefa_edge.edge.policy.policy_process",
    "film": "sefa_edge.edge.viewing.video_process",
    "recorder": "sefa_edge.edge.recording.recorder_process",
}
"""The module of each process that looks, thinks, draws or records."""


class Crew:
    """Starts processes and remembers them. A child's ends of channels are closed here once it has them."""

    def __init__(self, plan: RunPlan) -> None:
        self._plan = plan
        self._folder: Path | None = None
        self._lifeline: int | None = None
        self._lifeline_end: int | None = None
        self._control_cpus, self._worker_cpus = split_cores(os.sched_getaffinity(0), plan.realtime.cpu)
        self._briefing: Briefing | None = None
        self._waiting: Child | None = None
        self._silent_end: Channel | None = None
        self._rings: list[FrameRing] = []
        self._film_input: tuple[RingInput, Channel] | None = None
        self.world_paths: WorldPaths | None = None
        """Where the simulated world is, from `locate_world` on; None: a real arm."""
        self.world: Child | None = None
        self.policy: Child | None = None
        self.control: Child | None = None
        self.film: Child | None = None
        self.recorder: Child | None = None
        self.cameras: dict[str, Child] = {}
        self.control_channel: Channel | None = None
        self.policy_channel: Channel | None = None
        self.film_channel: Channel | None = None
        self.recorder_channel: Channel | None = None
        self._recorder_inputs: list[tuple[RingInput, Channel]] = []
        self._control_tap_end: Channel | None = None
        self.camera_channels: dict[str, Channel] = {}
        self._former: list[Child] = []

    @property
    def port(self) -> Path:
        """Where the arm is, or where the simulated world will put it (from `locate_world` on)."""
        return Path(self._plan.port) if self.world_paths is None else self.world_paths.port

    @property
    def children(self) -> list[Child]:
        """Everybody who was started, also those who have ended."""
        workers = [self.world, *self.cameras.values(), self.policy, self.film, self.recorder]
        present = [*workers, self._waiting, self.control]
        return [child for child in (*present, *self._former) if child is not None]

    # -- commands ---------------------------------------------------------

    def command(self, command: Command) -> None:
        """Tell control; never blocks. Its end is noticed elsewhere."""
        with contextlib.suppress(ChannelClosed, OSError):
            if self.control_channel is not None:
                self.control_channel.send(ControlCommand(command).pack())

    def obey(self, number: signal.Signals) -> None:
        """For the handler of a stop signal: what it asks for goes to control at once. Never blocks, never raises.

        A control process that has not begun has not opened the arm's port either.
        """
        if self.control is None:
            return
        if number is signal.SIGQUIT:
            self.control.send_signal(signal.SIGQUIT)
        else:
            self.command(Command.STOP)

    # -- starting ---------------------------------------------------------

    def locate_world(self) -> None:
        """Find a place for the simulated world, if there is one: a folder of its own, or where it runs already."""
        self.world_paths = self._paths()

    def start_world(self) -> None:
        """Start the simulated world, which lives until nobody holds its lifeline any more."""
        if self._plan.world is None or self._plan.world.port is not None or self.world_paths is None:
            return
        self._lifeline_end, self._lifeline = os.pipe()
        arguments = {
            "--task": self._plan.world.task,
            "--seed": str(self._plan.schedule.first_seed),
            "--port": str(self.world_paths.port),
            "--lifeline": str(self._lifeline_end),
        }
        self.world = Child(
            ChildSpec(
                "simulated world",
                "sefa_edge.firmware_bridge.simulation.server",
                None,
                (self._lifeline_end,),
                arguments=tuple(word for pair in arguments.items() for word in pair),
            )
        )
        os.close(self._lifeline_end)

    def start_senses(self) -> None:
        """Start the cameras, the policy, and control, which loads its modules and waits for `start_control`."""
        inputs = [self._start_camera(spec) for spec in self._plan.card.cameras]
        self.policy_channel, own_end = channel_pair()
        control_end, to_control = channel_pair()
        to_recorder = self._start_recorder()
        config = PolicyConfig(
            engine=str(self._plan.engine),
            cameras=[camera for camera, _ in inputs],
            supervisor_fd=own_end.fileno(),
            control_fd=to_control.fileno(),
            max_age_ms=self._plan.profile.goal_timeout_ms,
            max_frame_age_ms=self._plan.camera_checks.max_frame_age_ms,
            max_skew_ms=self._plan.camera_checks.max_skew_ms,
            frozen_ns=self._plan.camera_checks.frozen_ns,
            dark_ns=self._plan.camera_checks.dark_ns,
            threads=self._plan.threads,
            noise=self._plan.noise,
            recorder_fd=None if to_recorder is None else to_recorder.fileno(),
        )
        fds = [fd for camera, _ in inputs for fd in (camera.ring_fd, camera.channel_fd)]
        ends = [own_end, to_control, *([] if to_recorder is None else [to_recorder])]
        self.policy = self._worker("policy", config.model_dump_json(), (*fds, *(end.fileno() for end in ends)))
        for channel in (*ends, *(end for _, end in inputs)):
            channel.close()
        self._waiting = self._waiting_control(control_end)
        control_end.close()

    def start_control(self) -> None:
        """Let control open the arm's port, which must exist by now. From here on it has its core to itself."""
        for child in self.children:
            if child is not self._waiting:
                child.pin(self._worker_cpus)
        self.control, self._waiting = self._waiting, None
        if self._briefing is not None:
            self._briefing.give()

    def start_rescue(self, arm: ArmIdentity | None) -> None:
        """Start another control process after the first one died. Its policy channel stays silent.

        It is told all at once, and needs no command: it parks the arm also when this process ends meanwhile.

        Args:
            arm: which must answer: the one that the first process opened; None: it had not opened any yet.
        """
        if self._silent_end is not None:
            self._silent_end.close()
        self._silent_end, policy_end = channel_pair()
        former, self.control = self.control, None
        if former is not None:
            self._former.append(former)
        if self.control_channel is not None:
            self.control_channel.close()
        self.control_channel, own_end = channel_pair()
        config = self._control_config(own_end.fileno(), policy_end.fileno())
        expected = None if arm is None else pack_fields(arm).hex()
        config = config.model_copy(update={"servo_settings": "leave", "rescue": True, "expected_arm": expected})
        self.control = self._control_process(config, config.model_dump_json())
        own_end.close()
        policy_end.close()

    def start_film(self) -> None:
        """Start collecting for the film, if one is wanted."""
        if self._plan.film is None:
            return
        self.film_channel, own_end = channel_pair()
        fds, ring, state_path = [own_end.fileno()], None, None
        if self._film_input is not None:
            ring, _ = self._film_input
            fds = [*fds, ring.ring_fd, ring.channel_fd]
        elif self.world_paths is not None:
            state_path = str(self.world_paths.state)
        config = VideoConfig(
            path=str(self._plan.film), supervisor_fd=own_end.fileno(), state_path=state_path, ring=ring
        )
        self.film = self._worker("film", config.model_dump_json(), tuple(fds))
        self.film.pin(self._worker_cpus)  # control runs by now
        own_end.close()

    def _start_recorder(self) -> Channel | None:
        """Start recording, if that is wanted; returns the policy's end of its channel."""
        if self._plan.recording is None:
            return None
        from sefa_edge.edge.run.facts import run_attachments, run_words

        self.recorder_channel, own_end = channel_pair()
        (from_control, self._control_tap_end), (from_policy, policy_end) = channel_pair(), channel_pair()
        ends = [own_end, from_control, from_policy, *(end for _, end in self._recorder_inputs)]
        config = RecorderConfig(
            path=str(self._plan.recording.path),
            limit_bytes=self._plan.recording.limit_bytes,
            cameras=[camera for camera, _ in self._recorder_inputs],
            supervisor_fd=own_end.fileno(),
            sender_fds=[from_control.fileno(), from_policy.fileno()],
            horizon=self._plan.card.timing.horizon,
            joints=len(self._plan.profile.joints),
            words=run_words(self._plan),
            attachments=run_attachments(self._plan, self._control_config(0, 0)),
        )
        rings = [camera.ring_fd for camera, _ in self._recorder_inputs]
        self.recorder = self._worker("recorder", config.model_dump_json(), (*rings, *(end.fileno() for end in ends)))
        for channel in ends:
            channel.close()
        return policy_end

    def unplug_world(self) -> None:
        """After the death of the simulated world: its link leads nowhere, and soon to a stranger's terminal."""
        if self.world_paths is not None:
            self.world_paths.port.unlink(missing_ok=True)

    # -- ending ---------------------------------------------------------

    def let_go(self) -> None:
        """Close every channel but those to the film and the recorder, which may still have work to do.

        Whoever is on the other end then ends by itself.
        """
        channels = (self.control_channel, self.policy_channel, self._silent_end, self._control_tap_end)
        for channel in (*channels, *self.camera_channels.values()):
            if channel is not None:
                channel.close()
        if self._film_input is not None:
            self._film_input[1].close()
        if self._briefing is not None:
            self._briefing.close()
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            os.close(lifeline)

    def dismiss(self, patience_s: float) -> None:
        """End everybody who is still there after `patience_s`, and leave nothing behind.

        Only a control process that is still there is left alone, with the world that it moves in: this call is then
        part of a crash, and control, which has just lost its supervisor, parks the arm before it ends by itself.
        """
        self.let_go()
        for channel in (self.film_channel, self.recorder_channel):
            if channel is not None:
                channel.close()
        abandoned = self.control is not None and self.control.wait(patience_s) is None
        left = [child for child in self.children if not (abandoned and child in (self.control, self.world))]
        end_together(left, patience_s)
        for child in self.children:
            child.close()
        for ring in self._rings:
            ring.close()
        if not abandoned:
            self._remove_folder()

    # -- inside ---------------------------------------------------------

    def _paths(self) -> WorldPaths | None:
        world = self._plan.world
        if world is None:
            return None
        if world.port is not None:
            return WorldPaths(world.port)
        self._folder = Path(tempfile.mkdtemp(prefix="sefa-edge-"))  # mode 0700
        return WorldPaths(self._folder / "arm")

    def _remove_folder(self) -> None:
        if self._folder is None:
            return
        for path in (*self._folder.glob("*"), *self._folder.glob(".*")):  # only after the world was killed
            path.unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            self._folder.rmdir()

    def _start_camera(self, spec: CameraSpec) -> tuple[RingInput, Channel]:
        """Start one camera process; returns what the policy needs to read it, and that end of the channel."""
        ring = FrameRing.create(spec.height, spec.width)
        self._rings.append(ring)
        pairs = [channel_pair(), channel_pair()]
        (_, policy_end), (_, self.camera_channels[spec.name]) = pairs
        if self._films(spec):
            pairs.append(channel_pair())
            self._film_input = (self._camera_input(spec, ring, pairs[-1][1]), pairs[-1][1])
        if self._plan.recording is not None:
            pairs.append(channel_pair())
            self._recorder_inputs.append((self._camera_input(spec, ring, pairs[-1][1]), pairs[-1][1]))
        readers = [near.fileno() for near, _ in pairs]
        config = CameraConfig(
            name=spec.name,
            address=self._address(spec.name),
            rate_hz=self._plan.camera_rate_hz,
            height=spec.height,
            width=spec.width,
            ring_fd=ring.fd,
            reader_fds=readers,
        )
        self.cameras[spec.name] = self._worker("camera", config.to_json(), (ring.fd, *readers))
        for near, _ in pairs:
            near.close()
        return self._camera_input(spec, ring, policy_end), policy_end

    @staticmethod
    def _camera_input(spec: CameraSpec, ring: FrameRing, end: Channel) -> RingInput:
        size = {"height": spec.height, "width": spec.width}
        return RingInput(name=spec.name, ring_fd=ring.fd, channel_fd=end.fileno(), **size)

    def _films(self, spec: CameraSpec) -> bool:
        """Whether the film is made of this camera: the first one, where there is no world to draw."""
        wanted = self._plan.film is not None and self._plan.world is None
        return wanted and spec.name == self._plan.card.cameras[0].name

    def _address(self, name: str) -> str:
        address = self._plan.cameras[name]
        if address.kind == "sim" and not address.target and self.world_paths is not None:
            return f"sim:{self.world_paths.state}"
        return address.target if address.kind == "stream" else f"{address.kind}:{address.target}"

    def _waiting_control(self, policy_end: Channel) -> Child:
        """A control process that has its channels and waits for its configuration."""
        self.control_channel, own_end = channel_pair()
        config = self._control_config(own_end.fileno(), policy_end.fileno())
        config = config.model_copy(update={"servo_settings": "leave" if self._plan.untouched else "apply"})
        self._briefing = Briefing(config.model_dump_json())
        child = self._control_process(config, self._briefing)
        own_end.close()
        return child

    def _control_process(self, config: ControlConfig, told: str | Briefing) -> Child:
        tap = () if config.recorder_fd is None else (config.recorder_fd,)
        # It also holds the lifeline of the simulated world, which must not end before the arm is parked.
        lifeline = () if self._lifeline is None else (self._lifeline,)
        fds = (config.supervisor_fd, config.policy_fd, *tap, *lifeline)
        return Child(ChildSpec("control", CONTROL, told, fds, stderr_fd=sys.stderr.fileno()))

    def _control_config(self, supervisor_fd: int, policy_fd: int) -> ControlConfig:
        from sefa_edge.edge.control.control_process import ControlConfig  # the others are loading by now

        return ControlConfig(
            arm=self._plan.arm_name,
            port=str(self.port),
            calibration=None if self._plan.calibration is None else str(self._plan.calibration),
            horizon=self._plan.card.timing.horizon,
            supervisor_fd=supervisor_fd,
            policy_fd=policy_fd,
            control_rate_hz=self._plan.control_rate_hz,
            hand_over=self._plan.hand_over,
            cpu=min(self._control_cpus) if self._control_cpus else None,
            realtime_priority=self._plan.realtime.priority,
            spin_us=self._plan.realtime.spin_us,
            recorder_fd=None if self._control_tap_end is None else self._control_tap_end.fileno(),
        )

    def _worker(self, name: str, config: str, fds: tuple[int, ...]) -> Child:
        return Child(ChildSpec(name, WORKERS[name], config, fds))


def end_together(children: list[Child], patience_s: float) -> None:
    """Wait up to `patience_s` for all children to exit, then kill the rest together."""
    give_up_s = time.monotonic() + patience_s
    for child in children:
        child.wait(give_up_s - time.monotonic())
    left = [child for child in children if child.exit_code is None]
    for child in left:
        child.send_signal(signal.SIGKILL)
    give_up_s = time.monotonic() + KILLED_S
    for child in left:
        child.wait(give_up_s - time.monotonic())


def split_cores(cores: set[int], wanted: int | None = None) -> tuple[frozenset[int], frozenset[int]]:
    """A core for control (`wanted`, else the highest) and the others for everybody else; nothing is pinned where
    there is only one."""
    if len(cores) < 2:
        return frozenset(), frozenset()
    control = max(cores) if wanted is None else wanted
    return frozenset({control}), frozenset(cores - {control})
