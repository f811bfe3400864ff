"""No number in an arm profile is without a ceiling."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sefa_edge.profiles.arms import load_arm_profile, shipped_arms
from sefa_edge.profiles.ceilings import STS, ceilings_of
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile
from sefa_edge.profiles.servo_settings import ServoSettings
from sefa_edge.profiles.units import SERVO_TICKS_PER_TURN

ARM = Path(__file__).parents[2] / "profiles/arms/so101.yaml"
Place = tuple[str | int, ...]


def content() -> dict[str, Any]:
    """A profile with every setting of its servos written out."""
    written = load_arm_profile("so101").model_dump()
    written["servo"] |= {
        "max_torque_pct": 100.0, "torque_limit_pct": 100.0, "protection_current_ma": 3250.0,
        "overload_torque_pct": 80, "protection_time_ms": 2000, "protective_torque_pct": 20,
    }  # fmt: skip
    return written


def numbers(part: Any, place: Place = ()) -> Iterator[Place]:
    entries = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in entries:
        if isinstance(value, int | float) and not isinstance(value, bool):
            yield (*place, key)
        yield from numbers(value, (*place, key))


def with_number(place: Place, value: float) -> dict[str, Any]:
    changed = content()
    part: Any = changed
    for key in place[:-1]:
        part = part[key]
    part[place[-1]] = value
    return changed


PLACES = sorted({place for place in numbers(content()) if "joints" not in place or place[1] in (0, 5)}, key=str)


def test_the_profile_of_these_tests_writes_out_every_setting() -> None:
    ArmProfile.model_validate(content())
    assert {name for name, value in content()["servo"].items() if value is None} == set()
    assert len(PLACES) > 60
    assert set(ServoSettings.model_fields) == set(content()["servo"])


@pytest.mark.parametrize("place", PLACES, ids=lambda place: ".".join(map(str, place)))
@pytest.mark.parametrize("value", [10_000_000, -1e9])
def test_no_number_is_without_a_ceiling(place: Place, value: float) -> None:
    with pytest.raises(ValidationError) as refused:
        ArmProfile.model_validate(with_number(place, value))
    name = [key for key in place if isinstance(key, str)][-1]
    assert name in str(refused.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_velocity_deg_s: 240.0", "max_velocity_deg_s: 361.0", "is 361 deg/s, .* exceed 360 deg/s"),
        ("max_acceleration_deg_s2: 1500.0", "max_acceleration_deg_s2: 3601.0", "exceed 3600 deg/s2"),
        ("max_velocity_deg_s: 300.0", "max_velocity_deg_s: 400.0", "gripper: max_velocity_deg_s is 440"),
        ("max_current_ma: 2000.0", "max_current_ma: 3251.0", "exceed 3250 mA"),
        ("max_temperature_c: 65.0", "max_temperature_c: 71.0", "exceed 70 degrees Celsius"),
        ("max_temperature_c: 65.0", "max_temperature_c: 900.0", "up to 200 degrees Celsius"),
        ("max_load_pct: 80.0", "max_load_pct: 101.0", "up to 100 %"),
        ("heartbeat_ms: 1000.0", "heartbeat_ms: 5001.0", "up to 5000 ms"),
        ("goal_timeout_ms: 500.0", "goal_timeout_ms: 5001.0", "up to 5000 ms"),
        ("park_velocity_deg_s: 60.0", "park_velocity_deg_s: 181.0", "up to 180 units/s"),
        ("tracking_error_deg: 20.0", "tracking_error_deg: 46.0", "up to 45 degrees"),
        ("int8_p99_deg: 0.5", "int8_p99_deg: 6.0", "up to 5 degrees"),
        ("max_deg: 110.0", "max_deg: 251.0", "more than a whole turn"),
        ("[temperature, current, overload]", "[]", "unload_on lacks temperature, overload"),
        ("[temperature, current, overload]", "[temperature]", "unload_on lacks overload"),
        ("overload_torque_pct: 25", "overload_torque_pct: 81", "to 80 %"),
        ("overload_torque_pct: 25", "protective_torque_pct: 41", "to 40 %"),
    ],
)
def test_what_exceeds_a_ceiling_is_reported_with_it(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = ARM.read_text()
    assert old in text
    wrong = tmp_path / "arm.yaml"
    wrong.write_text(text.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        load_arm_profile(str(wrong))


@pytest.mark.parametrize("name", [*shipped_arms(), "so101_percent", "so100_percent"])
def test_joints_in_percent_have_the_same_ceilings(name: str) -> None:
    profile = load_arm_profile(name)
    for joint in profile.joints:
        turn_units = 360.0 / joint.degrees_per_unit
        ticks = joint.range_max_ticks - joint.range_min_ticks
        if joint.unit != "degrees":
            span = 200.0 if joint.unit == "range_percent" else 100.0
            assert turn_units == pytest.approx(span * SERVO_TICKS_PER_TURN / ticks)
        assert joint.max_velocity_deg_s * joint.degrees_per_unit <= STS.velocity_deg_s


def test_a_model_without_ceilings_has_those_of_an_sts3215() -> None:
    assert ceilings_of(("STS3250",)) == ceilings_of(("STS3215", "STS3250")) == STS
