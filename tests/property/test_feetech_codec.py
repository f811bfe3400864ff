"""The packet codec: vectors from Feetech's protocol manual, and invariants for any bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import (
    BROADCAST_ID,
    MAX_PACKET_BYTES,
    MAX_PARAMETERS,
    Instruction,
    Packet,
    PacketDecoder,
    decode,
    encode,
    encode_action,
    encode_ping,
    encode_read,
    encode_reg_write,
    encode_sync_read,
    encode_sync_write,
    encode_write,
    reply_bytes,
    wire_time_ns,
)

GOAL_2048_SPEED_1000 = bytes.fromhex("00 08 00 00 E8 03")
MANUAL = [
    (encode_ping(1), "FF FF 01 02 01 FB"),
    (encode(1, 0), "FF FF 01 02 00 FC"),
    (encode_read(1, 0x38, 2), "FF FF 01 04 02 38 02 BE"),
    (encode(1, 0, bytes.fromhex("18 05")), "FF FF 01 04 00 18 05 DD"),
    (encode_write(BROADCAST_ID, 5, b"\x01"), "FF FF FE 04 03 05 01 F4"),
    (encode_write(1, 0x2A, GOAL_2048_SPEED_1000), "FF FF 01 09 03 2A 00 08 00 00 E8 03 D5"),
    (encode_reg_write(1, 0x2A, GOAL_2048_SPEED_1000), "FF FF 01 09 04 2A 00 08 00 00 E8 03 D4"),
    (encode_action(), "FF FF FE 02 05 FA"),
    (
        encode_sync_write(0x2A, [(i, GOAL_2048_SPEED_1000) for i in (1, 2, 3, 4)]),
        "FF FF FE 20 83 2A 06 01 00 08 00 00 E8 03 02 00 08 00 00 E8 03 03 00 08 00 00 E8 03 04 00 08 00 00 E8 03 58",
    ),
    (encode_sync_read([1, 2], 0x38, 8), "FF FF FE 06 82 38 08 01 02 36"),
    (encode(1, 0, bytes.fromhex("00 08 00 00 00 00 79 1E")), "FF FF 01 0A 00 00 08 00 00 00 00 79 1E 55"),
    (encode(0, Instruction.RESET), "FF FF 00 02 06 F7"),
]

servo_ids = st.integers(0, BROADCAST_ID)
codes = st.integers(0, 255)
packets = st.builds(Packet, servo_ids, codes, st.binary(max_size=40))


def frame(packet: Packet) -> bytes:
    return encode(packet.servo_id, packet.code, packet.parameters)


@pytest.mark.parametrize(("encoded", "manual"), MANUAL)
def test_packets_equal_the_manual(encoded: bytes, manual: str) -> None:
    assert encoded == bytes.fromhex(manual)
    assert [frame(packet) for packet in decode(encoded)] == [encoded]


@given(servo_ids, codes, st.binary(max_size=MAX_PARAMETERS))
def test_a_packet_comes_back_from_encoding(servo_id: int, code: int, parameters: bytes) -> None:
    assert decode(encode(servo_id, code, parameters)) == [Packet(servo_id, code, parameters)]


@given(st.binary(max_size=600))
def test_no_bytes_make_the_decoder_raise(noise: bytes) -> None:
    for packet in decode(noise):
        assert frame(packet) in noise
    decoder = PacketDecoder()
    for packet in decoder.feed(noise):
        assert frame(packet) in noise


@given(st.lists(packets, max_size=5), st.data())
def test_pieces_of_any_size_decode_like_the_whole(sent: list[Packet], data: st.DataObject) -> None:
    stream = b"".join(map(frame, sent))
    decoder = PacketDecoder()
    received: list[Packet] = []
    while stream:
        cut = data.draw(st.integers(1, len(stream)))
        received += decoder.feed(stream[:cut])
        stream = stream[cut:]
    assert received == sent


@given(st.binary(max_size=300))
def test_after_any_noise_the_decoder_finds_packets_again(noise: bytes) -> None:
    ping = Packet(7, Instruction.PING, b"")
    enough = MAX_PACKET_BYTES // len(frame(ping)) + 2
    decoder = PacketDecoder()
    decoder.feed(noise)
    assert decoder.feed(frame(ping) * enough)[-1] == ping


@given(packets, st.data())
def test_a_corrupted_packet_is_not_accepted(sent: Packet, data: st.DataObject) -> None:
    damaged = bytearray(frame(sent))
    position = data.draw(st.integers(0, len(damaged) - 1))
    damaged[position] ^= data.draw(st.integers(1, 255))
    assert sent not in decode(bytes(damaged))


def test_a_truncated_packet_does_not_hide_the_next_one() -> None:
    state = bytes(reg.STATE_BLOCK.count)
    stream = encode(1, 0, state)[:-4] + encode(2, 0, state) + encode(3, 0, state)
    assert [packet.servo_id for packet in decode(stream)] == [2, 3]


@pytest.mark.parametrize("servo_id", [-1, 0xFF])
def test_impossible_ids_are_refused(servo_id: int) -> None:
    with pytest.raises(ValueError, match="servo id"):
        encode_ping(servo_id)


def test_parameters_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        encode_write(1, 0, bytes(MAX_PARAMETERS))
    with pytest.raises(ValueError, match="same number"):
        encode_sync_write(42, [(1, b"\0\0"), (2, b"\0")])
    with pytest.raises(ValueError, match="same number"):
        encode_sync_write(42, [])


def test_a_read_of_six_servos_takes_1_4_ms() -> None:
    request = encode_sync_read(range(1, 7), reg.STATE_BLOCK.address, reg.STATE_BLOCK.count)
    total = len(request) + 6 * reply_bytes(reg.STATE_BLOCK.count)
    assert wire_time_ns(total, 1_000_000) == 1_400_000


@given(st.integers(-0x7FFF, 0x7FFF))
def test_signed_registers_round_trip(value: int) -> None:
    assert reg.PRESENT_SPEED.decode(reg.PRESENT_SPEED.encode(value)) == value


@pytest.mark.parametrize(("value", "raw"), [(-1, 0x0801), (-2047, 0x0FFF), (2047, 0x07FF), (0, 0)])
def test_homing_offset_is_sign_magnitude_in_bit_11(value: int, raw: int) -> None:
    assert reg.HOMING_OFFSET.encode(value) == raw.to_bytes(2, "little")
    assert reg.HOMING_OFFSET.decode(raw.to_bytes(2, "little")) == value


@pytest.mark.parametrize(("register", "value"), [(reg.HOMING_OFFSET, 2048), (reg.LOCK, -1), (reg.LOCK, 256)])
def test_values_that_do_not_fit_a_register_are_refused(register: reg.Register, value: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        register.encode(value)


def test_no_two_registers_share_a_byte() -> None:
    used = [entry.address + i for entry in reg.REGISTERS for i in range(entry.width)]
    assert len(used) == len(set(used))
    assert max(used) < reg.MEMORY_BYTES


def test_registers_on_which_sources_disagree_are_listed() -> None:
    assert [register.address for register in reg.disputed_registers()] == [6, 7, 37, 38, 39, 65, 69, 84, 85, 86]
    assert reg.RETURN_DELAY.source is reg.Source.LEROBOT
