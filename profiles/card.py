"""The policy card (`model.json` next to every engine): the contract between training and running.

The engine holds everything learned; the card describes the world that the engine expects.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator
from typing_extensions import Self

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.file_kinds import seems_to_be
from sefa_edge.profiles.files import read_head, sha256_of, write_atomic
from sefa_edge.profiles.joint_units import unit_impossible, zero_of
from sefa_edge.profiles.quantities import (
    Count,
    CountOrZero,
    Fraction,
    NetworkCalls,
    NotNegative,
    OptimisationLevel,
    PolicyRateHz,
    PositionDeg,
    Positive,
    Seed,
    Steps,
    Whole,
    WorkspaceMib,
)
from sefa_edge.profiles.schema import JointUnit
from sefa_edge.profiles.shown import shown
from sefa_edge.profiles.strict import StrictModel, parse_json

Size = Annotated[int, Whole("a size", 1, 2048)]
Pixels = Annotated[int, Whole("a size", 16, 2048, "pixels")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""Start of the reason why an action error proves nothing."""


class TensorSpec(StrictModel):
    """One input or output of the engine: static shape, no batch axis."""

    name: str
    dtype: Literal["uint8", "float32"]
    shape: Annotated[list[Size], Field(min_length=1, max_length=5)]


class CameraSpec(StrictModel):
    """A camera of the policy. The runtime resizes frames to this size; the engine does the rest."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$")]
    tensor: str
    height: Pixels
    width: Pixels
    resize: Literal["area"] = "area"
    """OpenCV INTER_AREA on the whole frame; a frame that already has this size is not changed."""


class JointSpec(StrictModel):
    """A joint of the policy, with the range seen in training."""

    name: str
    unit: JointUnit
    zero: Literal["range_middle", "range_end"]
    """Position of zero in the calibrated range, as LeRobot calibrates: at the end for percent, else in the middle."""
    trained_min_deg: PositionDeg
    trained_max_deg: PositionDeg

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.trained_min_deg > self.trained_max_deg:
            raise ValueError(f"trained_min_deg {self.trained_min_deg} is above trained_max_deg {self.trained_max_deg}")
        if self.zero != zero_of(self.unit):
            raise ValueError(f"a joint in {self.unit} has its zero at {zero_of(self.unit)}, not at {self.zero}")
        doubt = unit_impossible(self.unit, self.trained_min_deg, self.trained_max_deg)
        if doubt:
            raise ValueError(doubt)
        return self


class TimingSpec(StrictModel):
    """Timing of a chunk: step i is due `(first_step_offset + i) / policy_rate_hz` after the observation."""

    policy_rate_hz: PolicyRateHz
    n_obs_steps: Steps
    observation_spacing_steps: Steps = 1
    """Policy steps between the frames of an observation."""
    horizon: Steps
    execute_steps: Steps
    first_step_offset: Annotated[int, Whole("a number of steps", 0, 16)] = 1


class Provenance(StrictModel):
    """Where the engine came from."""

    stage: Literal["base", "reflow", "sefa"]
    network_calls: NetworkCalls
    checkpoint_sha256: Sha256
    training_sha256: Sha256
    """Hash of the training configuration as canonical JSON."""
    dataset_sha256: Sha256
    seed: Seed
    sefa_edge_version: str
    replaced_fraction: Fraction | None = None
    """Share of pairs whose generated chunk was replaced by the demonstrated one (selective alignment)."""


class CalibrationSummary(StrictModel):
    """The data from which INT8 ranges were computed."""

    method: Literal["entropy", "percentile", "minmax"]
    dataset_sha256: Sha256
    episodes: Count
    samples: Count
    joint_coverage: Fraction
    """Share of the trained range that the samples visit, at the joint where it is smallest."""


class QuantisationSummary(StrictModel):
    """Which layers are in INT8."""

    calibration: CalibrationSummary
    int8_layers: list[str]
    """Inputs and weights in INT8: these layers compute in INT8."""
    int8_weight_layers: list[str]
    """Only weights in INT8, computed in floating point, because their inputs lose too much in INT8."""
    kept_layers: list[str]
    """Floating point: the first and last layers, and those more sensitive than the budget allows."""
    int8_weight_share: Fraction


class ClosedLoop(StrictModel):
    """Success in the simulated world, and that of the fp32 engine on the same seeds `first..last`."""

    task: str
    first_seed: Seed
    last_seed: Seed
    successes: CountOrZero
    reference_successes: CountOrZero
    interval_95: tuple[Fraction, Fraction]

    @property
    def seeds(self) -> int:
        """Number of episodes."""
        return self.last_seed - self.first_seed + 1


Measurement: TypeAlias = Literal["action error", "closed loop"]
"""What a gate measures; see `GateResult`."""


class GateResult(StrictModel):
    """Whether the engine still acts as the network: differences to fp32 torch in joint units, on the same noise."""

    dataset_sha256: Sha256 | None
    """None: measured on random observations, because no dataset was given."""
    samples: Count
    mean_deg: NotNegative
    p99_deg: NotNegative
    max_deg: NotNegative
    worst_joint: str
    budget_p99_deg: Positive
    closed_loop: ClosedLoop | None = None
    passed: bool
    overridden: bool = False
    """Failed, but exported with --allow-worse or --allow-unproven."""
    unproven: str | None = None
    """Why a measurement proves nothing: it could not have failed, or was not made. Not written if None."""
    unproven_measurement: Measurement | None = None
    """Which of the two measurements that is. Not written if None."""

    @model_serializer(mode="wrap")
    def _leave_out_what_version_2_lacks(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content = serialise(self)
        for name in ("unproven", "unproven_measurement"):
            if content[name] is None:
                del content[name]
        return content


class PlanSpec(StrictModel):
    """Where a TensorRT plan may run: only on the machine and with the library that built it."""

    onnx_sha256: Sha256
    library_version: Annotated[str, Field(pattern=r"^[0-9]+(\.[0-9]+){2,3}$")]
    """Version of TensorRT or TensorRT-RTX."""
    cuda_version: str
    compute_capability: str
    """SM of the GPU, `8.7` for every Orin; `none` for a plan that was built ahead of time."""
    gpu_name: str
    board: str | None
    """Part number of the Jetson's module; None elsewhere."""
    l4t: str | None
    power_mode: str | None
    workspace_mib: WorkspaceMib
    optimisation_level: OptimisationLevel
    build_seconds: NotNegative
    onnx_gate: GateResult | None = None
    """The gate of that ONNX file; the plan itself is only measured by `sefa-edge verify`."""


class PolicyCard(StrictModel):
    """Everything that a runtime must know before an engine may move an arm."""

    schema_version: Literal[2, 3]
    """3: the gate may be `unproven`."""
    name: str
    task: str
    arm: str
    engine_file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    engine_sha256: Sha256
    format: Literal["onnx", "tensorrt", "tensorrt_rtx"]
    precision: Literal["fp32", "fp16", "int8"]
    strongly_typed: bool
    """Whether every tensor has its final type. Otherwise all but INT8 is float32, which TensorRT may lower."""
    opset: Annotated[int, Whole("an opset", 13, 30)]
    """Opset of the ONNX file, or of the one from which a plan was built."""
    cameras: Annotated[list[CameraSpec], Field(min_length=1, max_length=8)]
    joints: Annotated[list[JointSpec], Field(min_length=1, max_length=32)]
    timing: TimingSpec
    joint_tensor: TensorSpec
    noise_tensor: TensorSpec
    chunk_tensor: TensorSpec
    image_tensors: list[TensorSpec]
    provenance: Provenance
    quantisation: QuantisationSummary | None = None
    gate: GateResult | None = None
    plan: PlanSpec | None = None

    @model_validator(mode="after")
    def _tensors_consistent(self) -> Self:
        n, timing = len(self.joints), self.timing
        expected = {
            "joint_tensor": (self.joint_tensor, "float32", [timing.n_obs_steps, n]),
            "noise_tensor": (self.noise_tensor, "float32", [timing.horizon, n]),
            "chunk_tensor": (self.chunk_tensor, "float32", [timing.horizon, n]),
        }
        for tensor, camera in zip(self.image_tensors, self.cameras, strict=False):
            expected[tensor.name] = (tensor, "uint8", [timing.n_obs_steps, camera.height, camera.width, 3])
        for field, (tensor, dtype, shape) in expected.items():
            if tensor.dtype != dtype or tensor.shape != shape:
                raise ValueError(f"{field} is {tensor.dtype}{tensor.shape}, expected {dtype}{shape}")
        if [camera.tensor for camera in self.cameras] != [tensor.name for tensor in self.image_tensors]:
            raise ValueError("cameras and image_tensors name different tensors")
        if timing.execute_steps > timing.horizon:
            raise ValueError("execute_steps is larger than horizon")
        for kind, names in (
            ("joints", self.joint_names),
            ("cameras", [camera.name for camera in self.cameras]),
            (
                "tensors",
                [t.name for t in (self.joint_tensor, self.noise_tensor, self.chunk_tensor, *self.image_tensors)],
            ),
        ):
            if twice := next((name for name in names if list(names).count(name) > 1), None):
                raise ValueError(f"two {kind} have the name {shown(twice)}")
        return self

    @model_validator(mode="after")
    def _engine_consistent(self) -> Self:
        if (self.format == "onnx") != (self.plan is None):
            raise ValueError(f"format is {self.format}, and plan is {'absent' if self.plan is None else 'given'}")
        if (self.precision == "int8") != (self.quantisation is not None):
            has = "absent" if self.quantisation is None else "given"
            raise ValueError(f"precision is {self.precision}, and quantisation is {has}")
        return self

    @property
    def joint_names(self) -> tuple[str, ...]:
        return tuple(joint.name for joint in self.joints)


def card_path(engine: Path) -> Path:
    """The card of `model.onnx` is `model.json` in the same folder, that of `model.plan` is `model.plan.json`."""
    return engine.with_suffix(".json") if engine.suffix == ".onnx" else engine.with_name(engine.name + ".json")


def load_card(engine: Path) -> PolicyCard:
    """Load the card of an engine and check that it belongs to exactly that file.

    Raises:
        InputError: no card, an invalid card, or the card of another file.
    """
    _require_both_files(engine)
    card = parse_json(card_path(engine), PolicyCard)
    if card.engine_file != engine.name:
        raise InputError(f"{card_path(engine)} describes '{card.engine_file}', not '{engine.name}'", "export again")
    digest = sha256_of(engine)
    if digest != card.engine_sha256:
        raise InputError(
            f"{engine} is not the file that its card describes ({digest[:12]}…, card {card.engine_sha256[:12]}…)",
            "the file was changed or truncated; export again or copy both files again",
        )
    return card


def _require_both_files(engine: Path) -> None:
    if engine.is_dir():
        raise InputError(f"{engine} is a folder, not an engine", "give the path of a model.onnx or model.plan")
    if not engine.is_file():
        raise InputError(f"{engine} does not exist", "give the path of a model.onnx or model.plan")
    path = card_path(engine)
    if not path.is_file():
        kind = seems_to_be(read_head(engine))
        if kind and not kind.endswith("plan"):
            raise InputError(f"{engine} is not an engine: it is {kind}", "give a model.onnx or a TensorRT model.plan")
        raise InputError(
            f"{engine} has no policy card: {path.name} is not in the same folder",
            "an engine needs its card in the same folder: copy both files, or export again",
        )


def save_card(card: PolicyCard, engine: Path) -> Path:
    """Write the card next to its engine, atomically."""
    path = card_path(engine)
    write_atomic(path, json.dumps(card.model_dump(mode="json"), indent=2).encode() + b"\n")
    return path
