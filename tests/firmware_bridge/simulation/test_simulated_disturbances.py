"""Faults on the simulated wire: lost, late, duplicated, damaged and colliding replies; pulled plugs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sefa_edge.firmware_bridge.host.feetech import protocol
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import decode
from sefa_edge.firmware_bridge.simulation.bus import SimulatedBus
from sefa_edge.firmware_bridge.simulation.disturbances import Disturbances, DisturbedLine
from sefa_edge.firmware_bridge.simulation.kinematic import KinematicPlant
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.units import ms_to_ns

PROFILE = load_arm_profile("so101_sim")
IDS = [joint.servo_id for joint in PROFILE.joints]
READ_ALL = protocol.encode_sync_read(IDS, reg.STATE_BLOCK.address, reg.STATE_BLOCK.count)
PAUSE_NS = ms_to_ns(20)
PATIENCE_S = 60


class Bench:
    def __init__(self) -> None:
        self.now_ns = PAUSE_NS
        self.bus = SimulatedBus.of_arm(PROFILE, KinematicPlant.of_arm(PROFILE, lambda: self.now_ns))

    def disturb(self, **shares: float) -> None:
        self.bus.line = DisturbedLine(Disturbances(**shares))  # pyright: ignore[reportArgumentType] (no seed among them)

    def exchange(self, request: bytes) -> bytes:
        self.now_ns += PAUSE_NS
        return b"".join(reply.data for reply in self.bus.receive(request, self.now_ns))

    def answering(self, request: bytes) -> list[int]:
        return [packet.servo_id for packet in decode(self.exchange(request))]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_perfect_line_changes_nothing(bench: Bench) -> None:
    assert all(bench.answering(READ_ALL) == IDS for _ in range(50))


def test_replies_are_dropped_servo_by_servo(bench: Bench) -> None:
    bench.disturb(dropped=0.1)
    counts = [len(bench.answering(READ_ALL)) for _ in range(200)]
    assert sum(counts) == pytest.approx(0.9 * 6 * 200, rel=0.05)
    assert len(set(counts)) > 2


def test_replies_are_duplicated(bench: Bench) -> None:
    bench.disturb(duplicated=1.0)
    assert bench.answering(protocol.encode_ping(3)) == [3, 3]


def test_bits_flip_in_replies_and_in_requests(bench: Bench) -> None:
    bench.disturb(bit_errors=0.001)
    whole = sum(len(bench.answering(READ_ALL)) for _ in range(200))
    assert whole == pytest.approx(6 * 200 * 0.999 ** (21 * 8), rel=0.1)
    bench.disturb(request_bit_errors=0.01)
    assert 10 < sum(bench.answering(READ_ALL) == IDS for _ in range(200)) < 150


def test_late_replies_are_delayed_by_late_ms(bench: Bench) -> None:
    (usual,) = bench.bus.receive(READ_ALL, bench.now_ns)
    bench.disturb(late=1.0, late_ms=7.0)
    bench.now_ns += PAUSE_NS
    (late,) = bench.bus.receive(READ_ALL, bench.now_ns)
    assert late.due_ns - usual.due_ns == PAUSE_NS + ms_to_ns(7)


def test_the_same_seed_gives_the_same_faults(bench: Bench) -> None:
    noisy = Disturbances(bit_errors=0.01, dropped=0.2, seed=5)
    runs = []
    for _ in range(2):
        bench.bus.line = DisturbedLine(noisy)
        runs.append([bench.exchange(READ_ALL) for _ in range(10)])
    assert runs[0] == runs[1]


def test_the_option_is_parsed() -> None:
    found = Disturbances.from_text("dropped=0.01, bit_errors=1e-5,seed=3")
    assert found == Disturbances(dropped=0.01, bit_errors=1e-5, seed=3)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("dropt=0.1", "'dropt' is not a disturbance"),
        ("dropped", "dropped: expected a fraction from 0 to 1, got ''"),
        ("dropped=much", "dropped: expected a fraction from 0 to 1, got 'much'"),
        ("dropped=1.5", "dropped: expected a fraction from 0 to 1, got 1.5"),
        ("bit_errors=nan", "bit_errors: expected a fraction from 0 to 1, got 'nan'"),
        ("late_ms=inf", "late_ms: expected a time from 0 to 1000 ms, got 'inf'"),
        ("seed=1.5", "seed: expected a seed from 0 to 4294967295, got '1.5'"),
    ],
)
def test_invalid_options_are_refused(option: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Disturbances.from_text(option)


@pytest.mark.slow
def test_the_program_reports_an_invalid_option_in_one_line_with_a_hint() -> None:
    command = [sys.executable, "-m", "sefa_edge", "sim", "--disturb", "dropt=0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: 'dropt' is not a disturbance\nhint: known: bit_errors, ")
    assert len(done.stderr.splitlines()) == 2


# -- two servos with one id -----------------------------------------------------------------------------------


def clash(bench: Bench) -> None:
    """Give servo 2 the id of servo 1, which is at another position."""
    bench.bus.servo(2).set_register(reg.SERVO_ID, 1)


def test_replies_of_two_servos_with_one_id_collide(bench: Bench) -> None:
    clash(bench)
    bench.bus.servos[0].set_register(reg.P_COEFFICIENT, 0b0101)
    bench.bus.servos[1].set_register(reg.P_COEFFICIENT, 0b0110)
    received = bench.exchange(protocol.encode_read(1, reg.P_COEFFICIENT.address, 1))
    assert len(received) == protocol.reply_bytes(1)
    assert received[:5] == b"\xff\xff\x01\x03\x00"
    assert received[5] == 0b0100  # a 0 overrides a 1
    assert decode(received) == []  # and the checksum does not match


def test_two_identical_replies_at_once_look_like_one(bench: Bench) -> None:
    clash(bench)
    assert bench.answering(protocol.encode_ping(1)) == [1]


def test_both_servos_with_one_id_execute_a_write(bench: Bench) -> None:
    clash(bench)
    bench.exchange(protocol.encode_sync_write(reg.ACCELERATION.address, [(1, b"\x07"), (3, b"\x09")]))
    assert [servo.register(reg.ACCELERATION) for servo in bench.bus.servos[:3]] == [7, 7, 9]


# -- plugs and registers --------------------------------------------------------------------------------------


def test_an_unplugged_servo_is_silent_and_restarts_limp(bench: Bench) -> None:
    servo = bench.bus.servo(4)
    bench.exchange(protocol.encode_sync_write(reg.GOAL_POSITION.address, [(4, b"\x00\x09")]))
    assert servo.register(reg.TORQUE_ENABLE) == 1
    servo.unplug()
    assert bench.answering(READ_ALL) == [1, 2, 3, 5, 6]
    servo.plug_in()
    assert bench.answering(READ_ALL) == IDS
    assert servo.register(reg.TORQUE_ENABLE) == 0


def test_return_delay_may_be_a_reserved_register(bench: Bench) -> None:
    for servo in bench.bus.servos:
        servo.set_register(reg.RETURN_DELAY, 250)
    (delayed,) = bench.bus.receive(READ_ALL, bench.now_ns)
    for servo in bench.bus.servos:
        servo.return_delay_is_reserved = True
    bench.now_ns += PAUSE_NS
    (prompt,) = bench.bus.receive(READ_ALL, bench.now_ns)
    assert delayed.due_ns + PAUSE_NS - prompt.due_ns == 6 * 500_000
