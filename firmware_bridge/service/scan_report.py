"""The result of a scan, as text for a person and as JSON for a program."""

from __future__ import annotations

import json
from dataclasses import dataclass

from sefa_edge.firmware_bridge.host.port_lock import Holder
from sefa_edge.firmware_bridge.host.serial_adapter import chip_of
from sefa_edge.firmware_bridge.host.serial_ports import SerialPort
from sefa_edge.firmware_bridge.host.status_text import status_text
from sefa_edge.firmware_bridge.service.found_servos import FoundServo
from sefa_edge.profiles.diagnosis import Diagnosis, Weight


@dataclass(frozen=True, slots=True)
class Bus:
    """The servos that answered at one speed, and the arms that they may form."""

    baud: int
    servos: tuple[FoundServo, ...]
    fits: tuple[str, ...]

    def lines(self) -> list[str]:
        if not self.servos:
            return [f"  {self.baud} baud: no servo answers"]
        fits = f"fits {' or '.join(self.fits)}" if self.fits else "fits no arm profile"
        return [f"  {self.baud} baud: {fits}", *(f"    {_servo_line(servo)}" for servo in self.servos)]

    def as_plain(self) -> dict[str, object]:
        return {
            "baud": self.baud,
            "fits": list(self.fits),
            "servos": [_servo_as_plain(servo) for servo in self.servos],
        }


@dataclass(frozen=True, slots=True)
class PortReport:
    """A port and the servos on it."""

    port: SerialPort
    opened_by: tuple[Holder, ...]
    diagnoses: tuple[Diagnosis, ...]
    buses: tuple[Bus, ...] | None = None
    """None: the port was not scanned."""
    problem: str = ""
    keeps_low_latency: bool | None = None
    """Whether the driver keeps the low-latency flag; None: unsupported, or not scanned."""

    def lines(self) -> list[str]:
        lines = [self._title()]
        lines += [f"  {name}" for name in self.port.stable_names]
        lines += [f"  open in another program ({holder})" for holder in self.opened_by]
        lines += [line for diagnosis in self.diagnoses for line in _diagnosis_lines(diagnosis, "  ")]
        if self.problem:
            lines.append(f"  {self.problem}")
        elif self.buses is None and not self.opened_by and not self.diagnoses:
            lines.append(f"  not a servo adapter; scan it with --port {self.port.name}")
        return lines + [line for bus in self.buses or () for line in bus.lines()]

    def as_plain(self) -> dict[str, object]:
        usb = self.port.usb
        chip = chip_of(self.port)
        return {
            "path": self.port.path,
            "stable_names": list(self.port.stable_names),
            "driver": self.port.driver,
            "chip": None if chip is None else chip.name,
            "usb": None
            if usb is None
            else {
                "vendor_id": usb.vendor_id,
                "product_id": usb.product_id,
                "manufacturer": usb.manufacturer,
                "product": usb.product,
                "serial": usb.serial,
                "socket": usb.socket,
            },
            "opened_by": [{"pid": holder.pid, "name": holder.name} for holder in self.opened_by],
            "diagnoses": [diagnosis.as_plain() for diagnosis in self.diagnoses],
            "low_latency_flag": self.keeps_low_latency,
            "problem": self.problem,
            "buses": None if self.buses is None else [bus.as_plain() for bus in self.buses],
        }

    def _title(self) -> str:
        usb, chip = self.port.usb, chip_of(self.port)
        if usb is None:
            return f"{self.port.path}  not on USB{f', driver {self.port.driver}' if self.port.driver else ''}"
        what = chip.name if chip is not None else usb.product or "unknown adapter"
        serial = f", serial number {usb.serial}" if usb.serial else ""
        return (
            f"{self.port.path}  {what} ({usb.vendor_id}:{usb.product_id}{serial}), USB {usb.socket}, "
            f"driver {self.port.driver or 'none'}"
        )


@dataclass(frozen=True, slots=True)
class ScanReport:
    """All ports, and problems of this machine as a whole."""

    ports: tuple[PortReport, ...]
    diagnoses: tuple[Diagnosis, ...]

    @property
    def has_servos(self) -> bool:
        return any(bus.servos for port in self.ports for bus in port.buses or ())

    def lines(self) -> list[str]:
        lines = [line for port in self.ports for line in port.lines()]
        lines += [line for diagnosis in self.diagnoses for line in _diagnosis_lines(diagnosis, "")]
        was_scanned = any(port.buses is not None for port in self.ports)
        if was_scanned and not self.has_servos:
            lines.append("is the arm's power supply on? --all-bauds finds a servo that is set to another speed")
        return lines

    def as_json(self) -> str:
        content = {
            "ports": [port.as_plain() for port in self.ports],
            "diagnoses": [diagnosis.as_plain() for diagnosis in self.diagnoses],
        }
        return json.dumps(content, indent=2) + "\n"


def _diagnosis_lines(diagnosis: Diagnosis, indent: str) -> list[str]:
    mark = {Weight.GOOD: "", Weight.NOTE: "note: ", Weight.TROUBLE: "trouble: "}[diagnosis.weight]
    lines = [f"{indent}{mark}{diagnosis.message}"]
    return [*lines, f"{indent}  {diagnosis.remedy}"] if diagnosis.remedy else lines


def _servo_line(servo: FoundServo) -> str:
    if servo.clash:
        return f"id {servo.servo_id:3}  SEVERAL SERVOS seem to have this id: connect one alone, then `arm set-id`"
    if servo.model is None:
        return f"id {servo.servo_id:3}  answers a ping, but not a sync read: not an STS servo"
    assert servo.supply_mv is not None
    assert servo.status_bits is not None
    torque = "torque on" if servo.torque else "torque off"
    return (
        f"id {servo.servo_id:3}  {servo.model_name}, firmware {servo.firmware}, {servo.supply_mv / 1000:.1f} V, "
        f"{servo.temperature_c} C, {torque}, {status_text(servo.status_bits)}"
    )


def _servo_as_plain(servo: FoundServo) -> dict[str, object]:
    return {
        "id": servo.servo_id,
        "clash": servo.clash,
        "model": servo.model,
        "model_name": servo.model_name,
        "firmware": servo.firmware,
        "torque": servo.torque,
        "supply_mv": servo.supply_mv,
        "temperature_c": servo.temperature_c,
        "status_bits": servo.status_bits,
        "status": None if servo.status_bits is None else status_text(servo.status_bits),
    }
