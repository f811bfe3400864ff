"""One client of the servo bus that works like a control loop, as fast as the bus allows. `arm_bus.py` runs it:

    python profiles/benchmarks/arm_bus_client.py --client rustypot --port PORT --cycles 1000 --json -

A cycle reads registers 56..70 of six servos by one sync read and writes 41..47 by one sync write: the same
bytes on the wire for every client, 56 + 14 + 126 at 1 Mbit/s. The goal is the present position: nothing moves.

The results of a cycle differ. Ours returns a `JointState` in degrees, checked and stamped, and accepts
a goal in degrees. `scservo_sdk` and LeRobot return eight integers per servo through their own accessors, LeRobot
also their signs. `rustypot` returns and accepts bytes; `rustypot-units` converts them into the same numbers as
ours with as little Python as possible.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from importlib import import_module
from struct import Struct
from types import ModuleType
from typing import Protocol

from program import run_program

from sefa_edge.firmware_bridge.host.errors import ArmTimeout
from sefa_edge.firmware_bridge.host.feetech.feetech_arm import open_feetech_arm
from sefa_edge.firmware_bridge.host.feetech.registers import COMMAND_BLOCK, STATE_BLOCK
from sefa_edge.firmware_bridge.host.messages import JointGoal
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import FaultError, MissingError
from sefa_edge.profiles.files import write_report
from sefa_edge.profiles.quantities import COUNT
from sefa_edge.profiles.simulated_arm import SIMULATED_ARM

PROFILE = load_arm_profile(SIMULATED_ARM)
SERVO_IDS = [joint.servo_id for joint in PROFILE.joints]
WARM_UP_CYCLES = 50
TIMEOUT_S = 0.1
FIELDS = ((56, 2), (58, 2), (60, 2), (62, 1), (63, 1), (65, 1), (66, 1), (69, 2))
"""Address and width of the values in registers 56..70."""

STATE = Struct("<HHHBBBBBxxH")
Cycle = Callable[[], bool]
"""Whether every servo answered."""


Found = dict[int, dict[int, int]]
"""Values by address and servo id."""


class Controller(Protocol):
    """The methods used of rustypot's controllers."""

    def sync_read_raw_data(self, ids: list[int], addr: int, length: int) -> list[Sequence[int]]: ...


class Reader(Protocol):
    """The methods used of the SDK's GroupSyncRead."""

    def txRxPacket(self) -> int: ...

    def getData(self, scs_id: int, address: int, data_length: int) -> int: ...


class Writer(Protocol):
    """The methods used of the SDK's GroupSyncWrite."""

    def clearParam(self) -> None: ...

    def addParam(self, scs_id: int, data: bytes) -> bool: ...

    def txPacket(self) -> int: ...


def ours(port: str) -> Cycle:
    """The driver of sefa-edge, as its control loop uses it."""
    arm = open_feetech_arm(PROFILE, port, None)
    goal = JointGoal(1, 0, 0, arm.read_state().joint_deg)

    def cycle() -> bool:
        try:
            whole = bool(arm.read_state().valid_mask.all())
        except ArmTimeout:
            whole = False
        arm.send(goal)
        return whole

    return cycle


def rustypot(port: str) -> Cycle:
    """rustypot: bytes in, bytes out."""
    controller = _library("rustypot").Sts3215PyController(port, PROFILE.feetech.baud, TIMEOUT_S)
    present = controller.sync_read_raw_data(SERVO_IDS, STATE_BLOCK.address, STATE_BLOCK.count)
    commands = [list(command) for command in _commands([bytes(data) for data in present])]

    def cycle() -> bool:
        found = _rustypot_read(controller)
        controller.sync_write_raw_data(SERVO_IDS, COMMAND_BLOCK.address, commands)
        return len(found) == len(SERVO_IDS)

    return cycle


def rustypot_units(port: str) -> Cycle:
    """rustypot, with its bytes converted to degrees, degrees per second, percent, mA, mV, degrees Celsius."""
    controller = _library("rustypot").Sts3215PyController(port, PROFILE.feetech.baud, TIMEOUT_S)
    present = controller.sync_read_raw_data(SERVO_IDS, STATE_BLOCK.address, STATE_BLOCK.count)
    positions = [_units(bytes(data))[0] for data in present]

    def cycle() -> bool:
        found = [_units(bytes(data)) for data in _rustypot_read(controller)]
        commands = [
            list(COMMAND_BLOCK.layout.pack(0, round(position / 360 * 4095 + 2047.5), 0, 0)) for position in positions
        ]
        controller.sync_write_raw_data(SERVO_IDS, COMMAND_BLOCK.address, commands)
        return len(found) == len(SERVO_IDS)

    return cycle


def scservo_sdk(port: str) -> Cycle:
    """Feetech's own SDK, protocol end 0 (STS)."""
    sdk = _library("scservo_sdk")
    handler, packets = sdk.PortHandler(port), sdk.PacketHandler(0)
    handler.openPort()
    handler.setBaudRate(PROFILE.feetech.baud)
    reader = sdk.GroupSyncRead(handler, packets, STATE_BLOCK.address, STATE_BLOCK.count)
    writer = sdk.GroupSyncWrite(handler, packets, COMMAND_BLOCK.address, COMMAND_BLOCK.count)
    for servo_id in SERVO_IDS:
        reader.addParam(servo_id)
    return _sdk_cycle(reader, writer, lambda values: values)


def lerobot(port: str) -> Cycle:
    """LeRobot's FeetechMotorsBus: its patched timeouts and sign decoding, its SDK objects."""
    install_stubs()
    feetech, motors = _library("lerobot.motors.feetech"), _library("lerobot.motors")
    _library("scservo_sdk")
    joints = {
        joint.name: motors.Motor(joint.servo_id, "sts3215", motors.MotorNormMode.DEGREES) for joint in PROFILE.joints
    }
    bus = feetech.FeetechMotorsBus(port, joints)
    bus.connect()
    bus._setup_sync_reader(SERVO_IDS, STATE_BLOCK.address, STATE_BLOCK.count)
    bus.sync_writer.start_address, bus.sync_writer.data_length = COMMAND_BLOCK.address, COMMAND_BLOCK.count
    signed = {56: "Present_Position", 58: "Present_Velocity"}

    def decode(values: Found) -> Found:
        return {
            address: bus._decode_sign(signed[address], found) if address in signed else found
            for address, found in values.items()
        }

    return _sdk_cycle(bus.sync_reader, bus.sync_writer, decode)


CLIENTS: dict[str, Callable[[str], Cycle]] = {
    "sefa-edge": ours,
    "rustypot": rustypot,
    "rustypot-units": rustypot_units,
    "scservo_sdk": scservo_sdk,
    "lerobot": lerobot,
}


def measure(cycle: Cycle, cycles: int) -> dict[str, object]:
    """Durations of the cycles, ns, their total processor time, ns, and the number of missed cycles."""
    durations_ns: list[int] = []
    missed = 0
    for _ in range(WARM_UP_CYCLES):
        cycle()
    cpu_ns, before_ns = time.process_time_ns(), time.perf_counter_ns()
    for _ in range(cycles):
        missed += not cycle()
        now_ns = time.perf_counter_ns()
        durations_ns.append(now_ns - before_ns)
        before_ns = now_ns
    return {"durations_ns": durations_ns, "cpu_ns": time.process_time_ns() - cpu_ns, "missed": missed}


def _sdk_cycle(reader: Reader, writer: Writer, decode: Callable[[Found], object]) -> Cycle:
    def read() -> Found:
        return {
            address: {servo_id: reader.getData(servo_id, address, width) for servo_id in SERVO_IDS}
            for address, width in FIELDS
        }

    if reader.txRxPacket() != 0:
        raise FaultError("a servo does not answer", "is this machine overloaded?")
    present = read()[STATE_BLOCK.address]

    def cycle() -> bool:
        whole = reader.txRxPacket() == 0
        decode(read())
        writer.clearParam()
        for servo_id in SERVO_IDS:
            writer.addParam(servo_id, COMMAND_BLOCK.layout.pack(0, present[servo_id], 0, 0))
        writer.txPacket()
        return whole

    return cycle


def _rustypot_read(controller: Controller) -> list[Sequence[int]]:
    """Registers 56..70 of every servo; an empty list if one did not answer."""
    try:
        return controller.sync_read_raw_data(SERVO_IDS, STATE_BLOCK.address, STATE_BLOCK.count)
    except RuntimeError:
        return []


def _commands(answers: list[bytes]) -> list[bytes]:
    return [COMMAND_BLOCK.layout.pack(0, STATE.unpack(answer)[0], 0, 0) for answer in answers]


def _units(answer: bytes) -> tuple[float, ...]:
    position, speed, load, voltage, temperature, _, status, _, current = STATE.unpack(answer)
    return (
        (position - 2047.5) * 360 / 4095,
        (-(speed & 0x7FFF) if speed & 0x8000 else speed) * 360 / 4095,
        (-(load & 0x3FF) if load & 0x400 else load) * 0.1,
        (-(current & 0x7FFF) if current & 0x8000 else current) * 6.5,
        voltage * 100,
        float(temperature),
        status,
    )


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError as error:
        raise MissingError(
            f"{name} cannot be imported: {error}", "see the top of profiles/benchmarks/arm_bus.py"
        ) from None


def install_stubs() -> None:
    """Install empty modules for those that LeRobot imports but its bus does not use, if they are not installed."""
    for name in ("torch", "accelerate", "datasets", "datasets.utils", "datasets.utils.logging", "deepdiff", "tqdm"):
        try:
            import_module(name)
        except ImportError:
            sys.modules[name] = Stub(name)


class Stub(ModuleType):
    """A module in which every name exists and is an empty class."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> type:
        return type(name, (), {})


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description="One client of the servo bus, as fast as the bus allows.")
    parser.add_argument("--client", choices=CLIENTS, required=True)
    parser.add_argument("--port", required=True)
    parser.add_argument("--cycles", type=COUNT.parse, default=1000)
    parser.add_argument("--libraries", action="append", default=[], help="a folder in which the client is installed")
    parser.add_argument("--json", default="-")
    args = parser.parse_args(arguments)
    sys.path.extend(args.libraries)
    write_report(args.json, json.dumps(measure(CLIENTS[args.client](args.port), args.cycles)) + "\n")
    return 0


if __name__ == "__main__":
    run_program(main)
