"""Client of a running simulated world: place the cube, read the status, unplug the cable.

One JSON object per packet on the socket `PATH.ctl`; `PATH` itself is the arm's serial port.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path

from sefa_edge.firmware_bridge.simulation.socket_address import socket_address
from sefa_edge.profiles.errors import InputError, MissingError
from sefa_edge.profiles.strict import StrictModel

REPLY_TIMEOUT_S = 5.0
MAX_RECORD_BYTES = 4096


class WorldError(InputError):
    """The simulated world refused a request or stopped answering."""


@dataclass(frozen=True, slots=True)
class WorldPaths:
    """The paths of a simulated world, all derived from that of its serial port."""

    port: Path

    @property
    def state(self) -> Path:
        return self.port.with_name(self.port.name + ".state")

    @property
    def control(self) -> Path:
        return self.port.with_name(self.port.name + ".ctl")


class WorldStatus(StrictModel):
    """Status of the simulated world. `torque`: per servo, whether it holds."""

    task: str
    seed: int
    time_s: float
    success: bool
    lost: bool
    plugged_in: bool
    torque: tuple[bool, ...]
    joint_ticks: tuple[int, ...]
    real_time_factor: float


class WorldClient:
    """A connection to the control socket. Every call waits for the answer, for at most five seconds."""

    def __init__(self, port: Path) -> None:
        """Raises MissingError if no simulated world runs there."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(REPLY_TIMEOUT_S)
        try:
            with socket_address(WorldPaths(port).control) as address:
                self._socket.connect(address)
        except OSError as error:
            self._socket.close()
            raise MissingError(
                f"no simulated world at {port} ({error.strerror})",
                "start one with `sefa-edge sim --link PATH`",
            ) from None

    def reset(self, seed: int) -> None:
        """Start episode `seed` from scratch: arm at its park pose, cube and goal placed."""
        self._request({"do": "reset", "seed": seed})

    def place(self, seed: int) -> None:
        """Place cube and goal of episode `seed`; the arm stays where it is."""
        self._request({"do": "place", "seed": seed})

    def status(self) -> WorldStatus:
        return WorldStatus.model_validate_json(json.dumps(self._request({"do": "status"})))

    def unplug(self) -> None:
        """Unplug the cable: the port vanishes for the program that has it open."""
        self._request({"do": "unplug"})

    def replug(self) -> None:
        self._request({"do": "replug"})

    def quit(self) -> None:
        """End the simulated world."""
        self._request({"do": "quit"})

    def close(self) -> None:
        self._socket.close()

    def _request(self, request: dict[str, object]) -> dict[str, object]:
        try:
            self._socket.send(json.dumps(request).encode())
            answer = self._socket.recv(MAX_RECORD_BYTES)
        except OSError as error:
            raise WorldError(f"the simulated world does not answer ({error})", "is it still running?") from None
        if not answer:
            raise WorldError("the simulated world is gone", "start it again")
        content = json.loads(answer)
        if not content.pop("ok"):
            raise WorldError(f"the simulated world refused: {content['error']}")
        return content
