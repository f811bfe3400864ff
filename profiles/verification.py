"""The verification report that `sefa-edge verify --json` writes, for programs that build engines.

Exit codes of `verify`: 0 within the budget; 1 with a report: over the budget or unproven; 1 without a report: the
candidate returned NaN or infinity; 2 and 4: it did not run.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from sefa_edge.profiles.action_error import ActionError
from sefa_edge.profiles.card import Sha256
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.json_text import JsonError, parse_json_text
from sefa_edge.profiles.quantities import Count, CountOrZero, Nanoseconds, Positive, Seed
from sefa_edge.profiles.strict import StrictModel, parse_json, validate


class VerifiedEngine(StrictModel):
    """One of the two engines, and the latency of its calls."""

    file: str
    sha256: Sha256
    format: Literal["onnx", "tensorrt", "tensorrt_rtx"]
    precision: Literal["fp32", "fp16", "int8"]
    calls: Count
    p50_ns: Nanoseconds
    p99_ns: Nanoseconds


class VerificationReport(StrictModel):
    """A candidate against a reference: the same held-out observations and noise, alternating calls."""

    schema_version: Literal[1, 2]
    """2: it may be `unproven`."""
    reference: VerifiedEngine
    candidate: VerifiedEngine
    latency_ratio_p50: Positive
    """Median latency of the candidate divided by that of the reference: below 1 is faster."""
    latency_ratio_p99: Positive
    threads: Count
    dataset: str
    dataset_sha256: Sha256
    episodes: Count
    """Held-out episodes that the samples come from."""
    frames: list[CountOrZero]
    """Index in the dataset of each sample's frame."""
    seed: Seed
    error: ActionError
    budget_p99_deg: Positive
    passed: bool
    unproven: str | None = None
    """Why the comparison could not have failed. Not written if it could."""

    @model_serializer(mode="wrap")
    def _leave_out_what_version_1_lacks(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content = serialise(self)
        if self.unproven is None:
            del content["unproven"]
        return content


def report_text(report: VerificationReport) -> str:
    """The report as JSON."""
    return json.dumps(report.model_dump(mode="json"), indent=1) + "\n"


def load_verification(path: Path) -> VerificationReport:
    """Read a report from a file. Raises InputError naming file and key."""
    return parse_json(path, VerificationReport)


def parse_verification(text: str) -> VerificationReport:
    """Read a report from a program's output (`--json -`). Raises InputError naming the key."""
    try:
        content = parse_json_text(text)
    except JsonError as error:
        raise InputError(f"`sefa-edge verify` wrote no report: {error}", "see its messages above") from None
    return validate(Path("-"), content, VerificationReport)
