"""The recorder process: receives records and frames from the other processes and writes one MCAP file.

    python -m sefa_edge.edge.recording.recorder_process --config FD

No process waits for it. Data that it cannot receive in time is lost and counted; the counts are written to the file and
printed at the end. It ends with the supervisor's END, when the file is full, or when it cannot be written.
"""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sefa_edge.edge.ipc.process import child_main
from sefa_edge.edge.ipc.record_header import Kind, RecordError, kind_of
from sefa_edge.edge.ipc.ring_reader import RingReader
from sefa_edge.edge.ipc.run_event import RunEvent, RunStage
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed, FrameDescriptor
from sefa_edge.edge.pictures import encode_png
from sefa_edge.edge.recording.recorder_config import RecorderConfig
from sefa_edge.edge.recording.recording import Recording, RecordingFull, RunFacts
from sefa_edge.profiles.errors import FaultError, InputError
from sefa_edge.profiles.units import s_to_ns

POLL_MS = 100
SYNC_S = 2.0
"""Period of fdatasync."""

WAITING_BYTES = 64 << 20
"""Limit for frames and records that wait to be written; beyond it, frames are dropped."""

BATCH = 8

CLOSING_NS = s_to_ns(1.5)
"""After the end of the run, frames that have not been written within this time are dropped."""


@dataclass(frozen=True, slots=True, eq=False)
class WaitingPicture:
    camera: str
    frame: FrameDescriptor
    picture: np.ndarray


class Recorder:
    """Owns the inbox: frames and records that have arrived and are not yet written."""

    def __init__(self, config: RecorderConfig, recording: Recording) -> None:
        self._recording = recording
        self._cameras = [RingReader(camera) for camera in config.cameras]
        self._supervisor = Channel.from_fd(config.supervisor_fd)
        self._senders = [Channel.from_fd(fd) for fd in config.sender_fds]
        self._inbox: deque[bytes | WaitingPicture] = deque()
        self._waiting_bytes = 0
        self._lost_pictures = self._lost_records = 0
        self._reported_losses = (0, 0)
        self._ending = False
        self._next_check_ns = 0
        self._poller = select.poll()
        for channel in (self._supervisor, *self._senders, *(camera.channel for camera in self._cameras)):
            self._poller.register(channel, select.POLLIN)

    @property
    def losses(self) -> str:
        return f"{self._lost_pictures} pictures and {self._lost_records} records lost"

    def serve(self) -> None:
        """Raises RecordingFull, OSError."""
        while not self._ending:
            self._poller.poll(0 if self._inbox else POLL_MS)
            self._receive()
            self._write(BATCH)
            self._check()
        self._receive()  # records sent before the end
        self._write_rest(time.monotonic_ns() + CLOSING_NS)
        self._recording.add_losses(self._lost_pictures, self._lost_records)

    def _receive(self) -> None:
        for camera in tuple(self._cameras):
            for descriptor in camera.descriptors():  # copied before the camera overwrites the slot
                self._keep_picture(camera.name, descriptor, camera.image(descriptor))
            if not camera.is_open:
                self._forget(camera.channel)
                self._cameras.remove(camera)
        for sender in tuple(self._senders):
            if not self._receive_from(sender):
                self._forget(sender)
                self._senders.remove(sender)
        if not self._receive_from(self._supervisor):
            self._ending = True

    def _receive_from(self, channel: Channel) -> bool:
        """Receive the records of a process; False when it has exited."""
        try:
            for record in channel.drain():
                self._keep_record(record)
        except ChannelClosed:
            return False
        return True

    def _keep_record(self, record: bytes) -> None:
        try:
            is_end = kind_of(record) is Kind.RUN_EVENT and RunEvent.unpack(record).stage is RunStage.END
        except RecordError:
            self._lost_records += 1
            return
        self._inbox.append(record)
        self._waiting_bytes += len(record)
        self._ending |= is_end

    def _keep_picture(self, camera: str, frame: FrameDescriptor, image: np.ndarray | None) -> None:
        if image is None or self._waiting_bytes > WAITING_BYTES:
            self._lost_pictures += 1
        else:
            self._inbox.append(WaitingPicture(camera, frame, image))
            self._waiting_bytes += image.nbytes

    def _forget(self, channel: Channel) -> None:
        self._poller.unregister(channel)
        channel.close()

    def _write(self, count: int) -> None:
        for _ in range(min(count, len(self._inbox))):
            item = self._inbox.popleft()
            if isinstance(item, WaitingPicture):
                self._waiting_bytes -= item.picture.nbytes
                self._recording.add_picture(item.camera, item.frame, encode_png(item.picture))
                continue
            self._waiting_bytes -= len(item)
            try:
                self._recording.add_record(item)
            except RecordError:
                self._lost_records += 1

    def _write_rest(self, give_up_ns: int) -> None:
        """Write the whole inbox; frames only until `give_up_ns`, so that a slow disk does not delay the end."""
        while self._inbox:
            if time.monotonic_ns() > give_up_ns:
                self._drop_pictures()
            self._write(BATCH)

    def _drop_pictures(self) -> None:
        records = [item for item in self._inbox if isinstance(item, bytes)]
        self._lost_pictures += len(self._inbox) - len(records)
        self._inbox = deque(records)

    def _check(self) -> None:
        """Once a second, write changed loss counts and check for room."""
        now_ns = time.monotonic_ns()
        if now_ns < self._next_check_ns:
            return
        self._next_check_ns = now_ns + s_to_ns(1.0)
        losses = (self._lost_pictures, self._lost_records)
        if losses != self._reported_losses:
            self._recording.add_losses(*losses)
            self._reported_losses = losses
        self._recording.check_room()


def main(content: bytes) -> int:
    """Record until the run is over."""
    config = RecorderConfig.model_validate_json(content)
    facts = RunFacts(
        tuple(camera.name for camera in config.cameras),
        config.horizon,
        config.joints,
        config.words,
        config.attachments,
    )
    try:
        recording = Recording(Path(config.path), config.limit_bytes, facts)
    except OSError as error:
        raise InputError(f"{config.path} cannot be written: {error.strerror}", "choose another folder") from None
    recorder = Recorder(config, recording)
    threading.Thread(target=_keep_syncing, args=(recording.fd,), daemon=True).start()
    try:
        _serve_and_close(recorder, recording)
    except OSError as error:
        raise FaultError(error.strerror or str(error), f"the data up to here is in {config.path}.partial") from None
    print(f"{recording.size_bytes / 1e6:.1f} MB, {recorder.losses}")
    return 0


def _serve_and_close(recorder: Recorder, recording: Recording) -> None:
    try:
        recorder.serve()
    except RecordingFull:
        recording.close()
        raise
    recording.close()


def _keep_syncing(fd: int) -> None:
    """Run in a thread, because a slow disk must not delay frames."""
    while True:
        time.sleep(SYNC_S)
        try:
            os.fdatasync(fd)
        except OSError:  # closed, or a disk error, which the next write reports
            return


if __name__ == "__main__":
    sys.exit(child_main(main))
