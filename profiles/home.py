"""The user's home folder, which may not exist: a container's user may have neither HOME nor an entry in passwd."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from sefa_edge.profiles.errors import InputError


def home_folder() -> Path:
    """The home folder. Raises InputError if there is none."""
    try:
        return Path.home()
    except RuntimeError:
        raise InputError(
            "this user has no home folder: HOME is not set", "set HOME, or give the path of a file"
        ) from None


def expanded(path: Path) -> Path:
    """The path with `~` and `~name` replaced. Raises InputError if there is no such home folder."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise InputError(f"{path}: there is no such home folder", "set HOME, or give the whole path") from None


def cache_folder() -> Path:
    """Folder for files that can be made again: below the home folder, else below the temporary folder."""
    try:
        return home_folder() / ".cache" / "sefa-edge"
    except InputError:
        return Path(tempfile.gettempdir()) / f"sefa-edge-{os.geteuid()}"
