"""The messages of a recording: JSON that reads back bit for bit, declared once, with the schemas that Foxglove needs.

Python writes the shortest digits that give the same double again. JSON has no NaN: it is `null`; infinity is `1e999`.
Foxglove plots arrays of numbers and of objects, not arrays of arrays: the steps of a chunk are objects.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar, get_args, get_origin

import numpy as np
from pydantic import Field, ValidationError

from sefa_edge.edge.control.chunks import ActionChunk
from sefa_edge.edge.control.tick_trace import ArmCall, TickTrace
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.inference import Inference
from sefa_edge.edge.ipc.records import ArmOpened
from sefa_edge.edge.ipc.transport import FrameDescriptor
from sefa_edge.edge.ipc.vocabulary import Command, Event, Progress
from sefa_edge.edge.recording.names import ARM
from sefa_edge.edge.recording.run_event import RunEvent
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity, JointIdentity
from sefa_edge.firmware_bridge.host.messages import HeldCommand, JointState
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.problems import describe_problem
from sefa_edge.profiles.quantities import Int64
from sefa_edge.profiles.strict import StrictModel
from sefa_edge.profiles.units import NS_PER_S

Json = dict[str, object]
Number = Annotated[float, Field(allow_inf_nan=True)] | None
Numbers = Annotated[list[Number], Field(max_length=32)]
Word = Annotated[str, Field(max_length=240)]
MAX_NOISE = 1024 * 32


class Call(StrictModel):
    operation: Word
    answer: Word
    unconfirmed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Bit i: joint i did not confirm."""


class Reading(StrictModel):
    """A JointState."""

    sequence: Int64
    stamp_ns: Int64
    joint_deg: Numbers
    velocity_deg_s: Numbers
    load_pct: Numbers
    current_ma: Numbers
    temperature_c: Numbers
    supply_mv: Int64
    status_bits: Annotated[list[Int64], Field(max_length=32)]
    valid: Annotated[list[bool], Field(max_length=32)]
    age_ns: Annotated[list[Int64], Field(max_length=32)]


Flags = Annotated[list[bool], Field(max_length=32)]


class HeldCommandMessage(StrictModel):
    """A HeldCommand."""

    valid: Flags
    torque_on: Flags
    powered_throughout: Flags
    goal_deg: Numbers


class Tick(StrictModel):
    """What went into a tick (up to `readings`) and what came out. -1: there is none."""

    tick: Int64
    due_ns: Int64
    lateness_ns: Int64
    skipped_before: Int64
    events: Annotated[list[Word], Field(max_length=64)]
    """In order: `command RUN`, `fault POLICY_LOST`."""
    chunk_arrived: Int64
    heartbeat_ns: Int64
    calls: Annotated[list[Call], Field(max_length=64)]
    readings: Annotated[list[Reading], Field(max_length=64)]
    goal_sequence: Int64
    goal_due_ns: Int64
    goal_expires_ns: Int64
    goal_deg: Numbers
    """What was sent to the arm; empty: nothing was."""
    goal_left_out: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Bit i: joint i got no goal."""
    commands: list[HeldCommandMessage] = Field(default_factory=list, max_length=64)
    """What the joints said of their commands after a silence."""
    mode: Word
    settled: bool
    fault: Word
    fault_joints: Int64
    clipped_bits: Int64
    warm_bits: Int64
    chunk_id: Int64
    frame_age_ns: Int64
    chunk_age_ns: Int64
    joint_deg: Numbers
    verdict_deg: Numbers
    """What the limiter allowed, as float32; empty: nothing."""
    stage_ns: Annotated[list[Int64], Field(max_length=8)]
    dropped_records: Int64


class ArmJoint(StrictModel):
    """A JointIdentity: id, model and firmware of a servo, and the calibration in its registers 31, 9 and 11."""

    servo_id: int
    model: int
    firmware: Word
    homing_offset: int
    range_min_ticks: int
    range_max_ticks: int


class ArmMessage(StrictModel):
    """The arm that the run was on; its ranges cut the limits of the profile."""

    joints: Annotated[list[ArmJoint], Field(max_length=32)]
    looks_first: bool
    """Whether it was armed only after its readings had been judged."""


class Step(StrictModel):
    joint_deg: Numbers


Steps = Annotated[list[Step], Field(max_length=1024)]


class Chunk(StrictModel):
    """An ActionChunk as it reached control."""

    chunk_id: Int64
    observed_ns: Int64
    first_step_ns: Int64
    step_period_ns: Int64
    inference_ns: Int64
    steps: Steps


class FrameStamp(StrictModel):
    camera: Word
    sequence: Int64
    capture_ns: Int64


class InferenceMessage(StrictModel):
    """One inference. `frames` camera by camera, oldest first; `noise` row by row; `steps`: what the engine gave."""

    chunk_id: Int64
    observed_ns: Int64
    first_step_ns: Int64
    step_period_ns: Int64
    inference_ns: Int64
    frames: Annotated[list[FrameStamp], Field(max_length=256)]
    observed: Annotated[list[Step], Field(max_length=64)]
    noise: Annotated[list[Number], Field(max_length=MAX_NOISE)]
    steps: Steps


class RunEventMessage(StrictModel):
    stage: Word
    stamp_ns: Int64
    episode: Int64
    seed: Int64
    text: Word


class Losses(StrictModel):
    """Counted since the start."""

    pictures: Int64
    records: Int64


class Stamp(StrictModel):
    sec: Int64
    nsec: Int64


class Picture(StrictModel):
    """`foxglove.CompressedImage`, with the stamps of the frame."""

    timestamp: Stamp
    frame_id: Word
    data: Annotated[str, Field(max_length=64_000_000, json_schema_extra={"contentEncoding": "base64"})]
    format: Word
    sequence: Int64
    capture_ns: Int64
    received_ns: Int64


ModelT = TypeVar("ModelT", bound=StrictModel)


def encode(message: Mapping[str, object]) -> bytes:
    """JSON, the short way; the rare message with numbers that are none takes the long one."""
    try:
        return json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    except ValueError:
        return json.dumps(_speakable(message), separators=(",", ":")).replace("Infinity", "1e999").encode()


def decode(topic: str, content: bytes, model: type[ModelT]) -> ModelT:
    """Raises InputError for what is no such message."""
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        problem, _ = describe_problem(error.errors(), model)
        raise InputError(f"a message of {topic} is damaged: {problem}", "was it recorded here?") from None


def schema_of(model: type[StrictModel]) -> Json:
    """The JSON schema of a message, without references, which Foxglove does not follow."""
    properties: Json = {}
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        properties[name] = _type_of(field.annotation) | (dict(extra) if isinstance(extra, dict) else {})
    return {"type": "object", "properties": properties}


def arm_message(opened: ArmOpened) -> Json:
    return {
        "joints": [
            {
                "servo_id": joint.servo_id,
                "model": joint.model,
                "firmware": f"{joint.firmware[0]}.{joint.firmware[1]}",
                "homing_offset": joint.homing_offset,
                "range_min_ticks": joint.range_min_ticks,
                "range_max_ticks": joint.range_max_ticks,
            }
            for joint in opened.identity.joints
        ],
        "looks_first": opened.looks_first,
    }


def arm_of(message: ArmMessage) -> ArmOpened:
    """Raises InputError."""
    try:
        return ArmOpened(ArmIdentity(tuple(_identity(joint) for joint in message.joints)), message.looks_first)
    except ValueError:
        raise InputError(f"a message of {ARM} names a firmware that is no version", "was it recorded here?") from None


def tick_message(trace: TickTrace) -> Json:
    report, goal = trace.report, trace.goal
    return {
        "tick": report.tick,
        "due_ns": report.start_ns - report.lateness_ns,
        "lateness_ns": report.lateness_ns,
        "skipped_before": trace.skipped_before,
        "events": [event_word(event) for event in trace.events],
        "chunk_arrived": trace.chunk_arrived,
        "heartbeat_ns": trace.heartbeat_ns,
        "calls": [_call(call) for call in trace.calls],
        "readings": [_reading(state) for state in trace.readings],
        "goal_sequence": goal.sequence if goal else -1,
        "goal_due_ns": goal.due_ns if goal else -1,
        "goal_expires_ns": goal.expires_ns if goal else -1,
        "goal_deg": goal.joint_deg.tolist() if goal else [],
        "goal_left_out": goal.left_out if goal else 0,
        "commands": [_command(command) for command in trace.commands],
        "mode": report.mode.name,
        "settled": report.settled,
        "fault": report.fault.name,
        "fault_joints": report.fault_joints,
        "clipped_bits": report.clipped_bits,
        "warm_bits": report.warm_bits,
        "chunk_id": report.chunk_id,
        "frame_age_ns": report.frame_age_ns,
        "chunk_age_ns": report.chunk_age_ns,
        "joint_deg": report.joint_deg.tolist(),
        "verdict_deg": [] if np.isnan(report.goal_deg).any() else report.goal_deg.tolist(),
        "stage_ns": list(report.stage_ns),
        "dropped_records": report.dropped_records,
    }


def chunk_message(chunk: ActionChunk) -> Json:
    return {
        "chunk_id": chunk.chunk_id,
        "observed_ns": chunk.observed_ns,
        "first_step_ns": chunk.first_step_ns,
        "step_period_ns": chunk.step_period_ns,
        "inference_ns": chunk.inference_ns,
        "steps": _steps(chunk.joint_deg),
    }


def inference_message(inference: Inference, cameras: Sequence[str]) -> Json:
    return {
        "chunk_id": inference.chunk_id,
        "observed_ns": inference.observed_ns,
        "first_step_ns": inference.first_step_ns,
        "step_period_ns": inference.step_period_ns,
        "inference_ns": inference.inference_ns,
        "frames": [
            {"camera": camera, "sequence": sequence, "capture_ns": capture_ns}
            for camera, frames in zip(cameras, inference.frames, strict=True)
            for sequence, capture_ns in frames
        ],
        "observed": _steps(inference.joint_deg),
        "noise": inference.noise.ravel().tolist(),
        "steps": _steps(inference.output),
    }


def event_message(event: RunEvent) -> Json:
    return {
        "stage": event.stage.name.lower(),
        "stamp_ns": event.stamp_ns,
        "episode": event.episode,
        "seed": event.seed,
        "text": event.text,
    }


def picture_message(camera: str, frame: FrameDescriptor, png: bytes, log_ns: int) -> Json:
    seconds, nanoseconds = divmod(log_ns, NS_PER_S)
    return {
        "timestamp": {"sec": seconds, "nsec": nanoseconds},
        "frame_id": camera,
        "data": base64.b64encode(png).decode(),
        "format": "png",
        "sequence": frame.sequence,
        "capture_ns": frame.capture_ns,
        "received_ns": frame.received_ns,
    }


def png_of(picture: Picture) -> bytes:
    """Raises InputError."""
    try:
        return base64.b64decode(picture.data, validate=True)
    except ValueError:
        raise InputError(f"a picture of {picture.frame_id} is not base64", "was the copy complete?") from None


def array_of(numbers: Sequence[Number]) -> np.ndarray:
    """float64 [len]; `null` is NaN."""
    return np.array([np.nan if number is None else number for number in numbers], np.float64)


def rows_of(steps: Sequence[Step], columns: int) -> np.ndarray:
    """float32 [len(steps), columns]. Raises InputError."""
    if any(len(step.joint_deg) != columns for step in steps):
        raise InputError(f"a step of a chunk has not {columns} joints", "was it recorded with this arm?")
    return np.array([array_of(step.joint_deg) for step in steps], np.float32).reshape(len(steps), columns)


def state_of(reading: Reading) -> JointState:
    return JointState(
        sequence=reading.sequence,
        stamp_ns=reading.stamp_ns,
        joint_deg=array_of(reading.joint_deg),
        velocity_deg_s=array_of(reading.velocity_deg_s),
        load_pct=array_of(reading.load_pct),
        current_ma=array_of(reading.current_ma),
        temperature_c=array_of(reading.temperature_c),
        supply_mv=reading.supply_mv,
        status_bits=np.array(reading.status_bits, np.int64).astype(np.uint8),
        valid_mask=np.array(reading.valid, bool),
        age_ns=np.array(reading.age_ns, np.int64),
    )


def command_of(message: HeldCommandMessage) -> HeldCommand:
    return HeldCommand(
        valid_mask=np.array(message.valid, bool),
        torque_on=np.array(message.torque_on, bool),
        powered_throughout=np.array(message.powered_throughout, bool),
        goal_deg=array_of(message.goal_deg),
    )


def chunk_of(message: Chunk, joints: int) -> ActionChunk:
    """Raises InputError."""
    return ActionChunk(
        message.chunk_id,
        message.observed_ns,
        message.first_step_ns,
        message.step_period_ns,
        rows_of(message.steps, joints),
        message.inference_ns,
    )


_FAMILIES: dict[str, type[Command] | type[Progress] | type[Fault]] = {
    "command": Command,
    "progress": Progress,
    "fault": Fault,
}


def event_word(event: Event) -> str:
    return f"{type(event).__name__.lower()} {event.name}"


def event_of(word: str) -> Event:
    """Raises InputError."""
    family, _, name = word.partition(" ")
    try:
        return _FAMILIES[family][name]
    except KeyError:
        raise InputError(f"{word!r} is no event", "was it recorded by a newer version?") from None


def _identity(joint: ArmJoint) -> JointIdentity:
    major, minor = map(int, joint.firmware.split("."))
    return JointIdentity(
        joint.servo_id, joint.model, (major, minor), joint.homing_offset, joint.range_min_ticks, joint.range_max_ticks
    )


def _call(call: ArmCall) -> Json:
    told: Json = {"operation": call.operation.name.lower(), "answer": call.answer.name.lower()}
    return told | ({"unconfirmed": call.unconfirmed} if call.unconfirmed else {})


def _reading(state: JointState) -> Json:
    return {
        "sequence": state.sequence,
        "stamp_ns": state.stamp_ns,
        "joint_deg": state.joint_deg.tolist(),
        "velocity_deg_s": state.velocity_deg_s.tolist(),
        "load_pct": state.load_pct.tolist(),
        "current_ma": state.current_ma.tolist(),
        "temperature_c": state.temperature_c.tolist(),
        "supply_mv": state.supply_mv,
        "status_bits": state.status_bits.tolist(),
        "valid": state.valid_mask.tolist(),
        "age_ns": state.age_ns.tolist(),
    }


def _command(command: HeldCommand) -> Json:
    return {
        "valid": command.valid_mask.tolist(),
        "torque_on": command.torque_on.tolist(),
        "powered_throughout": command.powered_throughout.tolist(),
        "goal_deg": command.goal_deg.tolist(),
    }


def _steps(rows: np.ndarray) -> list[Json]:
    return [{"joint_deg": row} for row in rows.tolist()]


def _speakable(value: object) -> object:
    """The same value with None for NaN."""
    if isinstance(value, float):
        return None if np.isnan(value) else value
    if isinstance(value, Mapping):
        return {key: _speakable(part) for key, part in value.items()}
    return [_speakable(part) for part in value] if isinstance(value, list) else value


_PLAIN = {int: "integer", float: "number", bool: "boolean", str: "string"}


def _type_of(annotation: object) -> Json:
    arguments = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is Annotated:
        return _type_of(arguments[0])
    if get_origin(annotation) is list:
        return {"type": "array", "items": _type_of(arguments[0])}
    if arguments:  # a number or null
        return _type_of(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, StrictModel):
        return schema_of(annotation)
    assert isinstance(annotation, type)
    return {"type": _PLAIN[annotation]}
