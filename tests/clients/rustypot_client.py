"""The calls of a program that uses rustypot on an arm: `python rustypot_client.py PORT set_up|work|read_one|send_all`.

Runs in an environment with `rustypot` and prints its results as a JSON object. Angles are radians, 0 at tick 2048.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import json
import sys
import time

import rustypot

BAUD = 1_000_000
TIMEOUT_S = 1.0
IDS = [1, 2, 3, 4, 5, 6]
PATIENCE_S = 20.0
NEAR_RADIANS = 0.002
STATE, STATE_BYTES = 56, 15
STATE_REGISTERS = ("present_position", "present_velocity", "present_load", "present_voltage", "present_temperature",
                   "status", "moving", "present_current")  # fmt: skip

arm = rustypot.Sts3215PyController(sys.argv[1], BAUD, TIMEOUT_S)


def set_up() -> dict[str, object]:
    """EEPROM locked, then open, a gain, another id, locked again."""
    found = [servo_id for servo_id in range(1, 8) if arm.ping(servo_id)]
    arm.write_p_coefficient(1, 16)
    gain_while_locked = arm.read_p_coefficient(1)[0]
    arm.write_lock(1, False)
    arm.write_p_coefficient(1, 16)
    gain = arm.read_p_coefficient(1)[0]
    arm.write_lock(1, True)
    return {"found": found, "model": arm.read_model(1)[0], "gain_while_locked": gain_while_locked, "gain": gain}


def work() -> dict[str, object]:
    """Read all, move all at once, and release."""
    before = {name: getattr(arm, f"sync_read_{name}")(IDS) for name in STATE_REGISTERS}
    raw = [list(block) for block in arm.sync_read_raw_data(IDS, STATE, STATE_BYTES)]
    arm.sync_write_goal_position(IDS, before["present_position"])
    arm.sync_write_torque_enable(IDS, [True] * len(IDS))
    goals = [position + 0.15 for position in before["present_position"]]
    arm.sync_write_goal_position(IDS, goals)
    deadline_s = time.monotonic() + PATIENCE_S
    arrived = arm.sync_read_present_position(IDS)
    while max(abs(a - b) for a, b in zip(arrived, goals, strict=True)) > NEAR_RADIANS and time.monotonic() < deadline_s:
        arrived = arm.sync_read_present_position(IDS)
    arm.sync_write_torque_enable(IDS, [False] * len(IDS))
    torque = [arm.read_torque_enable(servo_id)[0] for servo_id in IDS]
    return {"before": before, "raw": raw, "goals": goals, "arrived": arrived, "torque": torque}


def read_one() -> dict[str, object]:
    """Read one position; returns the error if it fails."""
    try:
        return {"position": arm.read_present_position(6)[0]}
    except BaseException as error:  # a panic of rustypot is not an Exception
        return {"error": f"{type(error).__name__}: {error}"}


def send_all() -> list[list[object]]:
    """One packet of every kind, each named by the call that creates the same one here."""
    arm.ping(3)
    arm.read_raw_data(2, 56, 2)
    arm.write_raw_data(5, 42, [0x34, 0x08])
    arm.sync_read_raw_data(IDS, STATE, STATE_BYTES)
    arm.sync_write_raw_data([1, 2], 42, [[0x08, 0x07], [0x34, 0x08]])
    arm.sync_write_raw_data([6], 41, [[0x14, 0x08, 0x07, 0, 0, 0xE8, 0x03]])
    arm.read_raw_data(1, 40, 1)  # once this is answered, everything has been received
    return [
        ["encode_ping", 3],
        ["encode_read", 2, 56, 2],
        ["encode_write", 5, 42, "3408"],
        ["encode_sync_read", IDS, STATE, STATE_BYTES],
        ["encode_sync_write", 42, [[1, "0807"], [2, "3408"]]],
        ["encode_sync_write", 41, [[6, "1408070000e803"]]],
        ["encode_read", 1, 40, 1],
    ]


if __name__ == "__main__":
    print(json.dumps({"set_up": set_up, "work": work, "read_one": read_one, "send_all": send_all}[sys.argv[2]]()))
