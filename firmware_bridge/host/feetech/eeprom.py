"""Writing one servo's registers, each read back, and its EEPROM behind the lock.

A servo keeps what is written below register 40 only while its lock (register 55) is 0. Feetech names no number of
writes that the EEPROM endures; memories of this kind are usually good for ten thousand and more. So: only what differs
is written, a write is repeated only when the old value was read, and never in a loop.
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
"""How often a register is written and read back before the servo counts as unwilling."""

LOCK_ATTEMPTS = 10
"""The same for the lock at the end: a servo that fell silent for a moment must not stay open."""

BURN_NS = ms_to_ns(10)
"""Rest before a written register is read back: while a memory of this kind is burnt, it may tell its old value."""

OPEN, LOCKED = 0, 1
HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Servo:
    """A servo, and what to call it."""

    servo_id: int
    joint: str


class EepromLeftOpen(ArmFault):
    """A servo did not confirm that its EEPROM is locked again."""

    def __init__(self, servo: Servo, reason: BaseException | None) -> None:
        why = "" if reason is None else f"{reason}; and "
        super().__init__(
            f"{why}servo {servo.servo_id} ({servo.joint}) did not confirm that its EEPROM is locked again",
            "do the same again, or switch the supply of the arm off and on: either locks it",
        )


def read_register(bus: ServoBus, servo_id: int, register: Register) -> int | None:
    """The raw value that the servo tells twice in a row; None: it does not. Raises ArmDisconnected.

    Twice, because one checksum of eight bits lets a damaged answer pass now and then, and what is read here decides
    what is written.
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
    """Write a raw value and read it back; nothing is written when it is there already.

    Raises:
        ArmUnconfirmed: the servo keeps silent, or keeps another value.
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
    """The EEPROM of this one servo may be written inside; afterwards it is locked, and the lock was read back.

    It is locked also when something fails inside, and Ctrl-C and the like are held back until then.

    Raises:
        EepromLeftOpen: the lock was not confirmed, as when the port is gone; says also what failed before.
        ArmUnconfirmed: the servo does not open its EEPROM, which is locked.
    """
    with _signals_held_back():
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
    """One register, raw."""
    return Block(register.address, Struct(f"{register.width}s"))


@contextmanager
def _signals_held_back() -> Iterator[None]:
    """What would end this program in between waits until afterwards; an error that ends it anyway goes first.

    Not by a signal mask: that of one thread leaves the signal to another, and Python still raises in the main one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals do not end this thread
        return
    caught: list[int] = []
    before = {number: signal.signal(number, lambda got, _: caught.append(got)) for number in HELD_BACK}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    for number in caught[:1]:
        signal.raise_signal(number)
