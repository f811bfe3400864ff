"""The report of `tests/gpu/run.sh`: what ran on a GPU, its difference from the CPU's result, and its duration."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator
from typing_extensions import Self

from sefa_edge.profiles.card import Sha256
from sefa_edge.profiles.files import write_atomic
from sefa_edge.profiles.latency.environment import Environment
from sefa_edge.profiles.percentiles import percentile, percentiles
from sefa_edge.profiles.quantities import Count, CountOrZero, NotNegative, Positive, Seed
from sefa_edge.profiles.strict import StrictModel, parse_json

Precision = Literal["fp32", "fp16", "int8"]
LIBRARIES = (
    *("torch", "triton", "onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-cu12-bindings"),
    *("tensorrt-cu13-bindings", "tensorrt-rtx-cu13-bindings", "pycuda", "numpy", "sefa-edge"),
)
DRIVER_VERSION = Path("proc/driver/nvidia/version")
MAX_VERSION_BYTES = 4096


class GpuFacts(StrictModel):
    """The GPU and its driver."""

    name: str
    compute_capability: str
    is_integrated: bool
    memory_mib: CountOrZero
    driver_version: str | None
    cuda_version: str
    """Newest version that the driver supports."""


class ChunkError(StrictModel):
    """Difference of chunks to ONNX Runtime's on the CPU, same inputs; joint units, all joints and steps."""

    samples: Count
    mean_deg: NotNegative
    p99_deg: NotNegative
    max_deg: NotNegative
    budget_p99_deg: Positive

    @property
    def is_within_budget(self) -> bool:
        return self.p99_deg <= self.budget_p99_deg


class Latency(StrictModel):
    """From arrays of the host to an array of the host, milliseconds. Percentiles are nearest ranks."""

    runs: Count
    mean_ms: NotNegative
    p50_ms: NotNegative
    p99_ms: NotNegative
    p999_ms: NotNegative
    max_ms: NotNegative
    device_p50_ms: NotNegative | None = None
    """The same run on the GPU's own clock, if the back end reports it."""


class Outcome(StrictModel):
    """One engine with one back end."""

    contender: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    engine: str
    precision: Precision
    status: Literal["measured", "absent", "failed"]
    reason: str = ""
    """Why it is absent or failed."""
    error: ChunkError | None = None
    latency: Latency | None = None
    notes: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _status_matches_contents(self) -> Self:
        is_measured = self.error is not None and self.latency is not None
        if is_measured != (self.status == "measured"):
            raise ValueError(f"status is {self.status}, and error and latency say otherwise")
        if (self.status != "measured") != bool(self.reason):
            raise ValueError("a reason is for an outcome that was not measured, and only for that")
        return self

    @property
    def is_failure(self) -> bool:
        """Whether it failed to run, or exceeds the error budget. A missing back end is not a failure."""
        return self.status == "failed" or (self.error is not None and not self.error.is_within_budget)


class EngineFacts(StrictModel):
    """An engine of the folder that was measured."""

    file: str
    sha256: Sha256
    policy: str
    precision: Precision


class GpuReport(StrictModel):
    """One pass over a folder of engines on one machine."""

    schema_version: Literal[1]
    gpu: GpuFacts | None
    """None when it was run without one on purpose."""
    environment: Environment
    libraries: dict[str, str]
    engines: Annotated[list[EngineFacts], Field(min_length=1)]
    seed: Seed
    dataset_sha256: Sha256 | None = None
    """Dataset of the inputs; None: they are random."""
    reference: str | None = None
    """Engine whose chunks are the reference; None: each file's own."""
    seconds: NotNegative
    outcomes: Annotated[list[Outcome], Field(min_length=1)]
    passed: bool

    @model_validator(mode="after")
    def _passed_means_no_failure(self) -> Self:
        if self.passed == any(outcome.is_failure for outcome in self.outcomes):
            raise ValueError(f"passed is {self.passed}, and the outcomes say otherwise")
        return self


def compare_chunks(chunks: np.ndarray, reference: np.ndarray, budget_p99_deg: float) -> ChunkError:
    """Both float32 [N, T, n] in joint units. Raises ValueError for a value that is not finite."""
    difference = np.abs(chunks.astype(np.float64) - reference)
    if not np.isfinite(difference).all():
        raise ValueError("a chunk holds values that are not finite")
    return ChunkError(
        samples=len(chunks),
        mean_deg=float(difference.mean()),
        p99_deg=percentile(difference, 0.99),
        max_deg=float(difference.max()),
        budget_p99_deg=budget_p99_deg,
    )


def summarise_latency(samples_ns: np.ndarray, device_p50_ms: float | None = None) -> Latency:
    """From int64[N] nanoseconds, N >= 1."""
    spread = percentiles(samples_ns)
    return Latency(
        runs=spread.count,
        mean_ms=spread.mean_ns / 1e6,
        p50_ms=spread.p50_ns / 1e6,
        p99_ms=spread.p99_ns / 1e6,
        p999_ms=spread.p999_ns / 1e6,
        max_ms=spread.max_ns / 1e6,
        device_p50_ms=device_p50_ms,
    )


def driver_version(root: Path = Path("/")) -> str | None:
    """Version of the NVIDIA kernel driver, e.g. `550.54.15`; None if the kernel reports none."""
    try:
        with (root / DRIVER_VERSION).open("rb") as file:
            text = file.read(MAX_VERSION_BYTES).decode(errors="replace")
    except OSError:
        return None
    found = re.search(r"\b\d+\.\d+(\.\d+)?\b", text)
    return found[0] if found else None


def library_versions() -> dict[str, str]:
    """Versions of the libraries that are installed as Python packages."""
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def save_gpu_report(report: GpuReport, path: Path) -> None:
    """Write the report as JSON, all or nothing."""
    write_atomic(path, json.dumps(report.model_dump(mode="json"), indent=1).encode() + b"\n")


def load_gpu_report(path: Path) -> GpuReport:
    """Read a report back. Raises InputError naming file and key."""
    return parse_json(path, GpuReport)
