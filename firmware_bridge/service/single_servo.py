"""Find the one servo that is connected, whatever its id and speed, and write both to its EEPROM, read back.

As LeRobot's setup-motors (0.4.4, lerobot/motors/feetech): all speeds are tried, exactly one servo may answer.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from sefa_edge.firmware_bridge.host.errors import ArmFault, ArmTimeout
from sefa_edge.firmware_bridge.host.feetech.identity import model_hint
from sefa_edge.firmware_bridge.host.feetech.registers import (
    BAUD_RATE,
    BAUD_RATES,
    LOCK,
    SERVO_ID,
    TORQUE_OFF,
    Block,
    Register,
)
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.firmware_bridge.service.found_servos import EVERY_ID, FoundServo, broadcast_ping, probe
from sefa_edge.firmware_bridge.service.opening import open_bus
from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.servo_models import model_numbers, servo_model

UNLOCKED, LOCKED = 0, 1
CONFIRM_ATTEMPTS = 5
WRITE_S = 0.02
"""Wait after a write to EEPROM, before it is read back."""


@dataclass(frozen=True, slots=True)
class Address:
    """Id and speed at which a servo answers."""

    servo_id: int
    baud: int

    def __str__(self) -> str:
        return f"servo {self.servo_id} at {self.baud} baud"


def find_single_servo(port: str, allowed_models: tuple[str, ...]) -> Address:
    """The one servo on the bus, of a model that the arm profile allows. Reads only.

    Raises:
        ArmTimeout: none answers.
        InputError: more than one answers, or its model is not allowed, or its torque is on.
        MissingError: no such port, no permission, or another program uses it.
    """
    found = _probe_all_speeds(port)
    if not found:
        raise ArmTimeout(
            f"no servo answers on {port} at any speed", "connect one servo to the board, and the board to its supply"
        )
    if len(found) > 1 or any(servo.clash for _, servo in found):
        raise InputError(
            f"more than one servo answers on {port}: {', '.join(str(address) for address, _ in found)}",
            "connect one servo alone: ids are set one at a time",
        )
    address, servo = found[0]
    _require_settable(address, servo, allowed_models)
    return address


def write_address(port: str, before: Address, after: Address) -> None:
    """Write id and speed: unlock, write, read back at the new address, lock. Each step is confirmed.

    Raises:
        ArmFault: a step is not confirmed; the hint says how to find the servo again.
        MissingError: no such port, no permission, or another program uses it.
    """
    try:
        _write_address(port, before, after)
    except BaseException as fault:
        _lock_at_either(port, before, after)
        if not isinstance(fault, ArmFault):
            raise
        raise ArmFault(
            f"{before} was not changed to {after}: {fault}",
            f"switch its supply off and on; `sefa-edge arm scan --port {port} --all-bauds` shows where it answers",
        ) from None


def _write_address(port: str, before: Address, after: Address) -> None:
    """Servos ignore EEPROM writes while register 55 is 1."""
    with open_bus(port, before.baud) as bus:
        _set(bus, before.servo_id, LOCK, UNLOCKED)
        _confirm(bus, before.servo_id, LOCK, UNLOCKED)
        if after.servo_id != before.servo_id:
            _set(bus, before.servo_id, SERVO_ID, after.servo_id)
            _confirm(bus, after.servo_id, SERVO_ID, after.servo_id)
        if after.baud != before.baud:
            _set(bus, after.servo_id, BAUD_RATE, BAUD_RATES.index(after.baud))
    with open_bus(port, after.baud) as bus:
        _confirm(bus, after.servo_id, SERVO_ID, after.servo_id)
        _confirm(bus, after.servo_id, BAUD_RATE, BAUD_RATES.index(after.baud))
        _set(bus, after.servo_id, LOCK, LOCKED)
        _confirm(bus, after.servo_id, LOCK, LOCKED)


def _lock_at_either(port: str, before: Address, after: Address) -> None:
    """Lock the servo after a failure, whichever address it has; errors are ignored in favour of that failure."""
    for baud in {before.baud, after.baud}:
        with suppress(SefaError), open_bus(port, baud) as bus:
            for servo_id in {before.servo_id, after.servo_id}:
                _set(bus, servo_id, LOCK, LOCKED)


def _probe_all_speeds(port: str) -> list[tuple[Address, FoundServo]]:
    """Broadcast ping at every speed; if answers collide, every id is probed."""
    found: list[tuple[Address, FoundServo]] = []
    for baud in BAUD_RATES:
        with open_bus(port, baud) as bus:
            answers = broadcast_ping(bus)  # a single servo always answers it: FT-SCS manual, PING
            found += _probe_ids(bus, EVERY_ID if answers.garbled else answers.servo_ids)
    return found


def _probe_ids(bus: ServoBus, servo_ids: Iterable[int]) -> list[tuple[Address, FoundServo]]:
    answers = [probe(bus, servo_id) for servo_id in dict.fromkeys(servo_ids)]
    return [(Address(servo.servo_id, bus.link.baud), servo) for servo in answers if servo is not None]


def _require_settable(address: Address, servo: FoundServo, allowed_models: tuple[str, ...]) -> None:
    if servo.model is None:
        raise InputError(f"{address} does not report its model", "is it an STS servo? check its cable and its supply")
    if servo.model not in model_numbers(allowed_models):
        raise InputError(
            f"{address} is {servo_model(servo.model).full_name}, the arm profile allows {' or '.join(allowed_models)}",
            model_hint(servo.model, "this joint"),
        )
    if servo.torque != TORQUE_OFF:
        raise InputError(f"the torque of {address} is on", "switch its supply off and on, then try again")


def _set(bus: ServoBus, servo_id: int, register: Register, value: int) -> None:
    bus.sync_write(register.address, [(servo_id, register.encode(value))])
    time.sleep(WRITE_S)


def _confirm(bus: ServoBus, servo_id: int, register: Register, value: int) -> None:
    block = Block(register.address, struct.Struct("<B"))
    for _ in range(CONFIRM_ATTEMPTS):
        answer = bus.sync_read((servo_id,), block).get(servo_id)
        if answer is not None and answer.parameters[0] == value:
            return
    raise ArmFault(f"servo {servo_id} did not confirm {value} in register {register.address} ({register.name})")
