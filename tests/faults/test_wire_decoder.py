"""The tests' own decoder, on packets of Feetech's manual and streams cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.wire_decoder import (
    EVERY_SERVO,
    Act,
    Frame,
    FrameReader,
    RegisterRead,
    RegisterWrite,
    Request,
    When,
    position_ticks,
    requests,
)

GOAL_2048_AT_1000 = bytes.fromhex("00 08 00 00 e8 03")

GOLDEN: dict[str, tuple[str, list[Request]]] = {
    "ping": ("ff ff 01 02 01 fb", []),
    "read the position": ("ff ff 01 04 02 38 02 be", [RegisterRead((1,), 56, 2)]),
    "write the id of every servo": ("ff ff fe 04 03 05 01 f4", [RegisterWrite(EVERY_SERVO, 5, b"\x01")]),
    "write goal, time and speed": (
        "ff ff 01 09 03 2a 00 08 00 00 e8 03 d5",
        [RegisterWrite(1, 42, GOAL_2048_AT_1000)],
    ),
    "write them later": (
        "ff ff 01 09 04 2a 00 08 00 00 e8 03 d4",
        [RegisterWrite(1, 42, GOAL_2048_AT_1000, When.LATER)],
    ),
    "act": ("ff ff fe 02 05 fa", [Act(EVERY_SERVO)]),
    "sync write of four servos": (
        "ff ff fe 20 83 2a 06 01 00 08 00 00 e8 03 02 00 08 00 00 e8 03 03 00 08 00 00 e8 03 04 00 08 00 00 e8 03 58",
        [RegisterWrite(servo_id, 42, GOAL_2048_AT_1000) for servo_id in (1, 2, 3, 4)],
    ),
    "sync read of two servos": ("ff ff fe 06 82 38 08 01 02 36", [RegisterRead((1, 2), 56, 8)]),
}
"""The examples of Feetech's protocol manual (torque, goal position, goal speed of the STS series)."""


@pytest.mark.parametrize("name", GOLDEN)
def test_packets_of_the_manual_are_decoded(name: str) -> None:
    data, expected = GOLDEN[name]
    frames = FrameReader().feed(bytes.fromhex(data))
    assert len(frames) == 1
    assert requests(frames[0]) == expected


def test_the_reply_of_the_manual_is_decoded() -> None:
    (reply,) = FrameReader().feed(bytes.fromhex("ff ff 01 04 00 18 05 dd"))
    assert reply == Frame(1, 0, b"\x18\x05")
    assert position_ticks(*reply.parameters) == 1304


def test_positions_carry_their_sign_in_bit_15() -> None:
    assert position_ticks(0x01, 0x80) == -1
    assert position_ticks(0xFF, 0x7F) == 0x7FFF


@pytest.mark.parametrize("address", range(36, 48))
def test_a_write_covers_its_registers_and_no_others(address: int) -> None:
    write = RegisterWrite(1, address, bytes(range(4)))
    assert write.byte(42) == (42 - address if address <= 42 < address + 4 else None)


def test_a_packet_with_a_wrong_checksum_is_not_a_frame() -> None:
    assert FrameReader().feed(bytes.fromhex("ff ff 01 04 02 38 02 bf")) == []


def test_a_frame_after_a_truncated_one_is_found() -> None:
    reader = FrameReader()
    assert reader.feed(bytes.fromhex("ff ff 01 ff 03 2a ff ff fe 02 05 fa")) == []  # 255 bytes were announced
    assert reader.flush() == [Frame(EVERY_SERVO, 5, b"")]
    assert reader.feed(bytes.fromhex("ff ff fe 02 05 fa")) == [Frame(EVERY_SERVO, 5, b"")]


frames = st.builds(
    Frame,
    servo_id=st.integers(0, 0xFE),
    code=st.integers(0, 0xFF),
    parameters=st.binary(max_size=40),
)


def encoded(frame: Frame) -> bytes:
    body = bytes((frame.servo_id, len(frame.parameters) + 2, frame.code)) + frame.parameters
    return b"\xff\xff" + body + bytes((~sum(body) & 0xFF,))


@given(sent=st.lists(frames, max_size=5), cuts=st.lists(st.integers(0, 300), max_size=8))
def test_frames_are_found_however_the_stream_is_cut(sent: list[Frame], cuts: list[int]) -> None:
    stream = b"".join(map(encoded, sent))
    bounds = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader = FrameReader()
    found = [frame for start, end in itertools.pairwise(bounds) for frame in reader.feed(stream[start:end])]
    assert found == sent


@given(noise=st.binary(max_size=30).filter(lambda data: 0xFF not in data), sent=frames, rest=st.binary(max_size=30))
def test_noise_before_a_frame_hides_nothing(noise: bytes, sent: Frame, rest: bytes) -> None:
    reader = FrameReader()
    found = reader.feed(noise + encoded(sent) + rest)
    assert found[0] == sent


@given(data=st.binary(max_size=600))
def test_frames_are_found_after_any_noise(data: bytes) -> None:
    reader = FrameReader()
    found = reader.feed(data) + reader.flush()
    assert all(encoded(frame) in data for frame in found)
    assert reader.feed(encoded(Frame(1, 2, b""))) == [Frame(1, 2, b"")]
