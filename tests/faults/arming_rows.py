"""Faults that exist before the torque is switched on, and arms calibrated to another range. They start with ARM."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.records import Torque
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import Packet, StatusBits, decode, encode
from sefa_edge.profiles.units import ms_to_ns
from tests.faults.lock_step import Bench
from tests.faults.row import CONTINUES, LEFT, UNTOUCHED, Expected, Row, Start

OUTSIDE_TICKS = 23
"""Two degrees."""


def arm_as_a_run_does(bench: Bench) -> None:
    """Send the commands of a supervisor; they may fail."""
    if bench.loop is None:
        bench.connect()
    bench.command(Command.ARM)
    bench.command(Command.RUN)


def before_arming(prepare: Callable[[Bench], None]) -> Callable[[Bench], None]:
    """The fault exists before the arm is opened."""

    def inject(bench: Bench) -> None:
        prepare(bench)
        arm_as_a_run_does(bench)

    return inject


def supply_12_volts(bench: Bench) -> None:
    """The servos report it themselves or accept it, as the seed decides."""
    reports_it = bool(bench.rng.integers(2))
    for servo in bench.bus.servos:
        servo.set_register(reg.MAX_VOLTAGE, 80 if reports_it else 140)
        servo.supply_mv = 12_000


def raise_bit_before(bit: StatusBits) -> Callable[[Bench], None]:
    def prepare(bench: Bench) -> None:
        bench.joint = int(bench.rng.integers(5))
        bench.bus.servos[bench.joint].fault_bits = bit

    return prepare


def heat_a_servo(bench: Bench) -> None:
    bench.bus.servos[bench.joint].temperature_c = 68


def leave_torque_on(bench: Bench) -> None:
    """Another program left the torque on."""
    for servo in bench.bus.servos:
        servo.write(reg.TORQUE_ENABLE.address, bytes((reg.TORQUE_ON,)))
    raise_bit_before(StatusBits.OVERLOAD)(bench)


def raise_bit_briefly(bench: Bench) -> None:
    """A status bit in the first readings only: arming is delayed, not refused."""
    bench.connect()
    servo = bench.bus.servos[bench.joint]
    servo.fault_bits = StatusBits.VOLTAGE
    bench.play(0.04)
    servo.fault_bits = StatusBits(0)
    bench.run()


def place_outside(least: int, most: int) -> Callable[[Bench], None]:
    """Place a joint `least` to `most` ticks outside the position limits of its servo."""

    def prepare(bench: Bench) -> None:
        rows = [row for row, joint in enumerate(bench.profile.joints) if not joint.turns_freely]
        bench.joint = int(bench.rng.choice(rows))
        joint = bench.profile.joints[bench.joint]
        beyond = int(bench.rng.integers(least, most + 1))
        ends = (joint.range_min_ticks - beyond, joint.range_max_ticks + beyond)
        bench.plant.place(bench.joint, float(ends[bench.rng.integers(2)]))

    return prepare


def place_just_outside(bench: Bench) -> None:
    """At most two degrees: it returns slowly."""
    place_outside(1, OUTSIDE_TICKS)(bench)
    bench.connect()
    bench.run()


def first_position_is_wrong(bench: Bench) -> None:
    """The first position-only reply is far off for one joint."""
    bench.connect()
    wrong_replies = {"left": 1}

    def falsify(data: bytes) -> bytes:
        return b"".join(changed(packet) for packet in decode(data))

    def changed(packet: Packet) -> bytes:
        parameters = packet.parameters
        if len(parameters) == reg.PRESENT_BLOCK.count and packet.servo_id == bench.joint + 1 and wrong_replies["left"]:
            wrong_replies["left"] -= 1
            parameters = int(bench.rng.integers(0, 4096)).to_bytes(2, "little")
        return encode(packet.servo_id, packet.code, parameters)

    bench.bus.disturb = falsify
    bench.run()


def every_position_differs(bench: Bench) -> None:
    """One joint reports another position in every reply."""
    positions = itertools.cycle((500, 1500, 2500, 3500))

    def changed(packet: Packet) -> bytes:
        parameters = packet.parameters
        if len(parameters) == reg.PRESENT_BLOCK.count and packet.servo_id == bench.joint + 1:
            parameters = (next(positions) + int(bench.rng.integers(300))).to_bytes(2, "little")
        return encode(packet.servo_id, packet.code, parameters)

    bench.connect()
    bench.bus.disturb = lambda data: b"".join(changed(packet) for packet in decode(data))
    arm_as_a_run_does(bench)


def lose_servo_at_torque_on(bench: Bench) -> None:
    """A servo falls silent when the first goal is written."""
    bench.connect()

    def cut(data: bytes) -> bytes:
        if any(packet.parameters[:1] == bytes((reg.COMMAND_BLOCK.address,)) for packet in decode(data)):
            bench.bus.servos[bench.joint].connected = False
        return data

    bench.bus.disturb_request = cut
    arm_as_a_run_does(bench)


def lose_replies_after_torque_on(bench: Bench) -> None:
    """The torque is confirmed; then all state replies are lost, for less than the goal timeout."""
    bench.connect()
    duration_ns = ms_to_ns(bench.rng.uniform(100, 350))
    armed_ns: list[int] = []
    lost: list[bytes] = []

    def watch(data: bytes) -> bytes:
        torque = (reg.TORQUE_BLOCK.address, reg.TORQUE_BLOCK.count)
        if not armed_ns and any(tuple(packet.parameters[:2]) == torque for packet in decode(data)):
            armed_ns.append(bench.clock.now_ns())
        return data

    def lose(data: bytes) -> bytes:
        is_state = any(len(packet.parameters) == reg.STATE_BLOCK.count for packet in decode(data))
        if not is_state or not armed_ns or bench.clock.now_ns() - armed_ns[0] > duration_ns:
            return data
        lost.append(data)
        return b""

    bench.bus.disturb_request, bench.bus.disturb = watch, lose
    bench.run()
    assert len(lost) > 3, "no replies were lost"


def silent_when_armed(bench: Bench) -> None:
    """A servo falls silent between connecting and arming."""
    bench.connect()
    bench.bus.servos[bench.joint].connected = False
    arm_as_a_run_does(bench)


def replug_into_another_arm(bench: Bench) -> None:
    """The cable is plugged into another arm of the same kind: one number of its calibration differs."""
    bench.port.unplug()
    bench.play(bench.rng.uniform(0.3, 2.0))
    register, change = [(reg.HOMING_OFFSET, 17), (reg.MIN_POSITION, 3), (reg.MAX_POSITION, -5)][bench.rng.integers(3)]
    servo = bench.bus.servos[bench.joint]
    servo.set_register(register, servo.register(register) + change)
    bench.port.replug()


def push_against_a_narrow_range(bench: Bench) -> None:
    """This arm is calibrated to a narrower range than its profile allows, and the policy's chunks exceed it."""
    low, high = 796 + 300, 3299 - 300
    bench.joint = 0
    bench.calibrate(0, low, high)
    bench.connect()
    bench.run()
    far_deg = float(bench.rng.choice([-1, 1]) * 109.0)

    def feed(bench: Bench) -> None:
        chunk = bench.chunk()
        chunk.joint_deg[:, 0] = far_deg
        bench.offer(chunk)

    bench.feed = feed
    bench.play(2.0)
    goal = bench.bus.servos[0].register(reg.GOAL_POSITION)
    assert goal in (low, high), "it did not reach the end of its range"
    bench.feed = Bench.send_swing


def park_pose_just_outside(bench: Bench) -> None:
    """The range ends 3 degrees before the park pose, so the joint parks at the end of its range."""
    bench.profile = bench.profile.model_copy(update={"park_pose_deg": [0.0, -90.0, 20.0, 10.0, 0.0, 10.0]})
    middle, half = 2048, round(87.0 * 4095 / 360)
    bench.calibrate(1, middle - half, middle + half)
    bench.connect()
    bench.run()


SUPPLY = "the servos' supply voltage is out of range"


def untouched(fault: Fault, says: str, rest_s: float, ending: str = UNTOUCHED) -> Expected:
    return Expected(says, ending, fault, Mode.IDLE, Torque.UNTOUCHED, rest_s=rest_s)


def status_fault(bit_name: str, ending: str = UNTOUCHED) -> Expected:
    return untouched(Fault.SERVO_STATUS, f"a servo reports a fault ({{joint}}: {bit_name})", 0.5, ending)


ROWS: list[Row[Bench]] = [
    Row(
        "12 V on 7.4 V servos when the run begins",
        before_arming(supply_12_volts),
        untouched(Fault.SUPPLY_VOLTAGE, SUPPLY, 0.5),
        Start.BEFORE,
    ),
    *(
        Row(
            f"{bit_name} bit when the run begins",
            before_arming(raise_bit_before(bit)),
            status_fault(bit_name),
            Start.BEFORE,
        )
        for bit, bit_name in (
            (StatusBits.OVERLOAD, "overload"),
            (StatusBits.VOLTAGE, "voltage"),
            (StatusBits.ENCODER, "encoder"),
            (StatusBits.TEMPERATURE, "heat"),
            (StatusBits.CURRENT, "over-current"),
        )
    ),
    Row(
        "a servo is hot when the run begins",
        before_arming(heat_a_servo),
        untouched(Fault.OVERHEATED, "a servo is too hot ({joint})", 1.5),
        Start.BEFORE,
    ),
    Row(
        "an overload bit when the run begins, and the torque is on already",
        before_arming(leave_torque_on),
        status_fault("overload", f"{UNTOUCHED}; its torque was already on in all joints"),
        Start.BEFORE,
    ),
    Row("a status bit in the first readings alone", raise_bit_briefly, CONTINUES, Start.BEFORE),
    Row(
        "a joint stands more than 2 degrees outside its servo's range",
        before_arming(place_outside(OUTSIDE_TICKS + 1, 250)),
        untouched(
            Fault.OUTSIDE_RANGE,
            "a joint would jump if it were switched on ({joint} at …, … degrees outside its servo's …)",
            0.6,
        ),
        Start.BEFORE,
    ),
    Row("a joint stands at most 2 degrees outside its servo's range", place_just_outside, CONTINUES, Start.BEFORE),
    Row("the first position that is read lies", first_position_is_wrong, CONTINUES, Start.BEFORE),
    Row(
        "a joint gives another position each time it is asked",
        every_position_differs,
        untouched(Fault.POSITION_UNSURE, "a joint gives another position each time it is read ({joint})", 1.0),
        Start.BEFORE,
    ),
    Row(
        "a servo falls silent before it is armed",
        silent_when_armed,
        untouched(
            Fault.ARM_TIMEOUT,
            "servos do not answer ({joint})",
            1.0,
            f"{UNTOUCHED}; whether the torque of {{joint}} is on is not known",
        ),
        Start.BEFORE,
    ),
    Row("no answers right after the torque came on", lose_replies_after_torque_on, CONTINUES, Start.BEFORE),
    Row(
        "torque on is not confirmed",
        lose_servo_at_torque_on,
        Expected(
            "a servo did not confirm its torque setting",
            "arm left as it is, its torque may be on or off",
            Fault.TORQUE_REFUSED,
            Mode.FAULT,
            Torque.UNKNOWN,
            rest_s=1.0,
        ),
        Start.BEFORE,
    ),
    Row(
        "the port comes back as another arm",
        replug_into_another_arm,
        Expected(
            "another arm answers on this port, nothing was sent to it (… of {joint} is …, was …)",
            LEFT,
            Fault.OTHER_ARM,
            Mode.FAULT,
            Torque.ON,
            rest_s=0.5,
        ),
    ),
    Row("the policy pushes against a narrow calibrated range", push_against_a_narrow_range, CONTINUES, Start.BEFORE),
    Row("the park pose is just outside the calibrated range", park_pose_just_outside, CONTINUES, Start.BEFORE),
]
