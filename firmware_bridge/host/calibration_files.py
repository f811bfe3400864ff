"""Find, read and write the calibration of an arm where LeRobot keeps it.

LeRobot's folders (0.4.4, `lerobot/utils/constants.py` and `robots/robot.py`): `$HF_LEROBOT_CALIBRATION`, else
`$HF_LEROBOT_HOME/calibration`, else `lerobot/calibration` below the Hugging Face cache; in it
`robots/<robot name>/<id>.json`. The robot's name was `so100_follower` or `so101_follower` up to 0.4.2 and has been
`so_follower` since, so a user who upgraded has files in the old folder.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from sefa_edge.firmware_bridge.host.calibration import Calibration, lerobot_text, load_calibration
from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.files import make_folder, write_atomic
from sefa_edge.profiles.home import expanded, home_folder
from sefa_edge.profiles.schema import ArmProfile

PRESENT_NAME = "so_follower"
OLD_NAMES = ("so101_follower", "so100_follower")
MAX_ID_LETTERS = 100
MAX_LISTED = 12


def find_calibration(word: str, profile: ArmProfile) -> Path:
    """The file that a path or an id stands for. What holds a `/` or ends in `.json` is a path.

    Raises:
        InputError: no such id (the hint lists the existing ones), or two different files for it.
    """
    if "/" in word or word.endswith(".json"):
        return expanded(Path(word))
    check_id(word)
    found = [path for path in _places(word, profile) if path.is_file()]
    if not found:
        raise _no_such_id(word, profile)
    contents = [load_calibration(path, profile) for path in found]
    if any(other != contents[0] for other in contents[1:]):
        raise InputError(
            f"two different calibrations are called '{word}': {' and '.join(map(str, found))}",
            "give the path of the one that belongs to this arm, or remove the other",
        )
    return found[0]


def file_of_id(word: str, profile: ArmProfile) -> Path:
    """Where the calibration of an id is written: to its existing file, else to LeRobot's present folder.

    Raises:
        InputError: not a valid id, or LeRobot has two files for it.
    """
    check_id(word)
    found = [path for path in _places(word, profile) if path.is_file()]
    if len(found) > 1:
        raise InputError(
            f"LeRobot has two files for '{word}': {' and '.join(map(str, found))}",
            "remove the one that is out of date, or give another --id",
        )
    return found[0] if found else _places(word, profile)[0]


def check_id(word: str) -> None:
    """An id is one plain file name, as `--robot.id` of LeRobot. Raises InputError for anything else."""
    if not 0 < len(word) <= MAX_ID_LETTERS or not word.isprintable() or "/" in word or word.startswith((".", "-")):
        raise InputError(
            f"{word[:MAX_ID_LETTERS]!r} cannot be the id of an arm", "use letters, digits, '_' and '-': my_follower"
        )


def calibration_root() -> Path:
    """The folder below which LeRobot keeps calibrations; an empty variable counts as not set."""
    own = os.environ.get("HF_LEROBOT_CALIBRATION")
    if own:
        return expanded(Path(own))
    home = os.environ.get("HF_LEROBOT_HOME")
    return (expanded(Path(home)) if home else _hugging_face_home() / "lerobot") / "calibration"


def save_calibration(path: Path, profile: ArmProfile, calibration: Calibration) -> None:
    """Write a calibration byte for byte as LeRobot does, atomically. Raises InputError."""
    make_folder(path.parent)
    write_atomic(path, lerobot_text(profile, calibration).encode())


def spare_path(name: str) -> Path:
    """An unused path for numbers worth keeping: `<state>/sefa-edge/calibration/<name>.json`, or `<name>-2.json`.

    Raises:
        InputError: the folder cannot be made.
    """
    state = os.environ.get("XDG_STATE_HOME")
    folder = (Path(state) if state else home_folder() / ".local" / "state") / "sefa-edge" / "calibration"
    make_folder(folder)
    names = (f"{name}.json" if number == 1 else f"{name}-{number}.json" for number in count(1))
    return next(folder / candidate for candidate in names if not (folder / candidate).exists())


def _no_such_id(word: str, profile: ArmProfile) -> InputError:
    if path := _first_file("teleoperators", word):
        return InputError(
            f"'{word}' is the calibration of a leader arm ({path}), and a follower's is expected",
            f"{_existing_ids(profile)}; to use the leader's, give the path of its file",
        )
    if path := _first_file("robots", word):
        return InputError(
            f"'{word}' is the calibration of another kind of robot ({path.parent.name})",
            f"to use its arm, give the path: {path}",
        )
    return InputError(f"LeRobot has no calibration '{word}' below {calibration_root()}", _existing_ids(profile))


def _first_file(kind: str, word: str) -> Path | None:
    """A calibration of this id below `robots` or `teleoperators`, of any kind of arm."""
    found = (calibration_root() / kind).glob(f"*/{glob.escape(word)}.json")
    return min((path for path in islice(found, MAX_LISTED) if path.is_file()), default=None)


def _places(word: str, profile: ArmProfile) -> list[Path]:
    return [folder / f"{word}.json" for folder in _folders(profile)]


def _folders(profile: ArmProfile) -> list[Path]:
    """Newest first; a profile whose name says SO-100 ignores the files of SO-101 arms, and vice versa."""
    own = [name for name in OLD_NAMES if profile.name.startswith(name.split("_")[0])]
    robots = calibration_root() / "robots"
    return [robots / name for name in (PRESENT_NAME, *(own or OLD_NAMES))]


def _hugging_face_home() -> Path:
    own = os.environ.get("HF_HOME")
    if own:
        return expanded(Path(own))
    cache = os.environ.get("XDG_CACHE_HOME")
    return (expanded(Path(cache)) if cache else home_folder() / ".cache") / "huggingface"


def _existing_ids(profile: ArmProfile) -> str:
    files = sorted(islice(_listed(profile), MAX_LISTED))
    if not files:
        return "there is none for this arm: make one with `sefa-edge calibrate`, or give a path"
    return f"existing: {', '.join(files)}"


def _listed(profile: ArmProfile) -> Iterator[str]:
    for folder in _folders(profile):
        try:
            names = [entry.name for entry in os.scandir(folder) if entry.name.endswith(".json")]
        except OSError:
            continue
        yield from (f"{name[:-5]} ({folder.name})" for name in sorted(names) if name.isprintable())
