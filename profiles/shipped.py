"""Profiles by name: shipped ones, or a user's file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TypeVar

from sefa_edge.profiles.strict import StrictModel, parse_yaml

ProfileT = TypeVar("ProfileT", bound=StrictModel)


def shipped_names(folder: str) -> list[str]:
    """Names of the profiles in a folder of the package."""
    entries = resources.files("sefa_edge.profiles").joinpath(folder).iterdir()
    return sorted(entry.name[:-5] for entry in entries if entry.name.endswith(".yaml"))


def load_named(name_or_path: str, folder: str, model: type[ProfileT]) -> ProfileT | None:
    """The profile with a shipped name or in a .yaml file; None: there is no shipped profile of that name.

    Raises:
        InputError: the file does not hold a valid profile.
    """
    if name_or_path.endswith((".yaml", ".yml")):
        return parse_yaml(Path(name_or_path), model)
    if name_or_path not in shipped_names(folder):
        return None
    with resources.as_file(resources.files("sefa_edge.profiles") / folder / f"{name_or_path}.yaml") as path:
        return parse_yaml(path, model)
