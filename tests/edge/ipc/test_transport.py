"""Channels and the frame ring between real ends, also across a process boundary."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from sefa_edge.edge.ipc.record_header import RecordError
from sefa_edge.edge.ipc.transport import Channel, ChannelClosed, FrameDescriptor, FrameRing, channel_pair


def test_records_keep_their_boundaries_and_order() -> None:
    near, far = channel_pair()
    assert far.receive() is None
    for record in (b"one", b"three", b"five"):
        assert near.send(record)
    assert far.receive() == b"one"
    assert far.newest() == b"five"
    assert far.newest() is None
    near.close()
    far.close()


def test_a_full_channel_drops_and_counts_instead_of_waiting() -> None:
    near, far = channel_pair()
    sent = sum(near.send(bytes(1024)) for _ in range(5000))
    assert 0 < sent < 5000
    assert near.dropped == 5000 - sent
    assert len(list(far.drain())) == sent
    assert near.send(b"again")
    near.close()
    far.close()


def test_the_death_of_the_other_end_is_noticed_after_its_last_records() -> None:
    near, far = channel_pair()
    near.send(b"last words")
    near.close()
    assert far.receive() == b"last words"
    with pytest.raises(ChannelClosed):
        far.receive()
    with pytest.raises(ChannelClosed):
        far.send(b"anybody there?")
    far.close()


def test_newest_raises_when_the_other_end_died_before_it_was_read() -> None:
    near, far = channel_pair()
    near.send(b"1")
    near.close()
    with pytest.raises(ChannelClosed):
        far.newest()
    far.close()


def test_wait_ends_when_a_record_arrives() -> None:
    near, far = channel_pair()
    assert not far.wait(0.0)
    near.send(b"x")
    assert far.wait(10.0)
    near.close()
    far.close()


def test_the_ring_returns_what_was_written_unless_it_was_overwritten() -> None:
    ring = FrameRing.create(4, 6, slots=8)
    pictures = np.random.default_rng(1).integers(0, 256, (10, 4, 6, 3), np.uint8)
    slots = [ring.write(sequence, picture) for sequence, picture in enumerate(pictures)]
    for sequence in range(2, 10):
        read = ring.read(FrameDescriptor(slots[sequence], sequence, 0, 0, 0))
        np.testing.assert_array_equal(read, pictures[sequence])
    assert ring.read(FrameDescriptor(slots[1], 1, 0, 0, 0)) is None
    with pytest.raises(RecordError):
        ring.read(FrameDescriptor(8, 8, 0, 0, 0))
    ring.close()


WRITER = """
import sys, numpy as np
from sefa_edge.edge.ipc.transport import Channel, FrameDescriptor, FrameRing
ring, channel = FrameRing(int(sys.argv[1]), 4, 6), Channel.from_fd(int(sys.argv[2]))
for sequence in range(1, 6):
    slot = ring.write(sequence, np.full((4, 6, 3), sequence, np.uint8))
    channel.send(FrameDescriptor(slot, sequence, 10 * sequence, 11 * sequence, 12 * sequence).pack())
"""


@pytest.mark.slow
def test_pictures_cross_a_process_boundary() -> None:
    ring = FrameRing.create(4, 6)
    near, far = channel_pair()
    subprocess.run(
        [sys.executable, "-c", WRITER, str(ring.fd), str(near.fileno())],
        pass_fds=(ring.fd, near.fileno()),
        check=True,
    )
    near.close()
    descriptors = [FrameDescriptor.unpack(record) for record in _all_until_the_end(far)]
    assert [descriptor.sequence for descriptor in descriptors] == [1, 2, 3, 4, 5]
    for descriptor in descriptors:
        picture = ring.read(descriptor)
        assert picture is not None
        assert (picture == descriptor.sequence).all()
    ring.close()
    far.close()


def test_nothing_stays_behind_in_the_file_system() -> None:
    before = set(os.listdir("/dev/shm"))
    ring = FrameRing.create(8, 8)
    ring.close()
    assert set(os.listdir("/dev/shm")) == before


def _all_until_the_end(channel: Channel) -> list[bytes]:
    records = []
    try:
        while channel.wait(60.0):
            for record in channel.drain():
                records.append(record)
    except ChannelClosed:
        return records
    raise AssertionError("the other end stays silent without ending")


def test_last_records_arrive_although_the_sender_exited_without_reading_ours() -> None:
    near, far = channel_pair()
    near.send(b"unread")
    far.send(b"first")
    far.send(b"last words")
    far.close()
    assert [near.receive(), near.receive()] == [b"first", b"last words"]
    with pytest.raises(ChannelClosed):
        near.receive()
    near.close()
