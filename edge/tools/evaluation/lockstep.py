"""Episodes in lock-step: the loop of `run` with a clock that follows the physics instead of real time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sefa_edge.edge.cameras.camera import Frame
from sefa_edge.edge.control.arming import Arming
from sefa_edge.edge.control.chunks import ChunkPlayer
from sefa_edge.edge.control.clock import ManualClock, Pacer
from sefa_edge.edge.control.handover_settings import HandOver
from sefa_edge.edge.control.links import DirectLinks
from sefa_edge.edge.control.loop import ControlLoop
from sefa_edge.edge.control.motion import Motion, MotionSettings
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk
from sefa_edge.edge.ipc.records import JointSample, TickReport
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.edge.policy.inference_schedule import InferenceSchedule
from sefa_edge.edge.policy.noise_modes import NoiseMode
from sefa_edge.edge.policy.policy import FrameHistory, JointHistory, Observation, Policy
from sefa_edge.firmware_bridge.simulation.joint_units import radians_of_degrees
from sefa_edge.firmware_bridge.simulation.plant_arm import PlantArm
from sefa_edge.firmware_bridge.simulation.scene import Renderer
from sefa_edge.firmware_bridge.simulation.world import PHYSICS_STEP_S, World
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.units import period_ns, s_to_ns


@dataclass(frozen=True, slots=True)
class Settings:
    """How episodes are played."""

    task: str
    execute_steps: int
    delay_ns: int
    """Duration of an inference in simulated time."""
    blank_camera: bool
    hand_over: HandOver
    noise: NoiseMode


@dataclass(frozen=True, slots=True)
class EpisodeResult:
    """One seed. `seconds` is simulated time from the first command of the policy to the end of the episode."""

    seed: int
    success: bool
    lost: bool
    seconds: float
    chunks: int
    clipped_ticks: int
    late_steps: int
    fault: str


class SimulatedView(Protocol):
    """Renders the world for one camera of the policy."""

    def render(self, qpos: np.ndarray, mocap_position_m: np.ndarray) -> np.ndarray: ...

    def close(self) -> None: ...


class BlankCamera:
    """A camera that delivers black frames."""

    def __init__(self, height: int, width: int) -> None:
        self._image = np.zeros((height, width, 3), np.uint8)

    def render(self, qpos: np.ndarray, mocap_position_m: np.ndarray) -> np.ndarray:
        return self._image

    def close(self) -> None:
        """Nothing to release."""


class EpisodePlayer:
    """Owns the world and the cameras of lock-step episodes."""

    def __init__(self, policy: Policy, card: PolicyCard, settings: Settings) -> None:
        self._policy, self._card, self._settings = policy, card, settings
        self._profile = load_arm_profile(card.arm)
        self._period_ns = period_ns(self._profile.control_rate_hz)
        self._world = World(settings.task)
        self._start_radians = radians_of_degrees(np.array(self._profile.start_pose_deg))
        self._views: dict[str, SimulatedView] = {
            camera.name: BlankCamera(camera.height, camera.width)
            if settings.blank_camera
            else Renderer(camera.height, camera.width, camera.name)
            for camera in card.cameras
        }

    def close(self) -> None:
        for view in self._views.values():
            view.close()

    def play(self, seed: int) -> EpisodeResult:
        """Play one episode from the start pose; the same seed and engine produce the same result."""
        self._world.reset(seed, self._start_radians)
        self._policy.start_episode(seed)
        stage = Stage(self._world, self._profile, self._settings.hand_over)
        stage.enter_running()
        self._world.place(seed)  # success is judged from here on
        return self._run(seed, stage)

    def _run(self, seed: int, stage: Stage) -> EpisodeResult:
        world, timing = self._world, self._card.timing
        step_ticks = round(period_ns(timing.policy_rate_hz) / self._period_ns)
        observer = Observer(self._card, self._views)
        planner = LockstepPolicy(self._policy, InferenceSchedule(timing, self._settings.execute_steps), self._settings)
        clipped = tick = 0
        for tick in range(round(world.task.time_limit_s * self._profile.control_rate_hz)):
            if timing.n_obs_steps > 1 and tick % step_ticks == 0:
                observer.observe(stage)
            planner.step(stage, observer)
            clipped += stage.tick().clipped_bits != 0
            if world.success or world.lost or stage.loop.state.mode is not Mode.RUNNING:
                break
        fault = stage.loop.state.fault
        return EpisodeResult(
            seed=seed,
            success=world.success,
            lost=world.lost,
            seconds=(tick + 1) / self._profile.control_rate_hz,
            chunks=planner.chunks,
            clipped_ticks=clipped,
            late_steps=stage.player.late_steps,
            fault="" if fault is Fault.NONE else fault.name,
        )


class Stage:
    """One arm in one world with one control loop; every tick advances clock, physics and loop by one period."""

    def __init__(self, world: World, profile: ArmProfile, hand_over: HandOver) -> None:
        self.world, self.links, self._clock = world, DirectLinks(), ManualClock()
        control_period_ns = period_ns(profile.control_rate_hz)
        self._physics_steps = round(control_period_ns / s_to_ns(PHYSICS_STEP_S))
        arm = PlantArm(profile, world, self._clock.now_ns)
        self.player = ChunkPlayer(hand_over)
        settings = MotionSettings(Arming.IMMEDIATELY)
        motion = Motion.connect(lambda: arm, profile, control_period_ns, self.player, settings)
        self.loop = ControlLoop(self._clock, self.links, motion)
        self._pacer = Pacer(self._clock, control_period_ns)

    @property
    def now_ns(self) -> int:
        return self._clock.now_ns()

    def tick(self) -> TickReport:
        slot = self._pacer.wait()
        self.world.step(self._physics_steps)
        return self.loop.tick(slot)

    def enter_running(self) -> None:
        """Arm, move to the start pose, and begin to follow chunks."""
        self.links.waiting_events.extend((Command.ARM, Command.RUN))
        while self.loop.state.mode is not Mode.RUNNING:
            self.tick()


class LockstepPolicy:
    """Stands in for the policy process: the same schedule, with inferences that take a given time."""

    def __init__(self, policy: Policy, schedule: InferenceSchedule, settings: Settings) -> None:
        self._policy, self._schedule, self._delay_ns = policy, schedule, settings.delay_ns
        self._chunk: ActionChunk | None = None
        self._ready_ns = 0
        self.chunks = 0

    def step(self, stage: Stage, observer: Observer) -> None:
        """Begin an inference when one is due; send its chunk when its time is over."""
        now_ns = stage.now_ns
        if self.chunks == 0:
            self._schedule.start(now_ns)
        if self._chunk is None and now_ns >= self._schedule.due_ns:
            self._schedule.begin(now_ns)
            observer.observe(stage)
            self._chunk, self._ready_ns = self._policy.plan(observer.observation()), now_ns + self._delay_ns
            self.chunks += 1
        if self._chunk is not None and now_ns >= self._ready_ns:
            stage.links.waiting_chunks.append(self._chunk)
            self._schedule.end(now_ns, self._chunk.last_step_ns)
            self._chunk = None


class Observer:
    """Renders the policy's input and keeps as much history as the policy needs."""

    def __init__(self, card: PolicyCard, views: dict[str, SimulatedView]) -> None:
        self._views = views
        timing = card.timing
        spacing_ns = timing.observation_spacing_steps * period_ns(timing.policy_rate_hz)
        self._frames = FrameHistory(list(views), timing.n_obs_steps, spacing_ns)
        self._joints = JointHistory()
        self._sequence = 0

    def observe(self, stage: Stage) -> None:
        """Add the current frames and joints to the history."""
        self._sequence += 1
        now_ns, state = stage.now_ns, stage.world.snapshot()
        for camera, view in self._views.items():
            image = view.render(state.qpos, state.goal_position_m)
            self._frames.add(Frame(camera, self._sequence, now_ns, now_ns, image))
        assert stage.links.state is not None
        self._joints.add(JointSample(now_ns, stage.links.state.joint_deg.astype(np.float32)))

    def observation(self) -> Observation:
        return self._frames.observe(self._joints)
