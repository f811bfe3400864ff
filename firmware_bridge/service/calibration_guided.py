"""A guided calibration: torque off, middle pose, sweep. Reads servos and terminal; writes only torque off."""

from __future__ import annotations

from collections.abc import Sequence

from sefa_edge.firmware_bridge.host.calibration import Calibration
from sefa_edge.firmware_bridge.host.feetech.calibration_registers import CalibrationRegisters
from sefa_edge.firmware_bridge.service.calibrating import Sweep, begin, findings, observe, result
from sefa_edge.firmware_bridge.service.calibration_terminal import CalibrationTerminal, position_table, sweep_table
from sefa_edge.firmware_bridge.service.joint_reader import Listener
from sefa_edge.profiles.schema import ArmProfile


class Guided:
    """One guided calibration."""

    def __init__(self, registers: CalibrationRegisters, profile: ArmProfile, terminal: CalibrationTerminal) -> None:
        self._registers = registers
        self._profile = profile
        self._terminal = terminal
        self._listener = Listener(registers)
        self._heard: Sequence[int | None] = ()
        self._sweep: Sweep = ()

    def run(self) -> Calibration:
        """Lead the operator through it.

        Raises:
            ArmFault: a servo keeps silent, or its torque does not go off.
            KeyboardInterrupt: the operator gave up.
        """
        self._release()
        while True:
            self._take_middle()
            if self._move_joints():
                return result(self._profile, self._sweep)

    def _release(self) -> None:
        holding = self._registers.holding()
        if not holding:
            self._terminal.say("The torque of all servos is off.")
            return
        self._terminal.say(
            f"The torque is on: {', '.join(holding)}.",
            "The arm will SAG as soon as it goes off: hold the arm now.",
        )
        self._terminal.watch(lambda: ("ENTER switches the torque off, Ctrl-C leaves it on.",))
        self._registers.release()
        self._terminal.say("The torque of all servos is off, read back.")

    def _take_middle(self) -> None:
        self._terminal.say(
            "", "1. Bring every joint to the middle of its travel, the wrist upright, and keep it there: ENTER."
        )
        self._terminal.watch(lambda: position_table(self._profile, self._listener.read()))
        self._sweep = begin(self._registers.every_encoder())

    def _move_joints(self) -> bool:
        """Whether the sweep became a calibration; otherwise the middle pose must be taken again."""
        self._terminal.say("", "2. Move every joint slowly from one end to the other, one after another, then ENTER.")
        while True:
            self._terminal.watch(self._look)
            wrong = findings(self._profile, self._sweep)
            if not wrong:
                return True
            self._terminal.say(*(f"{finding.joint} {finding.problem}" for finding in wrong))
            anew = [finding for finding in wrong if finding.middle_anew]
            self._terminal.say(f"Not yet: {(anew or wrong)[0].advice}.")
            if anew:
                return False

    def _look(self) -> list[str]:
        self._heard = self._listener.read()
        self._sweep = observe(self._sweep, self._heard)
        return sweep_table(self._profile, self._sweep, self._heard, findings(self._profile, self._sweep))
