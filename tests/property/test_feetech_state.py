"""The driver decodes replies and encodes goals as the register table and the calibration define."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.firmware_bridge.host.calibration import JointScale
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.goal_packet import GoalPacket, speed_limit_counts
from sefa_edge.firmware_bridge.host.feetech.protocol import Instruction, decode, encode
from sefa_edge.firmware_bridge.host.feetech.servo_state import FRAME_BYTES, StateTable
from sefa_edge.firmware_bridge.host.messages import JointState
from sefa_edge.firmware_bridge.simulation.goal_ramp import GoalRamp
from sefa_edge.profiles.units import ms_to_ns

IDS = (3, 1, 250, 7)
SCALES = (
    JointScale(2047.5, 360 / 4095, 0, 4095),
    JointScale(3186, -100 / 1252, 1934, 3186),
    JointScale(1000.0, 360 / 4095, 0, 4095),
    JointScale(1934, 100 / 1252, 1934, 3186),
)
UNITS = (1, 50, 50, 1)
ARRAYS = (
    "joint_deg",
    "velocity_deg_s",
    "load_pct",
    "current_ma",
    "temperature_c",
    "status_bits",
    "valid_mask",
    "age_ns",
)

words = st.integers(0, 0xFFFF)
loads = st.integers(0, 0x7FF)
octets = st.integers(0, 255)
registers = st.builds(reg.STATE_BLOCK.layout.pack, words, words, loads, octets, octets, octets, octets, octets, words)
answers = st.tuples(*(st.tuples(octets, registers) for _ in IDS))
permutations = st.permutations(range(len(IDS)))


def frames(answered: tuple[tuple[int, bytes], ...]) -> list[bytes]:
    return [encode(servo_id, code, data) for servo_id, (code, data) in zip(IDS, answered, strict=True)]


def read(received: bytes, table: StateTable | None = None, stamp_ns: int = 1) -> JointState:
    table = table or StateTable(IDS, SCALES, UNITS)
    return table.joint_state(1, stamp_ns, table.update(received, stamp_ns))


def value_of(register: reg.Register, data: bytes) -> int:
    return register.decode(data[register.address - reg.STATE_BLOCK.address :])


@given(answers)
def test_every_value_is_decoded_from_its_register(answered: tuple[tuple[int, bytes], ...]) -> None:
    state = read(b"".join(frames(answered)))
    for i, (code, data) in enumerate(answered):
        assert state.joint_deg[i] == SCALES[i].to_joint(value_of(reg.PRESENT_POSITION, data))
        speed_deg_s = value_of(reg.PRESENT_SPEED, data) * UNITS[i] * SCALES[i].joint_per_tick
        assert state.velocity_deg_s[i] == pytest.approx(speed_deg_s)
        assert state.load_pct[i] == pytest.approx(value_of(reg.PRESENT_LOAD, data) * reg.LOAD_PCT)
        assert state.current_ma[i] == value_of(reg.PRESENT_CURRENT, data) * reg.CURRENT_MA
        assert state.temperature_c[i] == value_of(reg.PRESENT_TEMPERATURE, data)
        assert state.status_bits[i] == code | value_of(reg.STATUS, data)
    assert state.supply_mv == min(value_of(reg.PRESENT_VOLTAGE, data) for _, data in answered) * reg.VOLTAGE_MV
    assert state.valid_mask.all()
    assert not state.age_ns.any()


@given(answers, permutations, st.binary(max_size=12))
def test_order_noise_and_strangers_make_no_difference(
    answered: tuple[tuple[int, bytes], ...], order: list[int], noise: bytes
) -> None:
    whole = frames(answered)
    strangers = encode(9, 0, bytes(reg.STATE_BLOCK.count)) + encode(IDS[0], 0, b"\1\2")
    mixed = noise.replace(b"\xff", b"\0") + strangers + b"".join(whole[row] for row in order)
    for field in ARRAYS:
        assert np.array_equal(getattr(read(mixed), field), getattr(read(b"".join(whole)), field))


@given(answers, answers, st.data())
def test_a_servo_with_a_damaged_reply_keeps_its_last_one_which_ages(
    before: tuple[tuple[int, bytes], ...], after: tuple[tuple[int, bytes], ...], data: st.DataObject
) -> None:
    table = StateTable(IDS, SCALES, UNITS)
    first = read(b"".join(frames(before)), table, stamp_ns=100)
    row = data.draw(st.integers(0, len(IDS) - 1))
    damaged = bytearray(b"".join(frames(after)))
    # Not the length byte: the bytes that a wrong length takes in look like a frame once in 256 times.
    place = data.draw(st.sampled_from([i for i in range(FRAME_BYTES) if i != 3]))
    damaged[row * FRAME_BYTES + place] ^= 1 << data.draw(st.integers(0, 7))
    state = read(bytes(damaged), table, stamp_ns=130)
    assert state.valid_mask.tolist() == [i != row for i in range(len(IDS))]
    assert state.age_ns.tolist() == [30 if i == row else 0 for i in range(len(IDS))]
    assert state.joint_deg[row] == first.joint_deg[row]


def test_a_state_is_read_only() -> None:
    table = StateTable(IDS, SCALES, UNITS)
    whole = b"".join(encode(i, 0, bytes(reg.STATE_BLOCK.count)) for i in IDS)
    for received in (whole, whole[:-1]):
        state = read(received, table)
        for field in ARRAYS:
            assert not getattr(state, field).flags.writeable
            with pytest.raises(ValueError, match="read-only"):
                getattr(state, field)[0] = 1


def test_a_state_keeps_its_values_when_the_next_is_read() -> None:
    table = StateTable(IDS, SCALES, UNITS)
    first = read(b"".join(encode(i, 0, bytes(reg.STATE_BLOCK.count)) for i in IDS), table)
    kept = {field: getattr(first, field).copy() for field in ARRAYS}
    read(b"".join(encode(i, 32, b"\7" * reg.STATE_BLOCK.count) for i in IDS), table)
    for field in ARRAYS:
        assert np.array_equal(getattr(first, field), kept[field])


positions = st.lists(st.floats(-1e6, 1e6), min_size=len(IDS), max_size=len(IDS))
speeds = st.lists(st.integers(1, 0x7FFF), min_size=len(IDS), max_size=len(IDS))


@given(st.lists(positions, min_size=1, max_size=3), speeds)
def test_a_goal_is_one_sync_write_of_ticks_with_their_speeds(goals: list[list[float]], counts: list[int]) -> None:
    frame = GoalPacket(IDS, SCALES, counts)
    for joint_deg in goals:
        (packet,) = decode(frame.encode(joint_deg))
        assert packet.code == Instruction.SYNC_WRITE
        assert packet.parameters[:2] == bytes((reg.COMMAND_BLOCK.address, reg.COMMAND_BLOCK.count))
        entries = [packet.parameters[i : i + 8] for i in range(2, len(packet.parameters), 8)]
        assert [entry[0] for entry in entries] == list(IDS)
        for entry, scale, position, speed in zip(entries, SCALES, joint_deg, counts, strict=True):
            assert reg.COMMAND_BLOCK.layout.unpack(entry[1:]) == (0, scale.to_ticks(position), 0, speed)


def test_a_goal_of_another_arm_is_refused() -> None:
    with pytest.raises(ValueError, match="3 positions for 4 joints"):
        GoalPacket(IDS, SCALES, [1] * len(IDS)).encode([0.0] * 3)


def test_a_goal_for_six_servos_is_56_bytes() -> None:
    assert len(GoalPacket(range(1, 7), [SCALES[0]] * 6, [1] * 6).encode([0.0] * 6)) == 56


@given(st.floats(1, 1e5), st.sampled_from(SCALES), st.sampled_from([1, 50]))
def test_the_speed_of_a_goal_is_never_0_and_never_below_the_limit(
    velocity: float, scale: JointScale, unit: int
) -> None:
    counts = speed_limit_counts(velocity, scale, unit)
    wanted_ticks_s = velocity / abs(scale.joint_per_tick)
    assert 1 <= counts <= reg.MAX_SPEED_COUNTS
    assert (
        counts == reg.MAX_SPEED_COUNTS or wanted_ticks_s <= counts * unit * (1 + 1e-9) < wanted_ticks_s + unit * 1.001
    )


ticks_of_a_run = st.lists(st.tuples(st.floats(-1, 1), st.integers(0, 4)), min_size=1, max_size=40)


@given(ticks_of_a_run)
def test_the_speed_of_a_goal_does_not_slow_down_a_normal_run(run: list[tuple[float, int]]) -> None:
    """Goals every 10 ms, each at most the fastest step from the last, some late: lateness alone determines the lag."""
    limit_deg_s, scale, period_ns = 240.0, SCALES[0], ms_to_ns(10)
    speed_ticks_s = speed_limit_counts(limit_deg_s, scale, 1)
    ramp, goal_deg, latest_ms = GoalRamp(), 0.0, 0
    ramp.restart(scale.to_ticks(goal_deg))
    for tick, (step, late_ms) in enumerate(run):
        ramp.advance(tick * period_ns + ms_to_ns(late_ms))
        goal_deg += step * limit_deg_s / 100
        ramp.aim(scale.to_ticks(goal_deg), speed_ticks_s, math.inf)
        ramp.advance((tick + 1) * period_ns)
        latest_ms = max(latest_ms, late_ms)
        behind_ticks = abs(ramp.position_ticks - scale.to_ticks(goal_deg))
        assert behind_ticks <= speed_ticks_s * latest_ms / 1000 + 2
