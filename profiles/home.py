"""The home folder of the user, who need not have one: a container's user id may lack HOME and an entry in passwd."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sefa_edge.profiles.errors import InputError


def home_folder() -> Path:
    """Raises InputError where there is none."""
    try:
        return Path.home()
    except RuntimeError:
        raise InputError(
            "this user has no home folder: HOME is not set", "set HOME, or give the path of a file"
        ) from None


def expanded(path: Path) -> Path:
    """The path with `~` and `~name` replaced. Raises InputError where there is no such home."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no such home folder", "set HOME, or give the whole path") from None


def cache_folder() -> Path:
    """Where files may be kept that can be made again: below the home folder, else below the temporary one."""
    try:
        return home_folder() / ".cache" / "sefa-edge"
    except InputError:
        return Path(tempfile.gettempdir()) / f"sefa-edge-{os.geteuid()}"
