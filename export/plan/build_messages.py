"""The messages between the build command and its child process: one request in, events out, as lines of JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from sefa_edge.profiles.strict import StrictModel

Backend = Literal["tensorrt", "tensorrt_rtx"]
Precision = Literal["fp32", "fp16", "int8"]
Permille = Annotated[int, Field(ge=0, le=1000)]
MAX_LINE_BYTES = 100_000


class DescribeRequest(StrictModel):
    """Request what the installed library can do."""

    kind: Literal["describe"] = "describe"
    backend: Backend


class BuildRequest(StrictModel):
    """Request one plan."""

    kind: Literal["build"] = "build"
    backend: Backend
    onnx: str
    onnx_sha256: str
    plan: str
    """Path for the child; the parent moves the plan to its final path."""
    precision: Precision
    strongly_typed: bool
    workspace_mib: Annotated[int, Field(ge=1, le=1 << 20)]
    optimisation_level: Annotated[int, Field(ge=0, le=5)]
    timing_cache: str | None = None
    compute_capabilities: list[str] = Field(default_factory=list)
    """Targets of TensorRT-RTX, such as `SM86`, or `CURRENT`. Empty for TensorRT."""


class LibraryEvent(StrictModel):
    """What the library can do, found by feature tests."""

    kind: Literal["library"] = "library"
    version: str
    strongly_typed: bool
    weakly_typed: bool
    compute_capabilities: list[str]
    """Targets for which it can build without such a GPU; empty for TensorRT."""


class ProgressEvent(StrictModel):
    """Progress of the build."""

    kind: Literal["progress"] = "progress"
    permille: Permille
    phase: str


class BuiltEvent(StrictModel):
    """The plan is written."""

    kind: Literal["built"] = "built"
    seconds: Annotated[float, Field(ge=0)]


class FailedEvent(StrictModel):
    """An expected failure, with message, hint and exit code of SefaError."""

    kind: Literal["failed"] = "failed"
    message: str
    hint: str
    exit_code: int


Request = Annotated[DescribeRequest | BuildRequest, Field(discriminator="kind")]
Event = Annotated[LibraryEvent | ProgressEvent | BuiltEvent | FailedEvent, Field(discriminator="kind")]
REQUEST: TypeAdapter[DescribeRequest | BuildRequest] = TypeAdapter(Request)
EVENT: TypeAdapter[LibraryEvent | ProgressEvent | BuiltEvent | FailedEvent] = TypeAdapter(Event)
