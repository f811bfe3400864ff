"""A calibration without a terminal: ranges from a timed sweep, or from a file."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field, create_model

from sefa_edge.firmware_bridge.host.calibration import ENCODER_MAX_TICKS
from sefa_edge.firmware_bridge.host.feetech.calibration_registers import CalibrationRegisters
from sefa_edge.firmware_bridge.service.calibrating import Sweep, begin, observe
from sefa_edge.firmware_bridge.service.joint_reader import JointReader
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.progress import Progress
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.strict import StrictModel, parse_json

READING_S = 0.02
PROGRESS_PARTS = 1000

EncoderTicks = Annotated[int, Field(ge=0, le=ENCODER_MAX_TICKS)]
Range = Annotated[list[EncoderTicks], Field(min_length=2, max_length=2)]


def timed_sweep(registers: CalibrationRegisters, seconds: float) -> Sweep:
    """Take the present pose as the middle, then read the joints for `seconds` while a person moves them.

    Raises:
        ArmTimeout: a servo does not answer.
        ArmDisconnected: the port is gone.
    """
    sweep, reader = begin(registers.all_encoder_ticks()), JointReader(registers)
    start_s = time.monotonic()
    with Progress("watching the joints", PROGRESS_PARTS, sys.stderr) as progress:
        while (share := (time.monotonic() - start_s) / seconds) < 1:
            sweep = observe(sweep, reader.read())
            progress.update(int(share * PROGRESS_PARTS), "move every joint from end to end")
            time.sleep(READING_S)
    return sweep


def given_sweep(registers: CalibrationRegisters, profile: ArmProfile, ranges: Path) -> Sweep:
    """Take the present pose as the middle, 2047, and the ranges from a file: `{"shoulder_pan": [796, 3299], …}`.

    Raises:
        InputError: absent or broken file, or a range whose ends are in the wrong order.
        ArmTimeout: a servo does not answer.
        ArmDisconnected: the port is gone.
    """
    fields = {joint.name: (Range, ...) for joint in profile.joints}
    content = parse_json(ranges, create_model("Ranges", __base__=StrictModel, **fields))  # pyright: ignore
    pairs = [(name, *getattr(content, name)) for name in profile.joint_names]
    for name, low, high in pairs:
        if low >= high:
            raise InputError(f"{ranges}: {name}: {low} must be below {high}", "write [lowest, highest] in ticks")
    return tuple(
        replace(joint, lowest_ticks=low, highest_ticks=high)
        for joint, (_, low, high) in zip(begin(registers.all_encoder_ticks()), pairs, strict=True)
    )
