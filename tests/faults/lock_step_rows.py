"""Faults of the policy, of the supervisor's records, of the arm and its bus, and of the loop's timing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from sefa_edge.edge.control.chunks import PLAN_AHEAD_NS
from sefa_edge.edge.ipc.faults import Fault
from sefa_edge.edge.ipc.policy_records import ActionChunk, InferenceBegun, Trouble
from sefa_edge.edge.ipc.record_header import HEADER
from sefa_edge.edge.ipc.records import Torque
from sefa_edge.edge.ipc.vocabulary import Command, Mode
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.firmware_bridge.host.feetech.protocol import Packet, StatusBits, decode, encode
from sefa_edge.firmware_bridge.simulation.servo import SimulatedServo
from sefa_edge.profiles.units import SERVO_TICKS_PER_TURN, ms_to_ns, period_ns, s_to_ns
from tests.faults import arming_rows
from tests.faults.judge import first_rest
from tests.faults.lock_step import HORIZON, STEP_NS, Bench, ticks_of
from tests.faults.row import CONTINUES, DROPPED, LEFT, PARKED, UNTOUCHED, Expected, Row, Start
from tests.faults.wire_rules import WireSummary

SHOULDER, GRIPPER = 1, 5
BITS_PER_TICK = 140 * 8


# -- chunks ------------------------------------------------------------------------------------------------------


def send_once(damage: Callable[[Bench, ActionChunk], ActionChunk]) -> Callable[[Bench], None]:
    """One bad chunk among good ones."""
    return lambda bench: bench.send_policy_record(damage(bench, bench.chunk()).pack())


def send_from_now_on(damage: Callable[[Bench, ActionChunk], ActionChunk]) -> Callable[[Bench], None]:
    """Only bad chunks from now on."""

    def inject(bench: Bench) -> None:
        bench.feed = lambda bench: bench.send_policy_record(damage(bench, bench.chunk()).pack())

    return inject


def with_value(value: float) -> Callable[[Bench, ActionChunk], ActionChunk]:
    def damage(bench: Bench, chunk: ActionChunk) -> ActionChunk:
        path = chunk.joint_deg.copy()
        path[bench.rng.integers(HORIZON), bench.joint] = value
        return replace(chunk, joint_deg=path)

    return damage


def of_fewer_steps(bench: Bench, chunk: ActionChunk) -> ActionChunk:
    return replace(chunk, joint_deg=chunk.joint_deg[: bench.rng.integers(1, HORIZON)])


def of_other_joints(bench: Bench, chunk: ActionChunk) -> ActionChunk:
    joints = [count for count in range(1, 12) if count != len(bench.profile.joints)]
    return replace(chunk, joint_deg=np.zeros((HORIZON, bench.rng.choice(joints)), np.float32))


def without_step_time(bench: Bench, chunk: ActionChunk) -> ActionChunk:
    return replace(chunk, step_period_ns=-int(bench.rng.integers(0, STEP_NS)))


def from_the_future(bench: Bench, chunk: ActionChunk) -> ActionChunk:
    later_ns = PLAN_AHEAD_NS + s_to_ns(bench.rng.uniform(1, 1e6))
    return replace(chunk, observed_ns=chunk.observed_ns + later_ns, first_step_ns=chunk.first_step_ns + later_ns)


def from_the_past(bench: Bench, chunk: ActionChunk) -> ActionChunk:
    age_ns = HORIZON * STEP_NS + s_to_ns(bench.rng.uniform(0, 0.5))
    return replace(chunk, first_step_ns=chunk.first_step_ns - age_ns)


def half_late(bench: Bench, chunk: ActionChunk) -> ActionChunk:
    return replace(chunk, first_step_ns=chunk.first_step_ns - int(bench.rng.integers(1, HORIZON // 2)) * STEP_NS)


def with_an_old_id(bench: Bench, chunk: ActionChunk) -> ActionChunk:
    return replace(chunk, chunk_id=int(bench.rng.integers(0, 2)))


def far_away(bench: Bench, chunk: ActionChunk) -> ActionChunk:
    far_deg = bench.rng.choice([-1, 1], len(bench.profile.joints)) * 10.0 ** bench.rng.uniform(2, 30)
    return replace(chunk, joint_deg=np.broadcast_to(far_deg, chunk.joint_deg.shape))


def restless(bench: Bench, chunk: ActionChunk) -> ActionChunk:
    return replace(chunk, joint_deg=chunk.joint_deg + bench.rng.normal(0, 40, chunk.joint_deg.shape))


def silent_policy(bench: Bench) -> None:
    bench.feed = None


def slow_inference(bench: Bench) -> None:
    """From now on every chunk is late by at least its own duration."""
    late_ns = HORIZON * STEP_NS + ms_to_ns(bench.rng.uniform(0, 500))
    bench.feed = lambda bench: bench.send_policy_record(bench.chunk(bench.clock.now_ns() - late_ns).pack())


def inference_hangs(bench: Bench) -> None:
    bench.feed = None
    bench.send_policy_record(InferenceBegun(bench.clock.now_ns()).pack())


def flood(bench: Bench) -> None:
    for _ in range(int(bench.rng.integers(20, 80))):
        for _ in range(int(bench.rng.integers(1, 40))):
            bench.send_swing()
        bench.tick()


def repeat_chunks(bench: Bench) -> None:
    for _ in range(int(bench.rng.integers(5, 50))):
        chunk = bench.chunk()
        for _ in range(3):
            bench.send_policy_record(chunk.pack())
            bench.tick()


def no_first_chunk(bench: Bench) -> None:
    """The next episode begins and the policy sends nothing."""
    bench.feed = None
    bench.command(Command.HOLD)
    bench.until(lambda: bench.mode is Mode.HOLD and bench.reports[-1].settled)
    bench.command(Command.RUN)
    bench.until(lambda: bench.mode is Mode.RUNNING)
    bench.mark()


# -- records and channels ------------------------------------------------------------------------------------------


def noise(bench: Bench) -> bytes:
    return bench.rng.bytes(int(bench.rng.integers(1, 2000)))


def a_damaged_record(bench: Bench) -> bytes:
    """A chunk with a bit flipped in its header, or cut short."""
    record = bytearray(bench.chunk().pack())
    if bench.rng.integers(2):
        return bytes(record[: bench.rng.integers(1, len(record))])
    record[bench.rng.choice([0, 1, 4, 5, 6, 7])] ^= 1 << int(bench.rng.integers(8))
    return bytes(record)


def to_policy_channel(record: Callable[[Bench], bytes]) -> Callable[[Bench], None]:
    return lambda bench: bench.send_policy_record(record(bench))


def to_supervisor_channel(record: Callable[[Bench], bytes]) -> Callable[[Bench], None]:
    return lambda bench: bench.send_supervisor_record(record(bench))


def a_trouble_of_another_process(bench: Bench) -> bytes:
    record = bytearray(Trouble(Fault.ENGINE_FAILED).pack())
    record[HEADER.size] = bench.rng.choice([0, 1, 5, 6, 10, 200])
    return bytes(record)


def report_trouble(fault: Fault, about: str) -> Callable[[Bench], None]:
    return lambda bench: bench.send_policy_record(Trouble(fault, about).pack())


def close_policy(bench: Bench) -> None:
    bench.feed = None
    bench.policy.close()


def close_supervisor(bench: Bench) -> None:
    bench.supervisor.close()


def stop_reading_for_a_while(bench: Bench) -> None:
    """Reports fill the channel and are then dropped."""
    bench.reads_reports = False
    for _ in range(int(bench.rng.integers(300, 600))):
        bench.tick()
    bench.reads_reports = True


def beat_for_a_while(bench: Bench) -> None:
    bench.beats = True
    bench.play(bench.rng.uniform(0.1, 0.5))
    bench.beats = False


def fall_silent(bench: Bench) -> None:
    """The supervisor is alive and keeps its socket open, but does nothing."""
    beat_for_a_while(bench)
    bench.mark()


def beat_with_gaps(bench: Bench) -> None:
    for _ in range(int(bench.rng.integers(1, 5))):
        beat_for_a_while(bench)
        bench.play(bench.rng.uniform(0.1, 0.9))
    bench.beats = True


def fall_silent_while_stopping(bench: Bench) -> None:
    beat_for_a_while(bench)
    bench.command(Command.STOP)


def trouble_while_stopping(bench: Bench) -> None:
    bench.command(Command.STOP)
    for _ in range(int(bench.rng.integers(0, 40))):
        bench.tick()
    troubles = (Fault.CAMERA_STALE, Fault.CAMERA_FROZEN, Fault.CAMERA_DARK, Fault.CAMERA_SKEW, Fault.ENGINE_FAILED)
    bench.send_policy_record(Trouble(troubles[bench.rng.integers(len(troubles))], "front").pack())


def policy_ends_while_stopping(bench: Bench) -> None:
    bench.command(Command.STOP)
    for _ in range(int(bench.rng.integers(0, 40))):
        bench.tick()
    close_policy(bench)


# -- the arm ---------------------------------------------------------------------------------------------------------


def unplug(bench: Bench) -> None:
    bench.port.unplug()


def unplug_and_replug(bench: Bench) -> None:
    bench.port.unplug()
    bench.play(bench.rng.uniform(0.05, 4))
    bench.port.replug()


def unplug_and_replug_into_noise(bench: Bench) -> None:
    unplug_and_replug(bench)
    much_noise(bench)


def silence(bench: Bench) -> None:
    bench.bus.servos[bench.joint].connected = False


def silence_for_a_while(bench: Bench) -> None:
    silence(bench)
    bench.play(bench.rng.uniform(0.8, 4))
    bench.bus.servos[bench.joint].connected = True


def loose_contact(bench: Bench) -> None:
    """Repeatedly disconnected for less than the goal timeout."""
    for _ in range(int(bench.rng.integers(1, 6))):
        silence(bench)
        bench.play(bench.rng.uniform(0.01, 0.4))
        bench.bus.servos[bench.joint].connected = True
        bench.play(bench.rng.uniform(0.02, 0.3))


def loose_contact_while_parking(bench: Bench) -> None:
    """The joint moves only while its servo is connected, so it does not arrive."""
    bench.joint = SHOULDER  # far from the park pose
    bench.command(Command.STOP)
    bench.until(lambda: bench.mode is Mode.PARK)
    while bench.mode is Mode.PARK:
        silence(bench)
        bench.play(bench.rng.uniform(0.3, 0.4))
        bench.bus.servos[bench.joint].connected = True
        bench.play(0.01)
    bench.mark()


def cut_power(bench: Bench, seconds: float) -> None:
    for servo in bench.bus.servos:
        servo.power_cycle()  # torque is off from here on
        servo.connected = False
    bench.play(seconds)
    for servo in bench.bus.servos:
        servo.connected = True


def fail_supply(bench: Bench, servos: list[SimulatedServo], seconds: float) -> None:
    """Cut the supply of these servos for some seconds; they restart when it returns."""
    before_mv = [servo.supply_mv for servo in servos]
    for servo in servos:
        servo.supply_mv = 0
    bench.play(0.04)
    bench.bus.advance(bench.clock.now_ns())  # an unplugged port does not advance the time of its bus
    bench.play(seconds - 0.04)
    for servo, supply_mv in zip(servos, before_mv, strict=True):
        servo.supply_mv = supply_mv


def supply_fails(bench: Bench) -> None:
    fail_supply(bench, bench.bus.servos, 1.5)


def supply_fails_while_parking(bench: Bench) -> None:
    bench.command(Command.STOP)
    bench.until(lambda: bench.mode is Mode.PARK)
    bench.mark()
    fail_supply(bench, bench.bus.servos, bench.rng.uniform(0.1, 3))


def supply_of_a_servo_fails(bench: Bench) -> None:
    fail_supply(bench, [bench.bus.servos[bench.joint]], bench.rng.choice([0.1, 0.3, 1.5]))


def supply_fails_and_torque_returns(bench: Bench) -> None:
    for servo in bench.bus.servos:
        servo.torque_after_start = True
    fail_supply(bench, bench.bus.servos, bench.rng.uniform(0.2, 2))


def supply_of_a_servo_fails_and_torque_returns(bench: Bench) -> None:
    servo = bench.bus.servos[bench.joint]
    servo.torque_after_start = True
    fail_supply(bench, [servo], bench.rng.uniform(0.2, 2))


def supply_fails_while_the_port_is_unplugged(bench: Bench) -> None:
    bench.port.unplug()
    fail_supply(bench, bench.bus.servos, bench.rng.uniform(0.3, 3))
    bench.bus.advance(bench.clock.now_ns())
    bench.port.replug()


def goal_changes_while_silent(bench: Bench) -> None:
    """The servo keeps torque and power, and has another goal when it answers again."""
    servo = bench.bus.servos[bench.joint]
    servo.connected = False
    bench.play(0.2)
    goal_ticks = servo.register(reg.GOAL_POSITION) + int(bench.rng.integers(-40, 41))
    servo.write(reg.GOAL_POSITION.address, reg.GOAL_POSITION.encode(goal_ticks))
    bench.judge.joints.goal(servo.servo_id, goal_ticks, bench.clock.now_ns())
    bench.play(0.1)
    servo.connected = True


def random_positions(bench: Bench) -> None:
    bench.bus.servos[bench.joint].report_position = lambda _: int(bench.rng.integers(0, 4096))
    bench.play(6.0)


def position_jumps_in_single_replies(bench: Bench) -> None:
    """Wrong in single replies, several times; correct in the reply after each."""
    servo = bench.bus.servos[bench.joint]
    for _ in range(int(bench.rng.integers(1, 8))):
        servo.report_position = lambda ticks: (ticks + int(bench.rng.integers(300, 3800))) % 4096
        bench.tick()
        servo.report_position = lambda ticks: ticks
        bench.play(bench.rng.uniform(0.02, 0.2))


def position_jumps_permanently(bench: Bench) -> None:
    """The magnet of the encoder slips."""
    bench.joint = int(bench.rng.integers(GRIPPER))
    slip = int(bench.rng.integers(400, 3700))
    bench.bus.servos[bench.joint].report_position = lambda ticks: (ticks + slip) % 4096


def position_is_frozen(bench: Bench) -> None:
    bench.joint = SHOULDER  # far from the park pose
    here_ticks = bench.bus.servos[SHOULDER].register(reg.PRESENT_POSITION)
    bench.bus.servos[SHOULDER].report_position = lambda _: here_ticks
    target_deg = bench.reports[-1].joint_deg[SHOULDER] + 60
    bench.lead_joint(SHOULDER, float(target_deg if target_deg < 90 else target_deg - 120))


def long_power_cut(bench: Bench) -> None:
    cut_power(bench, bench.rng.uniform(0.6, 4))


def short_power_cut(bench: Bench) -> None:
    cut_power(bench, bench.rng.uniform(0.25, 0.45))


def raise_bit(bit: StatusBits) -> Callable[[Bench], None]:
    def inject(bench: Bench) -> None:
        bench.bus.servos[bench.joint].fault_bits = bit

    return inject


def overload(bench: Bench) -> None:
    """Overload bit of a joint that carries the arm."""
    bench.joint = int(bench.rng.integers(GRIPPER))
    raise_bit(StatusBits.OVERLOAD)(bench)


def overload_the_gripper(bench: Bench) -> None:
    """The bit that a servo sets after pushing for two seconds."""
    bench.joint = GRIPPER
    raise_bit(StatusBits.OVERLOAD)(bench)


def flicker(bench: Bench) -> None:
    """A status bit set for less than 0.1 s, as when all motors start at once."""
    for _ in range(int(bench.rng.integers(1, round(0.1 * bench.profile.control_rate_hz)))):
        bench.bus.servos[bench.joint].fault_bits = StatusBits(int(bench.rng.choice([1, 8, 32])))
        bench.tick()
        bench.bus.servos[bench.joint].fault_bits = StatusBits(0)


def get_warm(bench: Bench) -> None:
    """Above the warning temperature, not above the limit."""
    bench.bus.servos[bench.joint].temperature_c = int(bench.rng.integers(56, 66))
    bench.play(2.0)
    assert bench.reports[-1].warm_bits == 1 << bench.joint


def get_hot(bench: Bench) -> None:
    """Above our limit, below the servo's own."""
    bench.bus.servos[bench.joint].temperature_c = int(bench.rng.integers(66, 71))


def overheat(bench: Bench) -> None:
    """The servo switches its motor off, so its joint cannot be parked."""
    bench.joint = SHOULDER  # far from the park pose
    bench.bus.servos[bench.joint].temperature_c = int(bench.rng.integers(71, 100))


def sag(lowest_mv: int, highest_mv: int) -> Callable[[Bench], None]:
    """The supply voltage drops under load, for all servos."""

    def inject(bench: Bench) -> None:
        supply_mv = int(bench.rng.integers(lowest_mv, highest_mv))
        for servo in bench.bus.servos:
            servo.supply_mv = supply_mv

    return inject


def dip(bench: Bench) -> None:
    """The supply drops for less than 0.1 s, as when all motors start at once."""
    for _ in range(int(bench.rng.integers(1, 5))):
        sag(2600, 4400)(bench)
        bench.play(bench.rng.uniform(0.01, 0.07))
        sag(7000, 7600)(bench)
        bench.play(0.1)


def wrong_supply(bench: Bench) -> None:
    """12 V, which the servos accept and the arm's profile does not."""
    for servo in bench.bus.servos:
        servo.set_register(reg.MAX_VOLTAGE, 140)
        servo.supply_mv = 12_000
    bench.connect()


def draw_too_much(bench: Bench) -> None:
    """The gripper, whose load is not a fault; until the arm holds."""
    bench.joint = GRIPPER
    bench.plant.external_load[GRIPPER] = bench.rng.uniform(1.1, 1.3)  # more than the motor can give
    bench.until(lambda: bench.mode is Mode.HOLD)
    bench.plant.external_load[GRIPPER] = 0.0


def lean(bench: Bench) -> None:
    """Something pushes against the shoulder, which does not move and has no need to."""
    bench.joint = SHOULDER
    bench.stand(SHOULDER)
    bench.mark()
    bench.plant.external_load[SHOULDER] = bench.rng.uniform(0.805, 0.83)
    bench.plant.set_torque(SHOULDER, False)


def lean_for_a_while(bench: Bench) -> None:
    lean(bench)
    bench.until(lambda: bench.mode is Mode.HOLD)
    bench.plant.external_load[SHOULDER] = 0.0
    bench.plant.set_torque(SHOULDER, True)


def strain_briefly(bench: Bench) -> None:
    """Nearly full torque and current for less than a second."""
    for _ in range(int(bench.rng.integers(1, 4))):
        bench.plant.external_load[bench.joint] = bench.rng.uniform(0.85, 1.2)
        bench.play(bench.rng.uniform(0.1, 0.9))
        bench.plant.external_load[bench.joint] = 0.0
        bench.play(0.1)


def emergency(bench: Bench) -> None:
    bench.command(Command.EMERGENCY)


def emergency_with_unresponsive_torque(bench: Bench) -> None:
    """A servo answers but keeps its torque."""
    bench.bus.servos[bench.joint].accepts_torque = False
    emergency(bench)


def emergency_with_slow_release(bench: Bench) -> None:
    emergency_with_unresponsive_torque(bench)
    bench.play(bench.rng.uniform(0.1, 2.5))
    assert bench.mode is Mode.EMERGENCY
    bench.bus.servos[bench.joint].accepts_torque = True


def emergency_with_silent_servo(bench: Bench) -> None:
    silence(bench)
    emergency(bench)


def emergency_without_port(bench: Bench) -> None:
    bench.port.unplug()
    emergency(bench)
    bench.play(bench.rng.uniform(0.1, 2.0))
    assert bench.mode is Mode.EMERGENCY
    bench.port.replug()


def emergency_while_parking(bench: Bench) -> None:
    bench.command(Command.STOP)
    bench.play(bench.rng.uniform(0.02, 0.5))
    bench.mark()
    emergency(bench)


def block(bench: Bench, joint: int) -> None:
    """The joint is held in place, which no register shows, and its goal moves away."""
    bench.joint = joint
    bench.plant.set_torque(bench.joint, False)
    distance_deg = bench.rng.choice([-1, 1]) * bench.rng.uniform(50, 80)
    target_deg = bench.reports[-1].joint_deg[bench.joint] + distance_deg
    lowest, highest = (getattr(bench.profile.joints[bench.joint], name) for name in ("min_deg", "max_deg"))
    if not lowest <= target_deg <= highest:
        target_deg -= 2 * distance_deg
    bench.lead_joint(bench.joint, target_deg)


def block_the_shoulder(bench: Bench) -> None:
    """The joint cannot reach the park pose either."""
    block(bench, SHOULDER)


def block_until_it_gives_way(bench: Bench) -> None:
    block(bench, int(bench.rng.integers(GRIPPER)))
    bench.until(lambda: bench.mode is Mode.HOLD)
    bench.plant.set_torque(bench.joint, True)


def block_while_parking(bench: Bench) -> None:
    """An obstacle on the way to the park pose."""
    bench.joint = SHOULDER  # far from the park pose
    bench.command(Command.STOP)
    bench.until(lambda: bench.mode is Mode.PARK)
    bench.mark()
    bench.plant.set_torque(bench.joint, False)


def stop_short_of_the_park_pose(bench: Bench) -> None:
    """Something soft lies under the joint: it stops a few degrees short, and would drop if it were released."""
    bench.joint = SHOULDER
    short_ticks = bench.rng.uniform(7.0, 17.0) * SERVO_TICKS_PER_TURN / 360
    park_ticks = ticks_of(bench.profile, bench.profile.park_pose_deg)[bench.joint]
    bench.command(Command.STOP)
    bench.until(
        lambda: bench.mode is Mode.PARK and abs(bench.plant.position_ticks(bench.joint) - park_ticks) < short_ticks
    )
    bench.plant.set_torque(bench.joint, False)
    bench.until(lambda: bench.mode is not Mode.PARK)
    bench.mark()


def grip(bench: Bench) -> None:
    """The gripper closes on an object, as intended."""
    bench.plant.set_torque(GRIPPER, False)


# -- the bus ---------------------------------------------------------------------------------------------------------


def disturb(damage: Callable[[Bench, bytes], bytes]) -> Callable[[Bench], None]:
    """Damage every reply from now on."""

    def inject(bench: Bench) -> None:
        bench.bus.disturb = lambda data: damage(bench, data)

    return inject


def now_and_then(damage: Callable[[Bench, bytes], bytes]) -> Callable[[Bench], None]:
    """Damage one reply in five."""

    def inject(bench: Bench) -> None:
        bench.bus.disturb = lambda data: damage(bench, data) if bench.rng.random() < 0.2 else data

    return inject


def packets(data: bytes, change: Callable[[Packet], bytes]) -> bytes:
    return b"".join(change(packet) for packet in decode(data))


def wrong_ids(bench: Bench, data: bytes) -> bytes:
    other = int(bench.rng.integers(100, 250))
    return packets(data, lambda packet: encode(other, packet.code, packet.parameters))


def bad_checksums(bench: Bench, data: bytes) -> bytes:
    flip = int(bench.rng.integers(1, 256))

    def damage(packet: Packet) -> bytes:
        raw = bytearray(encode(packet.servo_id, packet.code, packet.parameters))
        raw[-1] ^= flip
        return bytes(raw)

    return packets(data, damage)


def truncated(bench: Bench, data: bytes) -> bytes:
    return data[: bench.rng.integers(1, 21)]  # not even the first reply is complete


def wrong_length(bench: Bench, data: bytes) -> bytes:
    return packets(data, lambda packet: encode(packet.servo_id, packet.code, packet.parameters[:-1]))


def duplicated(bench: Bench, data: bytes) -> bytes:
    return data + data


def flipped(data: bytes, share: float, rng: np.random.Generator) -> bytes:
    """Flip every bit with a probability of `share`."""
    flips = np.packbits(rng.random(len(data) * 8) < share)
    return bytes(np.frombuffer(data, np.uint8) ^ flips)


def a_little_noise(bench: Bench) -> None:
    share = 10 ** bench.rng.uniform(-5, -3.5)
    bench.bus.disturb = lambda data: flipped(data, share, bench.rng)
    bench.bus.disturb_request = lambda data: flipped(data, share / 30, bench.rng)


def much_noise(bench: Bench) -> None:
    bench.bus.disturb = lambda data: flipped(data, 0.1, bench.rng)
    bench.bus.disturb_request = lambda data: flipped(data, 0.1, bench.rng)


def late_replies(bench: Bench) -> None:
    """Replies arrive after the loop stopped waiting, and are discarded before the next tick's request."""
    bench.bus.adapter_delay_ns = bench.periods(0.55, 0.8)


def replies_of_the_last_tick(bench: Bench) -> None:
    """Replies are so late that they are taken for those to the next request."""
    bench.bus.adapter_delay_ns = bench.periods(1.1, 1.4)


def line_stalls(bench: Bench) -> None:
    """What is sent meanwhile is transmitted all at once."""
    bench.bus.stalled_until_ns = bench.clock.now_ns() + ms_to_ns(250)
    bench.play(0.5)


def line_stalls_between_request_and_goal(bench: Bench) -> None:
    bench.bus.stalled_until_ns = bench.clock.now_ns() + bench.periods(0.3, 0.9) + ms_to_ns(bench.rng.uniform(20, 350))
    bench.play(0.5)


def requests_late_for_a_while(bench: Bench) -> None:
    bench.bus.request_delay_ns = ms_to_ns(200)
    bench.play(bench.rng.uniform(0.05, 0.2))
    bench.bus.request_delay_ns = 0
    bench.play(0.4)


def all_requests_late(bench: Bench) -> None:
    bench.bus.request_delay_ns = ms_to_ns(200)


def replies_lost_for_a_while(bench: Bench) -> None:
    """The servos receive everything; their replies are lost."""
    for _ in range(int(bench.rng.integers(1, 4))):
        bench.bus.answers_lost_until_ns = bench.clock.now_ns() + ms_to_ns(bench.rng.choice([300, 40, 100]))
        bench.play(bench.rng.uniform(0.5, 0.8))


def replies_300_ms_late(bench: Bench) -> None:
    """Every request is answered, 300 ms late."""
    bench.bus.adapter_delay_ns = ms_to_ns(300)


def slow_replies(bench: Bench) -> None:
    bench.bus.adapter_delay_ns = bench.periods(0.01, 0.3)


def echo(bench: Bench) -> None:
    bench.bus.echoes = True


# -- the start and the end --------------------------------------------------------------------------------------------


def echo_from_the_start(bench: Bench) -> None:
    echo(bench)
    bench.connect()
    bench.run()


def silent_after_connecting(bench: Bench) -> None:
    """All servos fall silent before the first tick reads anything."""
    bench.connect()
    for servo in bench.bus.servos:
        servo.connected = False


def lose_servo_at_release(bench: Bench) -> None:
    """A servo falls silent after the arm has reached the park pose, just before its release."""
    bench.command(Command.STOP)
    bench.until(lambda: bench.mode is Mode.PARK)
    assert bench.loop is not None
    motion = bench.loop.motion
    bench.until(lambda: motion.settled(bench.clock.now_ns() + bench.periods(1, 1)))
    bench.mark()
    silence(bench)


# -- time ------------------------------------------------------------------------------------------------------------


def stall(bench: Bench) -> None:
    bench.clock.sleep_until(bench.clock.now_ns() + ms_to_ns(bench.rng.uniform(600, 5000)))


def hiccups(bench: Bench) -> None:
    for _ in range(int(bench.rng.integers(1, 8))):
        bench.clock.sleep_until(bench.clock.now_ns() + ms_to_ns(bench.rng.uniform(15, 250)))
        bench.play(0.1)


def starve(bench: Bench) -> None:
    """Every tick takes longer than its period."""
    bench.busy_ns = bench.periods(1, 4)


# -- the rows ---------------------------------------------------------------------------------------------------------


def fault(fault: Fault, says: str, rest_s: float) -> Expected:
    return Expected(says, PARKED, fault, rest_s=rest_s)


def left(fault: Fault, says: str, rest_s: float) -> Expected:
    return Expected(says, LEFT, fault, Mode.FAULT, Torque.ON, rest_s=rest_s)


BAD_CHUNK = fault(Fault.BAD_CHUNK, "the policy sent an invalid chunk: not finite, or of the wrong shape", 0.5)
STARVED = fault(Fault.CHUNK_TIMEOUT, "the policy sent no usable action chunk in time", 3.0)
POLICY_LOST = fault(Fault.POLICY_LOST, "the policy process is gone", 0.5)
SUPERVISOR_LOST = fault(Fault.SUPERVISOR_LOST, "the supervisor process is gone", 0.5)
STATUS = "a servo reports a fault"
STATUS_FAULT = fault(Fault.SERVO_STATUS, f"{STATUS} ({{joint}}: …)", 0.6)
STATUS_FAULT_LEFT = left(Fault.SERVO_STATUS, f"{STATUS} ({{joint}}: …)", 0.6)
SILENT = "servos do not answer"
TORQUE_UNKNOWN = f"{UNTOUCHED}; whether its torque is on is not known"
BLOCKED = "the arm does not follow its goal ({joint})"
OVERRUN = "the control loop lost its rate (… ticks in a row)"
HOT = "a servo is too hot ({joint})"
SUPPLY = "the servos' supply voltage is out of range"
OVERLOADED = "a joint pushes with nearly all its torque and gets nowhere ({joint})"
EMERGENCY = Expected("emergency stop", DROPPED, Fault.EMERGENCY_STOP, rest_s=0.1)
UNCONFIRMED = Expected(
    "emergency stop",
    "TORQUE NOT CONFIRMED OFF ({joint})",
    Fault.EMERGENCY_STOP,
    Mode.FAULT,
    Torque.UNKNOWN,
    rest_s=0.1,
)
REFUSED = Expected(
    "a servo did not confirm its torque setting",
    "arm left as it is, its torque may be on or off",
    Fault.TORQUE_REFUSED,
    Mode.FAULT,
    Torque.UNKNOWN,
    rest_s=0.5,
)
UNPOWERED = "a servo lost its power and was not switched on again"
POWER = f"{UNPOWERED} ({{joint}})"
IMPOSSIBLE_POSITIONS = "a servo reports positions that its joint cannot have reached ({joint})"
LIMP = Expected("the arm lost its power and is limp", DROPPED, Fault.POWER_LOST, rest_s=1.0)
BAD_REPLIES = left(Fault.ARM_TIMEOUT, SILENT, 1.0)

POLICY_ROWS = [
    Row("NaN in a chunk", send_once(with_value(np.nan)), BAD_CHUNK),
    Row("Inf in a chunk", send_once(with_value(-np.inf)), BAD_CHUNK),
    Row("chunk with too few steps", send_once(of_fewer_steps), BAD_CHUNK),
    Row("chunk for another number of joints", send_once(of_other_joints), BAD_CHUNK),
    Row("chunk whose steps take no time, or go backwards", send_once(without_step_time), BAD_CHUNK),
    Row("chunk from the future", send_once(from_the_future), BAD_CHUNK),
    Row("chunks from the past", send_from_now_on(from_the_past), STARVED),
    Row("chunks that are half late", send_from_now_on(half_late), CONTINUES),
    Row("inference slower than the plan is long", slow_inference, STARVED),
    Row("chunks stop", silent_policy, STARVED),
    Row(
        "inference never ends",
        inference_hangs,
        replace(STARVED, says=f"{STARVED.says} (inference has taken … ms so far)"),
    ),
    Row("no first chunk", no_first_chunk, replace(STARVED, rest_s=0.5)),
    Row("chunk ids that do not rise", send_from_now_on(with_an_old_id), STARVED),
    Row("one chunk several times", repeat_chunks, CONTINUES),
    Row("a flood of chunks", flood, CONTINUES),
    Row("chunks that point far outside the limits", send_from_now_on(far_away), CONTINUES),
    Row("chunks that jump to and fro", send_from_now_on(restless), CONTINUES),
    Row("noise on the policy's channel", to_policy_channel(noise), BAD_CHUNK),
    Row("damaged record on the policy's channel", to_policy_channel(a_damaged_record), BAD_CHUNK),
    Row("a trouble that the policy cannot have", to_policy_channel(a_trouble_of_another_process), BAD_CHUNK),
    Row("policy's channel closed", close_policy, POLICY_LOST),
    Row("policy's channel closed while the arm goes home", policy_ends_while_stopping, CONTINUES),
    Row(
        "policy reports: pictures too old",
        report_trouble(Fault.CAMERA_STALE, "front"),
        fault(Fault.CAMERA_STALE, "a camera gives no fresh picture (front)", 0.5),
    ),
    Row(
        "policy reports: picture frozen",
        report_trouble(Fault.CAMERA_FROZEN, "front"),
        fault(Fault.CAMERA_FROZEN, "a camera repeats the same picture (front)", 0.5),
    ),
    Row(
        "policy reports: picture black",
        report_trouble(Fault.CAMERA_DARK, "front"),
        fault(Fault.CAMERA_DARK, "a camera sees nothing (front)", 0.5),
    ),
    Row(
        "policy reports: cameras out of step",
        report_trouble(Fault.CAMERA_SKEW, "front"),
        fault(Fault.CAMERA_SKEW, "the pictures of the cameras are too far apart in time (front)", 0.5),
    ),
    Row(
        "policy reports: engine failed",
        report_trouble(Fault.ENGINE_FAILED, "out of memory"),
        fault(Fault.ENGINE_FAILED, "the engine failed while it ran (out of memory)", 0.5),
    ),
]

SUPERVISOR_ROWS = [
    Row("noise on the supervisor's channel", to_supervisor_channel(noise), SUPERVISOR_LOST),
    Row("damaged record on the supervisor's channel", to_supervisor_channel(a_damaged_record), SUPERVISOR_LOST),
    Row("supervisor's channel closed", close_supervisor, SUPERVISOR_LOST),
    Row("supervisor too slow to read", stop_reading_for_a_while, CONTINUES),
    Row(
        "the supervisor's heartbeat stops",
        fall_silent,
        fault(Fault.SUPERVISOR_SILENT, "the supervisor process does not answer", 1.6),
    ),
    Row("the heartbeat halts for less than a second", beat_with_gaps, CONTINUES),
    Row("the heartbeat stops while the arm goes home", fall_silent_while_stopping, CONTINUES),
    Row("a camera or the engine fails while the arm goes home", trouble_while_stopping, CONTINUES),
    Row("emergency stop", emergency, EMERGENCY),
    Row("emergency stop on the way home", emergency_while_parking, EMERGENCY),
    Row("emergency stop, a servo is slow to release", emergency_with_slow_release, EMERGENCY),
    Row("emergency stop, a servo does not release", emergency_with_unresponsive_torque, UNCONFIRMED),
    Row("emergency stop, a servo is silent", emergency_with_silent_servo, UNCONFIRMED),
    Row("emergency stop, the port is gone and comes back", emergency_without_port, EMERGENCY),
]

ARM_ROWS = [
    Row("port gone", unplug, left(Fault.ARM_DISCONNECTED, "the arm's port disappeared", 0.5)),
    Row("port gone and back", unplug_and_replug, fault(Fault.ARM_DISCONNECTED, "the arm's port disappeared", 0.5)),
    Row(
        "port gone and back, with nothing but noise on it",
        unplug_and_replug_into_noise,
        left(Fault.ARM_DISCONNECTED, "the arm's port disappeared", 0.5),
    ),
    Row("one servo silent", silence, left(Fault.ARM_TIMEOUT, f"{SILENT} ({{joint}})", 1.0)),
    Row("one servo silent and back", silence_for_a_while, fault(Fault.ARM_TIMEOUT, f"{SILENT} ({{joint}})", 1.0)),
    Row("loose contact at one servo", loose_contact, CONTINUES),
    Row(
        "loose contact on the way home, until it takes too long",
        loose_contact_while_parking,
        left(Fault.PARK_TIMEOUT, "the arm does not reach its park pose in time", 0.5),
    ),
    Row("power cut and return", long_power_cut, LIMP),
    Row("power cut for less than half a second", short_power_cut, LIMP),
    Row("the supply of all servos fails for 1.5 s", supply_fails, LIMP),
    Row("the supply fails on the way home", supply_fails_while_parking, LIMP),
    Row("the supply fails while the port is away", supply_fails_while_the_port_is_unplugged, LIMP),
    Row("the supply of one servo fails and returns", supply_of_a_servo_fails, left(Fault.POWER_LOST, POWER, 1.0)),
    Row(
        "the supply fails, and the servos start with their torque on",
        supply_fails_and_torque_returns,
        left(Fault.POWER_LOST, UNPOWERED, 1.0),
    ),
    Row(
        "the supply of one servo fails, and it starts with its torque on",
        supply_of_a_servo_fails_and_torque_returns,
        left(Fault.POWER_LOST, POWER, 1.0),
    ),
    Row("a servo is silent, and has another goal afterwards", goal_changes_while_silent, CONTINUES),
    Row("random positions of one joint", random_positions, left(Fault.ENCODER, IMPOSSIBLE_POSITIONS, 1.0)),
    Row("a position jumps once", position_jumps_in_single_replies, CONTINUES),
    Row("a position jumps and stays there", position_jumps_permanently, left(Fault.ENCODER, IMPOSSIBLE_POSITIONS, 0.5)),
    Row("a position is frozen", position_is_frozen, left(Fault.FOLLOWING_ERROR, BLOCKED, 2.5)),
    Row("overload bit", overload, STATUS_FAULT),
    Row("overload bit of a gripper that holds on", overload_the_gripper, CONTINUES),
    Row("over-current bit", raise_bit(StatusBits.CURRENT), STATUS_FAULT),
    Row("encoder bit", raise_bit(StatusBits.ENCODER), STATUS_FAULT),
    Row("a servo gets warm", get_warm, CONTINUES),
    Row("a servo gets too hot", get_hot, fault(Fault.OVERHEATED, HOT, 1.6)),
    Row("over-temperature, as the servo itself sees it", overheat, STATUS_FAULT_LEFT),
    Row("the supply sags", sag(4250, 4450), fault(Fault.SUPPLY_VOLTAGE, SUPPLY, 0.8)),
    Row("the supply breaks down", sag(2600, 3900), fault(Fault.SUPPLY_VOLTAGE, SUPPLY, 0.6)),
    Row("the supply dips for less than a tenth of a second", dip, CONTINUES),
    Row(
        "the power supply of another arm",
        wrong_supply,
        Expected(SUPPLY, UNTOUCHED, Fault.SUPPLY_VOLTAGE, Mode.IDLE, Torque.UNTOUCHED, rest_s=0.5),
        Start.BEFORE,
    ),
    Row(
        "the gripper draws too much current",
        draw_too_much,
        fault(Fault.OVERCURRENT, "a servo draws too much current ({joint})", 1.6),
    ),
    Row("a joint pushes and gets nowhere", lean, left(Fault.OVERLOADED, OVERLOADED, 1.6)),
    Row("a joint pushes, gets nowhere and is freed", lean_for_a_while, fault(Fault.OVERLOADED, OVERLOADED, 1.6)),
    Row("nearly all torque for less than a second", strain_briefly, CONTINUES),
    Row("status bits that flicker", flicker, CONTINUES),
    Row("a joint stays blocked", block_the_shoulder, left(Fault.FOLLOWING_ERROR, BLOCKED, 2.5)),
    Row("a joint is blocked and gives way", block_until_it_gives_way, fault(Fault.FOLLOWING_ERROR, BLOCKED, 2.5)),
    Row("an obstacle on the way home", block_while_parking, left(Fault.FOLLOWING_ERROR, BLOCKED, 2.5)),
    Row(
        "a joint stops short of the park pose, by less than counts as blocked",
        stop_short_of_the_park_pose,
        left(Fault.PARK_TIMEOUT, "the arm does not reach its park pose in time", 2.5),
    ),
    Row("the gripper holds something", grip, CONTINUES),
    Row(
        "all servos silent from the first tick on",
        silent_after_connecting,
        Expected(SILENT, TORQUE_UNKNOWN, Fault.ARM_TIMEOUT, Mode.IDLE, Torque.UNTOUCHED, rest_s=0.5),
        Start.BEFORE,
    ),
    Row("torque off is not confirmed", lose_servo_at_release, REFUSED),
]

BUS_ROWS = [
    Row("answers with a wrong id", disturb(wrong_ids), BAD_REPLIES),
    Row("answers with a bad checksum", disturb(bad_checksums), BAD_REPLIES),
    Row("answers cut short", disturb(truncated), BAD_REPLIES),
    Row("answers of a wrong length", disturb(wrong_length), BAD_REPLIES),
    Row("answers too late", late_replies, BAD_REPLIES),
    Row("answers one tick late", replies_of_the_last_tick, BAD_REPLIES),
    Row("answers 300 ms late", replies_300_ms_late, BAD_REPLIES),
    Row("answers lost for a while", replies_lost_for_a_while, CONTINUES),
    Row("the line stalls for 250 ms", line_stalls, CONTINUES),
    Row("the line stalls in the middle of a tick", line_stalls_between_request_and_goal, CONTINUES),
    Row("requests 200 ms late for a while", requests_late_for_a_while, CONTINUES),
    Row("all requests 200 ms late", all_requests_late, BAD_REPLIES),
    Row("answers a little late", slow_replies, CONTINUES),
    Row("answers twice", disturb(duplicated), CONTINUES),
    Row("now and then a wrong id", now_and_then(wrong_ids), CONTINUES),
    Row("now and then a bad checksum", now_and_then(bad_checksums), CONTINUES),
    Row("now and then an answer cut short", now_and_then(truncated), CONTINUES),
    Row("bit errors on the wire", a_little_noise, CONTINUES),
    Row("one bit in ten wrong on the wire", much_noise, BAD_REPLIES),
    Row("the adapter begins to echo", echo, CONTINUES),
    Row("the adapter echoes from the start", echo_from_the_start, CONTINUES, Start.BEFORE),
]

TIME_ROWS = [
    Row("the loop stalls", stall, fault(Fault.LOOP_OVERRUN, OVERRUN, 0.5)),
    Row("the loop stalls now and then, shorter than the goal timeout", hiccups, CONTINUES),
    Row("every tick takes longer than its period", starve, fault(Fault.LOOP_OVERRUN, OVERRUN, 3.0)),
]

ROWS: list[Row[Bench]] = [*POLICY_ROWS, *SUPERVISOR_ROWS, *ARM_ROWS, *arming_rows.ROWS, *BUS_ROWS, *TIME_ROWS]


def perform(row: Row[Bench], seed: int, note: Callable[[WireSummary], None] = lambda figures: None) -> None:
    """Inject the fault, check the outcome, and pass the wire figures to `note`. Raises AssertionError."""
    bench = Bench(seed)
    try:
        inject(bench, row)
        judge(bench, row.expected)
    finally:
        note(bench.judge.summary())
        bench.close()


def inject(bench: Bench, row: Row[Bench]) -> None:
    """Inject the fault and play to the end of the run; a run that continues is stopped. Raises AssertionError."""
    if row.start is Start.MOVING:
        bench.connect()
        bench.run()
    bench.mark()
    row.inject(bench)
    if row.expected.rest_s is None:
        bench.play(0.6)
        assert bench.stopping or bench.mode is bench.moving, f"stopped: {bench.final}"
        bench.command(Command.STOP)
    bench.until(lambda: False)


def judge(bench: Bench, expected: Expected) -> None:
    """Raises AssertionError if the run did not end as expected, or broke a rule."""
    final = bench.final
    assert (final.fault, final.mode, final.torque, final.exit_code) == (
        expected.fault, expected.mode, expected.torque, expected.exit_code,
    ), final  # fmt: skip
    assert expected.fits(final.message, joint=bench.profile.joint_names[bench.joint]), final.message
    if expected.torque is Torque.OFF:
        assert not any(servo.register(reg.TORQUE_ENABLE) for servo in bench.bus.servos)
    bench.judge.assert_clean()
    if expected.torque is Torque.UNTOUCHED:
        bench.judge.assert_untouched()
    if expected.rest_s is not None:
        period = period_ns(bench.profile.control_rate_hz)
        rest = first_rest(bench.judge.wire.goal_packets, bench.marked_ns, period)
        assert rest.stamp_ns - bench.marked_ns <= s_to_ns(expected.rest_s) + period, "the arm came to rest too late"
