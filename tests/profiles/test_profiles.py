"""Profiles and cards: shipped ones are valid, errors are reported with file, key and a hint."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.tools.evaluation.wilson import wilson_interval
from sefa_edge.firmware_bridge.host.feetech.settings_table import SETTINGS
from sefa_edge.profiles.arms import load_arm_profile, shipped_arms
from sefa_edge.profiles.card import PolicyCard, load_card
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import MAX_BYTES, read_bounded, write_atomic
from sefa_edge.profiles.progress import Progress
from sefa_edge.profiles.safety_profile import SafetyProfile
from sefa_edge.profiles.schema import ArmProfile, JointProfile
from sefa_edge.profiles.servo_models import MODELS, model_numbers, servo_model
from sefa_edge.profiles.servo_settings import ServoSettings
from sefa_edge.profiles.strict import parse_json

GOOD = Path(__file__).parents[2] / "profiles/arms/so101_sim.yaml"


@pytest.mark.parametrize("name", shipped_arms())
def test_shipped_arms_are_valid(name: str) -> None:
    profile = load_arm_profile(name)
    limits = profile.limit_table()
    assert profile.name == name
    assert limits.joint_names == profile.joint_names
    assert (limits.min_deg < limits.max_deg).all()
    assert not limits.min_deg.flags.writeable


def test_the_hash_distinguishes_limits(tmp_path: Path) -> None:
    changed = tmp_path / "arm.yaml"
    changed.write_text(GOOD.read_text().replace("max_velocity_deg_s: 300.0", "max_velocity_deg_s: 301.0"))
    assert load_arm_profile(str(changed)).limit_table().hash != load_arm_profile("so101_sim").limit_table().hash


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("servo_id: 3", "servo_id: 2", "have the same servo_id"),
        ("servo_id: 3", "servo_id: 254", "servo_id"),
        ("baud: 1000000", "baud: 1000001", "baud"),
        ("range_max_ticks: 3299", "range_max_ticks: 4096", "range_max_ticks"),
        ("range_max_ticks: 3299", "range_max_ticks: 796", "below range_max_ticks"),
        ("max_deg: 100.0\n    max_velocity_deg_s: 300.0", "max_deg: 101.0\n    max_velocity_deg_s: 300.0", "percent"),
        ("p_gain: 32", "p_gain: 255", "servo.p_gain"),
        ("p_gain: 32", "p_gain: 16.0", "servo.p_gain"),
        ("p_gain: 32", "p_gian: 32", "p_gian"),
        ("return_delay_us: 0", "return_delay_us: 3", "return_delay_us"),
        ("return_delay_us: 0", "return_delay_us: 510", "return_delay_us"),
        ("p_gain: 32", "torque_limit_pct: 100.1", "torque_limit_pct"),
        ("p_gain: 32", "torque_limit_pct: .inf", "torque_limit_pct"),
        ("p_gain: 32", "protection_current_ma: 0", "protection_current_ma"),
        ("p_gain: 32", "protection_time_ms: 2550", "protection_time_ms"),
        ("p_gain: 32", "{p_gain: 32", "not valid YAML"),
        ("[temperature, current, overload]", "[temperature, load]", "unload_on"),
        ("p_gain: 32", "torque_limit_pct: 60.0\n  max_torque_pct: 50.0", "torque_limit_pct 60.0 is above"),
        ("p_gain: 32", "overload_torque_pct: 20\n  protective_torque_pct: 30", "an overload would never end"),
        ("baud: 1000000", "baud: fast", "baud"),
        ("baud: 1000000", "boud: 1000000", "boud"),
        ("max_deg: 110.0", "max_deg: -120.0", "must be below"),
        ("max_deg: 110.0", "max_deg: .nan", r"line \d+: max_deg: '.nan' is not a finite"),
        ("start_pose_deg: [0.0, ", "start_pose_deg: [500.0, ", "outside"),
        ("start_pose_deg: [0.0, ", "start_pose_deg: [", "5 values for 6 joints"),
        ("schema_version: 1", "schema_version: 2", "schema_version"),
        ("joints:", "joints: &a [*a]\nrest:", "anchors and aliases"),
        ("name: so101_sim", "name: !!python/object:os.system x", "not valid YAML"),
    ],
)
def test_a_wrong_profile_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    wrong = tmp_path / "arm.yaml"
    wrong.write_text(GOOD.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        load_arm_profile(str(wrong))


@pytest.mark.parametrize("name", shipped_arms())
def test_servo_settings_fit_their_registers(name: str) -> None:
    profile = load_arm_profile(name)
    for settings in profile.servo_settings():
        for setting in SETTINGS:
            value = setting.chosen(settings)
            assert value is None or 0 <= setting.raw(value, 0) < 1 << 8 * setting.register.width


def test_every_field_of_an_arm_profile_is_explained() -> None:
    readme = (GOOD.parents[1] / "README.md").read_text()
    models = (ArmProfile, JointProfile, SafetyProfile, ServoSettings)
    assert [name for model in models for name in model.model_fields if f"`{name}`" not in readme] == []


def test_a_profile_names_the_servo_models_that_it_allows(tmp_path: Path) -> None:
    mine = tmp_path / "arm.yaml"
    mine.write_text(GOOD.read_text().replace("servo_models: [STS3215]", "servo_models: [STS3215, STS3032]"))
    profile = load_arm_profile(str(mine))
    assert {profile.models_of(joint) for joint in profile.joints} == {("STS3215", "STS3032")}
    assert load_arm_profile("so101").models_of(profile.joints[0]) == ("STS3215",)
    for wrong in ("SCS0009", "STS9999", "777", "STS3046"):
        mine.write_text(GOOD.read_text().replace("servo_models: [STS3215]", f"servo_models: ['{wrong}']"))
        with pytest.raises(InputError, match=f"'{wrong}' is not a usable servo model"):
            load_arm_profile(str(mine))


def test_model_numbers_and_names_are_converted_both_ways() -> None:
    assert (servo_model(777).name, servo_model(2825).name, servo_model(11272).name) == (
        "STS3215", "STS3250", "SM85BLHV (SM8512BL)",
    )  # fmt: skip
    assert model_numbers(("STS3215", "STS3095")) == {777, 2313, 2569}
    assert "unknown model (number 6666)" in servo_model(6666).full_name
    assert all(model.facts for model in MODELS)


def test_every_servo_setting_has_its_register() -> None:
    assert {setting.name for setting in SETTINGS} == set(ServoSettings.model_fields)


def test_a_misspelt_key_is_reported_with_the_right_one(tmp_path: Path) -> None:
    wrong = tmp_path / "arm.yaml"
    wrong.write_text(GOOD.read_text().replace("control_rate_hz", "control_rate_herz"))
    with pytest.raises(InputError) as caught:
        load_arm_profile(str(wrong))
    assert "control_rate_hz" in str(caught.value) + caught.value.hint


def test_unknown_and_missing_arms() -> None:
    with pytest.raises(InputError, match="no arm is called 'so999'"):
        load_arm_profile("so999")
    with pytest.raises(InputError, match="does not exist"):
        load_arm_profile("/nowhere/arm.yaml")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/tmp"])
def test_a_path_that_is_not_a_regular_file_is_refused(path: str) -> None:
    with pytest.raises(InputError, match="is not a regular file"):
        read_bounded(Path(path))


def test_control_characters_in_a_key_are_escaped(tmp_path: Path) -> None:
    path = tmp_path / "model.json"
    path.write_text(json.dumps({"evil\x1b[2J": 1}))
    with pytest.raises(InputError, match=r"evil\\x1b\[2J"):
        parse_json(path, PolicyCard)


def test_a_huge_file_is_not_read(tmp_path: Path) -> None:
    huge = tmp_path / "arm.yaml"
    huge.write_bytes(b" " * (MAX_BYTES + 1))
    with pytest.raises(InputError, match="larger than"):
        load_arm_profile(str(huge))


def test_the_card_of_another_file_is_refused(reach_engine: Path, tmp_path: Path) -> None:
    engine = tmp_path / "model.onnx"
    engine.write_bytes(reach_engine.read_bytes() + b"\0")
    (tmp_path / "model.json").write_bytes(reach_engine.with_suffix(".json").read_bytes())
    with pytest.raises(InputError, match="not the file that its card describes"):
        load_card(engine)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("engine_file", "../model.onnx"),
        ("schema_version", 9),
        ("joint_tensor", {"name": "joints", "dtype": "float32", "shape": [2, 6]}),
        ("cameras", []),
        ("surprise", 1),
    ],
)
def test_a_wrong_card_is_named(reach_engine: Path, tmp_path: Path, key: str, value: object) -> None:
    content = json.loads(reach_engine.with_suffix(".json").read_text())
    path = tmp_path / "model.json"
    path.write_text(json.dumps({**content, key: value}))
    with pytest.raises(InputError, match=key):
        parse_json(path, PolicyCard)


def test_writing_replaces_whole_files_only(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
@given(trials=st.integers(1, 10_000), share=st.floats(0, 1))
def test_wilson_interval_contains_the_rate(trials: int, share: float) -> None:
    successes = round(trials * share)
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1
    assert high - low <= 4 / np.sqrt(trials)


def test_wilson_interval_of_a_known_case() -> None:
    assert wilson_interval(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_progress_off_a_terminal_is_a_few_lines() -> None:
    stream = io.StringIO()
    with Progress("work", 1000, stream) as progress:
        for done in range(1, 1001):
            progress.update(done)
    assert stream.getvalue().splitlines()[-1].startswith("work 1000/1000")
    assert len(stream.getvalue().splitlines()) < 10
