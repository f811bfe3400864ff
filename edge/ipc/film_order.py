"""What the supervisor tells the film process."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated

from sefa_edge.edge.ipc.record_header import Kind
from sefa_edge.edge.ipc.wire_record import WireRecord, wire_record
from sefa_edge.profiles.wire_types import I64, U8, Text

CAPTION_BYTES = 64


class Scene(IntEnum):
    """What the supervisor may ask for."""

    ROLL = 1  # sample from now on
    CUT = 2  # stop sampling; the caption is added to the last frame
    DEVELOP = 3  # draw, write, end


@wire_record(Kind.FILM_ORDER)
@dataclass(frozen=True, slots=True)
class FilmOrder(WireRecord):
    """An order, with the caption under the frames."""

    scene: Annotated[Scene, U8]
    episode: Annotated[int, I64] = 0
    caption: Annotated[str, Text(CAPTION_BYTES)] = ""
