"""Readings of all joints while they are moved by hand."""

from __future__ import annotations

from collections.abc import Sequence

from sefa_edge.firmware_bridge.host.feetech.calibration_registers import CalibrationRegisters

SILENT_READINGS = 20
"""After this many consecutive readings without a joint, all joints must answer."""


class JointReader:
    """Reads all joints; one may be missing for a moment, because its cable moves with the arm, but not for long."""

    def __init__(self, registers: CalibrationRegisters) -> None:
        self._registers = registers
        self._silent = [0] * len(registers.carried.joints)

    def read(self) -> Sequence[int | None]:
        """One reading, in encoder ticks; None: that servo did not answer.

        Raises:
            ArmTimeout: a servo still does not answer.
            ArmDisconnected: the port is gone.
        """
        ticks = self._registers.encoder_ticks()
        self._silent = [0 if at is not None else count + 1 for at, count in zip(ticks, self._silent, strict=True)]
        return self._registers.all_encoder_ticks() if max(self._silent) > SILENT_READINGS else ticks
