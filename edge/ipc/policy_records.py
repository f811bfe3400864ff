"""Records that the policy process sends and receives, besides joints (edge/ipc/records.py)."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

import numpy as np

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.record_header import Kind
from sefa_edge.edge.ipc.wire_record import WireRecord, wire_record
from sefa_edge.profiles.wire_types import F32, I64, U8, Among, Many, Text


class Order(IntEnum):
    """Commands of the supervisor to the policy."""

    RUN = 1
    PAUSE = 2


class PolicyEvent(IntEnum):
    """Events that the policy reports."""

    READY = 1  # engine open and warmed up
    PAUSED = 2  # no chunk of the episode will follow this report
    CHUNK = 3  # a chunk was sent
    NO_FRAME = 4  # a policy step without a fresh frame: nothing was sent
    NO_JOINTS = 5  # a policy step without fresh joints: nothing was sent
    GAP = 6  # frames or joints of the past were missing: the nearest ones were used


@wire_record(Kind.POLICY_COMMAND)
@dataclass(frozen=True, slots=True)
class PolicyCommand(WireRecord):
    """RUN starts an episode with its noise seed, on frames captured from `after_ns` on; PAUSE ends it."""

    order: Annotated[Order, U8]
    episode: Annotated[int, I64] = 0
    seed: Annotated[int, I64] = 0
    after_ns: Annotated[int, I64] = 0


@wire_record(Kind.POLICY_REPORT)
@dataclass(frozen=True, slots=True)
class PolicyReport(WireRecord):
    """One event of the policy."""

    event: Annotated[PolicyEvent, U8]
    episode: Annotated[int, I64]
    chunk_id: Annotated[int, I64] = 0
    inference_ns: Annotated[int, I64] = 0
    frame_age_ns: Annotated[int, I64] = 0
    """Age of the frame when the inference began."""
    skipped_steps: Annotated[int, I64] = 0
    """Policy steps by which inferences began late; this and the next two count since the process started."""
    overlong: Annotated[int, I64] = 0
    """Inferences that took longer than their period."""
    late_steps: Annotated[int, I64] = 0
    """Steps of chunks that were due before they could be sent."""


@wire_record(Kind.INFERENCE_BEGUN)
@dataclass(frozen=True, slots=True)
class InferenceBegun(WireRecord):
    """Policy to control: no chunk follows before this inference has ended. Control can then report why it waits."""

    begun_ns: Annotated[int, I64]


REPORTED_BY_POLICY = frozenset(
    {Fault.CAMERA_STALE, Fault.CAMERA_FROZEN, Fault.CAMERA_DARK, Fault.CAMERA_SKEW, Fault.ENGINE_FAILED}
)


@wire_record(Kind.TROUBLE)
@dataclass(frozen=True, slots=True)
class Trouble(WireRecord):
    """Policy to control: the run cannot continue."""

    fault: Annotated[Fault, U8, Among(REPORTED_BY_POLICY)]
    about: Annotated[str, Text(64)] = ""
    """Which camera, or what else it concerns."""


@wire_record(Kind.CHUNK)
@dataclass(frozen=True, slots=True, eq=False)
class ActionChunk(WireRecord):
    """The policy's output: row i of `joint_deg` is due at `first_step_ns + i * step_period_ns`."""

    chunk_id: Annotated[int, I64]
    """Increases for the lifetime of the policy process."""
    observed_ns: Annotated[int, I64]
    """Capture time of the newest frame."""
    first_step_ns: Annotated[int, I64]
    """When the first step is due."""
    step_period_ns: Annotated[int, I64]
    """Time between two steps."""
    joint_deg: Annotated[np.ndarray, F32["T", "n"]]
    """The steps."""
    inference_ns: Annotated[int, I64]
    """How long the inference took."""

    @property
    def last_step_ns(self) -> int:
        return self.first_step_ns + (len(self.joint_deg) - 1) * self.step_period_ns

    def late_steps(self, now_ns: int) -> int:
        """Number of its steps that are due by `now_ns`."""
        passed = (now_ns - self.first_step_ns) // self.step_period_ns + 1
        return min(max(0, passed), len(self.joint_deg))


@dataclass(frozen=True, slots=True)
class FrameStamp:
    """Identifies a frame: camera, number and time."""

    camera: Annotated[int, U8]
    """Index of the camera on the policy card, from 0."""
    sequence: Annotated[int, I64]
    """Number of the frame."""
    capture_ns: Annotated[int, I64]
    """Time of capture."""


@wire_record(Kind.INFERENCE)
@dataclass(frozen=True, slots=True, eq=False)
class Inference(WireRecord):
    """The input and the result of each inference: policy -> recorder."""

    chunk_id: Annotated[int, I64]
    """Id of the resulting chunk; the times are the chunk's."""
    observed_ns: Annotated[int, I64]
    """Capture time of the newest frame."""
    first_step_ns: Annotated[int, I64]
    """When the first step is due."""
    step_period_ns: Annotated[int, I64]
    """Time between two steps."""
    inference_ns: Annotated[int, I64]
    """How long it took."""
    frames: Annotated[tuple[FrameStamp, ...], Many(255)]
    """Camera by camera in the card's order, oldest first."""
    joint_deg: Annotated[np.ndarray, F32["n_obs", "n"]]
    """The joints at the times of the frames, oldest first."""
    noise: Annotated[np.ndarray, F32["T", "n"]]
    """The initial noise of the flow."""
    output: Annotated[np.ndarray, F32["T", "n"]]
    """The engine's output: the steps."""
