"""What the build command and its child process say to each other: one request in, events out, as lines of JSON."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from sefa_edge.profiles.strict import StrictModel

Backend = Literal["tensorrt", "tensorrt_rtx"]
Precision = Literal["fp32", "fp16", "int8"]
Permille = Annotated[int, Field(ge=0, le=1000)]
MAX_LINE_BYTES = 100_000


class DescribeRequest(StrictModel):
    """Ask what the installed library can do."""

    kind: Literal["describe"] = "describe"
    backend: Backend


class BuildRequest(StrictModel):
    """Ask for one plan."""

    kind: Literal["build"] = "build"
    backend: Backend
    onnx: str
    onnx_sha256: str
    plan: str
    """Where the child writes it; the parent moves it to its place."""
    precision: Precision
    strongly_typed: bool
    workspace_mib: Annotated[int, Field(ge=1, le=1 << 20)]
    optimisation_level: Annotated[int, Field(ge=0, le=5)]
    timing_cache: str | None = None
    compute_capabilities: list[str] = Field(default_factory=list)
    """What TensorRT-RTX builds for: `SM86` and the like, or `CURRENT`. None for TensorRT."""


class LibraryEvent(StrictModel):
    """What the library can do, found by feature tests."""

    kind: Literal["library"] = "library"
    version: str
    strongly_typed: bool
    weakly_typed: bool
    compute_capabilities: list[str]
    """That it can build for without such a GPU; none for TensorRT."""


class ProgressEvent(StrictModel):
    """How far the build is."""

    kind: Literal["progress"] = "progress"
    permille: Permille
    phase: str


class BuiltEvent(StrictModel):
    """The plan is written."""

    kind: Literal["built"] = "built"
    seconds: Annotated[float, Field(ge=0)]


class FailedEvent(StrictModel):
    """An expected failure, in the words and with the exit code of SefaError."""

    kind: Literal["failed"] = "failed"
    message: str
    hint: str
    exit_code: int


Request = Annotated[DescribeRequest | BuildRequest, Field(discriminator="kind")]
Event = Annotated[LibraryEvent | ProgressEvent | BuiltEvent | FailedEvent, Field(discriminator="kind")]
REQUEST: TypeAdapter[DescribeRequest | BuildRequest] = TypeAdapter(Request)
EVENT: TypeAdapter[LibraryEvent | ProgressEvent | BuiltEvent | FailedEvent] = TypeAdapter(Event)
