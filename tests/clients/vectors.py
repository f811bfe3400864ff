"""Packets as other projects' clients send them, stored in `tests/data/feetech_vectors.json`.

`python -m tests.clients.vectors` records the clients and rewrites the file.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from sefa_edge.firmware_bridge.host.feetech.protocol import decode, encode
from tests.clients.conftest import Stand
from tests.clients.environments import CLIENTS

FILE = Path(__file__).parents[1] / "data" / "feetech_vectors.json"
SCRIPTS = {"scservo": "scservo_client.py", "rustypot": "rustypot_client.py"}


def requests_of(client: str) -> list[dict[str, object]]:
    """Each request of a client: its sender, the call that creates the same one here, its bytes."""
    with tempfile.TemporaryDirectory() as folder:
        stand = Stand(Path(folder) / "arm")
        with stand.port:
            calls = json.loads(stand.output(client, SCRIPTS[client], "send_all"))
    requests = [encode(packet.servo_id, packet.code, packet.parameters) for packet in decode(stand.sent)]
    assert b"".join(requests) == stand.sent
    return [
        {"client": CLIENTS[client][0], "made_by": call, "sent": request.hex()}
        for call, request in zip(calls, requests, strict=True)
    ]


if __name__ == "__main__":
    found = [vector for client in SCRIPTS for vector in requests_of(client)]
    FILE.write_text("[\n" + ",\n".join(json.dumps(vector) for vector in found) + "\n]\n")
