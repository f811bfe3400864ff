"""Faults that are there before the torque comes on, and of an arm whose calibrated range is its own. Start with ARM."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.records import Torque
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import Packet, StatusBits, decode, encode
from tests.faults.lock_step import Bench
from tests.faults.row import GOES_ON, LEFT, UNTOUCHED, Expected, Row, Start

OUTSIDE_TICKS = 23
"""Two degrees."""


def arm_as_a_run_does(bench: Bench) -> None:
    """The commands of a supervisor; whatever comes of them."""
    if bench.loop is None:
        bench.connect()
    bench.command(Command.ARM)
    bench.command(Command.RUN)


def before_arming(prepare: Callable[[Bench], None]) -> Callable[[Bench], None]:
    """Something is wrong already when the arm is opened."""

    def inject(bench: Bench) -> None:
        prepare(bench)
        arm_as_a_run_does(bench)

    return inject


def feed_12_volts(bench: Bench) -> None:
    """The servos say so themselves, or do not mind."""
    minds = bool(bench.dice.integers(2))
    for servo in bench.bus.servos:
        servo.set_register(reg.MAX_VOLTAGE, 80 if minds else 140)
        servo.supply_mv = 12_000


def complain(bit: StatusBits) -> Callable[[Bench], None]:
    def prepare(bench: Bench) -> None:
        bench.joint = int(bench.dice.integers(5))
        bench.bus.servos[bench.joint].fault_bits = bit

    return prepare


def be_hot(bench: Bench) -> None:
    bench.bus.servos[bench.joint].temperature_c = 68


def hold_already(bench: Bench) -> None:
    """Another program left the torque on."""
    for servo in bench.bus.servos:
        servo.write(reg.TORQUE_ENABLE.address, bytes((reg.TORQUE_ON,)))
    complain(StatusBits.OVERLOAD)(bench)


def complain_for_a_moment(bench: Bench) -> None:
    """A status bit in the first readings alone: arming is put off, not refused."""
    bench.connect()
    servo = bench.bus.servos[bench.joint]
    servo.fault_bits = StatusBits.VOLTAGE
    bench.play(0.04)
    servo.fault_bits = StatusBits(0)
    bench.run()


def stand_outside(least: int, most: int) -> Callable[[Bench], None]:
    """A joint beyond the position limits of its servo, by so many ticks."""

    def prepare(bench: Bench) -> None:
        rows = [row for row, joint in enumerate(bench.profile.joints) if not joint.turns_freely]
        bench.joint = int(bench.dice.choice(rows))
        joint = bench.profile.joints[bench.joint]
        beyond = int(bench.dice.integers(least, most + 1))
        ends = (joint.range_min_ticks - beyond, joint.range_max_ticks + beyond)
        bench.plant.place(bench.joint, float(ends[bench.dice.integers(2)]))

    return prepare


def rest_at_its_end(bench: Bench) -> None:
    """Two degrees at most: it comes back in, slowly."""
    stand_outside(1, OUTSIDE_TICKS)(bench)
    bench.connect()
    bench.run()


def first_position_lies(bench: Bench) -> None:
    """The first answer that tells positions alone is far off for one joint."""
    bench.connect()
    wrong = {"left": 1}

    def lie(data: bytes) -> bytes:
        return b"".join(changed(packet) for packet in decode(data))

    def changed(packet: Packet) -> bytes:
        parameters = packet.parameters
        if len(parameters) == reg.PRESENT_BLOCK.count and packet.servo_id == bench.joint + 1 and wrong["left"]:
            wrong["left"] -= 1
            parameters = int(bench.dice.integers(0, 4096)).to_bytes(2, "little")
        return encode(packet.servo_id, packet.code, parameters)

    bench.bus.disturb = lie
    bench.run()


def every_position_lies(bench: Bench) -> None:
    """One joint gives another position each time."""
    places = itertools.cycle((500, 1500, 2500, 3500))

    def changed(packet: Packet) -> bytes:
        parameters = packet.parameters
        if len(parameters) == reg.PRESENT_BLOCK.count and packet.servo_id == bench.joint + 1:
            parameters = (next(places) + int(bench.dice.integers(300))).to_bytes(2, "little")
        return encode(packet.servo_id, packet.code, parameters)

    bench.connect()
    bench.bus.disturb = lambda data: b"".join(changed(packet) for packet in decode(data))
    arm_as_a_run_does(bench)


def refuse_torque_on(bench: Bench) -> None:
    """A servo falls silent when the first goal is written."""
    bench.connect()

    def cut(data: bytes) -> bytes:
        if any(packet.parameters[:1] == bytes((reg.COMMAND_BLOCK.address,)) for packet in decode(data)):
            bench.bus.servos[bench.joint].connected = False
        return data

    bench.bus.disturb_request = cut
    arm_as_a_run_does(bench)


def no_answers_after_torque_on(bench: Bench) -> None:
    """The torque is confirmed, and then no state is answered for a while."""
    bench.connect()
    lost = {"left": int(bench.dice.integers(6, 20)), "armed": False}

    def watch(data: bytes) -> bytes:
        torque = (reg.TORQUE_BLOCK.address, reg.TORQUE_BLOCK.count)
        lost["armed"] |= any(tuple(packet.parameters[:2]) == torque for packet in decode(data))
        return data

    def lose(data: bytes) -> bytes:
        is_state = any(len(packet.parameters) == reg.STATE_BLOCK.count for packet in decode(data))
        if not (is_state and lost["armed"] and lost["left"]):
            return data
        lost["left"] -= 1
        return b""

    bench.bus.disturb_request, bench.bus.disturb = watch, lose
    bench.run()
    assert lost["left"] == 0, "no answer was lost"


def silent_when_armed(bench: Bench) -> None:
    """A servo falls silent between connecting and arming."""
    bench.connect()
    bench.bus.servos[bench.joint].connected = False
    arm_as_a_run_does(bench)


def come_back_as_another_arm(bench: Bench) -> None:
    """The cable is put into another arm, of the same kind: one number of its calibration differs."""
    bench.port.unplug()
    bench.play(bench.dice.uniform(0.3, 2.0))
    register, by = [(reg.HOMING_OFFSET, 17), (reg.MIN_POSITION, 3), (reg.MAX_POSITION, -5)][bench.dice.integers(3)]
    servo = bench.bus.servos[bench.joint]
    servo.set_register(register, servo.register(register) + by)
    bench.port.replug()


def push_against_a_narrow_range(bench: Bench) -> None:
    """This arm was calibrated for less than the profile allows, and the policy wants more."""
    low, high = 796 + 300, 3299 - 300
    bench.joint = 0
    bench.calibrate(0, low, high)
    bench.connect()
    bench.run()
    far_deg = float(bench.dice.choice([-1, 1]) * 109.0)

    def feed(bench: Bench) -> None:
        chunk = bench.chunk()
        chunk.joint_deg[:, 0] = far_deg
        bench.offer(chunk)

    bench.feed = feed
    bench.play(2.0)
    goal = bench.bus.servos[0].register(reg.GOAL_POSITION)
    assert goal in (low, high), "it was not led to the end of its range"
    bench.feed = Bench.send_swing


def park_pose_just_outside(bench: Bench) -> None:
    """The range ends 3 degrees before the park pose: it parks at its end."""
    bench.profile = bench.profile.model_copy(update={"park_pose_deg": [0.0, -90.0, 20.0, 10.0, 0.0, 10.0]})
    middle, half = 2048, round(87.0 * 4095 / 360)
    bench.calibrate(1, middle - half, middle + half)
    bench.connect()
    bench.run()


SUPPLY = "the servos' supply voltage is out of range"


def untouched(fault: Fault, says: str, rest_s: float, ending: str = UNTOUCHED) -> Expected:
    return Expected(says, ending, fault, Mode.IDLE, Torque.UNTOUCHED, rest_s=rest_s)


def complaint(word: str, ending: str = UNTOUCHED) -> Expected:
    return untouched(Fault.SERVO_STATUS, f"a servo reports a fault ({{joint}}: {word})", 0.5, ending)


ROWS: list[Row[Bench]] = [
    Row(
        "12 V on 7.4 V servos when the run begins",
        before_arming(feed_12_volts),
        untouched(Fault.SUPPLY_VOLTAGE, SUPPLY, 0.5),
        Start.BEFORE,
    ),
    *(
        Row(f"{words} bit when the run begins", before_arming(complain(bit)), complaint(words), Start.BEFORE)
        for bit, words in (
            (StatusBits.OVERLOAD, "overload"),
            (StatusBits.VOLTAGE, "voltage"),
            (StatusBits.ENCODER, "encoder"),
            (StatusBits.TEMPERATURE, "heat"),
            (StatusBits.CURRENT, "over-current"),
        )
    ),
    Row(
        "a servo is hot when the run begins",
        before_arming(be_hot),
        untouched(Fault.OVERHEATED, "a servo is too hot ({joint})", 1.5),
        Start.BEFORE,
    ),
    Row(
        "an overload bit when the run begins, and the torque is on already",
        before_arming(hold_already),
        complaint("overload", f"{UNTOUCHED}; its torque was already on in all joints"),
        Start.BEFORE,
    ),
    Row("a status bit in the first readings alone", complain_for_a_moment, GOES_ON, Start.BEFORE),
    Row(
        "a joint stands more than 2 degrees outside its servo's range",
        before_arming(stand_outside(OUTSIDE_TICKS + 1, 250)),
        untouched(
            Fault.OUTSIDE_RANGE,
            "a joint would jump if it were switched on ({joint} at …, … degrees outside its servo's …)",
            0.6,
        ),
        Start.BEFORE,
    ),
    Row("a joint stands at most 2 degrees outside its servo's range", rest_at_its_end, GOES_ON, Start.BEFORE),
    Row("the first position that is read lies", first_position_lies, GOES_ON, Start.BEFORE),
    Row(
        "a joint gives another position each time it is asked",
        every_position_lies,
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
    Row("no answers right after the torque came on", no_answers_after_torque_on, GOES_ON, Start.BEFORE),
    Row(
        "torque on is not confirmed",
        refuse_torque_on,
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
        come_back_as_another_arm,
        Expected(
            "another arm answers on this port, nothing was sent to it (… of {joint} is …, was …)",
            LEFT,
            Fault.OTHER_ARM,
            Mode.FAULT,
            Torque.ON,
            rest_s=0.5,
        ),
    ),
    Row("the policy pushes against a narrow calibrated range", push_against_a_narrow_range, GOES_ON, Start.BEFORE),
    Row("the park pose is just outside the calibrated range", park_pose_just_outside, GOES_ON, Start.BEFORE),
]
