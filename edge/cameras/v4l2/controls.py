"""Sets a camera's controls as its profile says and reads them back; any difference is an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from sefa_edge.edge.cameras.v4l2.modes import ControlRange
from sefa_edge.profiles.camera_profile import CameraProfile
from sefa_edge.profiles.errors import InputError

# linux/v4l2-controls.h
AUTO_WHITE_BALANCE = 0x0098_090C
AUTO_GAIN = 0x0098_0912
GAIN = 0x0098_0913
POWER_LINE_FREQUENCY = 0x0098_0918
WHITE_BALANCE_TEMPERATURE = 0x0098_091A
EXPOSURE_AUTO = 0x009A_0901
EXPOSURE_ABSOLUTE = 0x009A_0902
EXPOSURE_AUTO_PRIORITY = 0x009A_0903
FOCUS_ABSOLUTE = 0x009A_090A
FOCUS_AUTO = 0x009A_090C

EXPOSURE_MANUAL = 1
EXPOSURE_AUTOMATIC = (3, 0)
"""Aperture priority, the automatic mode of UVC cameras; otherwise fully automatic."""
POWER_LINE = {"off": 0, 50: 1, 60: 2}


class Controls(Protocol):
    """The part of a device that this module needs."""

    @property
    def path(self) -> str: ...

    def controls(self) -> dict[int, ControlRange]: ...

    def read_control(self, number: int) -> int: ...

    def write_control(self, number: int, value: int) -> None: ...


@dataclass(frozen=True, slots=True)
class Setting:
    """A key of the profile and the values for it: the first of `values` that the driver accepts is written."""

    key: str
    number: int
    values: tuple[int, ...]
    optional: bool = False
    """A switch between automatic and manual, which cameras with only one of them do not have."""


def keys_of() -> dict[str, int]:
    """The control number of each key of a camera profile."""
    return {
        "exposure_100us": EXPOSURE_ABSOLUTE,
        "keep_rate_in_the_dark": EXPOSURE_AUTO_PRIORITY,
        "gain": GAIN,
        "white_balance_k": WHITE_BALANCE_TEMPERATURE,
        "focus": FOCUS_ABSOLUTE,
        "power_line_hz": POWER_LINE_FREQUENCY,
    }


def settings_of(profile: CameraProfile) -> list[Setting]:
    """The settings of a profile in the order of writing: drivers refuse a value while its automatic mode is on."""
    settings: list[Setting] = []
    pairs = (
        ("exposure_100us", EXPOSURE_AUTO, EXPOSURE_ABSOLUTE, (EXPOSURE_MANUAL,), EXPOSURE_AUTOMATIC),
        ("gain", AUTO_GAIN, GAIN, (0,), (1,)),
        ("white_balance_k", AUTO_WHITE_BALANCE, WHITE_BALANCE_TEMPERATURE, (0,), (1,)),
        ("focus", FOCUS_AUTO, FOCUS_ABSOLUTE, (0,), (1,)),
    )
    for key, switch, number, manual, automatic in pairs:
        value = getattr(profile, key)
        if value == "auto":
            settings.append(Setting(key, switch, automatic))
        elif value is not None:
            settings += [Setting(key, switch, manual, optional=True), Setting(key, number, (value,))]
    if profile.keep_rate_in_the_dark is not None:
        setting = (int(not profile.keep_rate_in_the_dark),)
        settings.append(Setting("keep_rate_in_the_dark", EXPOSURE_AUTO_PRIORITY, setting))
    if profile.power_line_hz is not None:
        settings.append(Setting("power_line_hz", POWER_LINE_FREQUENCY, (POWER_LINE[profile.power_line_hz],)))
    return settings


def lock_controls(device: Controls, profile: CameraProfile) -> None:
    """Write all settings of the profile, then read all of them back.

    Raises:
        InputError: the camera lacks a control, refuses a value, or reports another one.
    """
    ranges = device.controls()
    settings = [setting for setting in settings_of(profile) if setting.number in ranges or not setting.optional]
    for setting in settings:
        if setting.number not in ranges:
            raise InputError(
                f"camera {device.path} has no control for {setting.key}", f"remove it from profile {profile.name}"
            )
        _write(device, setting, ranges[setting.number])
    for setting in settings:  # after all writes, since one control may change another
        _check(device, setting, ranges[setting.number])


def _write(device: Controls, setting: Setting, offered: ControlRange) -> None:
    for value in setting.values:
        if not offered.minimum <= value <= offered.maximum:
            continue
        try:
            device.write_control(setting.number, value)
        except OSError:
            continue
        return
    asked = " or ".join(str(value) for value in setting.values)
    raise InputError(
        f"camera {device.path} refuses {setting.key}: '{offered.name}' does not accept {asked}", _values(offered)
    )


def _check(device: Controls, setting: Setting, offered: ControlRange) -> None:
    try:
        kept = device.read_control(setting.number)
    except OSError:
        return  # a control that cannot be read back was accepted when it was written
    if kept not in setting.values:
        asked = " or ".join(str(value) for value in setting.values)
        raise InputError(
            f"camera {device.path} did not keep {setting.key}: '{offered.name}' was set to {asked} and reads {kept}",
            _values(offered),
        )


def _values(offered: ControlRange) -> str:
    return f"it accepts {offered.minimum} to {offered.maximum} in steps of {offered.step}"
