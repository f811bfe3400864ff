"""The one servo that is connected, whatever its id and speed; and writing both into its EEPROM, read back.

As LeRobot's setup-motors (0.4.4, lerobot/motors/feetech): every speed is asked, exactly one servo may answer.
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
from sefa_edge.firmware_bridge.service.found_servos import EVERY_ID, FoundServo, ask, broadcast_ping
from sefa_edge.firmware_bridge.service.opening import open_bus
from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.servo_models import model_numbers, servo_model

UNLOCKED, LOCKED = 0, 1
CONFIRM_ATTEMPTS = 5
WRITE_S = 0.02
"""Rest after a write to EEPROM, before it is read back."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a servo answers."""

    servo_id: int
    baud: int

    def __str__(self) -> str:
        return f"servo {self.servo_id} at {self.baud} baud"


def find_single_servo(port: str, allowed_models: tuple[str, ...]) -> Address:
    """The one servo on the bus, of a model that the arm profile allows. Reads only.

    Raises:
        ArmTimeout: none answers.
        InputError: more than one answers, or it is another model, or its torque is on.
        MissingError: no such port, no permission, or another program has it.
    """
    found = _ask_everywhere(port)
    if not found:
        raise ArmTimeout(
            f"no servo answers on {port} at any speed", "connect one servo to the board, and the board to its supply"
        )
    if len(found) > 1 or any(servo.clash for _, servo in found):
        raise InputError(
            f"more than one servo answers on {port}: {', '.join(str(address) for address, _ in found)}",
            "connect one servo alone: ids are given one at a time",
        )
    address, servo = found[0]
    _require_settable(address, servo, allowed_models)
    return address


def write_address(port: str, before: Address, after: Address) -> None:
    """Write id and speed: unlock, write, read back at the new address, lock. Each step is confirmed.

    Raises:
        ArmFault: a step is not confirmed; says how to find the servo again.
        MissingError: no such port, no permission, or another program has it.
    """
    try:
        _write_address(port, before, after)
    except BaseException as fault:
        _lock_wherever_it_is(port, before, after)
        if not isinstance(fault, ArmFault):
            raise
        raise ArmFault(
            f"{before} was to become {after}: {fault}",
            f"switch its supply off and on; `sefa-edge arm scan --port {port} --all-bauds` tells where it answers",
        ) from None


def _write_address(port: str, before: Address, after: Address) -> None:
    """EEPROM writes are dropped while register 55 says 1."""
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


def _lock_wherever_it_is(port: str, before: Address, after: Address) -> None:
    """After a failure half-way; what cannot be done then is told by the failure."""
    for baud in {before.baud, after.baud}:
        with suppress(SefaError), open_bus(port, baud) as bus:
            for servo_id in {before.servo_id, after.servo_id}:
                _set(bus, servo_id, LOCK, LOCKED)


def _ask_everywhere(port: str) -> list[tuple[Address, FoundServo]]:
    """All at once at every speed; where answers collide, every id is asked."""
    found: list[tuple[Address, FoundServo]] = []
    for baud in BAUD_RATES:
        with open_bus(port, baud) as bus:
            call = broadcast_ping(bus)  # one servo alone always answers to it: FT-SCS manual, PING
            found += _ask_ids(bus, EVERY_ID if call.garbled else call.servo_ids)
    return found


def _ask_ids(bus: ServoBus, servo_ids: Iterable[int]) -> list[tuple[Address, FoundServo]]:
    answers = [ask(bus, servo_id) for servo_id in dict.fromkeys(servo_ids)]
    return [(Address(servo.servo_id, bus.link.baud), servo) for servo in answers if servo is not None]


def _require_settable(address: Address, servo: FoundServo, allowed_models: tuple[str, ...]) -> None:
    if servo.model is None:
        raise InputError(f"{address} does not tell its model", "is it an STS servo? check its cable and its supply")
    if servo.model not in model_numbers(allowed_models):
        raise InputError(
            f"{address} is {servo_model(servo.model).full_name}, the arm profile allows {' or '.join(allowed_models)}",
            model_hint(servo.model, "this joint"),
        )
    if servo.torque != TORQUE_OFF:
        raise InputError(f"{address} holds: its torque is on", "switch its supply off and on, then try again")


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
