"""A control loop built like that of LeRobot 0.4.4 (scripts/lerobot_record.py, robots/so_follower, cameras/opencv):

    python profiles/benchmarks/lerobot_loop.py --port PORT --camera URL --engine E --seconds 30 --rate 30 --json F

One process. A thread reads the camera with blocking `cv2` reads and keeps the latest image under a lock; the
loop reads the arm, takes that image, prepares it, infers when its queue of actions is empty, sends an action,
and sleeps for the rest of the period. The next period begins when the sleep returns.

Faster than the original: the serial code is ours, which sleeps while it waits, where the original polls; the
image is prepared by numpy, and the engine is run by our ONNX Runtime back end, not by torch. No privileges
are requested, as in LeRobot. `--lerobot FOLDER` uses the camera and sleep of LeRobot itself,
installed there by `pip install --no-deps --target FOLDER lerobot==0.4.4 draccus mergedeep pyyaml-include
typing-inspect mypy-extensions toml`. A silent arm ends the original; this loop continues. The arm's
present position is commanded: nothing moves.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Protocol

import cv2
import numpy as np

from sefa_edge.edge.engines.engine import Engine, EngineOptions
from sefa_edge.edge.engines.opening import open_engine
from sefa_edge.firmware_bridge.host.errors import ArmTimeout
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import FeetechArm, open_feetech_arm
from sefa_edge.firmware_bridge.host.messages import JointGoal
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.quantities import CONTROL_RATE_HZ, SECONDS
from sefa_edge.profiles.resize import resize_to_policy
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM
from sefa_edge.profiles.units import s_to_ns

WARM_UP_S = 2.0
GOAL_LIFE_NS = s_to_ns(0.5)


class Camera(Protocol):
    """The camera interface that the loop needs."""

    def read_latest(self) -> np.ndarray:
        """The newest image uint8 [H, W, 3] RGB."""
        ...

    def disconnect(self) -> None: ...


class ThreadedCamera:
    """A thread with blocking reads; the latest image is under a lock."""

    def __init__(self, location: str) -> None:
        cv2.setNumThreads(1)
        self._capture = cv2.VideoCapture(location)
        self._lock, self._seen, self._stop = Lock(), Event(), Event()
        self._latest = np.zeros((0, 0, 3), np.uint8)
        self._thread = Thread(target=self._read_loop, daemon=True)
        self._thread.start()
        if not self._seen.wait(timeout=10.0):
            raise SystemExit(f"error: {location} gives no pictures")

    def read_latest(self) -> np.ndarray:
        with self._lock:
            return self._latest

    def disconnect(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2.0)
        self._capture.release()

    def _read_loop(self) -> None:
        while not self._stop.is_set():
            good, picture = self._capture.read()
            if good:
                converted = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
                with self._lock:
                    self._latest = converted
                self._seen.set()


class LeRobotLoop:
    """The loop of `record_loop`, with a policy and without a dataset."""

    def __init__(self, arm: FeetechArm, camera: Camera, engine: Engine, rate_hz: float) -> None:
        self._arm, self._camera, self._engine = arm, camera, engine
        self._period_s = 1.0 / rate_hz
        timing = engine.card.timing
        self._ticks_per_step = max(1, round(rate_hz / timing.policy_rate_hz))
        self._execute_steps = timing.execute_steps
        self._joint_deg = arm.read_state().joint_deg
        self._actions: deque[np.ndarray] = deque()
        self._noise = np.zeros(engine.card.noise_tensor.shape, np.float32)
        self.inferences = 0

    def run(self, seconds: float, sleep: Callable[[float], None]) -> list[int]:
        """Loop for `seconds`; returns the start of every iteration, nanoseconds of CLOCK_MONOTONIC."""
        begun_ns: list[int] = []
        end_s = time.perf_counter() + seconds
        while (start_s := time.perf_counter()) < end_s:
            begun_ns.append(round(start_s * 1e9))
            with suppress(ArmTimeout):  # the original ends here: it does not retry `sync_read`
                self._joint_deg = self._arm.read_state().joint_deg
            picture = self._camera.read_latest()
            self._select_action(picture, self._joint_deg)
            self._arm.send(JointGoal(len(begun_ns), begun_ns[-1], begun_ns[-1] + GOAL_LIFE_NS, self._joint_deg))
            sleep(max(self._period_s - (time.perf_counter() - start_s), 0.0))
        return begun_ns

    def _select_action(self, picture: np.ndarray, joint_deg: np.ndarray) -> np.ndarray:
        # In every tick, even if an action is queued: prepare_observation_for_inference precedes select_action.
        prepared = np.ascontiguousarray(picture.astype(np.float32).transpose(2, 0, 1)) / 255
        assert prepared.shape[0] == 3
        if not self._actions:
            steps = self._infer(picture, joint_deg)[: self._execute_steps]
            self._actions.extend(step for step in steps for _ in range(self._ticks_per_step))
        return self._actions.popleft()

    def _infer(self, picture: np.ndarray, joint_deg: np.ndarray) -> np.ndarray:
        self.inferences += 1
        card = self._engine.card
        history = card.timing.n_obs_steps
        images = {
            spec.name: np.stack([resize_to_policy(picture, spec.height, spec.width)] * history) for spec in card.cameras
        }
        return self._engine.infer(images, np.stack([joint_deg.astype(np.float32)] * history), self._noise)


def main() -> int:
    parser = argparse.ArgumentParser(description="A control loop as LeRobot builds it.")
    parser.add_argument("--port", required=True)
    parser.add_argument("--camera", required=True)
    parser.add_argument("--engine", type=Path, required=True)
    parser.add_argument("--seconds", type=SECONDS.parse, default=30.0)
    parser.add_argument("--rate", type=CONTROL_RATE_HZ.parse, default=30.0)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--lerobot", type=Path, help="folder with LeRobot 0.4.4: its camera and its sleep")
    args = parser.parse_args()
    arm = open_feetech_arm(load_arm_profile(SIMULATED_ARM), args.port, None)
    engine = open_engine(args.engine, EngineOptions())
    camera, sleep = (
        _of_lerobot(args.lerobot, args.camera) if args.lerobot else (ThreadedCamera(args.camera), time.sleep)
    )
    loop = LeRobotLoop(arm, camera, engine, args.rate)
    loop.run(WARM_UP_S, sleep)
    loop.inferences = 0
    begun_ns = loop.run(args.seconds, sleep)
    args.json.write_text(json.dumps({"begun_ns": begun_ns, "inferences": loop.inferences}))
    camera.disconnect()
    arm.close()
    return 0


def _of_lerobot(folder: Path, location: str) -> tuple[Camera, Callable[[float], None]]:
    """LeRobot's own camera and sleep."""
    sys.path.append(str(folder))
    from lerobot.cameras.opencv import OpenCVCamera, OpenCVCameraConfig  # pyright: ignore
    from lerobot.utils.robot_utils import precise_sleep  # pyright: ignore

    camera = OpenCVCamera(OpenCVCameraConfig(index_or_path=location))
    camera.connect()
    return camera, precise_sleep


if __name__ == "__main__":
    raise SystemExit(main())
