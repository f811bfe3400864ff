"""A guided calibration: torque off, middle pose, sweep. The only write to a servo is torque off."""

from __future__ import annotations

from collections.abc import Sequence

from sefa_edge.firmware_bridge.host.calibration import Calibration
from sefa_edge.firmware_bridge.host.feetech.calibration_registers import CalibrationRegisters
from sefa_edge.firmware_bridge.service.calibrating import Sweep, begin, findings, observe, result
from sefa_edge.firmware_bridge.service.calibration_terminal import CalibrationTerminal, position_table, sweep_table
from sefa_edge.firmware_bridge.service.joint_reader import JointReader
from sefa_edge.profiles.schema import ArmProfile


class Guided:
    """One guided calibration."""

    def __init__(self, registers: CalibrationRegisters, profile: ArmProfile, terminal: CalibrationTerminal) -> None:
        self._registers = registers
        self._profile = profile
        self._terminal = terminal
        self._reader = JointReader(registers)
        self._ticks: Sequence[int | None] = ()
        self._sweep: Sweep = ()

    def run(self) -> Calibration:
        """Guide the operator through it.

        Raises:
            ArmFault: a servo does not answer, or its torque stays on.
            KeyboardInterrupt: the operator stopped it.
        """
        self._release()
        while True:
            self._take_middle()
            if self._move_joints():
                return result(self._profile, self._sweep)

    def _release(self) -> None:
        holding = self._registers.holding()
        if not holding:
            self._terminal.print("The torque of all servos is off.")
            return
        self._terminal.print(
            f"The torque is on: {', '.join(holding)}.",
            "The arm will SAG as soon as it goes off: hold the arm now.",
        )
        self._terminal.watch(lambda: ("ENTER switches the torque off, Ctrl-C leaves it on.",))
        self._registers.release()
        self._terminal.print("The torque of all servos is off, read back.")

    def _take_middle(self) -> None:
        self._terminal.print(
            "", "1. Bring every joint to the middle of its travel, the wrist upright, and keep it there: ENTER."
        )
        self._terminal.watch(lambda: position_table(self._profile, self._reader.read()))
        self._sweep = begin(self._registers.all_encoder_ticks())

    def _move_joints(self) -> bool:
        """Whether the sweep is complete; otherwise the middle pose must be taken again."""
        self._terminal.print("", "2. Move every joint slowly from one end to the other, one after another, then ENTER.")
        while True:
            self._terminal.watch(self._observe)
            wrong = findings(self._profile, self._sweep)
            if not wrong:
                return True
            self._terminal.print(*(f"{finding.joint} {finding.problem}" for finding in wrong))
            restart = [finding for finding in wrong if finding.restart]
            self._terminal.print(f"Not yet: {(restart or wrong)[0].advice}.")
            if restart:
                return False

    def _observe(self) -> list[str]:
        self._ticks = self._reader.read()
        self._sweep = observe(self._sweep, self._ticks)
        return sweep_table(self._profile, self._sweep, self._ticks, findings(self._profile, self._sweep))
