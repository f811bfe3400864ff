"""The calls of a program with Feetech's SDK on an arm: `python scservo_client.py PORT set_up|work|read_one|send_all`.

Runs in an environment with `feetech-servo-sdk` and prints its results as a JSON object.
"""

# pyright: reportMissingImports=false

from __future__ import annotations

import json
import sys
import time

from scservo_sdk import COMM_SUCCESS, GroupSyncRead, GroupSyncWrite, PacketHandler, PortHandler

BAUD = 1_000_000
IDS = [1, 2, 3, 4, 5, 6]
NEW_ID = 7
TIMEOUT_MS = 1000
PATIENCE_S = 20.0
ID, P_GAIN, TORQUE, ACCELERATION, GOAL, LOCK, STATE = 5, 21, 40, 41, 42, 55, 56
STATE_REGISTERS = {"position": (56, 2), "speed": (58, 2), "load": (60, 2), "voltage": (62, 1), "temperature": (63, 1),
                   "status": (65, 1), "moving": (66, 1), "current": (69, 2)}  # fmt: skip


class PatientPort(PortHandler):
    """Waits longer: replies may be late on a busy machine, and the SDK would take a late one for the next reply."""

    def setPacketTimeout(self, packet_length: int) -> None:
        self.packet_start_time = self.getCurrentTime()
        self.packet_timeout = TIMEOUT_MS


port = PatientPort(sys.argv[1])
packet = PacketHandler(0)


def require(result: tuple[int, ...]) -> int:
    """The value of an answer that arrived and reports no fault."""
    *values, outcome, error = result
    assert outcome == COMM_SUCCESS, packet.getTxRxResult(outcome)
    assert error == 0, packet.getRxPacketError(error)
    return values[0] if values else 0


def scan() -> dict[int, int]:
    """Ids 1 to 7: model numbers of the servos that answer."""
    found = {servo_id: packet.ping(port, servo_id) for servo_id in range(1, 8)}
    return {servo_id: model for servo_id, (model, outcome, _) in found.items() if outcome == COMM_SUCCESS}


def state_of(servo_id: int) -> dict[str, int]:
    """Every state register, one by one."""
    read = {1: packet.read1ByteTxRx, 2: packet.read2ByteTxRx}
    return {name: require(read[width](port, servo_id, address)) for name, (address, width) in STATE_REGISTERS.items()}


def set_up() -> dict[str, object]:
    """Set up a new servo: EEPROM locked, then open, a gain, another id, locked again."""
    found = scan()
    require(packet.write1ByteTxRx(port, 1, P_GAIN, 16))
    gain_while_locked = require(packet.read1ByteTxRx(port, 1, P_GAIN))
    require(packet.write1ByteTxRx(port, 1, LOCK, 0))
    require(packet.write1ByteTxRx(port, 1, P_GAIN, 16))
    gain = require(packet.read1ByteTxRx(port, 1, P_GAIN))
    packet.write1ByteTxOnly(port, 1, ID, NEW_ID)  # the answer comes from the new id
    time.sleep(0.01)
    require(packet.write1ByteTxRx(port, NEW_ID, LOCK, 1))
    return {"found": found, "gain_while_locked": gain_while_locked, "gain": gain, "found_then": scan()}


def work() -> dict[str, object]:
    """Read all, move all at once, one with REG_WRITE and ACTION, and release."""
    before = {servo_id: state_of(servo_id) for servo_id in IDS}
    goals = {servo_id: before[servo_id]["position"] + 100 for servo_id in IDS}
    for servo_id in IDS:
        require(packet.write2ByteTxRx(port, servo_id, GOAL, before[servo_id]["position"]))
        require(packet.write1ByteTxRx(port, servo_id, TORQUE, 1))
    writer = GroupSyncWrite(port, packet, GOAL, 2)
    for servo_id, goal in goals.items():
        assert writer.addParam(servo_id, [goal & 0xFF, goal >> 8])
    assert writer.txPacket() == COMM_SUCCESS
    arrived = wait_for(goals)
    require(packet.regWriteTxRx(port, 2, GOAL, 2, [goals[2] + 50 & 0xFF, goals[2] + 50 >> 8]))
    assert packet.action(port, 254) == COMM_SUCCESS
    goals[2] += 50
    wait_for(goals)
    for servo_id in IDS:
        require(packet.write1ByteTxRx(port, servo_id, TORQUE, 0))
    torque = [require(packet.read1ByteTxRx(port, servo_id, TORQUE)) for servo_id in IDS]
    return {"before": before, "arrived": arrived, "goals": goals, "torque": torque}


def wait_for(goals: dict[int, int]) -> dict[int, int]:
    """The final positions, by sync reads of 15 bytes."""
    reader = GroupSyncRead(port, packet, STATE, 15)
    assert all(reader.addParam(servo_id) for servo_id in goals)
    deadline_s = time.monotonic() + PATIENCE_S
    positions: dict[int, int] = {}
    while time.monotonic() < deadline_s:
        if reader.txRxPacket() == COMM_SUCCESS:
            positions = {servo_id: reader.getData(servo_id, STATE, 2) for servo_id in goals}
        if positions == goals:
            break
    return positions


def read_one() -> dict[str, object]:
    """A ping and a read, and their results."""
    try:
        model, outcome, error = packet.ping(port, 1)
    except IndexError as crash:
        return {"crash": str(crash)}
    return {"model": model, "outcome": outcome, "error": error}


def send_all() -> list[list[object]]:
    """One packet of every kind, each named by the call that creates the same one here."""
    packet.ping(port, 3)  # also asks for the model
    packet.read2ByteTxRx(port, 2, 56)
    packet.write1ByteTxRx(port, 4, TORQUE, 1)
    packet.write2ByteTxRx(port, 5, GOAL, 2100)
    packet.writeTxRx(port, 1, ACCELERATION, 7, [20, 8, 7, 0, 0, 232, 3])
    packet.regWriteTxRx(port, 6, GOAL, 2, [8, 10])
    packet.action(port, 254)
    reader = GroupSyncRead(port, packet, STATE, 15)
    writer = GroupSyncWrite(port, packet, GOAL, 2)
    for servo_id in IDS:
        reader.addParam(servo_id)
        writer.addParam(servo_id, [servo_id, 8])
    reader.txRxPacket()
    writer.txPacket()
    packet.read1ByteTxRx(port, 1, TORQUE)  # once this is answered, everything has been received
    return [
        ["encode_ping", 3],
        ["encode_read", 3, 3, 2],
        ["encode_read", 2, 56, 2],
        ["encode_write", 4, TORQUE, "01"],
        ["encode_write", 5, GOAL, "3408"],
        ["encode_write", 1, ACCELERATION, "1408070000e803"],
        ["encode_reg_write", 6, GOAL, "080a"],
        ["encode_action"],
        ["encode_sync_read", IDS, STATE, 15],
        ["encode_sync_write", GOAL, [[servo_id, f"0{servo_id}08"] for servo_id in IDS]],
        ["encode_read", 1, TORQUE, 1],
    ]


if __name__ == "__main__":
    assert port.openPort()
    assert port.setBaudRate(BAUD)
    print(json.dumps({"set_up": set_up, "work": work, "read_one": read_one, "send_all": send_all}[sys.argv[2]]()))
    port.closePort()
