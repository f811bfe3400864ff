"""A card that does not fit its world is refused at once, with the same message, by every command that would use it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sefa_edge.cli import main
from sefa_edge.firmware_bridge.simulation.views import SIMULATED_VIEWS
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.card import card_path, load_card
from sefa_edge.profiles.card_check import CardError, World, check_card

Card = dict[str, Any]
SWAPPED = ("shoulder_lift", "shoulder_pan")


def reversed_joints(card: Card) -> None:
    card["joints"].reverse()


def swapped_joints(card: Card) -> None:
    for joint, name in zip(card["joints"], SWAPPED, strict=False):
        joint["name"] = name


def percent_units(card: Card) -> None:
    card["joints"][0] |= {"unit": "range_percent", "trained_min_deg": -100.0, "trained_max_deg": 100.0}


def foreign_camera(card: Card) -> None:
    card["cameras"][0]["name"] = "wrist"


def huge_frames(card: Card) -> None:
    card["cameras"][0] |= {"width": 2000, "height": 1000}
    card["image_tensors"][0]["shape"][1:3] = [1000, 2000]


def fast_policy(card: Card) -> None:
    card["timing"]["policy_rate_hz"] = 150.0


def foreign_arm(card: Card) -> None:
    card["arm"] = "so100"


def unknown_arm(card: Card) -> None:
    card["arm"] = "nonsense"


def trained_elsewhere(card: Card) -> None:
    card["joints"][0] |= {"trained_min_deg": 300.0, "trained_max_deg": 320.0}


def other_tensor(card: Card) -> None:
    card["joint_tensor"]["name"] = "state"


def longer_chunks(card: Card) -> None:
    card["timing"]["horizon"] = 17
    for tensor in ("noise_tensor", "chunk_tensor"):
        card[tensor]["shape"][0] = 17


def longer_history(card: Card) -> None:
    card["timing"]["n_obs_steps"] = 2
    card["joint_tensor"]["shape"][0] = card["image_tensors"][0]["shape"][0] = 2


def same_camera_twice(card: Card) -> None:
    for field in ("cameras", "image_tensors"):
        card[field].append(card[field][0])


def same_joint_twice(card: Card) -> None:
    card["joints"][1]["name"] = card["joints"][0]["name"]


def camera_with_control_characters(card: Card) -> None:
    card["cameras"][0]["name"] = "\x1b[31mfront"


MISFITS: dict[str, tuple[Callable[[Card], None], str, str]] = {
    "reversed joints": (reversed_joints, "engine joints: gripper wrist_roll", "arm 'so101_sim': shoulder_pan"),
    "swapped joints": (swapped_joints, "engine joints: shoulder_lift shoulder_pan", "arm 'so101_sim': shoulder_pan"),
    "percent": (percent_units, "the engine uses range_percent, arm 'so101_sim' degrees", "so101_percent"),
    "rate": (fast_policy, "plans 150 steps per second, the control loop runs 100", "150 Hz or more"),
    "camera": (foreign_camera, "camera 'wrist', which the simulator does not have", "front, side, overview"),
    "pictures": (huge_frames, "frames of 2000 x 1000 from camera 'front'", "up to 1280 x 720"),
    "arm": (foreign_arm, "made for arm 'so100'", "but the arm is 'so101_sim'"),
    "unknown arm": (unknown_arm, "made for arm 'nonsense', which is unknown", "so100, so101, so101_sim"),
    "trained range": (trained_elsewhere, "joint shoulder_pan: trained on 300..320", "allows -110..110"),
    "tensor": (other_tensor, "its card names inputs ['image_front', 'noise', 'state']", "export again"),
    "horizon": (longer_chunks, "'noise' is float32 [16, 6], its card says float32 [17, 6]", "export again"),
    "history": (longer_history, "its card says uint8 [2, 96, 96, 3]", "export again"),
    "camera twice": (same_camera_twice, "two cameras have the name 'front'", "correct the file"),
    "joint twice": (same_joint_twice, "two joints have the name 'shoulder_pan'", "correct the file"),
    "camera's name": (camera_with_control_characters, "cameras.0.name: '\\x1b[31mfront' is not text", "correct"),
}
COMMANDS = {
    "run": ("run", "--video", "none"),
    "profile": ("profile", "--out", "report"),
    "bench-loop": ("bench-loop", "--seconds", "1"),
    "eval": ("eval", "--seeds", "0:1"),
}


def misfit(engine: Path, folder: Path, change: Callable[[Card], None]) -> Path:
    """The engine with a card for another world."""
    copy = folder / engine.name
    copy.write_bytes(engine.read_bytes())
    card = json.loads(card_path(engine).read_text())
    change(card)
    card_path(copy).write_text(json.dumps(card))
    return copy


@pytest.mark.once
@pytest.mark.slow
@pytest.mark.parametrize("misfitting", MISFITS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_card_that_does_not_fit_is_refused_at_once(
    command: str,
    misfitting: str,
    reach_engine: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if command == "eval":
        pytest.importorskip("mujoco")
    if command == "bench-loop" and misfitting in ("camera", "pictures"):
        return  # its cameras are test images of any name and size
    change, wanted, present = MISFITS[misfitting]
    engine = misfit(reach_engine, tmp_path, change)
    monkeypatch.chdir(tmp_path)
    name, *arguments = COMMANDS[command]
    assert main([name, "--engine", str(engine), *arguments]) == 2
    error, hint = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert wanted in error
    assert present in error + hint
    assert not (tmp_path / "report").exists()


ONLY_IN_THE_SIMULATOR = ("camera", "pictures", "arm")
"""`verify` renders nothing, and its world is that of the engines' own arm."""


@pytest.mark.parametrize("misfitting", sorted(MISFITS.keys() - set(ONLY_IN_THE_SIMULATOR)))
def test_verify_refuses_two_engines_that_do_not_fit(
    misfitting: str, reach_engine: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change, wanted, _ = MISFITS[misfitting]
    engine = str(misfit(reach_engine, tmp_path, change))
    assert main(["verify", engine, engine, "--dataset", str(tmp_path)]) == 2
    assert wanted in capsys.readouterr().err


@pytest.mark.parametrize(
    ("made_for", "present", "fits"),
    [
        ("so101_sim", "so101", True),
        ("so101", "so101_sim", True),
        ("so100", "so101", False),
        ("so101", "so100", False),
        ("/workstation/my_arm.yaml", "so101", True),
        ("my_arm.yaml", "so101", True),
    ],
)
def test_an_engine_fits_only_the_arm_that_it_was_made_for(
    made_for: str, present: str, fits: bool, reach_engine: Path
) -> None:
    card = load_card(reach_engine).model_copy(update={"arm": made_for})
    with contextlib.nullcontext() if fits else pytest.raises(CardError, match=f"made for arm '{made_for}'"):
        check_card(card, World(load_arm_profile(present), 100.0))
    own = load_arm_profile(present).model_copy(update={"name": "my_own"})
    check_card(card, World(own, 100.0))


def test_a_camera_that_the_simulator_does_not_render_is_not_checked(reach_engine: Path, tmp_path: Path) -> None:
    card = load_card(misfit(reach_engine, tmp_path, foreign_camera))
    arm = load_arm_profile("so101_sim")
    check_card(card, World(arm, 100.0, SIMULATED_VIEWS, frozenset()))
    with pytest.raises(CardError):
        check_card(card, World(arm, 100.0, SIMULATED_VIEWS, frozenset({"wrist"})))
