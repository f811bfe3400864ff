"""Feeds damaged bytes to the decoder and the driver for a given time. Run it from the repository's root:

    python -m tests.property.fuzz_feetech --seconds 600 --seed 1

Unlike the tests of `test_feetech_machine.py` it keeps no history and does not shrink, so it tries about ten thousand
streams per second. Every stream is real traffic, damaged up to four times. The result is compared with an independent
byte-by-byte decoder: every accepted frame has the right checksum, id and length, and no valid frame is missed unless it
lies inside another possible frame. On a failure it prints the seed of the stream and exits with code 1.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Iterator
from random import Random

from sefa_edge.firmware_bridge.host.calibration import JointScale
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import MAX_PACKET_BYTES, Packet, PacketDecoder, decode, encode
from sefa_edge.firmware_bridge.host.feetech.servo_state import FRAME_BYTES, StateTable
from tests.property.feetech_damage import DAMAGES

IDS = (1, 2, 3, 4, 5, 6)
SCALE = JointScale(2047.5, 360 / 4095, 0, 4095)
MAX_DAMAGES = 4
PROBE = Packet(7, 1, b"")


def traffic(rng: Random) -> bytes:
    """Replies of six servos."""
    return b"".join(encode(i, rng.randrange(256), rng.randbytes(reg.STATE_BLOCK.count)) for i in IDS)


def damaged(data: bytes, rng: Random) -> bytes:
    for _ in range(rng.randint(0, MAX_DAMAGES)):
        data = rng.choice(DAMAGES)(data, rng)
    return data


def frames_by_hand(data: bytes) -> list[bytes]:
    """Frames in order of appearance, by the simplest possible decoder."""
    found, offset = [], 0
    while offset + 6 <= len(data):
        length = data[offset + 3]
        stop = offset + 4 + length
        good = (
            data[offset : offset + 2] == b"\xff\xff" and data[offset + 2] != 0xFF and length >= 2 and stop <= len(data)
        )
        if good and sum(data[offset + 2 : stop]) % 256 == 255:
            found.append(data[offset:stop])
            offset = stop
        else:
            offset += 1
    return found


def try_stream(seed: int) -> None:
    """One stream through the decoder, whole and in pieces, and through the table of states. Raises AssertionError."""
    rng = Random(seed)
    stream = damaged(traffic(rng), rng)
    expected = frames_by_hand(stream)
    assert [encode(p.servo_id, p.code, p.parameters) for p in decode(stream)] == expected
    _try_pieces(stream, rng)
    _try_table(stream, expected)


def _try_pieces(stream: bytes, rng: Random) -> None:
    decoder, rest = PacketDecoder(), stream
    while rest:
        count = rng.randint(1, 40)
        for packet in decoder.feed(rest[:count]):
            assert encode(packet.servo_id, packet.code, packet.parameters) in stream
        rest = rest[count:]
    probes = encode(PROBE.servo_id, PROBE.code) * (MAX_PACKET_BYTES // 6 + 2)
    assert decoder.feed(probes)[-1] == PROBE, "the decoder does not recover"


def _try_table(stream: bytes, expected: list[bytes]) -> None:
    table = StateTable(IDS, [SCALE] * len(IDS), [1] * len(IDS))
    valid = table.update(stream, 1)
    newest = {frame[2]: frame for frame in expected if len(frame) == FRAME_BYTES}
    assert valid.tolist() == [servo_id in newest for servo_id in IDS]
    state = table.joint_state(1, 1, valid)
    for row, servo_id in enumerate(IDS):
        ticks = reg.PRESENT_POSITION.decode(newest[servo_id][5:7]) if servo_id in newest else 0
        assert state.joint_deg[row] == SCALE.to_joint(ticks)


def seeds_until(first: int, seconds: float) -> Iterator[int]:
    end_s = time.monotonic() + seconds
    for seed in itertools.count(first):
        if time.monotonic() >= end_s:
            return
        yield seed


def main() -> int:
    parser = argparse.ArgumentParser(description="Damaged bytes for the decoder and the driver.")
    parser.add_argument("--seconds", type=float, default=60.0, metavar="S")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="first seed; a failing seed is printed")
    args = parser.parse_args()
    seed = args.seed - 1
    for seed in seeds_until(args.seed, args.seconds):
        try:
            try_stream(seed)
        except Exception as error:  # the seed reproduces any failure
            print(f"seed {seed}: {type(error).__name__}: {error}", file=sys.stderr)
            return 1
    print(f"{seed + 1 - args.seed} streams, seeds {args.seed} to {seed}, no failure")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
