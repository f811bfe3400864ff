"""The record that the supervisor sends to the recorder when an episode or the recording begins or ends."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from sefa_edge.edge.ipc.record_header import Kind
from sefa_edge.edge.ipc.records import TEXT_BYTES
from sefa_edge.edge.ipc.wire_record import WireRecord, wire_record
from sefa_edge.profiles.wire_types import I64, U8, Text


class RunStage(IntEnum):
    EPISODE_BEGIN = 1
    EPISODE_END = 2
    SETTINGS = 4  # what was written into the servos, or left as it was, before the arm was armed
    END = 3  # the recording is completed and moved to its final path


@wire_record(Kind.RUN_EVENT)
@dataclass(frozen=True, slots=True)
class RunEvent(WireRecord):
    """A moment of the run: servo settings were written, an episode began or ended, the run ended."""

    stage: Annotated[RunStage, U8]
    """SETTINGS, EPISODE_BEGIN, EPISODE_END or END."""
    stamp_ns: Annotated[int, I64]
    """When it happened."""
    episode: Annotated[int, I64] = 0
    """Number of the episode."""
    seed: Annotated[int, I64] = 0
    """Seed of its noise."""
    text: Annotated[str, Text(TEXT_BYTES)] = ""
    """An episode's outcome, how the run ended, or what was written into the servos and what differs."""
