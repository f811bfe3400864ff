"""What `sefa-edge verify --json` reports, as far as choosing a plan needs it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sefa_edge.profiles.errors import SefaError

Degrees = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Nanoseconds = Annotated[int, Field(gt=0)]


class Measurement(BaseModel):
    """How a candidate did beside its reference: action error in joint units, latency of a whole inference."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    p99_deg: Degrees
    p50_ns: Nanoseconds
    p99_ns: Nanoseconds


class _Error(BaseModel):
    p99_deg: Degrees


class _Latency(BaseModel):
    p50_ns: Nanoseconds
    p99_ns: Nanoseconds


class _Verification(BaseModel):
    error: _Error
    candidate_latency: _Latency


def parse_measurement(report: str) -> Measurement:
    """Read the report of `sefa-edge verify`. Raises SefaError when it is not one."""
    try:
        whole = _Verification.model_validate_json(report)
    except ValidationError as problem:
        first = problem.errors()[0]
        where = ".".join(map(str, first["loc"])) or "report"
        raise SefaError(f"`sefa-edge verify` reported something else: {where}: {first['msg']}") from None
    latency = whole.candidate_latency
    return Measurement(p99_deg=whole.error.p99_deg, p50_ns=latency.p50_ns, p99_ns=latency.p99_ns)
