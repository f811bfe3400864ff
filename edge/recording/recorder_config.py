"""Configuration of the recorder process."""

from __future__ import annotations

from sefa_edge.edge.ipc.ring_reader import RingInput
from sefa_edge.profiles.strict import StrictModel


class RecorderConfig(StrictModel):
    """The file to write, its metadata and attachments, and the sources of records and frames."""

    path: str
    limit_bytes: int
    cameras: list[RingInput]
    supervisor_fd: int
    sender_fds: list[int]
    """Ends of channels that carry records: control, policy."""
    horizon: int
    joints: int
    words: dict[str, str]
    attachments: dict[str, str]
