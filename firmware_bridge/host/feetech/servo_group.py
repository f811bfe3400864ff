"""The servos of one arm together: read or written again until every one has answered or confirmed. Not for the loop."""

from __future__ import annotations

from collections.abc import Sequence

from sefa_edge.firmware_bridge.host.errors import ArmUnconfirmed
from sefa_edge.firmware_bridge.host.feetech.goal_packet import ServoWrite
from sefa_edge.firmware_bridge.host.feetech.identity import ATTEMPTS
from sefa_edge.firmware_bridge.host.feetech.position_limits import AGREEMENT_TICKS
from sefa_edge.firmware_bridge.host.feetech.protocol import Packet
from sefa_edge.firmware_bridge.host.feetech.registers import PRESENT_BLOCK, PRESENT_POSITION, Block
from sefa_edge.firmware_bridge.host.feetech.servo_bus import ServoBus


class ServoGroup:
    """Every call addresses all servos, in the order of the joints."""

    def __init__(self, bus: ServoBus, names: tuple[str, ...], servo_ids: tuple[int, ...]) -> None:
        """`names` are those of the joints, for messages."""
        self._bus = bus
        self._names = names
        self._servo_ids = servo_ids

    def agreed_ticks(self) -> list[int]:
        """Positions of all joints, where two consecutive readings agree. Raises ArmUnconfirmed, ArmDisconnected."""
        before, agrees = self._present_ticks(), [False] * len(self._names)
        for _ in range(ATTEMPTS):
            now = self._present_ticks()
            agrees = [abs(one - other) <= AGREEMENT_TICKS for one, other in zip(before, now, strict=True)]
            if all(agrees):
                return now
            before = now
        raise self._unconfirmed("report the same position twice", agrees)

    def write_confirmed(self, block: Block, writes: Sequence[ServoWrite], what: str) -> None:
        """Write a block of registers and read it back; `what` completes "servo of X did not …".

        Raises:
            ArmUnconfirmed: a servo does not answer, or has other values.
            ArmDisconnected: the port is gone.
        """
        confirmed = [False] * len(writes)
        data = [write.data for write in writes]
        for _ in range(ATTEMPTS):
            self._bus.sync_write(block.address, list(zip(self._servo_ids, data, strict=True)))
            answers = self._bus.sync_read(self._servo_ids, block)
            confirmed = [
                servo_id in answers and write.is_confirmed_by(answers[servo_id].parameters)
                for servo_id, write in zip(self._servo_ids, writes, strict=True)
            ]
            if all(confirmed):
                return
        raise self._unconfirmed(what, confirmed)

    def _present_ticks(self) -> list[int]:
        answers: dict[int, Packet] = {}
        for _ in range(ATTEMPTS):
            answers |= self._bus.sync_read([i for i in self._servo_ids if i not in answers], PRESENT_BLOCK)
            if len(answers) == len(self._servo_ids):
                return [PRESENT_POSITION.decode(answers[i].parameters) for i in self._servo_ids]
        raise self._unconfirmed("report its position", [i in answers for i in self._servo_ids])

    def _unconfirmed(self, what: str, confirmed: Sequence[bool]) -> ArmUnconfirmed:
        return ArmUnconfirmed(tuple(name for name, done in zip(self._names, confirmed, strict=True) if not done), what)
