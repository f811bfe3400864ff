"""Commands of the supervisor to the video process."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from sefa_edge.edge.ipc.record_header import Kind
from sefa_edge.edge.ipc.wire_record import WireRecord, wire_record
from sefa_edge.profiles.wire_types import I64, U8, Text

CAPTION_BYTES = 64


class VideoAction(IntEnum):
    """What the video process is to do."""

    START = 1  # sample from now on
    STOP = 2  # stop sampling; the caption is added to the last frame
    FINISH = 3  # draw and write the file, then exit


@wire_record(Kind.VIDEO_COMMAND)
@dataclass(frozen=True, slots=True)
class VideoCommand(WireRecord):
    """A command, with the caption below the frames."""

    action: Annotated[VideoAction, U8]
    episode: Annotated[int, I64] = 0
    caption: Annotated[str, Text(CAPTION_BYTES)] = ""
