"""A recording opened for reading: its configuration, then its messages in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sefa_edge.edge.control.control_process import ControlConfig
from sefa_edge.edge.recording.mcap_file import StoredAttachment, StoredMessage, StoredMetadata, Truncated, read_mcap
from sefa_edge.edge.recording.names import PARTIAL
from sefa_edge.edge.recording.topics import FORMAT
from sefa_edge.profiles.card import PolicyCard
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import MAX_BYTES
from sefa_edge.profiles.json_text import parse_json_text
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.strict import ModelT, validate


@dataclass(frozen=True, slots=True, eq=False)
class RecordedRun:
    """`metadata`: engine, versions, command line."""

    path: Path
    metadata: dict[str, str]
    card: PolicyCard
    arm: ArmProfile
    control: ControlConfig

    def messages(self, topics: frozenset[str]) -> Iterator[StoredMessage]:
        """The messages of some topics in the order of writing; ends early when the file is truncated."""
        for stored in read_mcap(self.path):
            if isinstance(stored, StoredMessage) and stored.topic in topics:
                yield stored

    def truncation(self) -> str:
        """Why the file ends early; empty when it is complete. Reads the whole file."""
        return next((stored.reason for stored in read_mcap(self.path) if isinstance(stored, Truncated)), "")


def open_run(path: Path) -> RecordedRun:
    """Open a recording, or the newest one in a folder.

    Raises:
        InputError: there is none, it has another format, or its configuration is missing.
    """
    path = _newest_in(path) if path.is_dir() else path
    metadata: dict[str, str] = {}
    attached: dict[str, bytes] = {}
    for stored in read_mcap(path):
        if isinstance(stored, StoredMetadata) and stored.name == "run":
            metadata = stored.entries
        elif isinstance(stored, StoredAttachment):
            attached[stored.name] = stored.content
        else:
            break
    if metadata and metadata.get("format", "1") != FORMAT:
        raise InputError(
            f"{path} is a recording of format {metadata.get('format', '1')[:20]}, this version reads format {FORMAT}",
            "read it with the version that recorded it, or record the run again",
        )
    return RecordedRun(
        path,
        metadata,
        _parsed(path, attached, "card.json", PolicyCard),
        _parsed(path, attached, "arm.json", ArmProfile),
        _parsed(path, attached, "control.json", ControlConfig),
    )


def _newest_in(folder: Path) -> Path:
    found = [*folder.glob("*.mcap"), *folder.glob("*.mcap" + PARTIAL)]
    if not found:
        raise InputError(f"{folder} contains no recordings", "`sefa-edge run --record DIR` creates them")
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def _parsed(path: Path, attached: dict[str, bytes], name: str, model: type[ModelT]) -> ModelT:
    content = attached.get(name, b"")[: MAX_BYTES + 1]
    try:
        if not content or len(content) > MAX_BYTES:
            raise ValueError
        return validate(path / name, parse_json_text(content.decode()), model)
    except ValueError:
        raise InputError(f"{path} contains no {name}", "was it recorded by `sefa-edge run --record`?") from None
