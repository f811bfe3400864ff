"""Readings of all joints while they are moved by hand."""

from __future__ import annotations

from collections.abc import Sequence

from sefa_edge.firmware_bridge.host.feetech.calibration_registers import CalibrationRegisters

SILENT_READINGS = 20
"""So many readings in a row without one joint, and its servo is asked for in earnest."""


class Listener:
    """A joint may be missing now and then, a cable moves with the arm; not for long."""

    def __init__(self, registers: CalibrationRegisters) -> None:
        self._registers = registers
        self._silent = [0] * len(registers.carried.joints)

    def read(self) -> Sequence[int | None]:
        """One reading, in encoder ticks; None: that servo kept silent.

        Raises:
            ArmTimeout: a servo stays silent.
            ArmDisconnected: the port is gone.
        """
        ticks = self._registers.encoder_ticks()
        self._silent = [0 if at is not None else count + 1 for at, count in zip(ticks, self._silent, strict=True)]
        return self._registers.every_encoder() if max(self._silent) > SILENT_READINGS else ticks
