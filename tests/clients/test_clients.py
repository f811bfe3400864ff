"""Other projects' programs for real arms accept the simulated arm."""

from __future__ import annotations

import json
import math
import re
from typing import cast

import pytest

from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.simulation.disturbances import Disturbances, DisturbedLine
from sefa_edge.profiles.units import SERVO_TICKS_PER_TURN
from tests.clients import vectors
from tests.clients.conftest import SERVO_IDS as IDS
from tests.clients.conftest import Stand
from tests.clients.environments import CLIENTS, client_environment

SCSERVO = ("scservo", "scservo_client.py")
RUSTYPOT = ("rustypot", "rustypot_client.py")
STS3215 = reg.MODEL_STS3215
COMM_SUCCESS, COMM_RX_TIMEOUT, COMM_RX_CORRUPT = 0, -6, -7  # scservo_sdk

pytestmark = pytest.mark.once


def radians_of(ticks: int) -> float:
    return (ticks - 2048) * math.tau / SERVO_TICKS_PER_TURN


def values(stand: Stand, register: reg.Register) -> list[int]:
    return [servo.register(register) for servo in stand.bus.servos]


# -- feetech-servo-sdk ----------------------------------------------------------------------------------------


def test_feetechs_sdk_sets_up_a_servo(stand: Stand) -> None:
    seen = stand.run_client(*SCSERVO, "set_up")
    assert seen["found"] == {str(servo_id): STS3215 for servo_id in IDS}
    assert (seen["gain_while_locked"], seen["gain"]) == (reg.P_COEFFICIENT.factory, 16)
    assert seen["found_then"] == {str(servo_id): STS3215 for servo_id in [*IDS[1:], 7]}
    assert stand.bus.servo(7).register(reg.LOCK) == 1


def test_feetechs_sdk_reads_moves_and_releases(stand: Stand) -> None:
    start = values(stand, reg.PRESENT_POSITION)
    seen = stand.run_client(*SCSERVO, "work")
    before = cast("dict[str, dict[str, int]]", seen["before"])
    assert [before[str(servo_id)]["position"] for servo_id in IDS] == start
    assert all((state["voltage"], state["temperature"], state["status"]) == (74, 30, 0) for state in before.values())
    assert seen["arrived"] == {str(servo_id): ticks + 100 for servo_id, ticks in zip(IDS, start, strict=True)}
    assert stand.bus.servo(2).register(reg.PRESENT_POSITION) == start[1] + 150  # REG_WRITE and ACTION
    assert seen["torque"] == values(stand, reg.TORQUE_ENABLE) == [0] * 6


def test_feetechs_sdk_crashes_with_an_echo(stand: Stand) -> None:
    stand.bus.echoes = True
    assert stand.run_client(*SCSERVO, "read_one") == {"crash": "list index out of range"}


def test_feetechs_sdk_detects_silence_noise_and_faults(stand: Stand) -> None:
    stand.bus.line = DisturbedLine(Disturbances(dropped=1.0))
    assert stand.run_client(*SCSERVO, "read_one")["outcome"] == COMM_RX_TIMEOUT
    stand.bus.line = DisturbedLine(Disturbances(bit_errors=0.2))
    assert stand.run_client(*SCSERVO, "read_one")["outcome"] in (COMM_RX_TIMEOUT, COMM_RX_CORRUPT)
    stand.bus.line = DisturbedLine(Disturbances())
    stand.bus.servo(1).supply_mv = 3500
    assert stand.run_client(*SCSERVO, "read_one") == {"model": STS3215, "outcome": COMM_SUCCESS, "error": 1}


# -- rustypot -------------------------------------------------------------------------------------------------


def test_rustypot_sets_up_a_servo(stand: Stand) -> None:
    seen = stand.run_client(*RUSTYPOT, "set_up")
    assert (seen["found"], seen["model"]) == (IDS, STS3215)
    assert (seen["gain_while_locked"], seen["gain"]) == (reg.P_COEFFICIENT.factory, 16)
    assert stand.bus.servo(1).register(reg.LOCK) == 1


def test_rustypot_reads_moves_and_releases(stand: Stand) -> None:
    start = values(stand, reg.PRESENT_POSITION)
    seen = stand.run_client(*RUSTYPOT, "work")
    before = cast("dict[str, list[float]]", seen["before"])
    assert before["present_position"] == pytest.approx([radians_of(ticks) for ticks in start], abs=0.01)
    assert (before["present_voltage"], before["present_temperature"]) == ([74] * 6, [30] * 6)
    raw = cast("list[list[int]]", seen["raw"])
    assert [reg.STATE_BLOCK.layout.unpack(bytes(block))[0] for block in raw] == start
    assert seen["arrived"] == pytest.approx(seen["goals"], abs=0.002)
    moved = [now - ticks for now, ticks in zip(values(stand, reg.PRESENT_POSITION), start, strict=True)]
    assert moved == pytest.approx([0.15 / math.tau * SERVO_TICKS_PER_TURN] * 6, abs=2)
    assert seen["torque"] == [False] * 6
    assert values(stand, reg.TORQUE_ENABLE) == [0] * 6


def test_rustypot_takes_an_echo_for_an_answer(stand: Stand) -> None:
    """It returns an invalid position without an error, which is why our own link detects echoes."""
    truth = radians_of(stand.bus.servo(6).register(reg.PRESENT_POSITION))
    assert stand.run_client(*RUSTYPOT, "read_one")["position"] == pytest.approx(truth, abs=0.01)
    stand.bus.echoes = True
    assert stand.run_client(*RUSTYPOT, "read_one").get("position") != pytest.approx(truth, abs=0.1)


# -- the packets of both, byte for byte ----------------------------------------------------------------------------


@pytest.mark.parametrize("client", vectors.SCRIPTS)
def test_the_stored_vectors_equal_the_packets_of_a_client(client: str) -> None:
    stored = json.loads(vectors.FILE.read_text())
    found = vectors.requests_of(client)
    assert [vector for vector in stored if vector["client"] == CLIENTS[client][0]] == found


# -- feetech-cli ----------------------------------------------------------------------------------------------


def feetech_cli(stand: Stand, *arguments: str) -> str:
    program = str(client_environment("feetech-cli") / "feetech-cli")
    line = ["--port", stand.port.path, "--baudrate", "1000000", "--timeout", "0.3", "--max-id", "7"]
    return stand.run([program, *line, *arguments]).stdout


@pytest.mark.parametrize("echoes", [False, True])
def test_feetech_cli_finds_all_servos_with_and_without_echo(stand: Stand, echoes: bool) -> None:
    stand.bus.echoes = echoes
    printed = feetech_cli(stand, "scan")
    found = re.findall(r"id +(\d+) +model +(\d+) +position +(\d+) .* 7\.4V +30C", printed)
    assert [[int(number) for number in servo] for servo in found] == [
        [servo_id, STS3215, ticks] for servo_id, ticks in zip(IDS, values(stand, reg.PRESENT_POSITION), strict=True)
    ]


def test_feetech_cli_reads_every_register(stand: Stand) -> None:
    printed = feetech_cli(stand, "info", "2", "--all")
    read = {int(address): int(value) for address, value in re.findall(r"addr +(\d+) +(-?\d+)", printed)}
    known = [register for register in reg.REGISTERS if register.address < reg.MOVING_THRESHOLD.address]
    assert read == {register.address: stand.bus.servo(2).register(register) for register in known}


def test_feetech_cli_sets_up_moves_and_releases(stand: Stand) -> None:
    feetech_cli(stand, "write", "1", "p_coefficient", "16")
    feetech_cli(stand, "set-id", "1", "7", "--yes")
    servo = stand.bus.servo(7)
    assert (servo.register(reg.P_COEFFICIENT), servo.register(reg.LOCK)) == (16, 1)
    feetech_cli(stand, "torque", "7", "on")
    feetech_cli(stand, "selftest", "7", "--moves", "2")
    feetech_cli(stand, "move", "7", "--position", "2200")
    assert servo.register(reg.GOAL_POSITION) == 2200
    feetech_cli(stand, "torque", "7", "off")
    assert servo.register(reg.TORQUE_ENABLE) == 0
