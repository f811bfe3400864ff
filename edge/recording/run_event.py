"""What the supervisor tells the recorder: when episodes begin and end, and when the recording is over."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from sefa_edge.edge.ipc.records import Kind, clipped, seal, text_of, unseal
from sefa_edge.edge.ipc.transport import RecordError

TEXT_BYTES = 240


class RunStage(IntEnum):
    EPISODE_BEGIN = 1
    EPISODE_END = 2
    SETTINGS = 4  # what was written into the servos, or left as it was, before the arm was armed
    END = 3  # the recording is finished and put in its place


@dataclass(frozen=True, slots=True)
class RunEvent:
    """`text` is an episode's outcome, how the run ended, or about settings; at most 240 bytes of it travel."""

    stage: RunStage
    stamp_ns: int
    episode: int = 0
    seed: int = 0
    text: str = ""

    def pack(self) -> bytes:
        body = _EVENT.pack(self.stage, self.stamp_ns, self.episode, self.seed, clipped(self.text, TEXT_BYTES))
        return seal(Kind.RUN_EVENT, body)

    @classmethod
    def unpack(cls, record: bytes) -> RunEvent:
        """Raises RecordError."""
        stage, stamp_ns, episode, seed, text = _EVENT.unpack(unseal(record, Kind.RUN_EVENT, _EVENT.size))
        if stage not in RunStage._value2member_map_:
            raise RecordError(f"{stage} is no stage of a run")
        return cls(RunStage(stage), stamp_ns, episode, seed, text_of(text))


_EVENT = struct.Struct(f"<Iqqq{TEXT_BYTES}s")
