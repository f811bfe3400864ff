"""The servos' settings: read, compared with the arm profile, and written where they differ.

When a setting may be written:

    volatile (register 48, and the lock 55)    always, with torque on or off
    EEPROM, and register 85                    only on demand, and only while no servo holds

A new gain changes at once how hard a holding motor pulls, and what a servo's controller does during an EEPROM write is
not documented: so the EEPROM of a holding arm is not written, and the torque is never switched off for it. A lower
torque limit is written at once; it protects, and the next torque-on would set it anyway.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from struct import Struct

from sefa_edge.firmware_bridge.host.errors import ArmTimeout, ArmUnconfirmed
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.eeprom import (
    ATTEMPTS,
    Servo,
    open_eeprom,
    read_register,
    register_block,
    write_register,
)
from sefa_edge.firmware_bridge.host.feetech.protocol import Packet
from sefa_edge.firmware_bridge.host.feetech.registers import Block, Register
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus
from sefa_edge.firmware_bridge.host.feetech.settings_table import (
    REQUIRED,
    SETTINGS,
    Comparison,
    Difference,
    Setting,
    by_text,
    protections,
)
from sefa_edge.firmware_bridge.host.messages import Preparation
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.servo_settings import ServoSettings

BLOCKS = (Block(reg.RETURN_DELAY.address, Struct("33s")), Block(reg.TORQUE_ENABLE.address, Struct("16s")),
          Block(reg.MAX_ACCELERATION.address, Struct("1s")))  # fmt: skip
"""Registers 7..39, 40..55 and 85, which hold all settings."""

TEXT_BYTES = 240
"""Maximum length of one text of a `Preparation`."""


def prepare(bus: ServoBus, profile: ArmProfile) -> Preparation:
    """Prepare the arm of a run: write volatile settings that differ, report EEPROM settings that differ.

    Raises:
        InputError: a servo lacks a protection that the profile requires.
        ArmTimeout, ArmUnconfirmed, ArmDisconnected: a servo does not answer or confirm, or the port is gone.
    """
    comparison = compare(bus, profile)
    _require_protection(comparison)
    write_volatile(bus, comparison.volatile)
    return Preparation(
        _sentence("servo settings written: ", comparison.volatile, comparison.joints, ""),
        _sentence(
            "note: not written to the servos' EEPROM (servo -> profile): ",
            comparison.kept,
            comparison.joints,
            "; see `sefa-edge arm configure`",
        ),
    )


def compare(bus: ServoBus, profile: ArmProfile) -> Comparison:
    """Read all settings of all servos (three sync reads) and compare. Writes nothing.

    Raises:
        ArmTimeout: a servo does not answer.
        ArmDisconnected: the port is gone.
    """
    servos = [Servo(joint.servo_id, joint.name) for joint in profile.joints]
    memories = _read_memories(bus, servos)
    chosen = list(zip(servos, profile.servo_settings(), strict=True))
    found = [
        _difference(servo, setting, settings, memories[servo.servo_id])
        for setting in (*SETTINGS, *REQUIRED)
        for servo, settings in chosen
    ]
    return Comparison(
        tuple(difference for difference in found if difference is not None),
        tuple(servo.joint for servo in servos if _raw(memories[servo.servo_id], reg.TORQUE_ENABLE)),
        len(servos),
    )


def write_volatile(bus: ServoBus, differences: Iterable[Difference]) -> None:
    """Write volatile settings, each read back.

    Raises:
        ArmUnconfirmed: a servo does not answer, or keeps another value.
        ArmDisconnected: the port is gone.
    """
    for register, alike in groupby(differences, lambda difference: difference.setting.register):
        write_volatile_register(bus, register, {difference.servo: difference.wanted for difference in alike})


def write_volatile_register(bus: ServoBus, register: Register, wanted: Mapping[Servo, int]) -> None:
    """Write one volatile register of several servos at once, where it differs, and read it back.

    Raises as `write_volatile` does.
    """
    missing = dict(wanted)
    for attempt in range(ATTEMPTS + 1):
        answers = bus.sync_read([servo.servo_id for servo in missing], register_block(register))
        found = {servo: _raw_value(answers.get(servo.servo_id)) for servo in missing}
        missing = {servo: value for servo, value in missing.items() if found[servo] != value}
        if not missing:
            return
        wrong = {servo: value for servo, value in missing.items() if found[servo] is not None}
        if wrong and attempt < ATTEMPTS:
            data = [(servo.servo_id, value.to_bytes(register.width, "little")) for servo, value in wrong.items()]
            bus.sync_write(register.address, data)
    raise ArmUnconfirmed(tuple(servo.joint for servo in missing), f"keep its {register.name} ({register.address})")


def write_eeprom(bus: ServoBus, comparison: Comparison) -> None:
    """Write the EEPROM settings that differ, each read back, one servo after the other; each is locked again.

    Raises:
        InputError: a servo holds; nothing was written.
        EepromLeftOpen: the lock of a servo was not confirmed.
        ArmUnconfirmed: a servo does not answer, or keeps another value; it is locked.
        ArmDisconnected: the port is gone.
    """
    if comparison.holding and comparison.kept:
        raise InputError(
            f"the torque of {', '.join(comparison.holding)} is on: its EEPROM was not written",
            "lay the arm down and release it (`sefa-edge arm free`), then repeat this",
        )
    for servo, differences in groupby(sorted(comparison.kept, key=_servo_id), lambda difference: difference.servo):
        with open_eeprom(bus, servo):
            for difference in differences:
                _write_kept(bus, difference)


def volatile_registers(profile: ArmProfile) -> dict[Register, dict[Servo, int]]:
    """Registers that a power cut resets, with the raw values of the profile."""
    wanted: dict[Register, dict[Servo, int]] = {}
    for joint, settings in zip(profile.joints, profile.servo_settings(), strict=True):
        for setting in (setting for setting in SETTINGS if setting.volatile):
            value = setting.chosen(settings)
            if value is not None:
                servo = Servo(joint.servo_id, joint.name)
                wanted.setdefault(setting.register, {})[servo] = setting.raw(value, 0)
    return wanted


def _servo_id(difference: Difference) -> int:
    return difference.servo.servo_id


def _write_kept(bus: ServoBus, difference: Difference) -> None:
    setting, wanted = difference.setting, difference.wanted
    if setting.bits:  # keep the other bits
        found = read_register(bus, difference.servo.servo_id, setting.register)
        wanted = wanted if found is None else found & ~setting.bits | wanted & setting.bits
    write_register(bus, difference.servo, setting.register, wanted)


def _difference(servo: Servo, setting: Setting, settings: ServoSettings, memory: bytearray) -> Difference | None:
    value, found = setting.chosen(settings), _raw(memory, setting.register)
    wanted = found if value is None else setting.raw(value, found)
    return None if wanted == found else Difference(servo, setting, found, wanted)


def _raw_value(answer: Packet | None) -> int | None:
    return None if answer is None else int.from_bytes(answer.parameters, "little")


def _raw(memory: bytearray, register: Register) -> int:
    return int.from_bytes(memory[register.address : register.address + register.width], "little")


def _read_memories(bus: ServoBus, servos: Sequence[Servo]) -> dict[int, bytearray]:
    memories = {servo.servo_id: bytearray(reg.MEMORY_BYTES) for servo in servos}
    for block in BLOCKS:
        missing = dict.fromkeys(memories)
        for _ in range(ATTEMPTS):
            for servo_id, answer in bus.sync_read(tuple(missing), block).items():
                if servo_id in missing:
                    memories[servo_id][block.address : block.address + block.count] = answer.parameters
                    del missing[servo_id]
            if not missing:
                break
        silent = [f"{servo.servo_id} ({servo.joint})" for servo in servos if servo.servo_id in missing]
        if silent:
            raise ArmTimeout(
                f"servo {', '.join(silent)} does not report its settings", "check its cable and its supply"
            )
    return memories


def _require_protection(comparison: Comparison) -> None:
    for difference in comparison.kept:
        lacking = difference.wanted & ~difference.found
        if difference.setting.register is reg.UNLOAD_CONDITION and lacking:
            raise InputError(
                f"servo {difference.servo.servo_id} ({difference.servo.joint}) does not protect itself against "
                f"{', '.join(protections(lacking))} (register {reg.UNLOAD_CONDITION.address})",
                "`sefa-edge arm configure --write-eeprom` sets that; or change `unload_on` in the arm profile",
            )


def _sentence(begin: str, differences: Sequence[Difference], joints: int, end: str) -> str:
    """All differences on one line of at most TEXT_BYTES; empty if nothing differs."""
    if not differences:
        return ""
    pieces = [f"{text} ({_joint_text(servos, joints)})" for text, servos in by_text(differences).items()]
    for count in range(len(pieces), 0, -1):
        more = f", and {len(pieces) - count} more" if count < len(pieces) else ""
        line = begin + ", ".join(pieces[:count]) + more + end
        if len(line.encode()) <= TEXT_BYTES:
            return line
    return f"{begin}{len(pieces)} settings{end}"


def _joint_text(servos: Sequence[Servo], joints: int) -> str:
    return "all joints" if len(servos) == joints else ", ".join(servo.joint for servo in servos)
