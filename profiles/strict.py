"""Reading YAML and JSON from outside: bounded in size, strict in keys, one clear line per problem."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from sefa_edge.profiles.errors import InputError
from sefa_edge.profiles.problems import describe_problem

MAX_BYTES = 1_000_000


class StrictModel(BaseModel):
    """Frozen, refuses unknown keys, converts no types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True)


ModelT = TypeVar("ModelT", bound=StrictModel)


def read_bounded(path: Path) -> str:
    """Text of a small file.

    Raises:
        InputError: it is absent, no file (a device never ends), unreadable, over 1 MB, or not UTF-8.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise InputError(f"{path} is not a file", "check the path")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES} bytes", "is this the right file?")
        return content.decode("utf-8-sig")  # Windows writes a byte order mark
    except FileNotFoundError:
        raise InputError(f"{path} does not exist", "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "check the path and its permissions") from None


def parse_yaml(path: Path, model: type[ModelT]) -> ModelT:
    """Parse and validate a YAML file as `model`. Raises InputError naming file and key."""
    import yaml  # most processes read JSON alone

    try:
        content = yaml.load(read_bounded(path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" line {where.line + 1}" if where else ""
        raise InputError(f"{path}{line} is not valid YAML", str(getattr(error, "problem", error))) from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply", "profiles are flat files") from None
    return validate(path, content, model)


def parse_json(path: Path, model: type[ModelT]) -> ModelT:
    """Parse and validate a JSON file as `model`. Raises InputError naming file and key."""
    try:
        content = json.loads(read_bounded(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}", "was it written completely?") from None
    return validate(path, content, model)


def validate(path: Path, content: object, model: type[ModelT]) -> ModelT:
    """Validate parsed content as `model`; the first problem is named with its key."""
    try:
        # A JSON round trip would lose nothing here, and lets strict mode accept lists as tuples.
        return model.model_validate_json(json.dumps(content))
    except (TypeError, ValueError) as error:
        if not isinstance(error, ValidationError):
            raise InputError(f"{path} holds a value that has no place here: {error}", "use plain values") from None
        message, hint = describe_problem(error.errors(), model)
        raise InputError(f"{path}: {message}", hint) from None
