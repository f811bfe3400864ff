"""What the recorder process is told."""

from __future__ import annotations

from sefa_edge.profiles.strict import StrictModel


class RecordedCamera(StrictModel):
    """A camera's ring and a descriptor socket of one's own."""

    name: str
    height: int
    width: int
    ring_fd: int
    channel_fd: int


class RecorderConfig(StrictModel):
    """What the recorder is told."""

    path: str
    limit_bytes: int
    cameras: list[RecordedCamera]
    supervisor_fd: int
    sender_fds: list[int]
    """Ends of channels that carry records: control, policy."""
    horizon: int
    joints: int
    words: dict[str, str]
    attachments: dict[str, str]
