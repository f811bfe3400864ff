"""The channels, rings and lifelines between the processes of a run, made from the process table."""

from __future__ import annotations

import os

from sefa_edge.edge.ipc.ring_reader import RingInput
from sefa_edge.edge.ipc.transport import Channel, FrameRing, channel_pair
from sefa_edge.edge.run.process_row import SUPERVISOR, Death, Ends, ProcessRow
from sefa_edge.firmware_bridge.simulation.client import WorldPaths


class Wiring:
    """Owns the supervisor's ends, and those of every process until the process has inherited them."""

    def __init__(self) -> None:
        self._rows: dict[str, ProcessRow] = {}
        self._rings: dict[str, FrameRing] = {}
        self._ends: dict[tuple[str, str], Channel] = {}
        """The end of the first process of its channel to the second."""
        self._lifelines: dict[str, tuple[int, int]] = {}
        """Read and write end of the pipe that keeps a process alive; -1: closed here."""

    def connect(self, rows: tuple[ProcessRow, ...]) -> None:
        """Make everything that these rows ask for. Raises ValueError: a row names a process that is not among them."""
        self._rows = {row.name: row for row in rows}
        for row in rows:
            for peer in (*row.rings, *row.links, *row.taps, *row.lives_for):
                if peer != SUPERVISOR and peer not in self._rows:
                    raise ValueError(f"'{row.name}' is linked to '{peer}', but no process of this run is called that")
        for row in rows:
            if row.frames is not None:
                self._rings[row.name] = FrameRing.create(row.frames.height, row.frames.width)
            if row.lives_for:
                self._lifelines[row.name] = os.pipe()
        for row in rows:
            for camera in row.rings:  # before the links: the readers of frames are served first
                self._pair(camera, row.name)
        for row in rows:
            for peer in (*row.links, *row.taps):
                self._pair(row.name, peer)

    def ends_of(self, row: ProcessRow, world: WorldPaths | None) -> Ends:
        """What the process inherits."""
        ring = self._rings.get(row.name)
        own_lifeline = [read for name, (read, _) in self._lifelines.items() if name == row.name]
        held = [write for name, (_, write) in self._lifelines.items() if row.name in self._rows[name].lives_for]
        return Ends(
            {peer: end.fileno() for (owner, peer), end in self._ends.items() if owner == row.name},
            tuple(self._input(row.name, camera) for camera in row.rings),
            None if ring is None else ring.fd,
            (*own_lifeline, *(fd for fd in held if fd >= 0)),
            world,
        )

    def release(self, row: ProcessRow) -> None:
        """Close here what the process has inherited, but for the end of a tap that its replacement will inherit too."""
        for owner, peer in [key for key in self._ends if key[0] == row.name]:
            if row.death is not Death.REPLACED or not self._is_tap(owner, peer):
                self._ends.pop((owner, peer)).close()
        if row.name in self._lifelines:
            read, write = self._lifelines[row.name]
            os.close(read)
            self._lifelines[row.name] = (-1, write)

    def reconnect(self, name: str) -> None:
        """New channels for the replacement of a process; all but the supervisor's stay silent."""
        row = self._rows[name]
        peers = [*row.links, *(other.name for other in self._rows.values() if name in other.links)]
        for peer in peers:
            for key in ((peer, name), (name, peer)):
                if key in self._ends:
                    self._ends[key].close()
            self._pair(name, peer)

    def supervisor_end(self, name: str) -> Channel | None:
        """The supervisor's end of its channel to a process; None: there is none, or it was closed."""
        return self._ends.get((SUPERVISOR, name))

    def close_supervisor_end(self, name: str) -> None:
        if (end := self._ends.pop((SUPERVISOR, name), None)) is not None:
            end.close()

    def close_channels(self, keep: frozenset[str]) -> None:
        """Close all ends and lifelines but the supervisor's ends of its channels to the processes named in `keep`."""
        for owner, peer in [key for key in self._ends if key[0] != SUPERVISOR or key[1] not in keep]:
            self._ends.pop((owner, peer)).close()
        for fd in [fd for pipe in self._lifelines.values() for fd in pipe if fd >= 0]:
            os.close(fd)
        self._lifelines = dict.fromkeys(self._lifelines, (-1, -1))

    def close_rings(self) -> None:
        for ring in self._rings.values():
            ring.close()
        self._rings.clear()

    def _pair(self, first: str, second: str) -> None:
        self._ends[first, second], self._ends[second, first] = channel_pair()

    def _is_tap(self, owner: str, peer: str) -> bool:
        return peer in self._rows and owner in self._rows[peer].taps

    def _input(self, reader: str, camera: str) -> RingInput:
        frames = self._rows[camera].frames
        if frames is None:
            raise ValueError(f"'{reader}' reads the frames of '{camera}', which writes none")
        return RingInput(
            name=frames.name,
            height=frames.height,
            width=frames.width,
            ring_fd=self._rings[camera].fd,
            channel_fd=self._ends[reader, camera].fileno(),
        )
