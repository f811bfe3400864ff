"""`--robot.type=sefa_so_follower`: LeRobot 0.4.4 finds it, and its own programs record and teleoperate with it."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sefa_edge.edge.pictures import decode_picture
from sefa_edge.firmware_bridge.host.feetech import registers as reg
from sefa_edge.profiles.recording.dataset import open_dataset
from sefa_edge.profiles.units import LEROBOT_TICKS_PER_TURN
from tests.clients.lerobot_rig import (
    LEROBOT_PYTHON,
    PROFILE,
    Finished,
    LeRobot,
    N,
    ServedArm,
    calibration_of_arm,
    needs_lerobot,
    served_arm,
    write_calibration,
    write_profile,
)

pytestmark = [needs_lerobot, pytest.mark.once]

HERE = Path(__file__).parent
GRIPPER = N - 1
KEYS = [f"{joint.name}.pos" for joint in PROFILE.joints]
POSE = dict(zip(KEYS, [20.0, -15.0, 25.0, 10.0, -30.0, 70.0], strict=True))
TICK_DEG = 360 / LEROBOT_TICKS_PER_TURN
ON, OFF = [reg.TORQUE_ON] * N, [reg.TORQUE_OFF] * N


@pytest.fixture
def arm(tmp_path: Path) -> Iterator[ServedArm]:
    with served_arm(tmp_path / "arm") as served:
        yield served


@pytest.fixture
def leader(tmp_path: Path) -> Iterator[ServedArm]:
    with served_arm(tmp_path / "leader") as served:
        yield served


@pytest.fixture
def lerobot(tmp_path: Path) -> LeRobot:
    write_calibration(tmp_path, "robots/so_follower", "bench")
    write_calibration(tmp_path, "teleoperators/so_leader", "hand")
    return LeRobot(tmp_path)


# -- the robot -------------------------------------------------------------------------------------------------


def test_it_is_found_moved_and_left_holding(lerobot: LeRobot, arm: ServedArm) -> None:
    steps = [["connect"], ["observe"], ["lead", POSE], ["disconnect"]]
    printed = answers(session(lerobot, arm, steps))
    assert printed[0] == {"name": "so_follower", "features": sorted(KEYS)}
    assert printed[2] == pytest.approx(dict.fromkeys(KEYS, 0.0) | {"gripper.pos": 50.0}, abs=0.2)
    assert printed[3] == pytest.approx(POSE, abs=1.0)
    np.testing.assert_allclose(arm.joint_deg(), list(POSE.values()), atol=1.5)
    assert arm.each(reg.TORQUE_ENABLE) == ON
    assert steps_deg(arm).max() <= longest_step_deg() + TICK_DEG


def test_it_writes_nothing_to_the_eeprom(lerobot: LeRobot, arm: ServedArm) -> None:
    before = [servo.read(0, reg.EEPROM_END) for servo in arm.bus.servos]
    answers(session(lerobot, arm, [["connect"], ["lead", POSE], ["disconnect"]]))
    assert [servo.read(0, reg.EEPROM_END) for servo in arm.bus.servos] == before


def test_an_arm_keeps_its_pose_between_two_sessions(lerobot: LeRobot, arm: ServedArm) -> None:
    answers(session(lerobot, arm, [["connect"], ["lead", POSE], ["disconnect"]]))
    printed = answers(session(lerobot, arm, [["connect"], ["observe"], ["disconnect"]]))
    assert printed[2] == pytest.approx(POSE, abs=1.5)
    for switched in arm.plant.torques:
        assert all(switched[switched.index(True) :])


@pytest.mark.parametrize(("ending", "torque"), [("park", OFF), ("release", OFF)])
def test_disconnecting_can_park_or_release_the_arm(
    lerobot: LeRobot, arm: ServedArm, ending: str, torque: list[int]
) -> None:
    steps = [["connect"], ["lead", POSE], ["disconnect"]]
    answers(session(lerobot, arm, steps, f"--robot.on_disconnect={ending}"))
    assert arm.each(reg.TORQUE_ENABLE) == torque
    expected = PROFILE.park_pose_deg if ending == "park" else list(POSE.values())
    np.testing.assert_allclose(arm.joint_deg(), expected, atol=1.5)


def test_actions_can_be_in_percent_of_the_range(lerobot: LeRobot, arm: ServedArm) -> None:
    steps = [["connect"], ["lead", dict.fromkeys(KEYS, 30.0)], ["disconnect"]]
    printed = answers(session(lerobot, arm, steps, "--robot.use_degrees=false"))
    assert printed[2] == pytest.approx(dict.fromkeys(KEYS, 30.0), abs=1.0)
    half_range_deg = [(entry.range_max_ticks - entry.range_min_ticks) / 2 * TICK_DEG for entry in calibration_of_arm()]
    np.testing.assert_allclose(arm.joint_deg(), [*(0.3 * half for half in half_range_deg[:GRIPPER]), 30.0], atol=1.5)


def test_goals_outside_the_limits_are_clipped(lerobot: LeRobot, arm: ServedArm) -> None:
    far = dict.fromkeys(KEYS, 1000.0)
    printed = answers(session(lerobot, arm, [["connect"], ["send", far], ["lead", far], ["disconnect"]]))
    limits = [joint.max_deg for joint in PROFILE.joints]
    assert list(printed[2].values()) == pytest.approx(limits)
    np.testing.assert_allclose(arm.joint_deg(), limits, atol=1.5)


@pytest.mark.parametrize(
    ("action", "message"),
    [({"elbow_flex.pos": math.nan}, "finite"), ({"elbow.pos": 1.0}, "the joints of this arm are shoulder_pan.pos")],
)
def test_an_invalid_action_is_refused(lerobot: LeRobot, arm: ServedArm, action: dict[str, float], message: str) -> None:
    done = session(lerobot, arm, [["connect"], ["send", action]])
    assert done.exit_code != 0
    assert message in done.output
    assert arm.each(reg.TORQUE_ENABLE) == ON


def test_a_servo_fault_ends_the_session_with_the_joint_and_a_hint(lerobot: LeRobot, arm: ServedArm) -> None:
    arm.bus.servos[2].temperature_c = 80
    done = session(lerobot, arm, [["connect"], ["lead", POSE], ["lead", POSE]])
    assert done.exit_code != 0
    assert "SefaArmError: a servo reports a fault (elbow_flex)" in done.output
    assert "hint: let it cool down" in done.output
    assert arm.each(reg.TORQUE_ENABLE) == ON


def test_another_calibration_is_refused(lerobot: LeRobot, arm: ServedArm) -> None:
    arm.bus.servos[2].set_register(reg.HOMING_OFFSET, 5)
    done = session(lerobot, arm, [["connect"]])
    assert done.exit_code != 0
    assert "elbow_flex" in done.output
    assert "hint:" in done.output
    assert arm.each(reg.TORQUE_ENABLE) == OFF


def test_without_a_file_the_servos_calibration_is_used(tmp_path: Path, arm: ServedArm) -> None:
    printed = answers(session(LeRobot(tmp_path), arm, [["connect"], ["observe"], ["disconnect"]]))
    assert printed[2] == pytest.approx(dict.fromkeys(KEYS, 0.0) | {"gripper.pos": 50.0}, abs=0.2)


def test_percent_without_a_file_is_refused(tmp_path: Path, arm: ServedArm) -> None:
    done = session(LeRobot(tmp_path), arm, [["connect"]], "--robot.use_degrees=false")
    assert done.exit_code != 0
    assert "use_degrees=false needs the arm's calibration" in done.output


def test_calibrating_is_refused_with_the_name_of_the_program_that_does_it(lerobot: LeRobot, arm: ServedArm) -> None:
    done = session(lerobot, arm, [["calibrate"]])
    assert done.exit_code != 0
    assert "lerobot-calibrate --robot.type=so101_follower" in done.output


# -- LeRobot's programs ----------------------------------------------------------------------------------------


def test_teleoperation_with_a_leader_arm(lerobot: LeRobot, arm: ServedArm, leader: ServedArm) -> None:
    """LeRobot's own leader arm moves ours, until Ctrl-C."""
    goal_deg = np.array([30.0, -20.0, 15.0, -25.0, 40.0, 80.0])

    def lead_and_stop(process: subprocess.Popen[str]) -> None:
        wait_until(process, lambda: arm.each(reg.TORQUE_ENABLE) == ON)
        leader.place(goal_deg)
        wait_until(process, lambda: bool(np.abs(arm.joint_deg() - goal_deg).max() < 1.5))
        if process.poll() is None:
            process.send_signal(signal.SIGINT)

    arguments = [*program("lerobot-teleoperate"), *robot_arguments(arm), *leader_arguments(leader), "--fps=60"]
    done = lerobot.run(*arguments, meanwhile=lead_and_stop)
    assert done.exit_code == 0, done.output
    np.testing.assert_allclose(arm.joint_deg(), goal_deg, atol=1.5)
    assert steps_deg(arm).max() <= longest_step_deg() + TICK_DEG
    assert arm.each(reg.TORQUE_ENABLE) == ON


def test_recording_with_a_camera(tmp_path: Path, lerobot: LeRobot, arm: ServedArm, leader: ServedArm) -> None:
    """Two episodes with a camera; the dataset contains the movements of the leader and of the arm."""
    dataset = tmp_path / "dataset"
    arguments = [*program("lerobot-record"), *robot_arguments(arm), *leader_arguments(leader)]
    arguments += [
        "--dataset.repo_id=local/bench",
        f"--dataset.root={dataset}",
        "--dataset.single_task=follow the leader",
    ]
    arguments += [
        "--dataset.fps=30",
        "--dataset.num_episodes=2",
        "--dataset.episode_time_s=3",
        "--dataset.reset_time_s=1",
    ]
    arguments += ["--dataset.push_to_hub=false", "--dataset.vcodec=h264", "--play_sounds=false"]
    with network_camera(lerobot, "front", 64, 48) as camera_port, swinging(leader):
        camera_config = f"type: zmq, server_address: 127.0.0.1, port: {camera_port}, camera_name: front"
        arguments.append(f"--robot.cameras={{front: {{{camera_config}, width: 64, height: 48, fps: 30}}}}")
        done = lerobot.run(*arguments, writes=dataset)
    assert done.exit_code == 0, done.output
    assert steps_deg(arm).max() <= longest_step_deg() + TICK_DEG
    assert arm.each(reg.TORQUE_ENABLE) == ON
    check_dataset(dataset)


def check_dataset(dataset: Path) -> None:
    info = json.loads((dataset / "meta/info.json").read_text())
    assert info["robot_type"] == "so_follower"
    assert info["total_episodes"] == 2
    assert info["features"]["action"]["names"] == KEYS
    assert info["features"]["observation.state"]["names"] == KEYS
    assert info["features"]["observation.images.front"]["shape"] == [48, 64, 3]
    rows = [row for path in sorted(dataset.glob("data/*/*.parquet")) for row in pq.read_table(path).to_pylist()]
    assert len(rows) == info["total_frames"] > 20
    actions = np.array([row["action"] for row in rows])
    states = np.array([row["observation.state"] for row in rows])
    assert (np.ptp(actions, axis=0) > 10.0).all()  # the leader moved in every joint, and so did the arm
    assert (np.ptp(states, axis=0) > 5.0).all()
    assert np.abs(states[:, :GRIPPER]).max() < 30.0
    recorded = open_dataset(dataset)  # our own reader, on the video that LeRobot encoded
    assert len(recorded) == len(rows)
    pictures = recorded.pictures("front", np.arange(len(rows)), decode_picture)
    assert pictures.shape == (len(rows), 48, 64, 3)
    assert np.std(pictures.astype(float)) > 10.0


# -- helpers ---------------------------------------------------------------------------------------------------


def robot_arguments(arm: ServedArm) -> list[str]:
    return [
        "--robot.type=sefa_so_follower",
        f"--robot.port={arm.port.path}",
        f"--robot.arm={write_profile(Path(arm.port.path).parent)}",
        "--robot.id=bench",
    ]


def leader_arguments(leader: ServedArm) -> list[str]:
    return ["--teleop.type=so101_leader", f"--teleop.port={leader.port.path}", "--teleop.id=hand"]


def program(name: str) -> list[str]:
    """LeRobot's own entry point."""
    return [str(LEROBOT_PYTHON.with_name(name))]


def session(lerobot: LeRobot, arm: ServedArm, steps: list, *arguments: str) -> Finished:
    return lerobot.run(str(HERE / "lerobot_plugin_session.py"), json.dumps(steps), *robot_arguments(arm), *arguments)


def answers(done: Finished) -> list:
    assert done.exit_code == 0, done.output
    return json.loads(done.output.splitlines()[-1])


def wait_until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Wait for the condition, or until the process has stopped."""
    while process.poll() is None and not condition():
        time.sleep(0.02)


@contextmanager
def network_camera(lerobot: LeRobot, name: str, width: int, height: int) -> Iterator[int]:
    command = [str(LEROBOT_PYTHON), str(HERE / "lerobot_camera_server.py"), name, str(width), str(height)]
    with subprocess.Popen(command, cwd=lerobot.home, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.kill()


@contextmanager
def swinging(leader: ServedArm) -> Iterator[None]:
    """Move the leader back and forth in the background."""
    stopped = threading.Event()

    def swing() -> None:
        while not stopped.wait(0.01):
            angle = time.monotonic() * 2 * math.pi / 2.0
            leader.place(np.array([20.0 * math.sin(angle)] * GRIPPER + [50.0 + 20.0 * math.sin(angle)]))

    hand = threading.Thread(target=swing)
    hand.start()
    try:
        yield
    finally:
        stopped.set()
        hand.join()


def steps_deg(arm: ServedArm) -> np.ndarray:
    """Longest step [n] between consecutive goals that reached each motor."""
    return np.array([np.abs(np.diff(goals)).max() * TICK_DEG for goals in arm.plant.goals_ticks[:GRIPPER]])


def longest_step_deg() -> float:
    """What the velocity limit allows in one control period."""
    return max(joint.max_velocity_deg_s for joint in PROFILE.joints[:GRIPPER]) / PROFILE.control_rate_hz
