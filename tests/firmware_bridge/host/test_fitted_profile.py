"""Limits and poses inside the calibrated range of one arm, and implausible ranges."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sefa_edge.edge.ipc.wire_record import pack_fields, unpack_fields
from sefa_edge.firmware_bridge.host.arm_identity import ArmIdentity, nominal_identity
from sefa_edge.firmware_bridge.host.calibration import (
    Calibration,
    joint_scale,
    lerobot_text,
    load_calibration,
    nominal_calibration,
    require_plausible_ranges,
)
from sefa_edge.firmware_bridge.host.fitted_profile import fit_profile
from sefa_edge.firmware_bridge.host.port_choice import require_identified_arm
from sefa_edge.profiles.arms import load_arm_profile
from sefa_edge.profiles.errors import InputError
from tests.rigs.serial_machine import CH343, FTDI, GPS, Machine

PROFILE = load_arm_profile("so101")
NOMINAL = nominal_calibration(PROFILE)
PAN, LIFT, ROLL, GRIPPER = 0, 1, 4, 5


def with_range(joint: int, low: int, high: int) -> Calibration:
    joints = list(NOMINAL.joints)
    joints[joint] = replace(joints[joint], range_min_ticks=low, range_max_ticks=high)
    return Calibration(tuple(joints))


def test_the_nominal_range_changes_nothing() -> None:
    fitted = fit_profile(PROFILE, NOMINAL)
    assert (fitted.profile, fitted.notes) == (PROFILE, ())


@pytest.mark.slow
@given(
    joint=st.integers(0, len(PROFILE.joints) - 1),
    low_share=st.floats(0.0, 0.18),
    high_share=st.floats(0.0, 0.18),
    drive_mode=st.integers(0, 1),
)
def test_goals_inside_the_limits_stay_inside_the_range_of_ticks(
    joint: int, low_share: float, high_share: float, drive_mode: int
) -> None:
    entry = NOMINAL.joints[joint]
    width = entry.range_max_ticks - entry.range_min_ticks
    low, high = entry.range_min_ticks + round(low_share * width), entry.range_max_ticks - round(high_share * width)
    profile = PROFILE.model_copy(update={"park_pose_deg": [0.0] * 6, "start_pose_deg": [0.0] * 6})
    calibration = with_range(joint, low, high)
    limits = fit_profile(profile, calibration).profile.joints[joint]
    scale = joint_scale(limits, replace(calibration.joints[joint], drive_mode=drive_mode))
    for goal in np.linspace(limits.min_deg, limits.max_deg, 50):
        assert low <= round(goal / scale.joint_per_tick + scale.zero_ticks) <= high


def test_a_pose_that_is_slightly_outside_is_moved_and_reported() -> None:
    fitted = fit_profile(PROFILE, with_range(LIFT, 2048 - 1000, 2048 + 1000))
    assert fitted.profile.park_pose_deg[LIFT] == pytest.approx(-87.9, abs=0.1)
    assert fitted.notes == ("the park pose of shoulder_lift is -87.9 degrees instead of -90: its range ends there",)


def test_a_pose_that_is_out_of_reach_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"this arm cannot reach the park pose of so101: shoulder_lift -90 is 10\.9"
    ) as caught:
        fit_profile(PROFILE, with_range(LIFT, 2048 - 900, 2048 + 900))
    assert "calibrate again" in caught.value.hint


@pytest.mark.parametrize(
    ("joint", "low", "high", "message"),
    [
        (PAN, 2000, 2001, "shoulder_pan, 2000..2001, is 1 ticks wide, less than 0.6 of the usual 2503"),
        (GRIPPER, 1934, 1934 + 751, "gripper, 1934..2685, is 751 ticks wide"),
        (ROLL, 1000, 3000, "wrist_roll, 1000..3000, is 2000 ticks wide"),
        (LIFT, 910, 4096, "shoulder_lift, 910..4096, is not inside the encoder's 0..4095"),
        (LIFT, -1, 3000, "shoulder_lift, -1..3000, is not inside the encoder's 0..4095"),
        (LIFT, 3000, 1000, "lowest first"),
    ],
)
def test_an_implausible_range_is_refused(joint: int, low: int, high: int, message: str) -> None:
    with pytest.raises(InputError, match=message.replace(".", r"\.")) as caught:
        require_plausible_ranges(PROFILE, with_range(joint, low, high), "arm.json")
    assert "sefa-edge calibrate" in caught.value.hint


@pytest.mark.parametrize(("share", "notes"), [(0.61, 1), (0.79, 1), (0.81, 0), (1.29, 0), (1.31, 1)])
def test_an_unusual_range_is_reported(tmp_path: Path, share: float, notes: int) -> None:
    half = round(share * 2503 / 2)
    calibration = with_range(PAN, 2048 - half, 2048 + half)
    file = tmp_path / "arm.json"
    file.write_text(lerobot_text(PROFILE, calibration))
    fitted = fit_profile(PROFILE, load_calibration(file, PROFILE))
    assert len(fitted.notes) == notes
    assert all("shoulder_pan" in note for note in fitted.notes)


def test_a_file_with_a_range_of_one_tick_is_refused(tmp_path: Path) -> None:
    content = json.loads(lerobot_text(PROFILE, NOMINAL))
    content["elbow_flex"] |= {"range_min": 2000, "range_max": 2001}
    file = tmp_path / "arm.json"
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"arm\.json: the range of elbow_flex, 2000\.\.2001"):
        load_calibration(file, PROFILE)


def test_an_identity_survives_packing_and_distinguishes_arms() -> None:
    arm = nominal_identity(PROFILE)
    assert unpack_fields(ArmIdentity, pack_fields(arm)) == arm
    assert arm.difference(arm, PROFILE.joint_names) == ""
    joints = list(arm.joints)
    joints[2] = replace(joints[2], homing_offset=-2047)
    other = ArmIdentity(tuple(joints))
    assert unpack_fields(ArmIdentity, pack_fields(other)) == other
    assert arm.difference(other, PROFILE.joint_names) == "homing offset of elbow_flex is -2047, was 0"


def test_one_of_several_adapters_needs_a_calibration(tmp_path: Path) -> None:
    machine = Machine(tmp_path).plug(FTDI).plug(GPS)
    require_identified_arm("/dev/ttyUSB0", machine.root)  # the other one is not a servo adapter
    machine.plug(CH343)
    for port in ("/dev/ttyUSB0", "/dev/ttyACM0"):
        with pytest.raises(InputError, match=r"2 servo adapters are plugged in \(/dev/tty.*, /dev/tty") as caught:
            require_identified_arm(port, machine.root)
        assert "--calibration" in caught.value.hint
    require_identified_arm("/tmp/simulated/arm", machine.root)
