"""Transactions with STS servos in terms of register blocks: ping, sync read, sync write."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sefa_edge.firmware_bridge.host.feetech.link import Link
from sefa_edge.firmware_bridge.host.feetech.protocol import (
    MAX_SERVO_ID,
    Packet,
    decode,
    encode_ping,
    encode_sync_read,
    encode_sync_write,
    reply_bytes,
)
from sefa_edge.firmware_bridge.host.feetech.registers import Block
from sefa_edge.profiles.units import ms_to_ns

PATIENT_MARGIN_NS = ms_to_ns(50)
"""Time for an answer beyond its time on the wire, outside the control loop."""

SCAN_MARGIN_NS = ms_to_ns(20)
"""The same for one id of a scan: enough for the 16 ms by which a USB adapter may delay bytes."""


class ServoBus:
    """A chain of servos behind one link."""

    def __init__(self, link: Link) -> None:
        self.link = link

    def ping(self, servo_id: int) -> bool:
        """Whether a servo answers to this id. Raises ArmDisconnected."""
        received = self.link.exchange(encode_ping(servo_id), reply_bytes(0), SCAN_MARGIN_NS)
        return any(packet.servo_id == servo_id for packet in decode(received))

    def scan(self, servo_ids: Iterable[int] = range(MAX_SERVO_ID + 1)) -> list[int]:
        """The ids that answer. Scanning all 254 takes about 5 s. Raises ArmDisconnected."""
        return [servo_id for servo_id in servo_ids if self.ping(servo_id)]

    def sync_read(
        self, servo_ids: Sequence[int], block: Block, margin_ns: int = PATIENT_MARGIN_NS
    ) -> dict[int, Packet]:
        """Read the same registers of several servos; the result has exactly those that answered.

        Args:
            margin_ns: time for the answers beyond their time on the wire.

        Raises:
            ArmDisconnected: the port is gone.
        """
        request = encode_sync_read(servo_ids, block.address, block.count)
        received = self.link.exchange(request, len(servo_ids) * reply_bytes(block.count), margin_ns)
        answers = answers_by_id(received, block.count)
        return {servo_id: answers[servo_id] for servo_id in servo_ids if servo_id in answers}

    def sync_write(self, address: int, data_by_id: Sequence[tuple[int, bytes]]) -> None:
        """Write the same registers of several servos, unconfirmed. Raises ArmDisconnected."""
        self.link.send(encode_sync_write(address, data_by_id))


def answers_by_id(received: bytes, data_bytes: int) -> dict[int, Packet]:
    """The answers of the expected length in what was received, by servo id."""
    return {packet.servo_id: packet for packet in decode(received) if len(packet.parameters) == data_bytes}
