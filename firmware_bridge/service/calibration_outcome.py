"""Write a calibration to the servos, to LeRobot's file and to a report; the old numbers are always kept."""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sefa_edge.firmware_bridge.host.calibration import Calibration, lerobot_entries
from sefa_edge.firmware_bridge.host.calibration_files import save_calibration, spare_path
from sefa_edge.firmware_bridge.host.feetech.calibration_registers import CalibrationRegisters
from sefa_edge.profiles.errors import InputError, SefaError
from sefa_edge.profiles.files import write_atomic
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.stopping import STOPPING, StopSignals


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was calibrated, and where the numbers are now."""

    arm: str
    port: str
    calibration: dict[str, dict[str, int]]
    before: dict[str, dict[str, int]]
    written_to_servos: bool
    file: str | None
    backup: str | None
    """File with the numbers that the servos had before."""

    def as_json(self) -> str:
        fields = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps({"schema_version": 1, **fields}, indent=2) + "\n"


class CalibrationTarget:
    """The servos of one arm, and the file that goes with them."""

    def __init__(self, registers: CalibrationRegisters, profile: ArmProfile, port: str) -> None:
        self._registers = registers
        self._profile = profile
        self._port = port
        self._before = registers.carried

    def write(self, wanted: Calibration, file: Path | None) -> Outcome:
        """Write the old numbers to a backup file, then the new ones to the servos, then to `file`.

        Ctrl-C is deferred until the end.

        Raises:
            SefaError: it failed; the message says which numbers the servos have.
            KeyboardInterrupt: everything was written, and a stop was requested meanwhile.
        """
        backup = spare_path(f"{self._profile.name}-{_now()}-before")
        save_calibration(backup, self._profile, self._before)
        _print(f"the present numbers of the servos are kept in {backup}")
        with StopSignals() as signals:
            self._write_servos(wanted)
            if file is not None:
                self._replace(file, wanted)
            stopped = signals.take()
        if stopped:
            _print(f"{STOPPING[stopped[0]]} came too late: all servos have the new numbers")
            raise KeyboardInterrupt
        return self._outcome(wanted, file, backup)

    def keep(self, calibration: Calibration, file: Path | None) -> Outcome:
        """Leave the servos as they are; the numbers go into `file`, or are only reported. Raises InputError."""
        if file is not None:
            save_calibration(file, self._profile, calibration)
        return self._outcome(calibration, file, None)

    def _write_servos(self, wanted: Calibration) -> None:
        """Raises SefaError; the new numbers are then saved, because measuring them took a person's time."""
        try:
            self._registers.write(wanted)
        except SefaError:
            kept = spare_path(f"{self._profile.name}-{_now()}-new")
            save_calibration(kept, self._profile, wanted)
            _print(f"the new numbers are kept in {kept}: --restore {kept} --write-eeprom tries again")
            raise

    def _replace(self, file: Path, wanted: Calibration) -> None:
        """Raises InputError, which says that the servos already have the new numbers."""
        try:
            with suppress(FileNotFoundError):
                old = file.read_bytes()
                kept = spare_path(f"{file.stem}-{_now()}-replaced")
                write_atomic(kept, old)
                _print(f"the old file is kept in {kept}")
            save_calibration(file, self._profile, wanted)
        except (OSError, InputError) as error:
            raise InputError(
                f"the servos have the new numbers, but {file} was not written: {error}",
                "make room, then use the numbers in the servos: run without --calibration, or calibrate again",
            ) from None

    def _outcome(self, calibration: Calibration, file: Path | None, backup: Path | None) -> Outcome:
        return Outcome(
            arm=self._profile.name,
            port=self._port,
            calibration=lerobot_entries(self._profile, calibration),
            before=lerobot_entries(self._profile, self._before),
            written_to_servos=backup is not None,
            file=None if file is None else str(file),
            backup=None if backup is None else str(backup),
        )


def comparison_table(profile: ArmProfile, before: Calibration, after: Calibration) -> list[str]:
    """Offset and range of both calibrations side by side."""
    rows = [f"{'joint':<16}{'offset':>7}{'range':>12}   {'in the servos now':>18}"]
    for name, old, new in zip(profile.joint_names, before.joints, after.joints, strict=True):
        new_range = f"{new.range_min_ticks}..{new.range_max_ticks}"
        old_range = f"{old.range_min_ticks}..{old.range_max_ticks}"
        rows.append(f"{name:<16}{new.homing_offset:>7}{new_range:>12}   {old.homing_offset:>7}{old_range:>11}")
    return rows


def _now() -> str:
    return time.strftime("%Y%m%d-%H%M%S")


def _print(line: str) -> None:
    print(line, file=sys.stderr)
