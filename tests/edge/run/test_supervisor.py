"""What is refused before anything starts, children that fail, and one whole run with real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path

import pytest

from sefa_edge.cli import CommandLine
from sefa_edge.edge.cameras.camera import CameraAddress
from sefa_edge.edge.control.handover_settings import HandOver
from sefa_edge.edge.ipc.process import Child, ChildSpec
from sefa_edge.edge.pictures import Capture, read_picture
from sefa_edge.edge.run import command as run
from sefa_edge.edge.run.cores import split_cores
from sefa_edge.edge.run.run_plan import RunPlan, make_plan
from sefa_edge.firmware_bridge.simulation.client import WorldPaths
from sefa_edge.profiles.card import card_path
from sefa_edge.profiles.errors import InputError

PATIENCE_S = 120.0


def plan(engine: Path, *arguments: str) -> RunPlan:
    parser = CommandLine()
    run.add_arguments(parser)
    return make_plan(parser.parse_args(["--engine", str(engine), *arguments]))


def test_the_simulated_arm_needs_nothing_but_an_engine(reach_engine: Path) -> None:
    made = plan(reach_engine)
    assert made.arm_name == "so101_sim"
    assert made.cameras == {"front": CameraAddress("sim", "")}
    assert (made.schedule.episodes, made.schedule.episode_s) == (5, 8.0)
    assert made.video == Path("run.png")
    assert (made.hand_over, made.noise) == (HandOver(), "per-chunk")


def test_how_chunks_are_drawn_and_played_is_asked_for_by_name(reach_engine: Path) -> None:
    made = plan(reach_engine, "--handover", "blend", "--fade-ms", "80", "--noise", "shared")
    assert (made.hand_over, made.noise) == (HandOver("blend", 80.0), "shared")


def test_a_real_arm_is_run_without_a_world(reach_engine: Path) -> None:
    arguments = ("--arm", "so101", "--port", "/dev/ttyACM0", "--camera", "/dev/video0", "--video", "none")
    made = plan(reach_engine, *arguments)
    assert made.cameras == {"front": CameraAddress("v4l2", "/dev/video0")}
    assert (made.world, made.video) == (None, None)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--arm", "so101", "--camera", "/dev/video0"), "needs --port"),
        (("--arm", "so101", "--port", "/dev/ttyACM0"), "needs camera 'front'"),
        (("--arm", "so101", "--port", "/dev/ttyACM0", "--camera", "sim"), "does not show a real arm"),
        (("--camera", "side=/dev/video0"), "needs camera 'front'"),
        (("--camera", "sim", "--camera", "side=/dev/video0"), "no camera 'side'"),
        (("--camera", "webcam"), "is not a camera"),
        (("--arm", "so9000", "--port", "/dev/ttyACM0"), "no arm is called 'so9000'"),
        (("--task", "juggle"), "no task is called 'juggle'"),
        (("--calibration", "arm.json"), "takes no --calibration"),
        (("--video", "run.gif"), "unknown ending"),
        (("--rate", "5000"), "--rate: expected a rate from 20 to 500 Hz, got '5000'"),
        (("--fade-ms", "-1"), "--fade-ms: expected a time from 0 to 5000 ms, got '-1'"),
        (("--ensemble-decay", "nan"), "--ensemble-decay: expected a number from -100 to 100, got 'nan'"),
        (("--video", "nowhere/run.mp4"), "folder nowhere does not exist"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    reach_engine: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        plan(reach_engine, *arguments)
    assert caught.value.hint


def test_an_engine_for_another_arm_is_refused(tmp_path: Path, make_reach_engine) -> None:
    engine = make_reach_engine(tmp_path)
    card = json.loads(card_path(engine).read_text())
    card["joints"][0]["name"], card["joints"][1]["name"] = "shoulder_lift", "shoulder_pan"
    card_path(engine).write_text(json.dumps(card))
    with pytest.raises(InputError, match="engine joints: shoulder_lift shoulder_pan"):
        plan(engine)


def test_control_has_a_core_of_its_own_where_there_are_two() -> None:
    assert split_cores({0, 1, 2, 5}) == (frozenset({5}), frozenset({0, 1, 2}))
    assert split_cores({3}) == (frozenset(), frozenset())


@pytest.mark.slow
def test_a_child_that_fails_is_reported() -> None:
    child = Child(ChildSpec("camera", "sefa_edge.edge.cameras.camera_process", "{}", ()))
    assert child.wait(PATIENCE_S) == 1
    failure = child.failure()
    child.close()
    assert str(failure) == "the camera process ended: exit code 1"
    assert failure.exit_code == 3


def test_a_child_that_is_killed_is_reported_as_such() -> None:
    child = Child(ChildSpec("pause", "http.server", None, (), arguments=("0",)))
    child.stop(patience_s=0.0)
    failure = child.failure()
    child.close()
    assert "killed by SIG" in str(failure)


def test_importing_the_command_imports_nothing_heavy() -> None:
    code = "import sys, sefa_edge.edge.run.command\n"
    code += "print(sorted({'cv2', 'onnxruntime', 'mujoco', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


@pytest.mark.slow
def test_the_supervisor_needs_no_heavy_library_either() -> None:
    code = "import sys, sefa_edge.edge.run.supervisor\n"
    code += "print(sorted({'cv2', 'onnxruntime', 'mujoco'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.strip() == b"[]"


@pytest.mark.sim
def test_a_whole_run(tmp_path: Path, reach_engine: Path) -> None:
    command = [sys.executable, "-m", "sefa_edge", "run", "--engine", str(reach_engine)]
    done = subprocess.run(
        [*command, "--episodes", "2", "--episode-seconds", "1", "--seed", "4", "--json", "-"],
        capture_output=True,
        cwd=tmp_path,
        timeout=PATIENCE_S,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    assert [episode["seed"] for episode in found["episodes"]] == [4, 5]
    assert [episode["outcome"] for episode in found["episodes"]] == ["timeout", "timeout"]
    assert all(episode["chunks"] >= 1 for episode in found["episodes"])
    assert found["ending"] == "arm parked and released"
    assert found["loop"]["ticks"] > 100
    assert (tmp_path / "run.png").is_file()
    assert list(tmp_path.glob("sefa-edge-*")) == []


@pytest.mark.once
@pytest.mark.sim
def test_a_real_arm_is_run_with_the_same_arguments(tmp_path: Path, reach_engine: Path) -> None:
    """The simulated world in the role of a real arm and a real camera: a port, a profile file, a picture source."""
    port = tmp_path / "arm"
    with resources.as_file(resources.files("sefa_edge.profiles") / "arms" / "so101_sim.yaml") as profile:
        world = subprocess.Popen(
            [sys.executable, "-m", "sefa_edge", "sim", "--link", str(port)], stdout=subprocess.DEVNULL
        )
        give_up = time.monotonic() + PATIENCE_S
        while not WorldPaths(port).control.exists() and time.monotonic() < give_up:
            time.sleep(0.02)
        arm = ["--arm", str(profile), "--port", str(port), "--camera", f"front=sim:{WorldPaths(port).state}"]
        command = [sys.executable, "-m", "sefa_edge", "run", "--engine", str(reach_engine), *arm]
        done = subprocess.run([*command, "--seconds", "2"], capture_output=True, cwd=tmp_path, timeout=PATIENCE_S)
        world.send_signal(signal.SIGINT)
        assert world.wait(PATIENCE_S) == 0
    assert done.returncode == 0, done.stderr.decode()
    assert b"success is not known on a real arm" in done.stdout
    assert read_picture(tmp_path / "run.png").shape[2] == 3


@pytest.mark.once
@pytest.mark.sim
def test_a_run_as_a_video(tmp_path: Path, reach_engine: Path) -> None:
    command = [sys.executable, "-m", "sefa_edge", "run", "--engine", str(reach_engine), "--seconds", "1"]
    done = subprocess.run(
        [*command, "--video", "run.mp4"], capture_output=True, cwd=tmp_path, timeout=PATIENCE_S, check=True
    )
    assert b"pictures of the run: run.mp4" in done.stderr
    video = Capture.of_stream(str(tmp_path / "run.mp4"))
    assert video.rate_hz == 10.0
    assert video.grab()
    video.close()


@pytest.mark.slow
def test_what_is_absent_ends_with_a_hint_and_before_anything_moves(tmp_path: Path, reach_engine: Path) -> None:
    run = [sys.executable, "-m", "sefa_edge", "run", "--engine"]
    for arguments, complaint in (
        ((str(tmp_path / "absent.onnx"),), b"absent.onnx does not exist\nhint: "),
        ((str(reach_engine), "--json", "nowhere/run.json"), b"the folder nowhere does not exist\nhint: "),
    ):
        done = subprocess.run([*run, *arguments], capture_output=True, cwd=tmp_path)
        assert done.returncode == 2
        assert complaint in done.stderr


def test_control_gets_the_core_that_is_asked_for() -> None:
    assert split_cores({0, 1, 2, 5}, 1) == (frozenset({1}), frozenset({0, 2, 5}))
    assert split_cores({3}, 3) == (frozenset(), frozenset())
