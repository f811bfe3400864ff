"""The latency report that `sefa-edge profile` writes as JSON and as a page.

`report.schema.json` is this file as a JSON Schema for programs in other languages; a test keeps them equal.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from sefa_edge.profiles.files import write_atomic
from sefa_edge.profiles.latency.environment import Environment
from sefa_edge.profiles.percentiles import duration_bins, percentiles
from sefa_edge.profiles.quantities import (
    ControlRateHz,
    Count,
    CountOrZero,
    Nanoseconds,
    NotNegative,
    PolicyRateHz,
    Real,
    Whole,
)
from sefa_edge.profiles.strict import StrictModel, parse_json

SCHEMA_PATH = Path(__file__).with_name("report.schema.json")
BINS_AT_MOST = 60


class Bin(StrictModel):
    """Durations of low_ns up to, but not including, high_ns."""

    low_ns: Nanoseconds
    high_ns: Nanoseconds
    count: CountOrZero


class StageReport(StrictModel):
    """How long one stage took, over all its samples."""

    key: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    title: str
    process: str
    """The process in which the time passes, e.g. `camera`, `policy -> control`."""
    meaning: str
    """Start and end of the stage in one sentence."""
    budget_ns: Annotated[int, Whole("a time", 1, 2**62, "ns")] | None = None
    """The period into which the stage must fit, if there is one."""
    count: Count
    mean_ns: Annotated[float, Real("a time", 0.0, 2.0**62, "ns")]
    min_ns: Nanoseconds
    p50_ns: Nanoseconds
    p90_ns: Nanoseconds
    p99_ns: Nanoseconds
    p999_ns: Nanoseconds
    max_ns: Nanoseconds
    histogram: list[Bin]


class Subject(StrictModel):
    """What was measured."""

    policy: str
    engine: str
    engine_sha256: str
    backend: str
    precision: str
    arm: str
    camera: str
    control_rate_hz: ControlRateHz
    policy_rate_hz: PolicyRateHz
    seconds: NotNegative
    load: str = "none"


class LatencyReport(StrictModel):
    """One measurement of the pipeline."""

    schema_version: Literal[1]
    subject: Subject
    stages: Annotated[list[StageReport], Field(min_length=1)]
    """From frame to command, in order: each starts where the one before it ends."""
    others: list[StageReport]
    """Other durations: the total of the stages, the work of a tick, the loop's lateness."""
    environment: Environment


def summarise(
    samples_ns: np.ndarray, *, key: str, title: str, process: str, meaning: str, budget_ns: int | None = None
) -> StageReport:
    """The report of one stage from int64[N] durations, N >= 1. Raises ValueError if N = 0."""
    bins = duration_bins(samples_ns, BINS_AT_MOST) if samples_ns.size else []
    return StageReport(
        key=key,
        title=title,
        process=process,
        meaning=meaning,
        budget_ns=budget_ns,
        histogram=[Bin(**asdict(bin)) for bin in bins],
        **asdict(percentiles(np.maximum(samples_ns, 0))),
    )


def save_report(report: LatencyReport, path: Path) -> None:
    """Write the report as JSON atomically."""
    write_atomic(path, json.dumps(report.model_dump(mode="json"), indent=1).encode() + b"\n")


def load_report(path: Path) -> LatencyReport:
    """Read a report. Raises InputError naming file and key."""
    return parse_json(path, LatencyReport)


def json_schema() -> str:
    """The JSON Schema of the report, as the text of `report.schema.json`."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **LatencyReport.model_json_schema()}
    return json.dumps(schema, indent=2) + "\n"
