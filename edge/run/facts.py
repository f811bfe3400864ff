"""What a recording contains about its run beside the records: metadata and attachments."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from sefa_edge.edge.control.control_process import ControlConfig
from sefa_edge.edge.run.run_plan import RunPlan
from sefa_edge.profiles.files import read_bounded


def run_metadata(plan: RunPlan) -> dict[str, str]:
    """Metadata: command line, engine, arm."""
    return {
        "command_line": shlex.join(["sefa-edge", *sys.argv[1:]]),
        "engine": str(plan.engine.resolve()),
        "engine_sha256": plan.card.engine_sha256,
        "arm": plan.arm_name,
        "threads": str(plan.threads),
    }


def run_attachments(plan: RunPlan, control: ControlConfig) -> dict[str, str]:
    """All configuration of the run as JSON, by file name. Raises InputError: the calibration cannot be read."""
    found = {
        "card.json": plan.card.model_dump_json(),
        "arm.json": plan.profile.model_dump_json(),
        "control.json": control.model_dump_json(),
    }
    if plan.calibration is not None:
        found["calibration.json"] = read_bounded(Path(plan.calibration))
    return found
