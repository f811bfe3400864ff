"""What a process reports while its reader is slow, and after the reader has ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from sefa_edge.edge.ipc.sinks import WAITING_RECORDS, PatientSink
from sefa_edge.edge.ipc.transport import MAX_RECORD_BYTES, Channel, channel_pair


@pytest.fixture
def ends() -> Iterator[tuple[PatientSink, Channel]]:
    near, reader = channel_pair()
    sink = PatientSink(near)
    yield sink, reader
    sink.close()
    reader.close()


def record(number: int) -> bytes:
    return number.to_bytes(4, "little") + bytes(1020)


def numbers(reader: Channel) -> list[int]:
    return [int.from_bytes(found[:4], "little") for found in reader.drain()]


def test_a_reader_that_pauses_gets_every_record_in_order(ends: tuple[PatientSink, Channel]) -> None:
    sink, reader = ends
    for number in range(WAITING_RECORDS):
        sink.put(record(number))
    found = numbers(reader)
    assert len(found) < WAITING_RECORDS, "the socket took all of them: none had to wait"
    worker = threading.Thread(target=sink.finish, args=(10.0,))
    worker.start()
    while len(found) < WAITING_RECORDS and reader.wait(10.0):
        found += numbers(reader)
    worker.join()
    assert found == list(range(WAITING_RECORDS))


def test_a_reader_that_pauses_too_long_misses_the_oldest(ends: tuple[PatientSink, Channel]) -> None:
    sink, reader = ends
    total = 3 * WAITING_RECORDS
    for number in range(total):
        sink.put(record(number))
    found = numbers(reader)
    in_socket = len(found)
    sink.finish(0.0)  # no time to wait: nothing is sent
    assert numbers(reader) == []
    sink.put(record(total))
    found += numbers(reader)
    first_missing = next(number for number in range(total) if number not in set(found))
    assert found == sorted(found)
    assert first_missing == in_socket
    assert found[in_socket] == total - WAITING_RECORDS + 1, "the oldest of those that waited were lost"


def test_after_the_reader_has_ended_records_are_dropped(ends: tuple[PatientSink, Channel]) -> None:
    sink, reader = ends
    reader.close()
    for number in range(3):
        sink.put(record(number))
    sink.finish(10.0)


def test_a_record_that_no_datagram_holds_is_dropped(ends: tuple[PatientSink, Channel]) -> None:
    sink, reader = ends
    sink.put(bytes(MAX_RECORD_BYTES + 1))
    sink.put(record(7))
    assert numbers(reader) == [7]
