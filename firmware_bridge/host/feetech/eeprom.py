"""Writing one servo's registers, each read back, and locking its EEPROM again.

A servo keeps what is written below register 40 only while its lock (register 55) is 0. Feetech does not specify how
many writes the EEPROM endures; ten thousand or more is usual for this kind of memory. So only values that differ are
written, a write is repeated only after the old value was read back, and the number of attempts is bounded.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from struct import Struct

from sefa_edge.firmware_bridge.host.errors import ArmFault, ArmUnconfirmed
from sefa_edge.firmware_bridge.host.feetech.registers import LOCK, Block, Register
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.profiles.units import ms_to_ns

ATTEMPTS = 5
"""How often a register is written and read back before it counts as failed."""

LOCK_ATTEMPTS = 10
"""The same for the lock at the end: a servo that misses a few requests must not stay unlocked."""

BURN_NS = ms_to_ns(10)
"""Wait before a written register is read back: during an EEPROM write the old value may still be read."""

OPEN, LOCKED = 0, 1
DEFERRED_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Servo:
    """A servo, and the joint that it drives, for messages."""

    servo_id: int
    joint: str


class EepromLeftOpen(ArmFault):
    """A servo did not confirm that its EEPROM is locked."""

    def __init__(self, servo: Servo, reason: BaseException | None) -> None:
        why = "" if reason is None else f"{reason}; and "
        super().__init__(
            f"{why}servo {servo.servo_id} ({servo.joint}) did not confirm that its EEPROM is locked again",
            "repeat the command, or switch the supply of the arm off and on: either locks it",
        )


def read_register(bus: ServoBus, servo_id: int, register: Register) -> int | None:
    """The raw value that two consecutive readings agree on; None: there is none. Raises ArmDisconnected.

    Two readings, because a damaged answer sometimes passes the 8-bit checksum, and this value decides what is written.
    """
    block, earlier = register_block(register), None
    for _ in range(ATTEMPTS):
        answer = bus.sync_read((servo_id,), block).get(servo_id)
        value = None if answer is None else int.from_bytes(answer.parameters, "little")
        if value is not None and value == earlier:
            return value
        earlier = value
    return None


def write_register(bus: ServoBus, servo: Servo, register: Register, value: int, attempts: int = ATTEMPTS) -> None:
    """Write a raw value and read it back; nothing is written if the register already has it.

    Raises:
        ArmUnconfirmed: the servo does not answer, or keeps another value.
        ArmDisconnected: the port is gone.
    """
    for _ in range(attempts):
        found = read_register(bus, servo.servo_id, register)
        if found == value:
            return
        if found is not None:
            data = value.to_bytes(register.width, "little")
            bus.sync_write(register.address, [(servo.servo_id, data)])
            bus.link.rest(0 if register is LOCK else BURN_NS)
    if read_register(bus, servo.servo_id, register) != value:
        raise ArmUnconfirmed((servo.joint,), f"keep {register.name} {value} (register {register.address})")


@contextmanager
def open_eeprom(bus: ServoBus, servo: Servo) -> Iterator[None]:
    """Unlock the EEPROM of this one servo inside the block, and lock it afterwards, also after an error.

    The lock is read back. Ctrl-C and similar signals are deferred until then.

    Raises:
        EepromLeftOpen: the lock was not confirmed, for example because the port is gone; also reports an earlier error.
        ArmUnconfirmed: the servo did not unlock its EEPROM; it is locked.
    """
    with _signals_deferred():
        failure: BaseException | None = None
        try:
            write_register(bus, servo, LOCK, OPEN)
            yield
        except BaseException as error:
            failure = error
            raise
        finally:
            _lock(bus, servo, failure)


def _lock(bus: ServoBus, servo: Servo, failure: BaseException | None) -> None:
    try:
        write_register(bus, servo, LOCK, LOCKED, LOCK_ATTEMPTS)
    except ArmFault as error:
        raise EepromLeftOpen(servo, failure or error) from failure


def register_block(register: Register) -> Block:
    """A block of one register, raw."""
    return Block(register.address, Struct(f"{register.width}s"))


@contextmanager
def _signals_deferred() -> Iterator[None]:
    """Deliver signals that would end this program after the block; an exception from the block takes precedence.

    Not done with a signal mask: a signal masked in one thread goes to another, and Python still raises in the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals do not end this thread
        return
    caught: list[int] = []
    before = {number: signal.signal(number, lambda got, _: caught.append(got)) for number in DEFERRED_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    for number in caught[:1]:
        signal.raise_signal(number)
