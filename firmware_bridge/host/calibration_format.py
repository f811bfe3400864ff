"""Recognise the kind of a calibration file, and find the entries of one arm in it.

LeRobot's present format is one JSON object with an entry per motor: id, drive_mode, homing_offset, range_min and
range_max. Owners have other files as well: the format of LeRobot before June 2025 (one object of lists), robots with
more motors than an arm (LeKiwi: `arm_*` and three wheels; two arms in one file), the object wrapped in another one, and
unrelated files. Each is recognised by its structure; a file that cannot be used is refused with a hint what to do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TypeGuard

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.schema import ArmProfile

FIELD_BOUNDS = {
    "id": (0, 253),
    "drive_mode": (0, 1),
    "homing_offset": (-2047, 2047),
    "range_min": (0, 4095),
    "range_max": (0, 4095),
}
"""Fields of an entry, in LeRobot's order. Register 31 holds a magnitude of 11 bits and a sign; the encoder counts
0..4095."""

OLD_KEYS = frozenset({"homing_offset", "drive_mode", "start_pos", "end_pos", "calib_mode", "motor_names"})
"""Keys of the format before June 2025, each with a list."""
OLD_KEYS_ALONE = frozenset({"start_pos", "end_pos", "calib_mode", "motor_names"})
"""Those that no later format has."""
MAX_DEPTH = 3
"""Nested objects and lists that are searched for joints."""

MAX_LISTED = 12
MAX_NAME_LETTERS = 40
Entry = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ArmEntries:
    """The entries of an arm's joints, in the profile's order, and notes for a person about the file."""

    entries: tuple[Entry, ...]
    notes: tuple[str, ...]


def arm_entries(path: Path, content: object, profile: ArmProfile) -> ArmEntries:
    """Find and check the profile's joints in the parsed content of a calibration file.

    Raises:
        InputError: another format, joints that are missing, misspelt or given twice, values of another type or range,
            or the servo ids of another arm.
    """
    motors = _motors(path, content, profile)
    prefix = _prefix(path, motors, profile)
    found = {joint.name: motors[prefix + joint.name] for joint in profile.joints}
    entries = tuple(_checked(path, prefix + name, entry) for name, entry in found.items())
    _check_ids(path, entries, profile)
    notes = []
    if ignored := [name for name in motors if name.removeprefix(prefix) not in found or not name.startswith(prefix)]:
        used = f"{prefix}* is used as the arm" if prefix else f"{', '.join(found)} are used"
        notes.append(f"{path} holds {len(motors)} entries: {used}, {_listed(ignored)} ignored")
    elif prefix:
        notes.append(f"{path}: {prefix}* is used as the arm")
    if "teleoperators" in path.parts:
        notes.append(f"{path} is the calibration of a leader: it is below teleoperators/")
    return ArmEntries(entries, tuple(notes))


def require_json(path: Path, text: str) -> None:
    """Refuse an empty file or YAML with a message of its own. Raises InputError."""
    if not text.strip("\ufeff \t\r\n"):
        raise InputError(f"{path} is empty, expected a LeRobot calibration", "copy it again, or calibrate again")
    if re.match(r"\ufeff?\s*(---|#|[\w.-]+\s*:)", text):
        raise InputError(
            f"{path} is YAML, expected a LeRobot calibration, which is JSON",
            "an arm profile goes to --arm; a calibration is made with `sefa-edge calibrate`",
        )


def _motors(path: Path, content: object, profile: ArmProfile) -> Mapping[str, object]:
    """The object with one entry per motor."""
    if not _is_object(content):
        if _is_old(content):
            raise _old_format(path, content, profile)
        names = ", ".join(profile.joint_names)
        raise InputError(
            f"{path} holds {_value(content)}, expected an object with an entry for each of {names}",
            f"is this a calibration? make one: {_calibrate(profile)}",
        )
    if _is_old(content):
        raise _old_format(path, content, profile)
    if not _prefixes(content, profile) and (wrappers := _wrappers(content, profile)):
        raise InputError(
            f"{path}: the joints are inside {' and '.join(map(_shown, wrappers[:MAX_LISTED]))}, expected at the top "
            "level as LeRobot writes them",
            f"save the object inside {_shown(wrappers[0])} as a file of its own, and give that",
        )
    return content


def _wrappers(content: Mapping[str, object], profile: ArmProfile, depth: int = MAX_DEPTH) -> list[str]:
    """The keys, joined with dots, below which joints are found."""
    found: list[str] = []
    for key, inner in content.items() if depth else ():
        if _is_object(inner):
            below = [""] if _prefixes(inner, profile) else _wrappers(inner, profile, depth - 1)
            found += [f"{key}.{name}".removesuffix(".") for name in below]
    return found


def _is_old(content: object, depth: int = MAX_DEPTH) -> bool:
    """Whether a file is in the format before June 2025, for one arm or, inside other objects or lists, for several."""
    if _is_object(content):
        lists = sum(isinstance(content.get(key), list) for key in OLD_KEYS)
        if lists >= 2 or len(OLD_KEYS_ALONE & content.keys()) >= 2:
            return True
        inner = list(content.values())
    else:
        inner = content if isinstance(content, list) else []
    return depth > 0 and any(_is_old(value, depth - 1) for value in inner)


def _old_format(path: Path, content: object, profile: ArmProfile) -> InputError:
    of_leader = " of a leader" if _is_object(content) and content.get("kind") == "leader" else ""
    return InputError(
        f"{path} is a calibration{of_leader} in LeRobot's format before June 2025 (lists under motor_names, "
        "homing_offset, …), expected one entry per joint",
        "it cannot be converted: its zero is the stretched-out arm instead of the middle of each range, and its "
        f"offsets are not those in the servos. Calibrate again: {_calibrate(profile)}",
    )


def _prefix(path: Path, motors: Mapping[str, object], profile: ArmProfile) -> str:
    """The prefix of the arm's joint names, usually empty."""
    prefixes = [prefix for prefix, complete in _prefixes(motors, profile).items() if complete]
    if "" in prefixes:
        return ""
    if len(prefixes) == 1:
        return prefixes[0]
    if prefixes:
        raise InputError(
            f"{path} holds {len(prefixes)} arms: {', '.join(f'{_shown(prefix)[1:-1]}*' for prefix in prefixes)}",
            f"save the entries of one of them as a file of its own, named {', '.join(profile.joint_names)}",
        )
    raise _missing(path, motors, profile)


def _prefixes(motors: Mapping[str, object], profile: ArmProfile) -> dict[str, bool]:
    """Each prefix of a joint's name that occurs, and whether all joints have it; none when no joint occurs."""
    found: dict[str, bool] = {}
    for key in motors:
        for name in profile.joint_names:
            if key.endswith(name):
                prefix = key.removesuffix(name)
                found.setdefault(prefix, all(prefix + other in motors for other in profile.joint_names))
    return found


def _missing(path: Path, motors: Mapping[str, object], profile: ArmProfile) -> InputError:
    """Which joints the file lacks, and which names it has instead."""
    names = profile.joint_names
    if not any(_is_object(entry) and "id" in entry for entry in motors.values()):
        keys = _listed(list(motors)) if motors else "nothing"
        return InputError(
            f"{path} is not a LeRobot calibration: it holds {keys}, expected {', '.join(names)}",
            f"make one: {_calibrate(profile)}",
        )
    usual = max(_prefixes(motors, profile), key=lambda prefix: sum(prefix + n in motors for n in names), default="")
    missing = [usual + name for name in names if usual + name not in motors]
    others = [key for key in motors if key not in {usual + name for name in names}]
    alike = {key.lower().replace("-", "_").replace(" ", "_"): key for key in others}
    near = [(alike[close[0]], name) for name in missing if (close := get_close_matches(name, alike, n=1))]
    hint = f"is {_shown(near[0][0])} meant to be '{near[0][1]}'?" if near else ""
    has = f"; it has {_listed(others)} instead" if others else ""
    return InputError(
        f"{path} has no {_listed(missing)}{has}",
        hint or f"expected {', '.join(names)}; is it the file of another kind of arm? --arm names its profile",
    )


def _checked(path: Path, name: str, entry: object) -> Entry:
    if not _is_object(entry):
        raise InputError(
            f"{path}: {name} is {_value(entry)}, expected an object with {', '.join(FIELD_BOUNDS)}", "calibrate again"
        )
    unknown = [key for key in entry if key not in FIELD_BOUNDS]
    lacking = [key for key in FIELD_BOUNDS if key not in entry]
    if unknown or lacking:
        what = f"{name}.{_shown(unknown[0])[1:-1]} is not a field that LeRobot writes" if unknown else ""
        what = what or f"{name} has no {', '.join(lacking)}"
        near = get_close_matches(unknown[0], FIELD_BOUNDS, n=1) if unknown else []
        hint = f"did you mean '{near[0]}'?" if near else f"an entry has {', '.join(FIELD_BOUNDS)}"
        raise InputError(f"{path}: {what}", hint)
    values: dict[str, int] = {}
    for field, (low, high) in FIELD_BOUNDS.items():
        value = entry[field]
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise InputError(
                f"{path}: {name}.{field} is {_value(value)}, expected a whole number {low}..{high}",
                _field_hint(field, value),
            )
        values[field] = value
    return values


def _field_hint(field: str, value: object) -> str:
    if isinstance(value, str):
        return "write the number without quotes"
    if field == "homing_offset":
        return "an STS servo cannot hold a larger offset; is this an arm with other servos (Koch, Dynamixel)?"
    return "calibrate again; do not edit the numbers by hand"


def _check_ids(path: Path, entries: tuple[Entry, ...], profile: ArmProfile) -> None:
    found, wanted = [entry["id"] for entry in entries], [joint.servo_id for joint in profile.joints]
    if found == wanted:
        return
    steps = {other - own for other, own in zip(found, wanted, strict=True)}
    if len(steps) == 1:
        raise InputError(
            f"{path} belongs to an arm with the servo ids {found[0]}..{found[-1]}, the arm profile {profile.name} has "
            f"{wanted[0]}..{wanted[-1]}",
            f"a second arm on one bus needs a profile of its own: copy profiles/arms/{profile.name}.yaml, set its "
            f"servo_id to {found[0]}..{found[-1]} and give it with --arm; or give its servos the ids "
            f"{wanted[0]}..{wanted[-1]}: sefa-edge arm set-id",
        )
    joint, other = next(
        (joint, other) for joint, other in zip(profile.joints, found, strict=True) if joint.servo_id != other
    )
    twice = f"; {found.count(other)} joints have this id" if found.count(other) > 1 else ""
    raise InputError(
        f"{path}: {joint.name} is servo {other}, but servo {joint.servo_id} in the arm profile{twice}",
        _order_hint(found, wanted),
    )


def _order_hint(found: list[int], wanted: list[int]) -> str:
    if sorted(found) == sorted(wanted):
        return "the same ids in another order: set servo_id of the joints in the arm profile, or `sefa-edge arm set-id`"
    return "is this the calibration of another arm? otherwise correct servo_id in the profile"


def _calibrate(profile: ArmProfile) -> str:
    return f"sefa-edge calibrate --arm {profile.name} --port PORT"


def _is_object(content: object) -> TypeGuard[Mapping[str, object]]:
    return isinstance(content, dict)


def _listed(names: list[str]) -> str:
    shown = ", ".join(_shown(name)[1:-1] for name in names[:MAX_LISTED])
    return f"{shown} and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else shown


def _shown(name: str) -> str:
    """A name from the file in quotes, without control characters."""
    short = name if len(name) <= MAX_NAME_LETTERS else f"{name[:MAX_NAME_LETTERS]}…"
    return "'" + "".join(letter if letter.isprintable() else "?" for letter in short) + "'"


def _value(value: object) -> str:
    if isinstance(value, str):
        return f"the text {_shown(value)}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int | float):
        return repr(value) if isinstance(value, float) or abs(value) < 10**12 else "a huge number"
    return "a list" if isinstance(value, list) else "an object"
