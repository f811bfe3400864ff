"""Our packets equal, byte for byte, those that other clients sent to a servo bus (`tests/clients/vectors.py`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest

from sefa_edge.firmware_bridge.host.feetech import protocol

VECTORS = cast(
    "list[dict[str, object]]", json.loads((Path(__file__).parents[2] / "data" / "feetech_vectors.json").read_text())
)


def made_here(name: str, *arguments: object) -> bytes:
    """The packet of one of our encoders; arguments of bytes are given as hexadecimal text."""
    return getattr(protocol, name)(*map(decoded, arguments))


def decoded(argument: object) -> object:
    if isinstance(argument, str):
        return bytes.fromhex(argument)
    if isinstance(argument, list) and argument and isinstance(argument[0], list):
        return [(servo_id, bytes.fromhex(data)) for servo_id, data in argument]
    return argument


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{v['client']} {v['sent']}" for v in VECTORS])
def test_our_packets_equal_those_of_other_clients(vector: dict[str, object]) -> None:
    assert made_here(*cast("list[str]", vector["made_by"])).hex() == vector["sent"]


@pytest.mark.parametrize("vector", VECTORS, ids=[f"{v['client']} {v['sent']}" for v in VECTORS])
def test_packets_of_other_clients_are_decoded(vector: dict[str, object]) -> None:
    raw = bytes.fromhex(cast("str", vector["sent"]))
    (packet,) = protocol.PacketDecoder().feed(raw)
    assert protocol.encode(packet.servo_id, packet.code, packet.parameters) == raw


def test_the_vectors_cover_every_instruction_but_reset() -> None:
    codes = {bytes.fromhex(cast("str", vector["sent"]))[4] for vector in VECTORS}
    assert codes == set(protocol.Instruction) - {protocol.Instruction.RESET}
